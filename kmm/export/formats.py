"""Export of a classifier's model to other runtimes: prepared films and word ids in, logits out.

The file excludes decoding, cleaning and calibration, for which ONNX and LiteRT have no operations. A caller finds the
vocabulary, the preparation and the temperatures in the classifier's folder.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kmm.classifier import Classifier, run_model
from kmm.errors import ArtefactError, InputError, KmmError, look_up, require
from kmm.export.samples import make_samples
from kmm.storage.files import replace_file

LOGIT_TOLERANCE = 1e-4  # largest difference of a logit, relative to the largest logit or to 1


@dataclass(frozen=True)
class Format:
    """A row of the table `EXPORT_FORMATS`.

    Attributes:
        suffix: str. Ending of the file's name.
        extra: str. The extra of kmm that installs the packages.
        packages: tuple of str: packages that write and run the format.
        run: function `(path, inputs) -> logits` that runs a file on a dict of arrays of one row each.
    """

    suffix: str
    extra: str
    packages: tuple[str, ...]
    run: Callable[[Path, dict[str, np.ndarray]], np.ndarray]


def export_format(
    folder: Path | str, kind: str, out: Path | str | None = None, *, inspect: Callable[[Path], Any] | None = None
) -> Path:
    """Writes the model of a saved classifier for another runtime, runs it there and compares the logits.

    Args:
        folder: path of a saved classifier.
        kind: key of `EXPORT_FORMATS`.
        out: path of the file to write; None for `<name>.<suffix>` in `folder`.
        inspect: function, or None. Called with the path of the finished file before it is moved into place; an
            exception from it cancels the export.

    Returns:
        Path of the file.

    Raises:
        InputError: if the format is unknown, `folder` is an archive and `out` is missing, or Keras does not run on
            TensorFlow.
        MissingPackageError: if a package is not installed.
        ArtefactError: if the model cannot be written in the format, or the file gives other logits than the classifier.
    """
    entry, folder = look_up(EXPORT_FORMATS, kind, "format"), Path(folder)
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"An export needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}.")
    for package in entry.packages:
        require(package, entry.extra)
    classifier = Classifier.load(folder, main_only=True)
    model, inputs = classifier.models[classifier.main], _make_inputs(classifier)
    model(inputs, training=False)  # Keras exports only a model that was called
    if out is None and folder.is_file():
        raise InputError(f"{folder} is an archive, which cannot hold an export. Give `out`, the file to write.")
    place = Path(out) if out else folder / f"{folder.resolve().name}{entry.suffix}"
    with replace_file(place) as temporary:
        try:
            model.export(str(temporary), format=kind, verbose=False)
            check_format(temporary, entry, inputs, run_model(model, inputs))
            if inspect:
                inspect(temporary)
        except (KmmError, OSError):
            raise
        except Exception as error:  # converters and runtimes raise exceptions of nearly any type
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise ArtefactError(f"The classifier cannot be written as {kind}. {reason}") from error
    return place


def check_format(path: Path, entry: Format, inputs: dict[str, np.ndarray], expected: np.ndarray) -> None:
    """Runs a file and compares its logits with those of the classifier.

    Args:
        path: Path of the file.
        entry: `Format`.
        inputs: dict of name to array `(n, ...)`.
        expected: float array `(n, n_labels)`.

    Raises:
        ArtefactError: if they differ by more than `LOGIT_TOLERANCE`, relative to the largest logit or to 1.
    """
    count = len(expected)
    rows = [entry.run(path, {name: value[row : row + 1] for name, value in inputs.items()}) for row in range(count)]
    difference = float(np.abs(np.concatenate(rows) - expected).max() / max(1, np.abs(expected).max()))
    if not difference <= LOGIT_TOLERANCE:
        raise ArtefactError(
            f"The logits of the file differ from the classifier's by {difference:.2g}. "
            f"Expected at most {LOGIT_TOLERANCE}."
        )


def _make_inputs(classifier):
    """Makes inputs of the model for three studies: film and report, film alone, report alone."""
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


EXPORT_FORMATS = {
    "onnx": Format(".onnx", "onnx", ("tf2onnx", "onnxruntime"), _run_onnx),
    "litert": Format(".tflite", "litert", ("ai_edge_litert.interpreter",), _run_litert),
}
