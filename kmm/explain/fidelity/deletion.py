"""Loss of the score when pixels are replaced by the baseline: strongest first, in random order, or those in circles.

Only pixels of the film are replaced or counted, never the letterbox bars.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from kmm.data.study import Study
from kmm.errors import InputError
from kmm.explain.attribution.baselines import film_area, image_baseline
from kmm.explain.explanation import Explanation

if TYPE_CHECKING:
    from kmm.explain.explainer import Explainer
SPEAKS = {
    "logit": 1.0,
    "probability": 0.1,
}  # a film must raise its baseline's score by this for its loss to be measured


@dataclass(frozen=True)
class RemovalCurves:
    """Curves of the score as pixels are removed from the image, and as they are inserted into the baseline.

    Attributes:
        shares: float array `(steps + 1,)`, from 0 to 1: the share of pixels that were removed or inserted.
        deletion: float array `(steps + 1,)`, from 1 to 0: the score of the image without these pixels.
        insertion: float array `(steps + 1,)`, from 0 to 1: the score of the baseline with these pixels. Both are scaled
            so that 0 is the score of the baseline and 1 that of the image; in between they may leave [0, 1]. NaN if
            these two scores are equal.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve: the lower, the better. 0.5 for a straight line; may be outside [0, 1]."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve: the higher, the better. 0.5 for a straight line; may be outside [0, 1]."""
        return float(np.trapezoid(self.insertion, self.shares))


def order_pixels(heat: ArrayLike) -> np.ndarray:
    """Orders the pixels of a map by their attribution, highest first; equal ones in reading order.

    Args:
        heat: float array `(h, w)` or `(h, w, 1)`, signed, of the film as the model reads it.

    Returns:
        int array `(h * w,)` of indices into the flattened image. For comparison with a random order, use
        `numpy.random.default_rng(seed).permutation(h * w)`.

    Example:
        >>> order_pixels(np.array([[0.1, 0.9], [0.1, -3.0]])).tolist()
        [1, 0, 2, 3]
    """
    return np.argsort(-np.asarray(heat, float).ravel(), kind="stable")


def deletion_insertion(
    score: Callable[[np.ndarray], np.ndarray],
    image: ArrayLike,
    order: ArrayLike,
    *,
    baseline: ArrayLike,
    steps: int = 32,
    batch_size: int = 16,
) -> RemovalCurves:
    """Scores an image while its pixels are removed in a given order, and a baseline while they are inserted.

    Source: https://arxiv.org/abs/1806.07421 (RISE), here scaled between the scores of baseline and image.

    Args:
        score: callable, float32 array `(batch_size, h, w, 1)` -> array `(batch_size,)` of scores.
        image: float array `(h, w, 1)` as the model reads it, whose score should be above the baseline's.
        order: int array `(h * w,)`, for example `order_pixels(heat)`.
        baseline: float array `(h, w, 1)`, whose pixels replace removed ones.
        steps: int, at least 1. The curves have `steps + 1` points; `2 * steps` images are scored.
        batch_size: int, at least 1. Number of images in each call of `score`.

    Returns:
        `RemovalCurves`.

    Raises:
        InputError: if shapes do not fit or `order` does not hold every pixel once.

    Example:
        >>> heat = np.array([[3.0, 1.0], [0.0, 0.0]])
        >>> curves = deletion_insertion(
        ...     lambda images: (images[..., 0] * heat).sum((1, 2)),
        ...     np.ones((2, 2, 1)), order_pixels(heat), baseline=np.zeros((2, 2, 1)), steps=4,
        ... )
        >>> curves.deletion.tolist(), curves.deletion_area, curves.insertion_area
        ([1.0, 0.25, 0.0, 0.0, 0.0], 0.1875, 0.8125)
    """
    image, baseline = _check_images(image, baseline)
    order = np.asarray(order)
    n = image.shape[0] * image.shape[1]
    if steps < 1 or order.shape != (n,) or not np.array_equal(np.sort(order), np.arange(n)):
        raise InputError(
            f"`order` must hold each of {n} pixels once, and `steps` must be at least 1. Received: an order of shape "
            f"{order.shape}, {steps} steps."
        )
    rank = np.empty(n, int)
    rank[order] = np.arange(n)
    rank = rank.reshape(image.shape[:2])
    counts = np.rint(np.linspace(0, n, steps + 1)).astype(int)
    # pixels of the image that are kept at each point: of deletion, then of insertion
    kept = [lambda count=count: rank >= count for count in counts]
    kept += [lambda count=count: rank < count for count in counts[1:-1]]
    scores = _score_kept(score, image, baseline, kept, batch_size)
    top, bottom = scores[0], scores[steps]
    scaled = _scale(scores, top, bottom)
    deletion, middle = scaled[: steps + 1], scaled[steps + 1 :]
    return RemovalCurves(counts / n, deletion, np.concatenate([deletion[-1:], middle, deletion[:1]]))


