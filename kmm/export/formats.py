"""A classifier's model in formats of other runtimes: prepared films and word ids in, logits out.

Decoding, cleaning and calibration stay outside: ONNX and LiteRT have no operations for them. What is needed beside the
file (vocabulary, preparation, temperatures) lies in the classifier's folder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from kmm.classifier import Classifier, run_model
from kmm.errors import ArtefactError, InputError, KmmError, look_up, require
from kmm.export.samples import make_samples
from kmm.storage.files import replace_file

TOLERANCE = 1e-4  # largest difference of a logit, relative to the largest logit or to 1


@dataclass(frozen=True)
class Format:
    """A row of the table `FORMATS`.

    Attributes:
        suffix: str.
        extra: str. The extra of kmm that installs what it needs.
        packages: tuple of str: what writes and what runs it.
        run: function `(path, inputs) -> logits`, of a file and a dict of arrays of one row each.
    """

    suffix: str
    extra: str
    packages: tuple
    run: Callable


def export_format(folder, kind, out=None, *, inspect=None):
    """Writes the model of a saved classifier for another runtime, runs it there and compares.

    Args:
        folder: path of a saved classifier.
        kind: key of `FORMATS`.
        out: path of the file to write, or None: `<name>.<suffix>` in `folder`.
        inspect: callable, or None. It is given the path of the finished file before that is in its place; what it
            raises ends the export.

    Returns:
        Path of the file.

    Raises:
        InputError: if the format is unknown or Keras does not run on TensorFlow.
        MissingPackageError: if a package is not installed.
        ArtefactError: if the model cannot be written in the format, or the file does not say what the classifier says.
    """
    entry, folder = look_up(FORMATS, kind, "format"), Path(folder)
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"An export needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}.")
    for package in entry.packages:
        require(package, entry.extra)
    classifier = Classifier.load(folder, main_only=True)
    model, inputs = classifier.models[classifier.main], _make_inputs(classifier)
    model(inputs, training=False)  # Keras exports what was called
    if out is None and folder.is_file():
        raise InputError(f"{folder}: expected `out`, the file to write: an archive takes no export.")
    place = Path(out) if out else folder / f"{folder.resolve().name}{entry.suffix}"
    with replace_file(place) as temporary:
        try:
            model.export(str(temporary), format=kind, verbose=False)
            check_format(temporary, entry, inputs, run_model(model, inputs))
            if inspect:
                inspect(temporary)
        except (KmmError, OSError):
            raise
        except Exception as error:  # converters and runtimes raise nearly anything
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise ArtefactError(f"The classifier cannot be written as {kind}. {said}") from error
    return place


def check_format(path, entry, inputs, expected):
    """Runs a file and compares its logits.

    Args:
        path: of the file.
        entry: `Format`.
        inputs: dict of name to array `(n, ...)`.
        expected: float array `(n, n_labels)`.

    Raises:
        ArtefactError: if they differ.
    """
    count = len(expected)
    rows = [entry.run(path, {name: value[row : row + 1] for name, value in inputs.items()}) for row in range(count)]
    difference = float(np.abs(np.concatenate(rows) - expected).max() / max(1, np.abs(expected).max()))
    if not difference <= TOLERANCE:
        raise ArtefactError(f"The file differs from the classifier by {difference:.2g}. Expected at most {TOLERANCE}.")


def _make_inputs(classifier):
    """A study with both sides, and one of each side alone, as the model takes them."""
    samples, model = make_samples(classifier, 3), classifier.models[classifier.main]
    sides = {"image": 0, "token_ids": 1}
    inputs = {name: samples[name] for name in sides if name in samples}
    inputs["present"] = np.ones((3, 2), np.float32)
    for name, column in sides.items():
        inputs["present"][:, column] = inputs[name].reshape(3, -1).any(axis=1) if name in inputs else 0
    return {tensor.name: inputs[tensor.name] for tensor in model.inputs}


def _run_onnx(path, inputs):
    session = require("onnxruntime", "onnx").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def _run_litert(path, inputs):
    interpreter = require("ai_edge_litert.interpreter", "litert").Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner()
    return next(iter(runner(**inputs).values()))


FORMATS = {
    "onnx": Format(".onnx", "onnx", ("tf2onnx", "onnxruntime"), _run_onnx),
    "litert": Format(".tflite", "litert", ("ai_edge_litert.interpreter",), _run_litert),
}
