"""A model as a saved and exported classifier: TensorFlow's Python and C++ loaders answer as Keras does.

    python -m tests.export_roads SAVED OUT KNOWN [MODULE ...]

exports the network of the classifier in SAVED to OUT and compares its answers with KNOWN, an `.npz` file of inputs of
the signature `serving_default` and of `probabilities`. The modules register layers of the network. It runs on
TensorFlow.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np

from kmm.batches import BatchMaker, TextPreparation
from kmm.classifier import Classifier, run_model
from kmm.export.samples import make_samples
from kmm.image.prepare import ImagePreparation
from kmm.settings import FitSettings
from kmm.text.vocabulary import Vocabulary

ROOT = Path(__file__).parents[1]
SIDES = ("image", "token_ids")
SIGNATURE = "serving_default"


def check_export(model, spec, folder, network):
    """Exports a model and compares the answers of both loaders with those of Keras in this process.

    Args:
        model: `keras.Model` from `build_model` with two labels.
        spec: `ModelSpec` of the model.
        folder: Path for the files of the check.
        network: function of the table entry. On another backend than TensorFlow the export is a process of its own,
            which imports the function's module, so that layers defined there are registered.
    """
    classifier = make_classifier(model, spec)
    classifier.save(folder / "saved")
    samples = make_samples(classifier, 3)
    inputs = {name: samples[name] for name in SIDES if name in samples}
    present = [inputs[name].reshape(3, -1).any(axis=1) if name in inputs else np.zeros(3) for name in SIDES]
    present = np.stack(present, axis=1).astype(np.float32)
    logits = run_model(model, {**inputs, "present": present})
    known = folder / "known.npz"
    np.savez(known, probabilities=classifier.probabilities(logits, present), **inputs)
    if keras.backend.backend() == "tensorflow":
        compare_loaders(folder / "saved", folder / "exported", known)
        return
    module = getattr(network, "__module__", "kmm")
    command = [sys.executable, "-m", "tests.export_roads", folder / "saved", folder / "exported", known, module]
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


def make_classifier(model, spec):
    """Makes a classifier of a model whose vocabulary has as many words as its embedding has rows."""
    part = "joint" if spec.image_encoder and spec.text_encoder else "image" if spec.image_encoder else "text"
    vocabulary = None
    if spec.text_encoder:
        vocabulary = Vocabulary.fit([[f"word{number}" for number in range(_count_rows(model) - 2)]])
    return Classifier(
        models={part: model},
        batches=BatchMaker(
            ImagePreparation(spec.pixels) if spec.image_encoder else None,
            TextPreparation(length=spec.length) if spec.text_encoder else None,
            vocabulary=vocabulary,
            label_names=("mass", "effusion"),
        ),
        settings=FitSettings(
            image_encoder=spec.image_encoder,
            text_encoder=spec.text_encoder,
            fusion=spec.fusion,
            pixels=spec.pixels or FitSettings.pixels,
            length=spec.length,
        ),
        temperatures={part: np.outer([1.0, 1.8, 0.6], [0.5, 1.5])},
        thresholds={part: np.full((3, 2), 0.5)},
        prevalence=np.full(2, 0.5),
    )


def _count_rows(model):
    return model.get_layer("embed").get_layer("embedding").input_dim


def compare_loaders(saved, out, known):
    """Exports the network of a saved classifier; raises `AssertionError` unless both loaders answer as they should.

    Args:
        saved: path of the classifier.
        out: path of the folder of the export.
        known: path of the inputs and of the `probabilities` that are expected.
    """
    import tensorflow as tf

    from kmm.export.served import ServedClassifier
    from tests.export.cpp_loader import CppModel, open_library

    with np.load(known, allow_pickle=False) as file:
        inputs = dict(file)
    expected = inputs.pop("probabilities")
    classifier = Classifier.load(saved, main_only=True)
    served = ServedClassifier(classifier, Path(saved, "vocabulary.txt") if classifier.batches.text else None)
    served.signatures = {SIGNATURE: served.signatures[SIGNATURE]}  # the others read films and reports: much to trace
    tf.saved_model.save(served.held, str(out), signatures=served.trace())
    function = tf.saved_model.load(str(out)).signatures[SIGNATURE]
    assert set(function.structured_input_signature[1]) == set(inputs)
    answers = {"TensorFlow's loader": function(**{name: tf.constant(value) for name, value in inputs.items()})}
    if open_library():
        answers["the C++ loader"] = CppModel(out).run(SIGNATURE, inputs)
    for road, answer in answers.items():
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5, err_msg=road)


if __name__ == "__main__":
    for module in sys.argv[4:]:
        importlib.import_module(module)
    compare_loaders(*sys.argv[1:4])
