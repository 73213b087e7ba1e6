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
from tests.model_checks import check_learns, compile_quickly, model_inputs
import keras
import numpy as np

sizes = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 4, "fusion_units": 16}
joint = ModelSpec(image_encoder="small-cnn", text_encoder="text-cnn", **sizes)
deep = ModelSpec(image_encoder="densenet121", text_encoder="text-cnn-paper", **sizes)
deep = {"deep": deep} if keras.backend.backend() == "tensorflow" else {}
for name, spec in {"joint": joint, **deep}.items():
    model = build_model(spec, label_count=2, vocabulary_size=20)
    inputs = model_inputs(model)
    if name == "joint":
        check_learns(model, inputs)
    model.save(f"{sys.argv[1]}-{name}.keras")
    compile_quickly(model)
    np.save(f"{sys.argv[1]}-{name}.npy", model.predict(inputs, verbose=0))
"""
COMPARE = """
import sys
import keras
import numpy as np
import kmm.models.build
from tests.model_checks import compile_quickly, model_inputs

for path in sys.argv[1:]:
    model = keras.models.load_model(path + ".keras")
    compile_quickly(model)
    difference = np.abs(model.predict(model_inputs(model), verbose=0) - np.load(path + ".npy")).max()
    assert difference < 1e-5, (keras.backend.backend(), path, difference)
"""


def run(script, backend, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.large
@pytest.mark.backends
def test_saved_on_one_backend_answers_the_same_on_the_others(tmp_path):
    here = [backend for backend in BACKENDS if importlib.util.find_spec(backend)]
    if len(here) < 2:
        pytest.skip(f"needs two of {', '.join(BACKENDS)}; installed: {', '.join(here)}")
    for writer in here:
        run(BUILD, writer, tmp_path / writer)
    saved = [path.with_suffix("") for path in sorted(tmp_path.glob("*.npy"))]
    assert len(saved) == len(here) + ("tensorflow" in here)
    assert all(np.load(f"{path}.npy").shape == (6, 2) for path in saved)
    for reader in here:
        run(COMPARE, reader, *saved)
