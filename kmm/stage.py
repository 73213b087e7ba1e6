"""One stage of training: a compiled model, a data set, and a keeper that can stop and go on at any epoch."""

import errno
import json
import math
import os
import shutil
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
from keras import ops

from kmm.errors import InputError, require
from kmm.files import replace_file
from kmm.progress import Progress
from kmm.settings import write_json
from kmm.text.vocabulary import PADDING, UNKNOWN


def masked_crossentropy(class_weights=None):
    """Makes the loss of logits against labels in which NaN means unknown.

    The mean of binary cross-entropy over the known labels of an example; an example without a known label costs 0.

    Args:
        class_weights: float array `(n_labels, 2)`, the weights of a 0 and of a 1 of each label, or None for 1.

    Returns:
        a loss of labels `(n, n_labels)` and logits `(n, n_labels)`, an array `(n,)`.

    Example:
        >>> loss = masked_crossentropy()
        >>> float(loss(np.array([[1.0, np.nan]], "float32"), np.array([[0.0, 9.0]], "float32"))[0])  # ln 2
        0.6931471824645996
    """
    weights = np.ones((1, 2), np.float32) if class_weights is None else np.asarray(class_weights, np.float32)

    def loss(labels, logits):
        logits = ops.cast(logits, "float32")
        known = ops.equal(labels, labels)
        labels = ops.where(known, labels, 0.0)
        weight = ops.where(labels > 0.5, weights[:, 1], weights[:, 0])
        cost = ops.maximum(logits, 0.0) - logits * labels + ops.softplus(-ops.abs(logits))
        known = ops.cast(known, "float32")
        return ops.sum(cost * weight * known, axis=-1) / ops.maximum(ops.sum(known, axis=-1), 1.0)

    return loss


def balance_classes(labels):
    """Weights that let both classes of each label weigh alike: float32 `(n_labels, 2)`.

    Example:
        >>> balance_classes(np.array([[1.0], [0.0], [0.0], [np.nan]])).round(2).tolist()
        [[0.75, 1.5]]
    """
    known = np.isfinite(labels).sum(axis=0)
    positive = np.nansum(labels, axis=0)
    return np.stack([known / (2 * np.maximum(known - positive, 1)), known / (2 * np.maximum(positive, 1))], 1).astype(
        np.float32
    )


class StudyDataset(keras.utils.PyDataset):
    """Batches of columns in an order that depends on the seed and the epoch alone, so that a resumed run repeats it.

    Args:
        columns: dict of input name to anything that gives an array for an array of row numbers.
        labels: float32 `(n, n_labels)`.
        rows: int array of the rows to use.
        batch_size: int.
        seed: int to shuffle, or None to keep the order and change nothing.
        augmentation: `kmm.image.augment.Augmentation` for the column `image`, or None.
        modality_dropout: float. Share of the complete examples that lose their image, and as many their text.
        word_dropout: float. Share of the words that become unknown ones.
    """

    def __init__(
        self, columns, labels, *, rows, batch_size, seed=None, augmentation=None, modality_dropout=0.0, word_dropout=0.0
    ):
        super().__init__(workers=1)
        self.columns, self.labels, self.rows, self.batch_size = columns, labels, np.asarray(rows), batch_size
        self.seed, self.augmentation = seed, augmentation
        self.modality_dropout, self.word_dropout = modality_dropout, word_dropout
        self.start_epoch(0)

    def start_epoch(self, epoch):
        """Orders the rows for an epoch."""
        self.epoch, self.order = epoch, self.rows
        if self.seed is not None:
            self.order = np.random.default_rng([self.seed, epoch]).permutation(self.rows)

    def __len__(self):
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        inputs = {name: column[rows] for name, column in self.columns.items()}
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, self.epoch, index])
            if self.augmentation is not None and "image" in inputs:
                inputs["image"] = self.augmentation.apply(inputs["image"], generator)
            if self.modality_dropout:
                inputs["present"] = drop_modalities(inputs["present"], self.modality_dropout, generator)
            if self.word_dropout and "token_ids" in inputs:
                inputs["token_ids"] = drop_words(inputs["token_ids"], self.word_dropout, generator)
        return inputs, self.labels[rows]


def drop_modalities(present, share, generator):
    """Hides the image of a share of the complete examples and the text of another share, never both.

    Args:
        present: float32 `(n, 2)`.
        share: float in [0, 0.5].
        generator: `numpy.random.Generator`.

    Returns:
        float32 `(n, 2)`, a new array.
    """
    draw = generator.random(len(present))
    complete = present.all(axis=1)
    present = present.copy()
    present[complete & (draw < share), 0] = 0
    present[complete & (draw > 1 - share), 1] = 0
    return present


