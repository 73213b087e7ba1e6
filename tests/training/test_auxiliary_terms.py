"""Auxiliary terms: the loss that they add, what it moves at the start, and what stays as it was."""

import keras
import numpy as np
import pytest

from kmm.training.auxiliary.terms import AUXILIARY, LABELS, NUMBERS, AuxiliaryTerms
from tests.checks import to_numpy

NAN = np.nan
FEATURES = np.float32([[1, 2], [3, -1], [0.5, 0], [2, 2]])
PRESENT = np.float32([[1, 0], [1, 1], [0, 1], [1, 1]])  # the third film is hidden
TARGETS = np.float32([[1, 0, 2.0], [0, NAN, NAN], [1, 1, 5.0], [NAN, NAN, -1.0]])
START = np.array([0.5, -1.0, 0.25])


def make_terms(weight=0.3, kernel=None):
    terms = AuxiliaryTerms([(LABELS, 2), (NUMBERS, 1)], START, weight)
    terms.build({"joint": (None, 2)})
    if kernel is not None:
        terms.prediction.set_weights([kernel, START])
    return terms


def ask(terms, targets=TARGETS, features=FEATURES):
    values = {"logits": FEATURES[:, :1], "joint": features, "present": PRESENT, AUXILIARY: targets}
    logits = terms(values)
    (loss,) = terms.losses
    return to_numpy(logits), float(to_numpy(loss))


def test_the_loss_is_the_mean_over_studies_with_a_film_and_a_target():
    kernel = np.float32([[0.1, -0.2, 0.3], [0.4, 0.5, -0.6]])
    z = FEATURES.astype(float) @ kernel.astype(float) + START
    labels = [np.mean([np.log1p(np.exp(-z[0, 0])), np.log1p(np.exp(z[0, 1]))]), np.log1p(np.exp(z[1, 0]))]
    numbers = [(z[0, 2] - 2) ** 2, (z[3, 2] + 1) ** 2]
    logits, loss = ask(make_terms(kernel=kernel))
    assert loss == pytest.approx(0.3 * (np.mean(labels) + np.mean(numbers)), rel=1e-5)
    np.testing.assert_array_equal(logits, FEATURES[:, :1])


def test_it_starts_from_the_same_prediction_for_all_films():
    _, loss = ask(make_terms(weight=1.0))
    labels = [np.mean([np.log1p(np.exp(-0.5)), np.log1p(np.exp(-1.0))]), np.log1p(np.exp(0.5))]
    numbers = [(0.25 - 2) ** 2, (0.25 + 1) ** 2]
    assert loss == pytest.approx(np.mean(labels) + np.mean(numbers), rel=1e-5)
    assert ask(make_terms(weight=1.0), features=9 * FEATURES)[1] == pytest.approx(loss, rel=1e-6)


def test_unknown_targets_cost_nothing():
    _, loss = ask(make_terms(), targets=np.full_like(TARGETS, NAN))
    assert loss == 0
    unknown = TARGETS.copy()
    unknown[2] = NAN  # its film is hidden anyway
    assert ask(make_terms(), targets=unknown)[1] == ask(make_terms())[1]


def test_one_step_of_descent_is_that_of_the_formula():
    """With squared errors alone: the gradient of the kernel is the mean of 2 * (prediction - target) * feature."""
    x, y = FEATURES[[0, 1, 3]], np.float32([[2.0], [0.5], [-1.0]])
    joint, present = keras.Input((2,), name="joint"), keras.Input((2,), name="present")
    targets = keras.Input((1,), name=AUXILIARY)
    head = keras.layers.Dense(1, kernel_initializer="zeros", name="logits")
    terms = AuxiliaryTerms([(NUMBERS, 1)], [0.25], 0.5)
    values = {"logits": head(joint), "joint": joint, "present": present, AUXILIARY: targets}
    model = keras.Model({"joint": joint, "present": present, AUXILIARY: targets}, terms(values))
    model.compile(optimizer=keras.optimizers.SGD(0.1), loss="mse")
    model.train_on_batch({"joint": x, "present": np.ones((3, 2)), AUXILIARY: y}, np.zeros((3, 1)))
    kernel, bias = (to_numpy(value) for value in terms.prediction.get_weights())
    error = 0.25 - y.astype(float)
    np.testing.assert_allclose(kernel, -0.1 * 0.5 * np.mean(2 * error * x, axis=0)[:, None], rtol=1e-5)
    np.testing.assert_allclose(bias, 0.25 - 0.1 * 0.5 * np.mean(2 * error, axis=0), rtol=1e-5)
    np.testing.assert_array_equal(to_numpy(head.kernel), 0)  # logits 0 are what the labels say


def test_a_layer_made_from_its_configuration_is_the_same():
    terms = make_terms(weight=0.7)
    again = AuxiliaryTerms.from_config(terms.get_config())
    again.build({"joint": (None, 2)})
    assert ask(again)[1] == ask(terms)[1] and again.compute_output_shape({"logits": (None, 1)}) == (None, 1)
