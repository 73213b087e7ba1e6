"""What the score loses when pixels are taken away: strongest first, at random, or those in the circles.

Only pixels of the film are taken away or counted, never the bars of the letterbox.
"""

from dataclasses import dataclass

import numpy as np

from kmm.errors import InputError
from kmm.explain.attribution.baselines import film_area, image_baseline

SPEAKS = {"logit": 1.0, "probability": 0.1}  # what a film must add to the score for its loss to be measured


@dataclass(frozen=True)
class RemovalCurves:
    """How the score falls as pixels are removed, and rises as they are put into the baseline.

    Attributes:
        shares: float array `(steps + 1,)`, from 0 to 1: the share of the pixels that were changed.
        deletion: float array `(steps + 1,)`, from 1 to 0: the score of the image without them.
        insertion: float array `(steps + 1,)`, from 0 to 1: the score of the baseline with them. Both are scaled so that
            0 is the score of the baseline and 1 that of the image; they may leave [0, 1] on the way. NaN when these two
            scores are equal.
    """

    shares: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray

    @property
    def deletion_area(self):
        """Area under the deletion curve: the lower, the better. 0.5 on a straight line; not held to [0, 1]."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_area(self):
        """Area under the insertion curve: the higher, the better. 0.5 on a straight line; not held to [0, 1]."""
        return float(np.trapezoid(self.insertion, self.shares))


def order_pixels(heat):
    """The pixels of a map, those that speak most for the label first; equal ones in reading order.

    Args:
        heat: float array `(h, w)` or `(h, w, 1)`, signed, of the film as the model reads it.

    Returns:
        int array `(h * w,)` of places in the flattened image. For the order that knows nothing, to compare with, take
        `numpy.random.default_rng(seed).permutation(h * w)`.

    Example:
        >>> order_pixels(np.array([[0.1, 0.9], [0.1, -3.0]])).tolist()
        [1, 0, 2, 3]
    """
    return np.argsort(-np.asarray(heat, float).ravel(), kind="stable")


def deletion_insertion(score, image, order, *, baseline, steps=32, batch_size=16):
    """Removes an image's pixels in a given order, and puts them into a baseline in the same order.

    Source: https://arxiv.org/abs/1806.07421 (RISE), here scaled between the scores of baseline and image.

    Args:
        score: callable, float32 array `(batch_size, h, w, 1)` -> array `(batch_size,)` of scores.
        image: float array `(h, w, 1)` as the model reads it, whose score should be above the baseline's.
        order: int array `(h * w,)`, for example `order_pixels(heat)`.
        baseline: float array `(h, w, 1)`, what a removed pixel becomes.
        steps: int, at least 1. The curves have `steps + 1` points; `2 * steps` images are scored.
        batch_size: int, at least 1. Every call of `score` is given this many images.

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
            f"Expected each of {n} pixels once and at least 1 step. Received: {order.shape}, {steps} steps."
        )
    rank = np.empty(n, int)
    rank[order] = np.arange(n)
    rank = rank.reshape(image.shape[:2])
    counts = np.rint(np.linspace(0, n, steps + 1)).astype(int)
    # kept at each point: first the image losing its strongest, then the baseline gaining them
    kept = [lambda count=count: rank >= count for count in counts]
    kept += [lambda count=count: rank < count for count in counts[1:-1]]
    scores = _score_kept(score, image, baseline, kept, batch_size)
    top, bottom = scores[0], scores[steps]
    scaled = _scale(scores, top, bottom)
    deletion, middle = scaled[: steps + 1], scaled[steps + 1 :]
    return RemovalCurves(counts / n, deletion, np.concatenate([deletion[-1:], middle, deletion[:1]]))


