"""A model saved on one backend answers the same on the others. Each backend needs a process of its own."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
BACKENDS = ("tensorflow", "jax", "torch")
BUILD = """
import sys
from kmm.models.build import ModelSpec, build_model
from tests.checks import check_learns, model_inputs, to_numpy
import numpy as np

sizes = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 4, "fusion_units": 16}
joint = ModelSpec(image_encoder="small-cnn", text_encoder="text-cnn", **sizes)
deep = ModelSpec(image_encoder="densenet121", text_encoder="text-cnn-paper", **sizes)
for name, spec in {"joint": joint, "deep": deep}.items():
    model = build_model(spec, label_count=2, vocabulary_size=20)
    inputs = model_inputs(model)
    if name == "joint":
        check_learns(model, inputs)
    model.save(f"{sys.argv[1]}-{name}.keras")
    np.save(f"{sys.argv[1]}-{name}.npy", to_numpy(model(inputs, training=False)))
"""
COMPARE = """
import sys
import keras
import numpy as np
import kmm.models.build
from tests.checks import model_inputs, to_numpy

for path in sys.argv[1:]:
    model = keras.models.load_model(path + ".keras")
    difference = np.abs(to_numpy(model(model_inputs(model), training=False)) - np.load(path + ".npy")).max()
    print(keras.backend.backend(), path, difference)
    assert difference < 1e-5, (keras.backend.backend(), path, difference)
"""


def run(script, backend, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.backends
def test_saved_on_one_backend_answers_the_same_on_the_others(tmp_path):
    here = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    if len(here) < 2:
        pytest.skip(f"needs two of {', '.join(BACKENDS)}; installed: {', '.join(here)}")
    for writer in here:
        run(BUILD, writer, tmp_path / writer)
    saved = [tmp_path / f"{writer}-{name}" for writer in here for name in ("joint", "deep")]
    assert all(np.load(f"{path}.npy").shape == (6, 2) for path in saved)
    for reader in here:
        run(COMPARE, reader, *saved)