def drop_words(token_ids, share, generator):
    """Makes a share of the words unknown, so that no single chance word decides, and unknown words are learned of.

    Args:
        token_ids: int32 `(n, t)`, 0 is padding, which stays.
        share: float in [0, 1).
        generator: `numpy.random.Generator`.

    Returns:
        int32 `(n, t)`, a new array.

    Source: https://arxiv.org/abs/1511.06349
    """
    dropped = (generator.random(token_ids.shape) < share) & (token_ids != PADDING)
    return np.where(dropped, np.int32(UNKNOWN), token_ids)


@dataclass(frozen=True)
class StagePlan:
    """How one stage is trained: its name, epochs, rate and rules."""

    name: str
    epochs: int
    learning_rate: float
    schedule: str = "plateau"
    patience: int = 5
    clip_norm: float = 1.0
    tensorboard: str | None = None


class Keeper(keras.callbacks.Callback):
    """Keeps the best weights, the last weights and the state of a stage in a folder, and stops it when it is done.

    A kill at any moment leaves either the old pair of weights and state or the new one.
    """

    def __init__(self, plan, folder, dataset):
        super().__init__()
        self.plan, self.folder, self.dataset = plan, Path(folder), dataset
        self.advance = lambda count, text="": None
        self.folder.mkdir(parents=True, exist_ok=True)
        fresh = {"epoch": 0, "best": None, "best_epoch": 0, "waited": 0, "rate": plan.learning_rate, "done": False}
        self.state = {**fresh, "history": {}}
        if (self.folder / "state.json").exists():
            self.state = self._read_state(names=set(self.state))

    def restore(self, best=False):
        """Loads the weights (and the optimizer's state) of the last epoch, or of the best one."""
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        if best or self.state["epoch"]:
            self._load("best.npz" if best else f"epoch-{self.state['epoch']}.npz")

    def measure_start(self, validation):
        """Takes the weights that the stage starts from as its best ones so far: it never ends worse than it began."""
        value = self.model.evaluate(validation, verbose=0)
        if self.state["best"] is None and math.isfinite(value):
            self.state["best"] = float(value)
            self._save("best.npz")
            write_json(self.folder / "state.json", self.state)

    def on_epoch_begin(self, epoch, logs=None):
        self.dataset.start_epoch(epoch)
        seed_layers(self.model, [self.dataset.seed, epoch])
        if self.plan.schedule == "cosine":
            self.state["rate"] = self.plan.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / self.plan.epochs))
        self.model.optimizer.learning_rate.assign(self.state["rate"])

    def on_train_batch_end(self, batch, logs=None):
        self.advance(1)

    def on_epoch_end(self, epoch, logs=None):
        state, value = self.state, logs["val_loss"]
        if not math.isfinite(value) or not math.isfinite(logs["loss"]):  # the weights are lost: keep the best ones
            self.advance(0, text=f"loss {logs['loss']}: training ends here")
            self.model.stop_training = True
            return
        for name, number in {**logs, "learning_rate": state["rate"]}.items():
            state["history"].setdefault(name, []).append(float(number))
        if state["best"] is None or value < state["best"] - 1e-4:
            state.update(best=float(value), best_epoch=epoch + 1, waited=0)
        else:
            state["waited"] += 1
            if self.plan.schedule == "plateau" and state["waited"] == max(1, self.plan.patience // 2):
                state["rate"] *= 0.3
        if state["waited"] >= self.plan.patience:
            state["done"] = self.model.stop_training = True
        state["epoch"] = epoch + 1
        name = f"epoch-{epoch + 1}.npz"
        self._save(name)
        if state["best_epoch"] == epoch + 1:
            with replace_file(self.folder / "best.npz") as place:
                shutil.copyfile(self.folder / name, place)
        write_json(self.folder / "state.json", state)
        (self.folder / f"epoch-{epoch}.npz").unlink(missing_ok=True)
        self.advance(0, text=f"loss {logs['loss']:.4f} validation {value:.4f}")

    def finish(self):
        """Marks the stage as done and leaves the model with its best weights."""
        self.restore(best=True)
        self.state["done"] = True
        write_json(self.folder / "state.json", self.state)
        (self.folder / f"epoch-{self.state['epoch']}.npz").unlink(missing_ok=True)

    def describe_best(self):
        """The best validation loss and its epoch, for a reader."""
        best, of = self.state["best_epoch"], self.state["epoch"]
        when = f"epoch {best} of {of}" if best else f"at the start, which none of {of} epochs improved"
        return f"best validation loss {self.state['best']:.4f}, {when}"

    def _variables(self):
        return [*self.model.variables, *self.model.optimizer.variables]

    def _save(self, name):
        """Writes all variables in their order, which is many times faster than a Keras weights file."""
        arrays = [ops.convert_to_numpy(variable) for variable in self._variables()]
        if shutil.disk_usage(self.folder).free < 2**20 + sum(array.nbytes for array in arrays):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder / name))
        with replace_file(self.folder / name) as place:
            np.savez(place, *arrays)

    def _load(self, name):
        try:
            with open(self.folder / name, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                for i, variable in enumerate(self._variables()):
                    variable.assign(arrays[f"arr_{i}"])
        except (OSError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error):
            raise self._damaged(name) from None

    def _read_state(self, names):
        try:
            state = json.loads((self.folder / "state.json").read_text(encoding="utf-8"))
        except ValueError:  # a UnicodeDecodeError is one too
            state = None
        if not isinstance(state, dict) or set(state) != names:
            raise self._damaged("state.json")
        return state

    def _damaged(self, name):
        return InputError(
            f"{self.folder / name}: expected what a stopped run had kept. The file is missing or damaged: remove the "
            f"folder {self.folder} and resume, which trains this stage anew."
        )


def seed_layers(model, seed):
    """Sets the random state of dropout and its like, which saved weights do not hold.

    Args:
        model: `keras.Model`, changed in place.
        seed: int or list of int.
    """
    generator = np.random.default_rng(seed)
    for variable in model.variables:
        if variable.path.endswith("seed_generator_state"):
            variable.assign(generator.integers(2**31, size=variable.shape))
    if keras.backend.backend() == "torch":  # its dropout draws from a global generator
        keras.utils.set_random_seed(int(generator.integers(2**31)))


def fit_stage(model, train, validation, *, plan, folder, class_weights=None, progress=None):
    """Trains a model to its best validation loss, going on from where an earlier run of the stage stopped.

    Args:
        model: `keras.Model` that gives logits.
        train, validation: `StudyDataset`.
        plan: `StagePlan`.
        folder: where the stage keeps its state; a folder of another plan must not be given.
        class_weights: see `masked_crossentropy`.
        progress: `kmm.progress.Progress`.

    Returns:
        dict of metric name to a list with a number an epoch: `loss`, `val_loss`, `learning_rate`. The model is left
        with its best weights.

    Raises:
        InputError: if neither the weights that it starts from nor an epoch had a finite validation loss, or what the
            folder holds is damaged.
    """
    if plan.epochs == 0:
        return {}
    steps = len(train)
    optimizer = keras.optimizers.Adam(plan.learning_rate, global_clipnorm=plan.clip_norm or None)
    jit = "auto" if keras.backend.backend() == "jax" else False  # XLA compiles longer than small data train
    model.compile(optimizer=optimizer, loss=masked_crossentropy(class_weights), jit_compile=jit)
    keeper = Keeper(plan, folder, train)
    keeper.set_model(model)
    with (progress or Progress()).step(plan.name, plan.epochs * steps, keeper.state["epoch"] * steps) as advance:
        keeper.advance = advance
        if not keeper.state["done"]:
            keeper.restore()
            if not keeper.state["epoch"]:
                keeper.measure_start(validation)
            train.start_epoch(keeper.state["epoch"])  # a backend may look at the first batch before the epoch begins
            callbacks = [keeper]
            if plan.tensorboard:
                require("tensorboard", "tensorboard")
                callbacks.append(keras.callbacks.TensorBoard(plan.tensorboard))
            model.fit(
                train,
                validation_data=validation,
                epochs=plan.epochs,
                initial_epoch=keeper.state["epoch"],
                callbacks=callbacks,
                shuffle=False,  # the data set orders itself; Keras would shuffle by a seed that a resumed run lacks
                verbose=0,
            )
            if keeper.state["best"] is None:
                raise InputError(f"{plan.name}: no epoch had a finite validation loss. Try a lower learning rate.")
            keeper.finish()
        else:
            keeper.restore(best=True)
        advance(0, text=keeper.describe_best())
    return keeper.state["history"]