def score_lost(score, image, masks, *, baseline, batch_size=16):
    """The share of the score that goes when the pixels of a mask are replaced by the baseline.

    Args:
        score: as in `deletion_insertion`.
        image: float array `(h, w, 1)`.
        masks: bool array `(m, h, w)`: the pixels to replace, for example those in the circles.
        baseline: float array `(h, w, 1)`.
        batch_size: int, at least 1.

    Returns:
        float array `(m,)`: 0 = nothing is lost, 1 = all that the image has above the baseline; below 0 where the score
        rises, above 1 where it falls below the baseline's; NaN when the image has nothing above the baseline.

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


def _check_images(image, baseline):
    image, baseline = np.asarray(image, np.float32), np.asarray(baseline, np.float32)
    if image.ndim != 3 or image.shape != baseline.shape:
        raise InputError(
            f"Image and baseline must both be (h, w, channels). Received: {image.shape} and {baseline.shape}."
        )
    return image, baseline


def _score_kept(score, image, baseline, kept, batch_size):
    """Scores the image where a mask keeps it, the baseline elsewhere. Masks are made a batch at a time."""
    scores = []
    for start in range(0, len(kept), batch_size):
        masks = [np.broadcast_to(make(), image.shape[:2])[..., None] for make in kept[start : start + batch_size]]
        images = np.stack([np.where(mask, image, baseline) for mask in masks])
        padding = np.repeat(images[-1:], batch_size - len(images), axis=0)
        found = np.asarray(score(np.concatenate([images, padding])), float)
        if found.shape != (batch_size,):
            raise InputError(
                f"`score` must give {batch_size} scores for as many images. Received: shape {found.shape}."
            )
        scores.extend(found[: len(images)])
    return np.array(scores)


def _scale(scores, top, bottom):
    return (scores - bottom) / (top - bottom) if top != bottom else np.full(len(scores), np.nan)


class ScoredFilm:
    """One study's film, scored with pixels replaced and the report as it is. The bars of the letterbox stay.

    Args:
        explainer: `Explainer` that explained the study.
        study: `Study`.
        explanation: `Explanation` of it, with a map of the film.

    Attributes:
        image, baseline: float32 `(h', w', 1)`: the film as the model reads it, and what replaces its pixels.
        speaks: bool. Whether the score falls by `SPEAKS` at least when the film becomes its baseline: else there is
            next to nothing to lose, and shares of it mean nothing.
    """

    def __init__(self, explainer, study, explanation):
        self.case, self.target = explainer.case(study), explanation.attribution.target
        self.integrator = explainer.split.integrator
        square = self.case.inputs["image"]
        baseline = image_baseline(explainer.settings.baselines[0], square, self.case.mean_image, self.case.box)
        self.area = film_area(square.shape, self.case.box)
        self.image, self.baseline = square[self.area], baseline[self.area]
        bottom, top = self.score(np.stack([self.baseline, self.image]))
        self.speaks = bool(top - bottom >= SPEAKS[explainer.settings.output])

    def score(self, films):
        """Scores `(n,)` of films `(n, h', w', 1)`, each put between the bars of its square."""
        inputs, fixed = (
            {name: np.repeat(value[None], len(films), axis=0) for name, value in values.items()}
            for values in (self.case.inputs, self.case.fixed)
        )
        inputs["image"][:, *self.area] = films
        return self.integrator.score(inputs, fixed)[:, self.target]

    def remove(self, order):
        """Areas under deletion and insertion of the film's pixels in an order; nothing for one that does not speak."""
        if not self.speaks:
            return {}
        curves = deletion_insertion(self.score, self.image, order, baseline=self.baseline)
        return {"deletion": curves.deletion_area, "insertion": curves.insertion_area}

    def lose(self, masks):
        """The share of the score that goes with pixels of the film.

        Args:
            masks: bool array `(m, h', w')`: pixels of the film.

        Returns:
            float array `(m,)`; NaN for a film that does not speak for the label.
        """
        if not self.speaks:
            return np.full(len(masks), np.nan)
        return score_lost(self.score, self.image, masks, baseline=self.baseline)
