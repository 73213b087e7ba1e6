"""A classifier's model cut in two behind its affine stem, with the number of path points that fit in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from kmm.data.modalities import find_patterns
from kmm.errors import InputError
from kmm.explain.attribution.gradients import Score, Stem, Tensors
from kmm.explain.attribution.held_memory import count_bytes, count_point_bytes
from kmm.explain.attribution.integrated_gradients import PathIntegrator
from kmm.explain.settings import FIRST_STEPS
from kmm.models.views.attention_view import AttentionView, open_attention
from kmm.models.views.path_view import LOGITS, PathView, view_path

if TYPE_CHECKING:
    from kmm.classifier import Classifier

MAX_CHUNK = 64
PROCESS = 9.5e8  # bytes of a process with its libraries, mostly TensorFlow, before a model is traced
TRACING = 3e8  # bytes that tracing and compiling take once


@dataclass(frozen=True)
class OpenModel:
    """A model that hands out the weights of its attention, as methods of attribution see it.

    Attributes:
        look: function `(inputs, fixed, nudges) -> (scores (m, n_labels), dict of tensors)`: `nudges` has a tensor for
            each name of `view.weights`, which is added to these weights; the dict is what `view.model` returns.
        view: `kmm.models.views.attention_view.AttentionView`.
        chunk: int >= 1. Studies that fit in memory at once.
    """

    look: Callable[[Tensors, Tensors, Tensors], tuple[Any, Tensors]]
    view: AttentionView
    chunk: int


@dataclass(frozen=True)
class SplitModel:
    """A model as methods of attribution see it: two functions, and how many points of a study fit in memory.

    Attributes:
        stem: function `(inputs, fixed) -> dict of tensors`, the first half of the model.
        score: function `(inner, fixed) -> (m, n_labels)`, the second half, which takes the outputs of `stem`.
        chunk: int >= 1. Points computed at once; a smaller batch is padded to it, so that nothing is traced twice.
        feature_map: str or None. The output of `stem` that is the feature map, if the model was cut behind one.
        freeze: bool. See `kmm.explain.attribution.gradients.compile_function`.
        views: int. See `kmm.models.views.path_view.PathView`.
        rest: function `(inner, fixed) -> (m, d)`, what the second half of the model returns, of which `score` is a
            function; None: `score` itself.
        labels: int >= 1. Most labels of a study that are explained in one pass.
        opened: `OpenModel`, if the method reads the weights of attention; else None.
        integrator: `PathIntegrator` of the two functions. It also computes the scores of a study.
    """

    stem: Stem
    score: Score
    chunk: int
    feature_map: str | None = None
    freeze: bool = False
    views: int = 1
    rest: Score | None = None
    opened: OpenModel | None = None
    labels: int = 1
    integrator: PathIntegrator = field(init=False)

    def __post_init__(self) -> None:
        integrator = PathIntegrator(
            self.score, stem=self.stem, chunk=self.chunk, labels=self.labels, freeze=self.freeze
        )
        object.__setattr__(self, "integrator", integrator)


def cut_model(classifier: "Classifier", image_layer: str | None = None, output: str = LOGITS) -> PathView:
    """Cuts the model of a classifier's main part in two.

    Args:
        classifier: `kmm.classifier.Classifier`.
        image_layer: str or None. Layer of the image encoder to cut behind; None: its affine stem.
        output: one of `kmm.models.views.path_view.OUTPUTS`, what the second half returns.

    Returns:
        `kmm.models.views.path_view.PathView`.

    Raises:
        InputError: if the image encoder has no such layer, the layer's output is not a feature map, or an encoder of a
            classifier that an earlier version saved is in no table.
    """
    sides = {"image_encoder": classifier.batches.image, "text_encoder": classifier.batches.text}
    encoders = {side: getattr(classifier, side) for side, preparation in sides.items() if preparation}
    for side, encoder in encoders.items():
        if encoder is None:
            name = getattr(classifier.settings, side)
            raise InputError(
                f"The classifier was saved by an earlier version of kmm, which did not describe its encoder {name!r}. "
                f"Register it with kmm.register_{side}, then load the classifier again."
            )
    return view_path(classifier.models[classifier.main], image_layer=image_layer, output=output, **encoders)


def call_view(view: PathView, classifier: "Classifier", output: str = "logit") -> tuple[Stem, Score]:
    """Makes functions for `PathIntegrator` of the two halves of a model that returns logits.

    Args:
        view: `PathView`.
        classifier: `Classifier` that it was cut from.
        output: `"logit"` or `"probability"`.

    Returns:
        functions `stem(inputs, fixed) -> dict of tensors` and `score(inner, fixed) -> (m, n_labels)`.
    """
    stem, rest = call_halves(view)
    finish = _finish_scores(classifier, output)

    def score(inner, fixed):
        return finish(rest(inner, fixed), fixed)

    return stem, score


def _finish_scores(classifier, output):
    """Makes the function that turns logits into scores."""
    temperatures = classifier.temperatures[classifier.main].astype(np.float32)

    def finish(logits, fixed):
        if output != "probability":
            return logits
        pattern = ops.cast(find_patterns(fixed["present"]), "int32")
        return ops.sigmoid(ops.divide(logits, ops.take(temperatures, pattern, axis=0)))

    return finish


def open_model(classifier: "Classifier", *, output: str = "logit", memory_gb: float = 3.0) -> OpenModel:
    """Opens the attention of the model of a classifier's main part.

    Args:
        classifier: `Classifier`.
        output: `"logit"` or `"probability"`.
        memory_gb: float. As for `choose_chunk`.

    Returns:
        `OpenModel`.

    Raises:
        InputError: if the model has no attention that can be followed, or not even one study fits in memory.
    """
    view, finish = open_attention(classifier.models[classifier.main]), _finish_scores(classifier, output)
    held = classifier.image_encoder.held if classifier.image_encoder else PathView.held

    def look(inputs, fixed, nudges):
        known = {**inputs, **fixed, **{f"{name}_nudge": value for name, value in nudges.items()}}
        found = view.model({tensor.name: known[tensor.name] for tensor in view.model.inputs}, training=False)
        return finish(found["logits"], fixed), found

    return OpenModel(look, view, choose_chunk(view.model, memory_gb, held))


def call_halves(view: PathView) -> tuple[Stem, Score]:
    """Makes functions of the two halves of a model.

    Args:
        view: `PathView`.

    Returns:
        functions `stem(inputs, fixed) -> dict of tensors` and `rest(inner, fixed) -> (m, d)`, of what the view returns.
    """

    def stem(inputs, fixed):
        given = {tensor.name: {**inputs, **fixed}[tensor.name] for tensor in view.stem.inputs}
        outputs = view.stem(given, training=False)
        return {name: ops.cast(value, "float32") for name, value in outputs.items()}

    def rest(inner, fixed):
        given = {tensor.name: {**inner, **fixed}[tensor.name] for tensor in view.rest.inputs}
        return view.rest(given, training=False)

    return stem, rest


def choose_chunk(model: keras.Model, memory_gb: float, held: float = 1.0, *, labels: int = 1) -> int:
    """Chooses how many points of a path are computed at once, so that they fit in memory.

    The result depends only on the model and the limit. The last digits of sums depend on it, so they are the same in
    every process.

    Args:
        model: `keras.Model` to differentiate.
        memory_gb: float. Memory that the process may use in total, in units of 10^9 bytes.
        held: float. Memory per point, as a multiple of what `count_point_bytes` counts: `PathView.held`. Measured: 0.4
            (DenseNet) to 0.9 (plain convolutions).
        labels: int >= 1. Labels of a study in one pass. Each beyond the first has sums of gradients of its own, over
            even and over odd points, and twice: those so far, and those of the chunk.

    Returns:
        int from 1 to 64.

    Raises:
        InputError: if not even one point fits.
    """
    sums = 4 * (labels - 1) / FIRST_STEPS * count_bytes(model.inputs)
    point, rest = held * count_point_bytes(model) + sums, PROCESS + TRACING + 4 * model.count_params()
    chunk = int((memory_gb * 1e9 - rest) / point)
    if chunk < 1:
        least = np.ceil((rest + point) / 1e8) / 10
        raise InputError(f"`memory_gb` must be at least {least} for this model. Received: {memory_gb}.")
    return min(chunk, MAX_CHUNK)
