"""What is counted for a layer covers what a gradient keeps of it; `check_path_memory` bounds the excess of a model."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kmm.explain.attribution.held_memory import count_point_bytes
from tests.gradient_memory import count_held_bytes

SHAPE = (8, 8, 6)


def in_a_row(x):
    return layers.Reshape((-1, x.shape[-1]))(x)


def attend(x, layer, **options):
    row = in_a_row(x)
    return layer([row, row], **options) if isinstance(layer, layers.Attention) else layer(row, row, **options)


CASES = {
    "convolution": lambda x: layers.Conv2D(6, 3, padding="same", activation="relu")(x),
    "strides": lambda x: layers.Conv2D(4, 3, strides=2, padding="same")(x),
    "separable": lambda x: layers.SeparableConv2D(6, 3, padding="same")(layers.ReLU()(x)),
    "batch normalisation": lambda x: layers.ReLU()(layers.BatchNormalization()(x)),
    "layer normalisation": lambda x: layers.LayerNormalization()(x),
    "root mean square": lambda x: layers.RMSNormalization()(x),
    "groups": lambda x: layers.GroupNormalization(3)(x),
    "unit": lambda x: layers.UnitNormalization()(x),
    "gelu": lambda x: layers.Dense(24, activation="gelu")(x),
    "gelu operation": lambda x: ops.gelu(layers.Dense(24)(x)),
    "silu": lambda x: layers.Activation("silu")(x),
    "hard silu": lambda x: layers.Activation("hard_silu")(x),
    "elu": lambda x: layers.ELU()(x),
    "parametric": lambda x: layers.PReLU()(x),
    "maximum": lambda x: layers.MaxPooling2D()(x),
    "padded maximum": lambda x: layers.MaxPooling2D(3, 2, padding="same")(x),
    "mean": lambda x: layers.AveragePooling2D(2)(x),
    "attention": lambda x: attend(x, layers.MultiHeadAttention(2, 3)),
    "grouped attention": lambda x: attend(x, layers.GroupQueryAttention(3, 4, 2)),
    "plain attention": lambda x: attend(x, layers.Attention()),
    "shared": lambda x: (lambda layer: layer(layer(layer(x))))(layers.Dense(6, activation="gelu")),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_counted_covers_what_a_gradient_keeps(name):
    image = keras.Input(SHAPE, name="image")
    model = keras.Model({"image": image}, CASES[name](image))
    films = np.random.default_rng(0).normal(size=(3, *SHAPE)).astype("float32")
    held, counted = count_held_bytes(model, {"image": films}), count_point_bytes(model)
    assert held <= counted, f"{name}: {held:.0f} held, {counted:.0f} counted"


def test_a_recurrent_layer_counts_its_gates():
    """TensorFlow keeps them in lists that the test's count does not see."""
    rows = keras.Input((12, 6))
    one = count_point_bytes(keras.Model(rows, layers.GRU(8)(rows)))
    both = count_point_bytes(keras.Model(rows, layers.Bidirectional(layers.GRU(8))(rows)))
    assert one >= 4 * 12 * 8 * 12 and both > 1.9 * one - 4 * 12 * 6


@keras.saving.register_keras_serializable(package="tests")
class Greedy(layers.Layer):
    """A layer that says that it holds ten times its output."""

    def call(self, x):
        return x * 1.0

    def path_point_bytes(self, outputs):
        return 10 * outputs


def test_a_layer_of_one_s_own_says_what_it_holds():
    rows = keras.Input((5, 2))
    assert count_point_bytes(keras.Model(rows, Greedy()(rows))) == 4 * 5 * 2 * 11
    nested = keras.Model(rows, Greedy()(rows))
    assert count_point_bytes(keras.Model(rows, nested(rows))) == 4 * 5 * 2 * 11
