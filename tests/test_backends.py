"""A classifier saved on one backend answers on the others with the same scores."""

import importlib.util
import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from kmm.data.collection import read_collection

BACKENDS = ("tensorflow", "jax", "torch")
SCRIPT = """
import json, sys
from kmm.classifier import Classifier
from kmm.data.collection import read_collection
classifier = Classifier.load(sys.argv[1])
predictions = classifier.predict(read_collection(sys.argv[2]).studies, parts=classifier.models)
json.dump({part: rows.tolist() for part, rows in predictions.logits.items()}, sys.stdout)
"""
SERVED = """
import json, sys
import tensorflow as tf
function = tf.saved_model.load(sys.argv[1]).signatures["serving_bytes"]
given = json.load(sys.stdin)
files = tf.constant([open(path, "rb").read() for path, _ in given])
found = function(image_bytes=files, report=tf.constant([text for _, text in given]))
json.dump(found["probabilities"].numpy().tolist(), sys.stdout)
"""


@pytest.mark.large
@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_are_equal_on_every_backend(tiny_run, tiny_folder, backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: make test-backends installs it")
    trained, _, folder = tiny_run
    expected = trained.predict(read_collection(tiny_folder).studies, parts=trained.models).logits
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", SCRIPT, str(folder), str(tiny_folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    for part, rows in json.loads(done.stdout.splitlines()[-1]).items():
        np.testing.assert_allclose(
            rows, expected[part], rtol=1e-5, atol=1e-5, err_msg=f"{keras.backend.backend()} -> {backend}"
        )


@pytest.mark.large
def test_a_classifier_of_this_backend_is_exported(tiny_run, tiny_folder, tmp_path):
    pytest.importorskip("tensorflow_serving")
    trained, _, folder = tiny_run
    command = [sys.executable, "-m", "kmm", "export", str(folder), "--out", str(tmp_path), "--without", "explain"]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": os.getcwd()}, capture_output=True, check=True, timeout=300)
    studies = [study for study in read_collection(tiny_folder).studies[:8] if study.frontal and study.report]
    predictions = trained.predict(studies)
    expected = trained.probabilities(predictions.logits["joint"], predictions.present)
    done = subprocess.run(
        [sys.executable, "-c", SERVED, str(tmp_path / "1")],
        input=json.dumps([[str(study.frontal.path), trained.batches.text.text(study)] for study in studies]),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
        check=True,
    )
    np.testing.assert_allclose(json.loads(done.stdout.splitlines()[-1]), expected, rtol=1e-5, atol=1e-5)
