"""One stage of training: its loss, its data set, and the fit itself, which goes on where it was stopped."""

import math

import keras
import numpy as np
from keras import ops

from kmm.errors import InputError, require
from kmm.keeper import Keeper
from kmm.progress import Progress
from kmm.text.vocabulary import PADDING, UNKNOWN

SMALL_MODEL = 2**22  # weights
SMALL_BATCH = 2**18  # numbers


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


def choose_steps(model, batch_size):
    """How many steps follow each other before Python looks in: 8 where a step takes milliseconds, else 1.

    The step of a small network is over before Python is ready for the next one. A large one is to be told of, and to
    be stopped, step by step. Only TensorFlow runs several steps without copying their code.

    Args:
        model: `keras.Model`.
        batch_size: int.

    Returns:
        int.
    """
    numbers = batch_size * sum(math.prod(tensor.shape[1:]) for tensor in model.inputs)
    small = model.count_params() <= SMALL_MODEL and numbers <= SMALL_BATCH
    return 8 if small and keras.backend.backend() == "tensorflow" else 1


def compile_stage(model, plan, batch_size, class_weights=None):
    """Gives a model the optimizer, the loss and the pace of a stage. Arguments as in `fit_stage`; returns the model."""
    model.compile(
        optimizer=keras.optimizers.Adam(plan.learning_rate, global_clipnorm=plan.clip_norm or None),
        loss=masked_crossentropy(class_weights),
        jit_compile="auto" if keras.backend.backend() == "jax" else False,  # XLA compiles longer than small data train
        steps_per_execution=choose_steps(model, batch_size),
    )
    return model


def fit_stage(model, train, validation, *, plan, folder, class_weights=None, progress=None):
    """Trains a model to its best validation loss, going on from where an earlier run of the stage stopped.

    Args:
        model: `keras.Model` that gives logits.
        train, validation: `StudyDataset`.
        plan: `kmm.keeper.StagePlan`.
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
    compile_stage(model, plan, train.batch_size, class_weights)
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
