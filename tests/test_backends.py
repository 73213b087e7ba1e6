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
        np.testing.assert_allclose(rows, expected[part], atol=1e-5, err_msg=f"{keras.backend.backend()} -> {backend}")
