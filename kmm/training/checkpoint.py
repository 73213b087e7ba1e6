"""Checkpoints of a training stage: it can be stopped and resumed at any epoch, and ends with its best weights."""

import errno
import json
import math
import os
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kmm.errors import InputError, look_up
from kmm.storage.files import replace_file, write_json
from kmm.training.dataset import StudyDataset
from kmm.training.schedule import SCHEDULES

MONITORED = "crossentropy"  # the metric that selects the best epoch


@dataclass(frozen=True)
class StagePlan:
    """Settings of one training stage.

    Attributes:
        name: str. Name of the stage, for the user.
        epochs: int. Most epochs.
        learning_rate: float. Learning rate at the start.
        schedule: str. Key of `kmm.training.schedule.SCHEDULES`.
        patience: int. Epochs without a better validation loss after which the stage ends.
        clip_norm: float. Largest global norm of the gradients; 0 for no limit.
        loss: str. Key of `kmm.models.loss.LOSSES`.
        optimizer: str. Key of `kmm.training.optimizers.OPTIMIZERS`.
        weight_decay: float. Weight decay of the optimizer `adamw`.
        tensorboard: str. Path of the folder for TensorBoard logs; None for no logs.
    """

    name: str
    epochs: int
    learning_rate: float
    schedule: str = "plateau"
    patience: int = 5
    clip_norm: float = 1.0
    loss: str = "bce"
    optimizer: str = "adam"
    weight_decay: float = 0.0
    tensorboard: str | None = None


