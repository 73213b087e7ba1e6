"""Stages of a small model on data with a known rule: whole, stopped between two epochs, and resumed."""

import json

import keras
import numpy as np
import pytest

from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.fit_stage import fit_stage
from kmm.training.stages.recipe import Stage


def dataset(seed=None):
    generator = np.random.default_rng(1)
    x = generator.normal(size=(64, 4)).astype("float32")
    labels = (x[:, :1] > 0).astype("float32")
    return StudyDataset({"x": x}, labels, rows=np.arange(64), batch_size=8, seed=seed)


def small_model():
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(8, activation="relu")(x))
    return keras.Model({"x": x}, keras.layers.Dense(1)(hidden))


def train(folder, epochs, model=None, callbacks=(), **stage):
    model = model or small_model()
    stage = Stage(**{"name": "toy", "epochs": epochs, "learning_rate": 0.01, "patience": 50} | stage)
    history = fit_stage(model, dataset(3), dataset(), stage=stage, folder=folder, callbacks=callbacks)
    return model, history


def read_state(folder):
    """The state in the newest file of a stage."""
    newest = max(folder.glob("*.npz"), key=lambda path: int(path.stem.split("-")[1]))
    with np.load(newest) as stored:
        return json.loads(stored["state"].tobytes())


class Stop(Exception):
    """Ends a stage as a kill between two epochs would."""


class StoppingDataset(StudyDataset):
    stop_at = None

    def start_epoch(self, epoch):
        if epoch == self.stop_at:
            raise Stop
        super().start_epoch(epoch)


def stop_before(epoch, folder, callbacks=(), **stage):
    """Trains as `train` until an epoch begins."""
    data = dataset(3)
    stopping = StoppingDataset(data.columns, data.labels, rows=data.rows, batch_size=8, seed=3)
    stopping.stop_at = epoch
    stage = Stage(**{"name": "toy", "learning_rate": 0.01, "patience": 50} | stage)
    with pytest.raises(Stop):
        fit_stage(small_model(), stopping, dataset(), stage=stage, folder=folder, callbacks=callbacks)
