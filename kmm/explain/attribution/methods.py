"""Table of attribution methods: the function of each method, and its requirements on the model."""

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import nan

import numpy as np

from kmm.errors import look_up
from kmm.explain.attribution.baselines import film_area, image_baseline, text_baseline
from kmm.explain.attribution.cam import GradientCam, ScoreCam, weigh_grad_cam, weigh_grad_cam_plus, weigh_layer_cam
from kmm.explain.attribution.path_integral import Path, Tolerance, attribute
from kmm.explain.attribution.quadrature import Nodes
from kmm.explain.attribution.result import Attribution
from kmm.explain.attribution.rollout import Rollout
from kmm.explain.attribution.split_model import SplitModel
from kmm.explain.attribution.study_batches import group_cases
from kmm.explain.settings import ExplainSettings

ERRORS = ("completeness_gap", "map_error")
AT_INPUT = Nodes(np.array([1.0]), np.array([1.0]), np.array([False]))
SAMPLES = 25  # noisy inputs of SmoothGrad, unless the settings say otherwise
NOISE = 0.15  # standard deviation of SmoothGrad's noise, as a share of the range of an input


@dataclass(frozen=True)
class Case:
    """One study, prepared as input of a method.

    Attributes:
        study: str. Its id, which also seeds random numbers, so a study's map does not depend on the other studies.
        inputs: dict of `"image"` `(h, w, 1)` and `"rows"` `(t, d)`, those that the model reads.
        absent: names of the inputs that the study does not have.
        fixed: dict of name to array: other inputs of the score.
        mean_image: float32 `(h, w, 1)`, the mean of the training films, or None.
        padding_row: float32 `(d,)`, or None for a model without text.
        target: int or None. Index of the label to explain, from 0. None: methods that follow paths explain the label
            whose score is highest at the end of the path; class activation maps need an index. `Explainer` always
            gives one.
        box: `(top, left, height, width)` of the film in its square, or None if it fills the square. Outside are the
            letterbox bars: nothing is attributed to them.
    """

    study: str
    inputs: Mapping[str, np.ndarray]
    absent: frozenset[str]
    fixed: Mapping[str, np.ndarray]
    mean_image: np.ndarray | None = None
    padding_row: np.ndarray | None = None
    target: int | None = None
    box: tuple[int, int, int, int] | None = None


# From cases to pairs: the number of a case, from 0, and its attribution, in the order in which they are done.
AttributeCases = Callable[[Iterable[Case]], Iterable[tuple[int, Attribution]]]


@dataclass(frozen=True)
class Method:
    """A row of the table `METHODS`.

    Attributes:
        make: function `(model, settings)` of a `SplitModel` and `ExplainSettings` that returns a function from an
            iterable of `Case` to pairs: the number of a case, from 0, and its `Attribution`, in any order. It is called
            once per explainer, and compiles what all studies share.
        source: str. Link of the publication.
        inputs: tuple of the inputs that it can attribute to: `"image"`, `"rows"`. It needs a model that reads one.
        at_feature_map: bool. Whether the model is cut behind a feature map of the image encoder (the last one, or
            `ExplainSettings.layer`) instead of behind its affine stem.
        at_attention: bool. Whether it reads the weights of attention, which the model then hands out.
        signed: bool. Whether a value above 0 counts for the label. False: values say how much, not in which direction.
        repeated: `"rest"` or `"stem"`: the half of the model that is computed for many points of a study at once; if
            both are, the one with more layers. Its size determines how many points fit in memory.
        errors: tuple of the errors of `Attribution` that it estimates: `"completeness_gap"`, `"map_error"`. Others are
            set to NaN.
    """

    make: Callable[[SplitModel, ExplainSettings], AttributeCases]
    source: str
    inputs: tuple[str, ...] = ("image", "rows")
    at_feature_map: bool = False
    at_attention: bool = False
    signed: bool = True
    repeated: str = "rest"
    errors: tuple[str, ...] = ()

    def for_model(self, model: SplitModel, settings: ExplainSettings) -> AttributeCases:
        """Makes the function that attributes the scores of one model.

        Args:
            model: `kmm.explain.attribution.split_model.SplitModel`, cut as `at_feature_map` says.
            settings: `ExplainSettings`.

        Returns:
            function from an iterable of `Case` to an iterator over the number of a case, from 0, and its
            `Attribution`, in the order in which they are done.
        """
        attribute, unknown = self.make(model, settings), {name: nan for name in ERRORS if name not in self.errors}

        def attribute_known(cases):
            for number, found in attribute(cases):
                yield number, replace(found, **unknown)

        return attribute_known


def _along_paths(model, settings, *, paths, combine, nodes=None):
    """Makes a function that integrates along paths: `paths(case, settings)` lists those of a study, `nodes` replaces
    the rule's nodes, and `combine(means, tolerance)` makes an `Attribution` of a study's means."""
    tolerance = Tolerance(settings.map_tolerance, settings.gap_tolerance, settings.max_steps)
    how = {"rule": settings.rule, "steps": settings.steps, "tolerance": tolerance, "nodes": nodes}

    def attribute_cases(cases):
        for number, means in model.integrator.walk(list_paths(cases), **how):
            yield number, combine(means, tolerance)

    def list_paths(cases):
        for study in group_cases(cases):
            same = paths(study[0][1], settings)
            for _, case in study:
                yield [replace(path, target=case.target) for path in same]

    return attribute_cases


