"""Checkpoints of a training stage: it can be stopped and resumed at any epoch, and ends with its best weights.

A stage keeps one file, `epoch-<number>.npz`: its state, the weights and the optimizer's variables after that epoch. It
is written in one step, so a killed process leaves the file before or the one after. While the best epoch is not the
last one that was saved, its file stays as a second one, because the stage ends with its weights.
"""

import errno
import json
import math
import os
import shutil
import time
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kmm.errors import InputError, look_up
from kmm.progress import Advance
from kmm.storage.files import replace_file
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.monitors import AUC, F1, MONITORED, MONITORS
from kmm.training.stages.recipe import Stage
from kmm.training.stages.schedule import SCHEDULES, average_rate
from kmm.training.stages.weight_average import start_averages, use_averages

CURVES = ("accuracy", AUC, F1)  # metrics of validation that are recorded too, if they are computed
SAVE_MINUTES = 5.0  # a large network is saved when it has improved, and at the latest so long after it was saved
LARGE_BYTES = 2**25  # of weights and optimizer; smaller networks are saved after every epoch
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error)


class Checkpoint(keras.callbacks.Callback):
    """Saves a stage in a folder, ends it in time, and restores it. It must be the last callback: what others do to the
    weights at the end of an epoch is saved too.

    Args:
        stage: `Stage`.
        folder: path of the folder, created if it is missing.
        dataset: `StudyDataset` of the training part.

    Raises:
        InputError: if the schedule or the monitor is unknown, or the folder has a damaged file.
    """

    def __init__(self, stage: Stage, folder: Path | str, dataset: StudyDataset):
        super().__init__()
        self.stage, self.folder, self.dataset = stage, Path(folder), dataset
        self.schedule = look_up(SCHEDULES, stage.schedule, "schedule")
        self.monitor = look_up(MONITORS, stage.monitor, "monitor")
        self.advance: Advance = _ignore
        self.saved_at = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        # "ended": no epoch follows. "done": the file holds the best weights, without the optimizer.
        self.state: dict[str, Any] = {
            **{"epoch": 0, "best": None, "best_epoch": 0, "waited": 0, "rate": stage.learning_rate, "history": {}},
            **{"ended": False, "done": False},
        }
        if files := self._list_files():
            self.state = self._read_state(files[-1], names=set(self.state))

    def restore(self) -> None:
        """Loads the weights and the optimizer's variables of the last saved epoch; the best weights of a stage that is
        done."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        if files := self._list_files():
            self._load(files[-1], self._weights() if self.state["done"] else self._variables())

    def measure_start(self, validation: Any) -> None:
        """Evaluates the initial weights as the first best ones, so that the stage never ends worse than it began."""
        start_averages(self.model)
        value = self.monitor.value(self.model.evaluate(validation, verbose=0, return_dict=True))
        if self.state["best"] is None and math.isfinite(value):
            self.state["best"] = float(value)
            self._save(self._variables())

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Saves the stage, and ends it if what it monitors no longer improves."""
        logs = logs or {}
        validation = {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}
        state, loss, value = self.state, logs[MONITORED], self.monitor.value(validation)
        if not math.isfinite(value) or not math.isfinite(logs["loss"]):  # the weights are useless: keep the best ones
            self.advance(0, text=f"loss {logs['loss']}: training ends here")
            self.model.stop_training = True
            return
        measured = {f"val_{name}": validation.get(name, math.nan) for name in CURVES}
        known = {name: number for name, number in measured.items() if math.isfinite(number)}
        rate = average_rate(self._rate(), self.stage, epoch, len(self.dataset))
        for name, number in {"loss": loss, "val_loss": validation[MONITORED], "learning_rate": rate, **known}.items():
            state["history"].setdefault(name, []).append(float(number))
        improved = state["best"] is None or value < state["best"] - 1e-4
        if improved:
            state.update(best=float(value), best_epoch=epoch + 1, waited=0)
        else:
            state["waited"] += 1
            state["rate"] = self.schedule.without_gain(state["rate"], self.stage, state["waited"])
        state["epoch"] = epoch + 1
        if state["waited"] >= self.stage.patience:
            self.model.stop_training = True
        state["ended"] = self.model.stop_training or state["epoch"] >= self.stage.epochs
        if improved or self._is_due():
            self._save(self._variables())
        self.advance(0, text=f"loss {loss:.4f} validation {validation[MONITORED]:.4f}")

    def finish(self) -> None:
        """Restores the best weights, or their averages, and keeps them with the state of a stage that is done."""
        self._load(self._file(self.state["best_epoch"]), self._variables())
        use_averages(self.model)
        self.state["done"] = True
        self._save(self._weights())

    def describe_best(self) -> str:
        """Describes the best value of what is monitored, and its epoch."""
        best, last = self.state["best_epoch"], self.state["epoch"]
        when = f"epoch {best} of {last}" if best else f"at the start, which none of {last} epochs improved"
        return f"best {self.monitor.noun} {self.state['best']:.4f}, {when}"

    def _rate(self):
        """Returns the learning rate of the epoch, which another callback may have changed."""
        actual = float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        return self.state["rate"] if actual == float(np.float32(self.state["rate"])) else actual

    def _weights(self):
        return list(self.model.variables)

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def _is_due(self):
        """Returns whether an epoch without improvement is saved."""
        size = 4 * sum(math.prod(variable.shape) for variable in self._variables())
        return size < LARGE_BYTES or time.monotonic() - self.saved_at >= 60 * SAVE_MINUTES

    def _file(self, epoch):
        return self.folder / f"epoch-{epoch}.npz"

    def _list_files(self):
        """Lists the files of the stage in the order of their epochs."""
        return sorted(self.folder.glob("epoch-*.npz"), key=lambda path: int(path.stem.partition("-")[2]))

    def _save(self, variables):
        """Writes the state and the variables, concatenated by type, which is many times faster than a Keras weights
        file; then removes the files that the state does not need."""
        arrays = [ops.convert_to_numpy(variable) for variable in variables]
        path, kinds = self._file(self.state["epoch"]), {}
        if shutil.disk_usage(self.folder).free < 2**20 + sum(array.nbytes for array in arrays):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        for array in arrays:
            kinds.setdefault(array.dtype.name, []).append(array.ravel())
        state = np.frombuffer(json.dumps(self.state, allow_nan=False).encode(), np.uint8)
        with replace_file(path) as place:
            np.savez(place, state=state, **{kind: np.concatenate(values) for kind, values in kinds.items()})
        kept = {path} if self.state["done"] else {path, self._file(self.state["best_epoch"])}
        for other in set(self._list_files()) - kept:
            other.unlink()
        self.saved_at = time.monotonic()

    def _load(self, path, variables):
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                kinds = {kind: stored[kind] for kind in stored.files if kind != "state"}
            for variable, like in zip(variables, map(ops.convert_to_numpy, variables), strict=True):
                kind = like.dtype.name
                value, kinds[kind] = kinds[kind][: like.size], kinds[kind][like.size :]
                variable.assign(value.reshape(like.shape))
            if any(map(len, kinds.values())):
                raise ValueError("more values than variables")
        except _UNREADABLE:
            raise self._damaged(path.name) from None

    def _read_state(self, path, names):
        try:
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
                state = json.loads(stored["state"].tobytes())
            if set(state) != names:
                raise ValueError("another state")
        except _UNREADABLE:
            raise self._damaged(path.name) from None
        return state

    def _damaged(self, name):
        return InputError(
            f"{self.folder / name} is missing or damaged. Remove the folder {self.folder} and resume: this stage is "
            "then trained again from its start."
        )


