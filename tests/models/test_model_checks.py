"""The check that a model learns accepts correct gradients only."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from tests.model_checks import check_learns

GRADIENTS = {  # functions whose values are their input, by what they multiply its gradient with
    "half": lambda x: (x + ops.stop_gradient(x)) / 2,
    "wrong sign": lambda x: 2 * ops.stop_gradient(x) - x,
    "none": ops.stop_gradient,
}


class Spoil(layers.Layer):
    """A layer that returns its input, and a wrong gradient."""

    def __init__(self, gradient, **options):
        super().__init__(**options)
        self.gradient = gradient

    def call(self, x):
        return GRADIENTS[self.gradient](x)


def build(spoil=lambda x: x, *, residual=False, dropout=0.0):
    """Builds a network with normalisation and dropout, whose middle passes through `spoil`."""
    keras.utils.set_random_seed(0)
    inputs = {"rows": keras.Input((5,), name="rows"), "present": keras.Input((2,), name="present")}
    x = layers.Dense(8, activation="tanh", name="first")(inputs["rows"])
    x = layers.BatchNormalization(name="normal")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    x = spoil(x) + x if residual else spoil(x)
    x = layers.Dense(6, activation="relu", name="second")(layers.Concatenate()([x, inputs["present"]]))
    return keras.Model(inputs, layers.Dense(2, name="logits")(x))


def make_inputs():
    random = np.random.default_rng(0)
    return {"rows": random.normal(size=(12, 5)).astype("float32"), "present": np.ones((12, 2), "float32")}


@pytest.mark.large
@pytest.mark.parametrize("residual", [False, True])
def test_a_correct_network_passes_with_dropout_and_batch_statistics(residual):
    check_learns(build(residual=residual, dropout=0.4), make_inputs())


@pytest.mark.large
@pytest.mark.parametrize("gradient", ["half", "wrong sign"])
def test_a_wrong_gradient_in_the_middle_fails(gradient):
    model = build(Spoil(gradient))
    with pytest.raises(AssertionError, match=r"the loss falls by .* of what the gradients predict"):
        check_learns(model, make_inputs())


@pytest.mark.large
def test_a_residual_path_that_is_cut_fails():
    model = build(Spoil("none"), residual=True)
    with pytest.raises(AssertionError, match=r"the loss falls by .* of what the gradients predict"):
        check_learns(model, make_inputs())


@pytest.mark.large
def test_weights_behind_a_cut_are_named():
    with pytest.raises(AssertionError, match="first/kernel"):
        check_learns(build(Spoil("none")), make_inputs())


@pytest.mark.large
def test_the_model_is_left_as_it_was_but_for_two_steps():
    model = build()
    statistics = [w.numpy() if hasattr(w, "numpy") else np.asarray(w) for w in model.non_trainable_weights]
    check_learns(model, make_inputs())
    assert all(np.array_equal(ops.convert_to_numpy(w), old) for w, old in zip(model.non_trainable_weights, statistics))
