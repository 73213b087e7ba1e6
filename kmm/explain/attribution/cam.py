"""Class activation maps: a feature map of the image encoder, its channels weighted by their part in the score.

The maps are made from kmm's own gradients, for several studies at once and on every backend. tf-keras-vis gives the
same maps for one study at a time on TensorFlow. It enlarges them so that the corner cells reach the film's corners;
here each cell covers its own share of the film.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from kmm.explain.attribution.gradients import Score, Stem, compile_function, differentiate_each
from kmm.explain.attribution.result import Attribution
from kmm.explain.attribution.study_batches import BATCH, attribute_batches, group_cases, stack
from kmm.models.joined.film_views import align_maps

if TYPE_CHECKING:
    from kmm.explain.attribution.methods import Case

NO_FILM = "this method explains only films, and the study has none: nothing was explained"
SPACE = (1, 2)


class GradientCam:
    """Maps from the gradient of the score with respect to the feature map. Traced once for any number of studies.

    Args:
        score: function `(inner, fixed) -> (m, n_labels)`, where `inner` is the output of `stem`.
        stem: function `(inputs, fixed) -> dict of tensors`, among them the feature map.
        name: str. Name of the feature map in that dict: `(m, rows, columns, channels)`.
        weigh: `weigh_grad_cam`, `weigh_grad_cam_plus` or `weigh_layer_cam`.
        chunk: int. Studies that fit in memory at once.
        labels: int. Most labels of a study in one pass.
        views: int. Views of a film whose channels the feature map has side by side, see
            `kmm.models.joined.film_views.unfold_views`. Each is brought back to the film before the maps add up.
        freeze: bool. See `kmm.explain.attribution.gradients.compile_function`.
    """

    def __init__(
        self,
        score: Score,
        stem: Stem,
        *,
        name: str,
        weigh: Callable[..., Any],
        chunk: int,
        labels: int = 1,
        views: int = 1,
        freeze: bool = False,
    ):
        self.batch, self.labels = min(chunk, BATCH), labels

        def make(inputs, fixed, targets, count):
            inner = stem(inputs, fixed)

            def look(maps):
                return score({**inner, **maps}, fixed), ()

            def draw(gradients, _):
                return {"image": enlarge(weigh(inner[name], gradients[name], views), inputs["image"].shape[1:3])}

            scores, found = differentiate_each(look, draw)(count, targets, {name: inner[name]})
            return found, scores

        self._make = compile_function(make, freeze=freeze)

    def attribute(self, cases: "Iterable[Case]") -> Iterator[tuple[int, Attribution]]:
        """Makes the maps of many studies, in batches.

        Args:
            cases: iterable of `kmm.explain.attribution.methods.Case`, each with a target.

        Returns:
            iterator over the number of a case, from 0, and its `Attribution`.
        """
        return attribute_batches(cases, self._make, _settle, size=self.batch, labels=self.labels)


class ScoreCam:
    """Score-CAM: weights each channel by the score of the film masked with that channel, above the score of black.

    Source: https://arxiv.org/abs/1910.01279

    Args:
        score, stem, name, freeze: as in `GradientCam`.
        chunk: int. Films that fit in memory at once.
        views: int. As in `GradientCam`; a channel is the mean over the views.
        channels: int or None. Number of channels, those that vary most over the film, as in Faster Score-CAM; None:
            all.
    """

    def __init__(
        self,
        score: Score,
        stem: Stem,
        *,
        name: str,
        chunk: int,
        views: int = 1,
        channels: int | None = None,
        freeze: bool = False,
    ):
        self.chunk, self.channels = chunk, channels

        def look(inputs, fixed):
            inner = stem(inputs, fixed)
            return _average_views(inner[name], views), score(inner, fixed)

        def look_through(inputs, fixed, maps):
            masks = enlarge(ops.transpose(maps, (2, 0, 1)), inputs["image"].shape[1:3])
            low, high = (ops.expand_dims(edge(masks, axis=SPACE), SPACE) for edge in (ops.min, ops.max))
            masks = (masks - low) / ops.where(high > low, high - low, 1.0)
            many, fixed = (
                {key: ops.repeat(value, chunk, axis=0) for key, value in values.items()} for values in (inputs, fixed)
            )
            many["image"] = many["image"] * masks
            return score(stem(many, fixed), fixed)

        self._look = compile_function(look)
        self._look_through = compile_function(look_through, freeze=freeze)

    def attribute(self, cases: "Iterable[Case]") -> Iterator[tuple[int, Attribution]]:
        """Makes the maps of many studies, one after the other; arguments as for `GradientCam.attribute`.

        Masked films have scores for all labels, so further labels of a study cost nothing.
        """
        for group in group_cases(cases):
            study = group[0][1]
            black = {**study.inputs, "image": np.zeros_like(study.inputs["image"])}
            found = self._look(stack([study.inputs, black]), stack([study.fixed, study.fixed]))
            maps, scores = map(ops.convert_to_numpy, found)
            maps, scores = self._choose(maps[0]), scores.astype(np.float64)
            added = np.array(list(self._see(study, maps))) - scores[1]
            for number, case in group:
                cam = np.maximum(maps @ added[:, case.target].astype(np.float32), 0)[None]
                cam = ops.convert_to_numpy(enlarge(ops.convert_to_tensor(cam), case.inputs["image"].shape[:2]))
                yield number, _settle(case, {"image": cam[0]}, scores[0], steps=maps.shape[-1])

    def _choose(self, maps):
        """Returns the channels that vary most, `(rows, columns, channels)`."""
        return maps[..., np.argsort(-maps.std(axis=(0, 1)), kind="stable")[: self.channels]]

    def _see(self, case, maps):
        """Yields the scores `(n_labels,)` of a film masked with each of its maps."""
        inputs, fixed = stack([case.inputs]), stack([case.fixed])
        for first in range(0, maps.shape[-1], self.chunk):
            some = maps[..., first : first + self.chunk]
            missing = self.chunk - some.shape[-1]
            scores = self._look_through(inputs, fixed, np.pad(some, ((0, 0), (0, 0), (0, missing))))
            yield from ops.convert_to_numpy(scores)[: some.shape[-1]]


def weigh_grad_cam(maps: Any, gradients: Any, views: int = 1) -> Any:
    """Computes Grad-CAM: weights each channel by the mean of its gradients.

    Args:
        maps: float tensor `(n, rows, columns, channels)`, the feature map.
        gradients: tensor of that shape, d score / d map.
        views: int. As in `GradientCam`.

    Returns:
        float tensor `(n, rows, columns)`, never negative.

    Source: https://arxiv.org/abs/1610.02391
    """
    return _sum_channels(maps * ops.mean(gradients, axis=SPACE, keepdims=True), views)


def weigh_grad_cam_plus(maps: Any, gradients: Any, views: int = 1) -> Any:
    """Computes Grad-CAM++: weights each channel by its positive gradients, averaged with weights from exp(score).

    The common factor exp(score) is left out: it scales the whole map, and may overflow.

    Args and returns: as `weigh_grad_cam`.

    Source: https://arxiv.org/abs/1710.11063
    """
    below = 2 + gradients * ops.sum(maps, axis=SPACE, keepdims=True)
    alphas = ops.where((gradients == 0) | (below == 0), 0.0, 1 / ops.where(below == 0, 1.0, below))
    total = ops.sum(alphas, axis=SPACE, keepdims=True)
    alphas = alphas / ops.where(total == 0, 1.0, total)
    return _sum_channels(maps * ops.sum(alphas * ops.relu(gradients), axis=SPACE, keepdims=True), views)


def weigh_layer_cam(maps: Any, gradients: Any, views: int = 1) -> Any:
    """Computes LayerCAM: weights each cell of a channel by its own positive gradient.

    Args and returns: as `weigh_grad_cam`.

    Source: https://ieeexplore.ieee.org/document/9462463
    """
    return _sum_channels(maps * ops.relu(gradients), views)


def _sum_channels(weighed, views):
    return ops.relu(ops.sum(align_maps(weighed, views) if views > 1 else weighed, axis=-1))


def _average_views(maps, views):
    """Takes the mean over the views of a feature map, each brought back to the film; `(n, rows, columns, k)`."""
    if views == 1:
        return maps
    _, rows, columns, channels = maps.shape
    return ops.mean(ops.reshape(align_maps(maps, views), (-1, rows, columns, views, channels // views)), axis=3)


def enlarge(cams: Any, size: tuple[int, int]) -> Any:
    """Enlarges maps `(n, rows, columns)` to `(n, *size, 1)`, bilinearly; each cell covers its share of the film.

    Example:
        >>> ops.convert_to_numpy(enlarge(ops.array([[[0.0, 4.0]]]), (1, 4)))[0, 0, :, 0].tolist()
        [0.0, 1.0, 3.0, 4.0]
    """
    return ops.image.resize(cams[..., None], size, interpolation="bilinear", data_format="channels_last")


def _settle(case, values, scores, *, steps=1):
    return Attribution(
        values={"image": values["image"].astype(np.float32)},
        target=case.target,
        score=float(scores[case.target]),
        scores=scores,
        steps=steps,
        warnings=(NO_FILM,) if "image" in case.absent else (),
    )