class EpochStart(keras.callbacks.Callback):
    """Prepares each epoch and reports its steps. It must be the first callback: others may then change the learning
    rate, and read exact losses.

    Args:
        checkpoint: `Checkpoint` of the stage.
    """

    def __init__(self, checkpoint: Checkpoint):
        super().__init__()
        self.checkpoint = checkpoint
        self.step = 0  # steps of this epoch reported to `advance`
        self.text = "training"  # replaces "compiling" after the first step

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Sets the order of the studies, the random state and the learning rate of an epoch."""
        stage, state, dataset = self.checkpoint.stage, self.checkpoint.state, self.checkpoint.dataset
        self.step = 0
        dataset.start_epoch(epoch)
        seed_layers(self.model, [dataset.seed or 0, epoch])
        state["rate"] = self.checkpoint.schedule.at_start(state["rate"], stage, epoch)
        self.model.optimizer.learning_rate.assign(state["rate"])

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Reports the steps since the last call."""
        step = min(batch + 1, len(self.checkpoint.dataset))  # Keras may run several steps between two calls
        self.checkpoint.advance(step - self.step, text=self.text)
        self.step, self.text = step, ""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Replaces Keras's losses, for which the studies that fill up the last batch count, with those of the epoch."""
        if logs is not None:
            penalised = [weight for weight in self.model.trainable_weights if weight.regularizer is not None]
            penalties = sum(float(ops.convert_to_numpy(weight.regularizer(weight))) for weight in penalised)
            for prefix in ("", "val_"):
                logs[f"{prefix}loss"] = logs[f"{prefix}{MONITORED}"] + penalties


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


def _ignore(count: int = 1, text: str = "") -> None:
    pass
