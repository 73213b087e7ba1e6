"""A classifier's model as explanations need it: cut behind its affine stem, in chunks that fit in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np
from keras import ops

from kmm.data.modalities import find_patterns
from kmm.errors import InputError
from kmm.explain.attribution.integrated_gradients import PathIntegrator
from kmm.models.path_view import view_path

MAX_CHUNK = 64
PROCESS = 9.5e8  # bytes of a process with its libraries, of which TensorFlow takes most, before a model is traced
TRACING = 3e8  # bytes that tracing and compiling take once


@dataclass(frozen=True)
class SplitModel:
    """A model as methods of attribution see it: two functions, and how many points of a study fit in memory.

    Attributes:
        stem: function `(inputs, fixed) -> dict of tensors`, the first half of the model.
        score: function `(inner, fixed) -> (m, n_labels)`, the rest, which takes what `stem` returns.
        chunk: int >= 1. Points computed at once.
        feature_map: str or None. The output of `stem` that is the feature map, in a model that was cut behind one.
        freeze: bool. See `kmm.explain.attribution.gradients.compile_function`.
        integrator: `PathIntegrator` of the two functions. It also gives the scores of a study.
    """

    stem: Callable
    score: Callable
    chunk: int
    feature_map: str | None = None
    freeze: bool = False
    integrator: PathIntegrator = field(init=False)

    def __post_init__(self):
        made = PathIntegrator(self.score, stem=self.stem, chunk=self.chunk, freeze=self.freeze)
        object.__setattr__(self, "integrator", made)


def cut_model(classifier, image_layer=None):
    """The `kmm.models.path_view.PathView` of a classifier's main part."""
    model, fit = classifier.models[classifier.main], classifier.settings
    return view_path(
        model,
        image_encoder=fit.image_encoder if classifier.batches.image else None,
        text_encoder=fit.text_encoder if classifier.batches.text else None,
        image_layer=image_layer,
    )


def call_view(view, classifier, output="logit"):
    """The two halves of a model as functions for `PathIntegrator`.

    Args:
        view: `PathView`.
        classifier: `Classifier` that it was cut from.
        output: `"logit"` or `"probability"`.

    Returns:
        functions `stem(inputs, fixed) -> dict of tensors` and `score(inner, fixed) -> (m, n_labels)`.
    """
    temperatures = classifier.temperatures[classifier.main].astype(np.float32)

    def stem(inputs, fixed):
        given = {tensor.name: {**inputs, **fixed}[tensor.name] for tensor in view.stem.inputs}
        outputs = view.stem(given, training=False)
        return {name: ops.cast(value, "float32") for name, value in outputs.items()}

    def score(inner, fixed):
        given = {tensor.name: {**inner, **fixed}[tensor.name] for tensor in view.rest.inputs}
        logits = view.rest(given, training=False)
        if output != "probability":
            return logits
        pattern = ops.cast(find_patterns(fixed["present"]), "int32")
        return ops.sigmoid(ops.divide(logits, ops.take(temperatures, pattern, axis=0)))

    return stem, score


def choose_chunk(model, memory_gb, held=1.0):
    """How many points of a path fit in memory at once.

    It depends on the model and the limit alone: the last digits of sums hang on it, and are so the same in any process.

    Args:
        model: `keras.Model` that is differentiated.
        memory_gb: float. What the process may use in all, in units of 10^9 bytes.
        held: float. Memory at a point, as a multiple of the bytes of the outputs of all layers: `PathView.held`.
            Measured: 0.4 (DenseNet) to 0.9 (convolutions in a row).

    Returns:
        int from 1 to 64.

    Raises:
        InputError: if not even one point fits.
    """
    point, rest = held * _output_bytes(model), PROCESS + TRACING + 4 * model.count_params()
    chunk = int((memory_gb * 1e9 - rest) / point)
    if chunk < 1:
        least = np.ceil((rest + point) / 1e8) / 10
        raise InputError(f"`memory_gb` must be at least {least} for this model. Received: {memory_gb}.")
    return min(chunk, MAX_CHUNK)


def _output_bytes(model):
    """Bytes of the float32 outputs of all layers, and of operations of `keras.ops` between them, for one study."""
    total = 0
    for operation in getattr(model, "operations", model.layers):  # a `Sequential` has only layers
        if isinstance(operation, keras.Model):
            total += _output_bytes(operation)
        elif not isinstance(operation, keras.layers.InputLayer):
            outputs = keras.tree.flatten(operation.output)
            total += sum(4 * int(np.prod(tensor.shape[1:])) for tensor in outputs)
    return total
