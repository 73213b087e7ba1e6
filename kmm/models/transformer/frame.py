"""Frame of a report: a mark before its words and one behind them, with the place of each, as weights of the encoder.

Token ids, and the rows that `embed` looks up, hold words alone. So the places of words in reports, baselines and
exports are the same for every text encoder.
"""

from typing import Any

import keras
from keras import ops

MARKS = 2  # places of a frame beside the words


@keras.saving.register_keras_serializable(package="kmm")
class Frame(keras.layers.Layer):
    """Puts the rows of words between the mark [CLS] and the mark [SEP], and adds the rows of places and segment.

    [SEP] follows the last word. The places behind it are zero, whatever stands in the rows of padding. The result is an
    affine function of the rows. Weights: `marks (2, d)`, `places (t + 2, d)`, `segment (d,)`.

    Example:
        >>> import numpy as np
        >>> rows, mask = ops.ones((1, 3, 4)), ops.array([[1.0, 1.0, 0.0]])
        >>> frame = Frame()
        >>> frame.build(rows.shape, mask.shape)
        >>> frame.set_weights([10 * np.ones((2, 4)), np.zeros((5, 4)), np.zeros(4)])
        >>> ops.convert_to_numpy(frame(rows, mask))[0, :, 0].tolist()
        [10.0, 1.0, 1.0, 10.0, 0.0]
    """

    def build(self, rows_shape: tuple, word_mask_shape: tuple | None = None) -> None:
        length, width = rows_shape[1:]
        small = keras.initializers.RandomNormal(stddev=0.02)
        self.marks = self.add_weight(shape=(MARKS, width), initializer=small, name="marks")
        self.places = self.add_weight(shape=(length + MARKS, width), initializer=small, name="places")
        self.segment = self.add_weight(shape=(width,), initializer=small, name="segment")

    def call(self, rows: Any, word_mask: Any) -> Any:
        """Takes `rows (n, t, d)` and `word_mask (n, t)`, 1 = a word, 0 = padding; returns `(n, t + 2, d)`. Reports may
        be shorter than those that it was built for."""
        mask = ops.expand_dims(ops.cast(word_mask, rows.dtype), -1)
        words = ops.where(mask > 0.5, rows, ops.zeros_like(rows))
        first, last = _find_marks(mask)
        read = ops.pad(mask, ((0, 0), (1, 1), (0, 0))) + first + last
        length = rows.shape[1] + MARKS  # of a view for shorter reports less than there are places
        places = self.places if length == self.places.shape[0] else self.places[:length]
        marks = first * self.marks[0] + last * self.marks[1]
        return ops.pad(words, ((0, 0), (1, 1), (0, 0))) + marks + read * (places + self.segment)

    def compute_output_shape(self, rows_shape: tuple, word_mask_shape: tuple | None = None) -> tuple:
        return rows_shape[0], rows_shape[1] + MARKS, rows_shape[2]


@keras.saving.register_keras_serializable(package="kmm")
class FrameMask(keras.layers.Layer):
    """Returns the mask of the places of a frame.

    Example:
        >>> ops.convert_to_numpy(FrameMask()(ops.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))).tolist()
        [[1.0, 1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0, 0.0]]
    """

    def call(self, word_mask: Any) -> Any:
        """Takes `word_mask (n, t)`, 1 = a word, 0 = padding; returns `(n, t + 2)`, 1 = a word or mark."""
        mask = ops.expand_dims(word_mask, -1)
        first, last = _find_marks(mask)
        return ops.squeeze(ops.pad(mask, ((0, 0), (1, 1), (0, 0))) + first + last, -1)

    def compute_output_shape(self, word_mask_shape: tuple) -> tuple:
        return word_mask_shape[0], word_mask_shape[1] + MARKS


@keras.saving.register_keras_serializable(package="kmm")
class FirstPlace(keras.layers.Layer):
    """Returns the row of the first place, that of the mark [CLS].

    Example:
        >>> ops.convert_to_numpy(FirstPlace()(ops.array([[[1.0, 2.0], [3.0, 4.0]]]))).tolist()
        [[1.0, 2.0]]
    """

    def call(self, rows: Any) -> Any:
        """Takes `(n, t, d)`; returns `(n, d)`."""
        return rows[:, 0]

    def compute_output_shape(self, rows_shape: tuple) -> tuple:
        return rows_shape[0], rows_shape[2]


def _find_marks(mask: Any) -> tuple[Any, Any]:
    """Returns `(n, t + 2, 1)` twice: 1 at the place of the first mark; and of the last one, behind the words."""
    one, none = ops.ones_like(mask[:, :1]), ops.zeros_like(mask[:, :1])
    first = ops.concatenate([one, ops.zeros_like(mask), none], axis=1)
    behind = ops.concatenate([none, one, mask], axis=1)  # a mark or word stands before this place
    return first, behind * (1 - ops.concatenate([one, mask, none], axis=1))
