"""Batches of a training stage: rows of columns, reordered and augmented differently in every epoch.

All batches of a stage have one shape, so that a backend compiles each step once. The last batch of an epoch is filled
up with other studies of the epoch, which count for nothing: their labels are unknown and their weights are 0. With
`mean_with_sample_weight` as the loss's reduction, the gradient is that of the studies that count alone.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from kmm.image.augment import Augmentation
from kmm.models.contrastive import NUMBERS
from kmm.text.vocabulary import PADDING, UNKNOWN
from kmm.training.auxiliary.terms import AUXILIARY
from kmm.training.stages.film_changes import CHANGES
from kmm.training.stages.mixing import mix_studies, smooth_labels

AHEAD = 2  # batches prepared while the model trains on another
COUNTED = (NUMBERS, AUXILIARY)  # columns of terms of the loss: NaN for a study that fills up a batch


class StudyDataset(keras.utils.PyDataset):
    """Batches of columns in an order that depends only on the seed and the epoch, so that a resumed run repeats it.

    A batch is `(inputs, labels, weights)`: a dict of columns, float32 `(batch_size, n_labels)`, and float32
    `(batch_size,)`, 1 for a study of the epoch and 0 for one that fills up the last batch.

    Args:
        columns: dict of input name to an array, or another object that returns an array for an array of row numbers.
        labels: float32 `(n, n_labels)`.
        rows: int array of the rows to use.
        batch_size: int.
        seed: int to shuffle and change what is read; None to keep the order and the values.
        augmentation: `kmm.image.augment.Augmentation` for the column `image`, or None. If there is a column
            `film_changes`, the films stay as they are, and this column says how the model changes them, see
            `kmm.training.stages.film_changes`.
        modality_dropout: float in [0, 0.5]. Fraction of the complete examples that lose their image; the same fraction
            loses the text.
        word_dropout: float in [0, 1). Fraction of the words replaced with UNKNOWN.
        label_smoothing: float in [0, 1), see `kmm.training.stages.mixing.smooth_labels`.
        shares: float array `(len(rows),)` of positive numbers, or None. With them an epoch does not have each study
            once, but draws as many, with replacement, in these proportions; see
            `kmm.training.stages.sampling.weigh_draws`.
        mixup: float. `alpha` of `kmm.training.stages.mixing.mix_studies`; 0 mixes nothing.

    Example:
        >>> films = np.zeros((3, 32, 32, 1), np.float32)
        >>> data = StudyDataset({"image": films}, np.float32([[1], [0], [1]]), rows=[2, 1, 0], batch_size=2)
        >>> inputs, labels, weights = data[1]
        >>> inputs["image"].shape, labels.tolist(), weights.tolist()
        ((2, 32, 32, 1), [[1.0], [nan]], [1.0, 0.0])
    """

    def __init__(
        self,
        columns: Mapping[str, Any],
        labels: np.ndarray,
        *,
        rows: Sequence[int] | np.ndarray,
        batch_size: int,
        seed: int | None = None,
        augmentation: Augmentation | None = None,
        modality_dropout: float = 0.0,
        word_dropout: float = 0.0,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        shares: np.ndarray | None = None,
    ):
        super().__init__(workers=1)
        self.columns, self.labels, self.rows, self.batch_size = columns, labels, np.asarray(rows), batch_size
        self.seed, self.augmentation = seed, augmentation
        self.modality_dropout, self.word_dropout = modality_dropout, word_dropout
        self.label_smoothing, self.mixup = label_smoothing, mixup
        self.shares = None if shares is None else np.asarray(shares, np.float64) / np.sum(shares)
        self.start_epoch(0)

    def start_epoch(self, epoch: int) -> None:
        """Shuffles or draws the rows for an epoch."""
        self.epoch, self.order = epoch, self.rows
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, epoch])
            if self.shares is None:
                self.order = generator.permutation(self.rows)
            else:
                self.order = generator.choice(self.rows, len(self.rows), p=self.shares)

    def __len__(self):
        return math.ceil(len(self.rows) / self.batch_size)

    def __getitem__(self, index):
        rows = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        known = len(rows)
        rows = np.concatenate([rows, np.resize(self.order, self.batch_size - known)])
        labels, weights = self.labels[rows], np.ones(self.batch_size, np.float32)
        labels[known:], weights[known:] = np.nan, 0
        inputs = {name: column[rows] for name, column in self.columns.items()}
        for name in inputs.keys() & set(COUNTED):
            inputs[name][known:] = np.nan
        if self.seed is not None:
            generator = np.random.default_rng([self.seed, self.epoch, index])
            if self.augmentation is not None and "image" in inputs:
                if CHANGES in inputs:
                    inputs[CHANGES] = self.augmentation.list_changes(inputs["image"].shape, generator)
                else:
                    inputs["image"] = self.augmentation.apply(inputs["image"], generator)
            if self.modality_dropout:
                inputs["present"] = drop_modalities(inputs["present"], self.modality_dropout, generator)
            if self.word_dropout and "token_ids" in inputs:
                inputs["token_ids"] = drop_words(inputs["token_ids"], self.word_dropout, generator)
            if self.label_smoothing:
                labels = smooth_labels(labels, self.label_smoothing)
            if self.mixup:
                inputs, labels = mix_studies(inputs, labels, known, self.mixup, generator)
        return inputs, labels, weights

    def as_input(self) -> Any:
        """Returns the argument for `keras.Model.fit` and `evaluate`: this data set, on TensorFlow a `tf.data.Dataset`.

        Keras would make a `tf.data.Dataset` itself, but its autotuning delays each epoch by up to a second.

        Example:
            >>> data = StudyDataset({"x": np.ones((3, 4))}, np.ones((3, 1)), rows=[0, 1, 2], batch_size=2)
            >>> len(data.as_input())
            2
        """
        if keras.backend.backend() != "tensorflow":
            return self
        import tensorflow as tf

        batch = self[0]
        flat = tf.nest.flatten(batch)

        @tf.autograph.experimental.do_not_convert
        def read(index):
            values = tf.numpy_function(lambda at: tf.nest.flatten(self[int(at)]), [index], [a.dtype for a in flat])
            for value, like in zip(values, flat):
                value.set_shape(like.shape)
            return tf.nest.pack_sequence_as(batch, values)

        options = tf.data.Options()
        options.autotune.enabled = False
        return tf.data.Dataset.range(len(self)).map(read).prefetch(AHEAD).with_options(options)


def drop_modalities(present: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Hides the image of a random fraction of the complete examples and the text of another fraction, never both.

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


def drop_words(token_ids: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Replaces a random fraction of words with UNKNOWN, so that the model does not rely on rare words and learns how to
    handle unknown ones.

    Args:
        token_ids: int32 `(n, t)`. Padding, 0, does not change.
        share: float in [0, 1).
        generator: `numpy.random.Generator`.

    Returns:
        int32 `(n, t)`, a new array.

    Source: https://arxiv.org/abs/1511.06349
    """
    dropped = (generator.random(token_ids.shape) < share) & (token_ids != PADDING)
    return np.where(dropped, np.int32(UNKNOWN), token_ids)