def _gradient_cam(model, settings, *, weigh):
    return GradientCam(
        model.score,
        model.stem,
        name=model.feature_map,
        weigh=weigh,
        chunk=model.chunk,
        labels=model.labels,
        views=model.views,
        freeze=model.freeze,
    ).attribute


def _score_cam(model, settings):
    return ScoreCam(
        model.score,
        model.stem,
        name=model.feature_map,
        chunk=model.chunk,
        views=model.views,
        channels=settings.steps,
        freeze=model.freeze,
    ).attribute


def _roll_out(model, settings, *, rules):
    return Rollout(model.opened, rules, labels=model.labels, freeze=model.freeze).attribute


def _baseline_paths(case, settings):
    return [
        Path(
            start=make_baseline(case, name, settings.text_baseline),
            end=case.inputs,
            fixed=case.fixed,
            target=case.target,
        )
        for name in settings.baselines
    ]


def make_baseline(case: Case, image_name: str, text_name: str) -> dict[str, np.ndarray]:
    """Makes the baseline of each input of a case.

    Args:
        case: `Case`.
        image_name, text_name: names in `kmm.explain.attribution.baselines`.

    Returns:
        dict of input name to array of that input's shape. An absent input is its own baseline, so that nothing is
        attributed to it.
    """
    made = dict(case.inputs)
    if "image" in made and "image" not in case.absent:
        made["image"] = image_baseline(image_name, made["image"], case.mean_image, case.box)
    if "rows" in made and "rows" not in case.absent:
        made["rows"] = text_baseline(text_name, made["rows"], case.padding_row)
    return made


def _one_point(case, settings):
    return [Path(start=case.inputs, end=case.inputs, fixed=case.fixed, target=case.target)]


def draw_noisy_paths(case: Case, settings: ExplainSettings) -> list[Path]:
    """Draws SmoothGrad's inputs: adds noise to each input, in proportion to the range of its values.

    For a film the range is that within its box.

    Args:
        case: `Case`. Its id is the seed.
        settings: `ExplainSettings`. `steps` is the number of draws, 25 by default.

    Returns:
        list of `Path`, each ending at one noisy input.
    """
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


def clear_bars(found: Attribution, box: tuple[int, int, int, int] | None) -> Attribution:
    """Sets the map to 0 on the letterbox bars.

    Integrated gradients are 0 there already; gradients and class activation maps are not.

    Args:
        found: `Attribution`.
        box: `(top, left, height, width)` of the film in its square, or None if it fills the square.

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
    """Averages the gradients. The scores are those of the input without noise, at which every path starts."""
    found = attribute(means, tolerance)
    values = {
        name: np.mean([mean.gradients[name] for mean in means], axis=0).astype(np.float32) for name in found.values
    }
    scores = means[0].scores[0]
    score = float(scores[found.target])
    return replace(found, values=values, score=score, scores=scores, baseline_score=nan, warnings=())


def _products(means, tolerance):
    return replace(attribute(means, tolerance), warnings=())


def _path_method(paths, combine, source, **options):
    nodes = options.pop("nodes", None)
    return Method(partial(_along_paths, paths=paths, combine=combine, nodes=nodes), source, **options)


def _cam_method(make, source):
    """Makes an entry for a method that weights the channels of a feature map, and so attributes only to the film."""
    return Method(make, source, inputs=("image",), at_feature_map=True, repeated="stem")


METHODS = {
    "integrated-gradients": _path_method(_baseline_paths, attribute, "https://arxiv.org/abs/1703.01365", errors=ERRORS),
    "gradient": _path_method(_one_point, _mean_gradients, "https://arxiv.org/abs/1312.6034", nodes=AT_INPUT),
    "gradient-x-input": _path_method(_baseline_paths, _products, "https://arxiv.org/abs/1605.01713", nodes=AT_INPUT),
    "smoothgrad": _path_method(draw_noisy_paths, _mean_gradients, "https://arxiv.org/abs/1706.03825", nodes=AT_INPUT),
    "grad-cam": _cam_method(partial(_gradient_cam, weigh=weigh_grad_cam), "https://arxiv.org/abs/1610.02391"),
    "grad-cam++": _cam_method(partial(_gradient_cam, weigh=weigh_grad_cam_plus), "https://arxiv.org/abs/1710.11063"),
    "layer-cam": _cam_method(
        partial(_gradient_cam, weigh=weigh_layer_cam), "https://ieeexplore.ieee.org/document/9462463"
    ),
    "score-cam": _cam_method(_score_cam, "https://arxiv.org/abs/1910.01279"),
    "rollout": Method(
        partial(_roll_out, rules="rollout"), "https://arxiv.org/abs/2005.00928", at_attention=True, signed=False
    ),
    "gradient-rollout": Method(
        partial(_roll_out, rules="gradient-rollout"), "https://arxiv.org/abs/2103.15679", at_attention=True
    ),
}


def choose_method(name: str) -> Method:
    """Returns the entry of a method; raises `InputError` for an unknown name."""
    return look_up(METHODS, name, "method")
