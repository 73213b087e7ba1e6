"""Whole runs whose encoders are Keras models, stopped and resumed in a process that has not seen them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kmm.classifier import Classifier
from kmm.data.collection import read_collection
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.registration import give_image_encoder, give_text_encoder
from kmm.presets import make_settings
from kmm.training.fit import fit_classifier
from kmm.training.stages.dataset import StudyDataset
from tests.factories.own_encoders import build_vector_cnn, build_word_model
from tests.factories.studies import TINY

pytestmark = pytest.mark.large
ROOT = Path(__file__).parents[2]
FAST = {**TINY, "text_epochs": 1, "image_epochs": 2, "joint_epochs": 1, "tune_epochs": 1, "bootstrap_repeats": 2}
RESUME = """
import json, sys
from kmm.data.collection import read_collection
from kmm.settings import FitSettings
from kmm.training.fit import fit_classifier
from kmm.training.save_run import save_run

folder, work, out = sys.argv[1:]
settings = FitSettings.from_dict(json.load(open(f"{work}/run.json"))["settings"])
classifier, run = fit_classifier(read_collection(folder), settings, work=work, cache=f"{work}-cache")
save_run(classifier, run, out)
"""


@pytest.fixture
def settings():
    """Settings of a fit whose encoders are Keras models."""
    given = {**give_image_encoder(build_vector_cnn(), scaling="unit"), **give_text_encoder(build_word_model())}
    yield make_settings("small", {**FAST, **given})
    IMAGE_ENCODERS.pop(given["image_encoder"], None)
    TEXT_ENCODERS.pop(given["text_encoder"], None)


def test_a_fit_of_given_models_is_resumed_in_another_process(settings, tiny_folder, tmp_path, monkeypatch):
    whole, run = fit_classifier(
        read_collection(tiny_folder), settings, work=tmp_path / "whole", cache=tmp_path / "cache"
    )
    assert run.facts["image_weights"]["source"] == "given"
    assert {"text", "image head", "image tuning", "joint head", "joint tuning"} <= set(run.history)
    start_epoch = StudyDataset.start_epoch

    def stop_at_the_image_tuning(self, epoch):
        if "image" in self.columns:
            raise KeyboardInterrupt
        start_epoch(self, epoch)

    with monkeypatch.context() as stopped:
        stopped.setattr(StudyDataset, "start_epoch", stop_at_the_image_tuning)
        with pytest.raises(KeyboardInterrupt):
            fit_classifier(read_collection(tiny_folder), settings, work=tmp_path / "parts", cache=tmp_path / "other")
    assert (tmp_path / "parts" / "image_encoder.keras").is_file()
    done = subprocess.run(
        [sys.executable, "-c", RESUME, tiny_folder, tmp_path / "parts", tmp_path / "saved"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    resumed = Classifier.load(tmp_path / "saved")
    assert json.dumps(resumed.metrics) == json.dumps(whole.metrics)
    assert resumed.image_encoder == whole.image_encoder
