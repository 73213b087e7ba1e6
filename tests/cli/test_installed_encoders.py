"""Encoders of an installed package at the command line: from fit to predict, each in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from tests.factories.commands import ROOT
from tests.factories.own_encoders import MODULE, write_package
from tests.factories.studies import TINY

READER = """

def read():
    rows, mask = keras.Input((None, 8), name="rows"), keras.Input((None,), name="padding_mask")
    x = Gain(name="word_gain")(rows) * keras.ops.expand_dims(mask, -1)
    return keras.Model([rows, mask], layers.Conv1D(6, 3, padding="same", activation="relu", name="words")(x))
"""
OFFERS = "own-cnn = ward_encoders:build\n[kmm.text_encoders]\nown-reader = ward_encoders:read"
SMALL = {name: value for name, value in TINY.items() if not name.startswith("text_filters")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder in which a package lies as pip installs it."""
    return write_package(tmp_path_factory.mktemp("site"), "ward_encoders", offers=OFFERS, module=MODULE + READER)


def run_with(*arguments, paths=()):
    """Runs `kmm` in a process of its own, with folders of packages."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, *paths)))}
    command = [sys.executable, "-m", "kmm", *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.large
def test_from_fit_to_predict(installed, tiny_folder, tmp_path):
    fit = ["fit", tiny_folder, "--out", tmp_path, "--name", "own", "--image-encoder", "own-cnn"]
    fit += ["--text-encoder", "own-reader", "--epochs", 2]
    fit += [option for name, value in SMALL.items() for option in ("--set", f"{name}={value}")]
    without = run_with(*fit)
    assert without.returncode == 2 and "Unknown image encoder 'own-cnn'. Known: " in without.stderr
    assert not (tmp_path / "own").exists()
    done = run_with(*fit, paths=[installed])
    assert done.returncode == 0, done.stderr[-2000:]
    description = json.loads((tmp_path / "own" / "classifier.json").read_text())
    assert description["encoders"]["image_encoder"]["feature_map"] == "second_relu"
    assert description["encoders"]["text_encoder"]["embedding_size"] == 8
    (tmp_path / "report.txt").write_text("There is a mass.")
    ask = ["predict", tmp_path / "own", tiny_folder / "images" / "1.png", "--report", tmp_path / "report.txt"]
    first, again = (run_with(*ask, "--json", "-", paths=[installed]) for _ in range(2))
    assert first.returncode == 0, first.stderr[-2000:]
    (found,) = json.loads(first.stdout)["predictions"]
    assert first.stdout == again.stdout and set(found["probabilities"]) == {"abnormal"}
    lost = run_with(*ask)
    assert lost.returncode == 2 and "of the class Gain, which is not registered" in lost.stderr
    assert "install the package that offers its encoder" in lost.stderr and len(lost.stderr.splitlines()) == 1
