"""Methods of attribution, one table entry each: what they differentiate, where, and what they make of the gradients."""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import nan

import numpy as np

from kmm.errors import look_up
from kmm.explain.attribution.baselines import film_area, image_baseline, text_baseline
from kmm.explain.attribution.cam import GradientCam, ScoreCam, weigh_grad_cam, weigh_grad_cam_plus, weigh_layer_cam
from kmm.explain.attribution.path_integral import Path, Tolerance, attribute
from kmm.explain.attribution.quadrature import Nodes

AT_INPUT = Nodes(np.array([1.0]), np.array([1.0]), np.array([False]))
SAMPLES = 25
NOISE = 0.15  # standard deviation of SmoothGrad's noise, as a share of the range of an input


@dataclass(frozen=True)
class Case:
    """What a method is given of one study.

    Attributes:
        study: str. Its id; random numbers are drawn by it, so that a study has one map whatever is explained beside it.
        inputs: dict of `"image"` `(h, w, 1)` and `"rows"` `(t, d)`, as the model has them.
        absent: collection of the names of inputs that the study does not have.
        fixed: dict of what the score needs besides.
        mean_image: float32 `(h, w, 1)`, the mean of the training films, or None.
        padding_row: float32 `(d,)`, or None for a model without text.
        target: int or None.
        box: `(top, left, height, width)` of the film in its square, or None where it fills it. What lies outside are
            the bars of the letterbox: nothing is attributed to them.
    """

    study: str
    inputs: dict
    absent: frozenset
    fixed: dict
    mean_image: np.ndarray | None = None
    padding_row: np.ndarray | None = None
    target: int | None = None
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Method:
    """A row of the table `METHODS` that follows gradients back to the inputs, along paths.

    Attributes:
        paths: function `(case, settings) -> list of Path`.
        nodes: `Nodes` of every path, or None: those of a quadrature rule.
        combine: function `(means, tolerance) -> Attribution`.
        source: str. Link of the publication.
    """

    paths: Callable
    nodes: Nodes | None
    combine: Callable
    source: str

    def attribute(self, integrator, cases, settings):
        """Walks the paths of many studies, several at once.

        Args:
            integrator: `PathIntegrator`.
            cases: iterable of `Case`.
            settings: `ExplainSettings`.

        Yields:
            the number of a case, from 0, and its `Attribution`, in the order in which they are done.
        """
        tolerance = Tolerance(settings.map_tolerance, settings.gap_tolerance, settings.max_steps)
        paths = (self.paths(case, settings) for case in cases)
        how = {"rule": settings.rule, "steps": settings.steps, "tolerance": tolerance, "nodes": self.nodes}
        for number, means in integrator.walk(paths, **how):
            yield number, self.combine(means, tolerance)


@dataclass(frozen=True)
class CamMethod:
    """A row of the table `METHODS` that weighs the channels of the last feature map. It says nothing of words.

    Attributes:
        make: function `(score, stem, name, chunk, freeze, settings)` -> object with `attribute(cases)`.
        source: str. Link of the publication.
    """

    make: Callable
    source: str


def _gradient_cam(score, stem, *, weigh, settings, **options):
    return GradientCam(score, stem, weigh=weigh, **options)


def _score_cam(score, stem, *, settings, **options):
    return ScoreCam(score, stem, channels=settings.steps, **options)


def _baseline_paths(case, settings):
    return [
        Path(start=_baseline(case, name, settings.text_baseline), end=case.inputs, fixed=case.fixed, target=case.target)
        for name in settings.baselines
    ]


def _baseline(case, image_name, text_name):
    """The baseline of each input; an input that is absent is its own: nothing is attributed to it."""
    made = dict(case.inputs)
    if "image" in made and "image" not in case.absent:
        made["image"] = image_baseline(image_name, made["image"], case.mean_image, case.box)
    if "rows" in made and "rows" not in case.absent:
        made["rows"] = text_baseline(text_name, made["rows"], case.padding_row)
    return made


def _one_point(case, settings):
    return [Path(start=case.inputs, end=case.inputs, fixed=case.fixed, target=case.target)]


def _noisy_points(case, settings):
    """The input with noise, some times: each input's noise goes with the range of its values, the film's alone."""
    random = np.random.default_rng(zlib.crc32(case.study.encode()))
    paths = []
    for _ in range(settings.steps or SAMPLES):
        noisy = {name: _add_noise(case, name, random) for name in case.inputs}
        paths.append(Path(start=case.inputs, end=noisy, fixed=case.fixed, target=case.target))
    return paths


def _add_noise(case, name, random):
    value = case.inputs[name]
    if name in case.absent:
        return value
    area = film_area(value.shape, case.box) if name == "image" else ...
    noisy = value.copy()
    noisy[area] += NOISE * np.ptp(value[area]) * random.standard_normal(value[area].shape, np.float32)
    return noisy


def clear_bars(found, box):
    """Takes what a map holds outside the film to 0.

    Integrated gradients hold nothing there; gradients and class activation maps do, of pixels that no film has.

    Args:
        found: `Attribution`.
        box: `(top, left, height, width)` of the film in its square, or None where it fills it.

    Returns:
        `Attribution`.

    Example:
        >>> from kmm.explain.attribution.result import Attribution
        >>> found = Attribution({"image": np.ones((2, 3, 1))}, target=0, score=1.0, scores=np.ones(1))
        >>> clear_bars(found, (0, 1, 2, 1)).values["image"][..., 0].tolist()
        [[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]
    """
    if box is None or "image" not in found.values:
        return found
    image = found.values["image"]
    cleared, area = np.zeros_like(image), film_area(image.shape, box)
    cleared[area] = image[area]
    return replace(found, values={**found.values, "image": cleared})


def _mean_gradients(means, tolerance):
    """The gradients themselves, averaged; the scores are those of the input without noise, where every path starts."""
    found = attribute(means, tolerance)
    values = {
        name: np.mean([mean.gradients[name] for mean in means], axis=0).astype(np.float32) for name in found.values
    }
    scores = means[0].scores[0]
    score = float(scores[found.target])
    return replace(_promise_nothing(found), values=values, score=score, scores=scores, baseline_score=nan)


def _products(means, tolerance):
    return _promise_nothing(attribute(means, tolerance))


def _promise_nothing(found):
    return replace(found, completeness_gap=nan, map_error=nan, warnings=())


METHODS = {
    "integrated-gradients": Method(_baseline_paths, None, attribute, "https://arxiv.org/abs/1703.01365"),
    "gradient": Method(_one_point, AT_INPUT, _mean_gradients, "https://arxiv.org/abs/1312.6034"),
    "gradient-x-input": Method(_baseline_paths, AT_INPUT, _products, "https://arxiv.org/abs/1605.01713"),
    "smoothgrad": Method(_noisy_points, AT_INPUT, _mean_gradients, "https://arxiv.org/abs/1706.03825"),
    "grad-cam": CamMethod(partial(_gradient_cam, weigh=weigh_grad_cam), "https://arxiv.org/abs/1610.02391"),
    "grad-cam++": CamMethod(partial(_gradient_cam, weigh=weigh_grad_cam_plus), "https://arxiv.org/abs/1710.11063"),
    "layer-cam": CamMethod(
        partial(_gradient_cam, weigh=weigh_layer_cam), "https://ieeexplore.ieee.org/document/9462463"
    ),
    "score-cam": CamMethod(_score_cam, "https://arxiv.org/abs/1910.01279"),
}


def choose_method(name):
    """The entry of a method; raises `InputError` for an unknown name."""
    return look_up(METHODS, name, "method")