def score_lost(
    score: Callable[[np.ndarray], np.ndarray],
    image: ArrayLike,
    masks: ArrayLike,
    *,
    baseline: ArrayLike,
    batch_size: int = 16,
) -> np.ndarray:
    """Computes the share of the score that is lost when the pixels of a mask are replaced by the baseline.

    Args:
        score: as in `deletion_insertion`.
        image: float array `(h, w, 1)`.
        masks: bool array `(m, h, w)`: the pixels to replace, for example those in the circles.
        baseline: float array `(h, w, 1)`.
        batch_size: int, at least 1.

    Returns:
        float array `(m,)`: 0 = no loss, 1 = the score falls to the baseline's; below 0 if the score rises, above 1 if
        it falls below the baseline's; NaN if image and baseline have the same score.

    Raises:
        InputError: if shapes do not fit.

    Example:
        >>> masks = np.array([[[True, False]], [[False, False]]])
        >>> image, baseline = np.array([[[3], [1]]]), np.zeros((1, 2, 1))
        >>> score_lost(lambda images: images.sum((1, 2, 3)), image, masks, baseline=baseline)
        array([0.75, 0.  ])
    """
    image, baseline = _check_images(image, baseline)
    masks = np.asarray(masks, bool)
    if masks.ndim != 3 or masks.shape[1:] != image.shape[:2]:
        raise InputError(f"Masks must be (m, {image.shape[0]}, {image.shape[1]}). Received: {masks.shape}.")
    kept = [lambda: np.True_, lambda: np.False_, *(lambda mask=mask: ~mask for mask in masks)]
    top, bottom, *scores = _score_kept(score, image, baseline, kept, batch_size)
    return 1 - _scale(np.array(scores), top, bottom)


def _check_images(image: ArrayLike, baseline: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.asarray(image, np.float32), np.asarray(baseline, np.float32)
    if first.ndim != 3 or first.shape != second.shape:
        raise InputError(
            f"Image and baseline must both be (h, w, channels). Received: {first.shape} and {second.shape}."
        )
    return first, second


def _score_kept(score, image, baseline, kept, batch_size):
    """Scores the image where a mask keeps it and the baseline elsewhere. Masks are made one batch at a time."""
    scores = []
    for start in range(0, len(kept), batch_size):
        masks = [np.broadcast_to(make(), image.shape[:2])[..., None] for make in kept[start : start + batch_size]]
        images = np.stack([np.where(mask, image, baseline) for mask in masks])
        padding = np.repeat(images[-1:], batch_size - len(images), axis=0)
        found = np.asarray(score(np.concatenate([images, padding])), float)
        if found.shape != (batch_size,):
            raise InputError(
                f"`score` must return {batch_size} scores for as many images. Received: shape {found.shape}."
            )
        scores.extend(found[: len(images)])
    return np.array(scores)


def _scale(scores, top, bottom):
    return (scores - bottom) / (top - bottom) if top != bottom else np.full(len(scores), np.nan)


class ScoredFilm:
    """One study's film, to be scored with some pixels replaced. The report and the letterbox bars are not changed.

    Args:
        explainer: `Explainer` that explained the study.
        study: `Study`.
        explanation: `Explanation` of it, with a map of the film.

    Attributes:
        image, baseline: float32 `(h', w', 1)`: the film as the model reads it, and the pixels that replace its own.
        speaks: bool. Whether the film's score is above its baseline's by at least `SPEAKS`. Otherwise there is too
            little to lose for shares of it to mean anything.
    """

    def __init__(self, explainer: "Explainer", study: Study, explanation: Explanation):
        self.case, self.target = explainer.case(study), explanation.attribution.target
        self.integrator = explainer.split.integrator
        square = self.case.inputs["image"]
        baseline = image_baseline(explainer.settings.baselines[0], square, self.case.mean_image, self.case.box)
        self.area = film_area(square.shape, self.case.box)
        self.image, self.baseline = square[self.area], baseline[self.area]
        bottom, top = self.score(np.stack([self.baseline, self.image]))
        self.speaks = bool(top - bottom >= SPEAKS[explainer.settings.output])

    def score(self, films: np.ndarray) -> np.ndarray:
        """Computes the scores `(n,)` of films `(n, h', w', 1)`, each placed between the bars of its square."""
        inputs, fixed = (
            {name: np.repeat(value[None], len(films), axis=0) for name, value in values.items()}
            for values in (self.case.inputs, self.case.fixed)
        )
        inputs["image"][:, *self.area] = films
        return self.integrator.score(inputs, fixed)[:, self.target]

    def remove(self, order: np.ndarray) -> dict[str, float]:
        """Computes the areas under deletion and insertion of pixels in an order; empty unless `speaks` is true."""
        if not self.speaks:
            return {}
        curves = deletion_insertion(self.score, self.image, order, baseline=self.baseline)
        return {"deletion": curves.deletion_area, "insertion": curves.insertion_area}

    def lose(self, masks: np.ndarray) -> np.ndarray:
        """Computes the share of the score that is lost without some pixels of the film.

        Args:
            masks: bool array `(m, h', w')`: pixels of the film.

        Returns:
            float array `(m,)`; NaN unless `speaks` is true.
        """
        if not self.speaks:
            return np.full(len(masks), np.nan)
        return score_lost(self.score, self.image, masks, baseline=self.baseline)