class Checkpoint(keras.callbacks.Callback):
    """Saves the best weights, the last weights and the state of a stage in a folder, and ends the stage in time.

    If the process is killed at any moment, either the old weights and state remain or the new ones: there is one file
    of weights per epoch, the state names the epochs in use, and other files are removed after the state is written.

    Args:
        plan: `StagePlan`.
        folder: path of the folder, created if it is missing.
        dataset: `StudyDataset` of the training part.

    Raises:
        InputError: if the schedule is unknown, or the folder has a damaged state.
    """

    def __init__(self, plan: StagePlan, folder: Path | str, dataset: StudyDataset):
        super().__init__()
        self.plan, self.folder, self.dataset = plan, Path(folder), dataset
        self.schedule = look_up(SCHEDULES, plan.schedule, "schedule")
        self.advance = lambda count, text="": None
        self.step = 0  # steps of this epoch reported to `advance`
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = {"epoch": 0, "best": None, "best_epoch": 0, "waited": 0, "rate": plan.learning_rate, "done": False}
        self.state: dict[str, Any] = {**fresh, "history": {}}
        if (self.folder / "state.json").exists():
            self.state = self._read_state(names=set(self.state))

    def restore(self, best: bool = False) -> None:
        """Loads the weights and the optimizer's state of the last epoch, or of the best one."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        if best or self.state["epoch"]:
            self._load(self._file(self.state["best_epoch" if best else "epoch"]))

    def measure_start(self, validation: Any) -> None:
        """Evaluates the initial weights as the first best ones, so that the stage never ends worse than it began."""
        value = self.model.evaluate(validation, verbose=0, return_dict=True)[MONITORED]
        if self.state["best"] is None and math.isfinite(value):
            self.state["best"] = float(value)
            self._save(0)
            self._write_state()

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets the order of the studies, the random state and the learning rate of an epoch."""
        self.step = 0
        self.dataset.start_epoch(epoch)
        seed_layers(self.model, [self.dataset.seed or 0, epoch])
        self.state["rate"] = self.schedule.at_start(self.state["rate"], self.plan, epoch)
        self.model.optimizer.learning_rate.assign(self.state["rate"])

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Reports the steps since the last call."""
        step = min(batch + 1, len(self.dataset))  # Keras may run several steps between two calls
        self.advance(step - self.step)
        self.step = step

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves the weights and the state, and ends the stage if its validation loss no longer improves."""
        logs = logs or {}
        state, loss, value = self.state, logs[MONITORED], logs[f"val_{MONITORED}"]
        if not math.isfinite(value) or not math.isfinite(logs["loss"]):  # the weights are useless: keep the best ones
            self.advance(0, text=f"loss {logs['loss']}: training ends here")
            self.model.stop_training = True
            return
        for name, number in {"loss": loss, "val_loss": value, "learning_rate": state["rate"]}.items():
            state["history"].setdefault(name, []).append(float(number))
        if state["best"] is None or value < state["best"] - 1e-4:
            state.update(best=float(value), best_epoch=epoch + 1, waited=0)
        else:
            state["waited"] += 1
            state["rate"] = self.schedule.without_gain(state["rate"], self.plan, state["waited"])
        if state["waited"] >= self.plan.patience:
            state["done"] = self.model.stop_training = True
        state["epoch"] = epoch + 1
        self._save(epoch + 1)
        self._write_state()
        self.advance(0, text=f"loss {loss:.4f} validation {value:.4f}")

    def finish(self) -> None:
        """Marks the stage as done and restores the best weights."""
        self.restore(best=True)
        self.state["done"] = True
        self._write_state()

    def describe_best(self) -> str:
        """Describes the best validation loss and its epoch."""
        best, last = self.state["best_epoch"], self.state["epoch"]
        when = f"epoch {best} of {last}" if best else f"at the start, which none of {last} epochs improved"
        return f"best validation loss {self.state['best']:.4f}, {when}"

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def _file(self, epoch):
        return self.folder / f"epoch-{epoch}.npz"

    def _save(self, epoch):
        """Writes all variables concatenated by type, which is many times faster than a Keras weights file."""
        arrays = [ops.convert_to_numpy(variable) for variable in self._variables()]
        path, kinds = self._file(epoch), {}
        if shutil.disk_usage(self.folder).free < 2**20 + sum(array.nbytes for array in arrays):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        for array in arrays:
            kinds.setdefault(array.dtype.name, []).append(array.ravel())
        with replace_file(path) as place:
            np.savez(place, **{kind: np.concatenate(values) for kind, values in kinds.items()})

    def _load(self, path):
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                kinds = {kind: stored[kind] for kind in stored.files}
            variables = self._variables()
            for variable, like in zip(variables, map(ops.convert_to_numpy, variables), strict=True):
                kind = like.dtype.name
                value, kinds[kind] = kinds[kind][: like.size], kinds[kind][like.size :]
                variable.assign(value.reshape(like.shape))
            if any(map(len, kinds.values())):
                raise ValueError("more values than variables")
        except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error):
            raise self._damaged(path.name) from None

    def _write_state(self):
        """Writes the state, then removes the weights of epochs that it does not name."""
        write_json(self.folder / "state.json", self.state)
        kept = {self._file(self.state["best_epoch"])}
        if not self.state["done"]:
            kept.add(self._file(self.state["epoch"]))
        for path in set(self.folder.glob("epoch-*.npz")) - kept:
            path.unlink()

    def _read_state(self, names):
        try:
            state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except ValueError:  # includes UnicodeDecodeError
            state = None
        if not isinstance(state, dict) or set(state) != names:
            raise self._damaged("state.json")
        return state

    def _damaged(self, name):
        return InputError(
            f"{self.folder / name} is missing or damaged. Remove the folder {self.folder} and resume: this stage is "
            "then trained again from its start."
        )


def seed_layers(model: keras.Model, seed: int | Sequence[int]) -> None:
    """Sets the random state of dropout and similar layers, which is not saved with the weights.

    Args:
        model: `keras.Model`, changed in place.
        seed: int or sequence of int.
    """
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(generator.integers(2**31, size=variable.shape))
    if keras.backend.backend() == "torch":  # its dropout draws from a global generator
        keras.utils.set_random_seed(int(generator.integers(2**31)))
