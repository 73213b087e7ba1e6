"""Losses against their formulas in float64, and against Keras's own where it has one."""

import keras
import numpy as np
import pytest
from keras import ops

from kmm.models.loss import (
    LOSSES,
    MaskedAsymmetric,
    MaskedCrossentropy,
    MaskedFocal,
    MaskedHybrid,
    clamp_positive_weights,
)
from tests.checks import to_numpy

LOGITS = np.array([[-8.0, -2.0, -0.1, 0.0, 0.3, 1.7, 6.0]], np.float32)


def cost_each(loss, label, logits=LOGITS):
    """The cost of each logit alone, for one label."""
    column = logits.reshape(-1, 1)
    return to_numpy(loss(np.full_like(column, label), column)).astype(float)


def sigmoid(z):
    return 1 / (1 + np.exp(-z.astype(float)))


def test_focal_loss_is_that_of_keras():
    for gamma in (0.0, 1.0, 2.0):
        own = MaskedFocal(gamma=gamma, reduction="none")
        reference = keras.losses.BinaryFocalCrossentropy(gamma=gamma, from_logits=True, reduction=None)
        for label in (0.0, 1.0):
            column = LOGITS.reshape(-1, 1)
            expected = to_numpy(reference(np.full_like(column, label), column))
            np.testing.assert_allclose(cost_each(own, label), expected, rtol=2e-4, atol=1e-7)


def test_focal_loss_is_the_formula():
    p = sigmoid(LOGITS[0])
    own = MaskedFocal(gamma=2.0, reduction="none")
    np.testing.assert_allclose(cost_each(own, 1.0), -((1 - p) ** 2) * np.log(p), rtol=1e-5)
    np.testing.assert_allclose(cost_each(own, 0.0), -(p**2) * np.log(1 - p), rtol=1e-5)


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.3])
def test_asymmetric_loss_is_the_formula(margin):
    p = sigmoid(LOGITS[0])
    shifted = np.maximum(p - margin, 0)
    own = MaskedAsymmetric(gamma_positive=1.0, gamma_negative=3.0, margin=margin, reduction="none")
    np.testing.assert_allclose(cost_each(own, 1.0), -(1 - p) * np.log(p), rtol=1e-5)
    np.testing.assert_allclose(cost_each(own, 0.0), -(shifted**3) * np.log(1 - shifted), rtol=2e-5, atol=1e-9)


def test_hybrid_loss_is_the_formula():
    p = sigmoid(LOGITS[0])
    own = MaskedHybrid(positive_weights=[4.0], focal_share=0.3, gamma=1.0, reduction="none")
    np.testing.assert_allclose(cost_each(own, 1.0), -(0.7 * 4 + 0.3 * (1 - p)) * np.log(p), rtol=1e-5)
    np.testing.assert_allclose(cost_each(own, 0.0), -(0.7 + 0.3 * p) * np.log(1 - p), rtol=1e-5)


def test_focal_part_of_a_negative_weighs_its_own_error():
    """System B weighed both classes by 1 - p: a confident false alarm then cost almost nothing."""
    own = MaskedHybrid(focal_share=1.0, gamma=1.0, reduction="none")
    alarm = np.array([[4.0]], np.float32)  # p = 0.982, and the label is 0
    p = sigmoid(alarm)[0, 0]
    right, published = -p * np.log(1 - p), -(1 - p) * np.log(1 - p)
    np.testing.assert_allclose(cost_each(own, 0.0, alarm), [right], rtol=1e-5)
    assert right > 50 * published
    calm = np.array([[-4.0]], np.float32)
    assert cost_each(own, 0.0, calm)[0] < cost_each(own, 0.0, alarm)[0] / 1000


def test_positive_weights_are_the_ratio_of_the_classes_within_bounds():
    labels = np.array([[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0], [np.nan, np.nan, 0, 0], [0, np.nan, 0, np.nan]])
    assert clamp_positive_weights(labels, 3.5).tolist() == [3.0, 1.0, 3.5, 3.5]
    soft = np.array([[0.8], [0.2], [0.0]])
    np.testing.assert_allclose(clamp_positive_weights(soft, 5.0), [2.0])


def test_without_exponents_and_margin_all_are_crossentropy():
    plain = MaskedCrossentropy(reduction="none")
    others = [
        MaskedFocal(gamma=0.0, reduction="none"),
        MaskedAsymmetric(gamma_positive=0.0, gamma_negative=0.0, margin=0.0, reduction="none"),
        MaskedHybrid(gamma=0.0, focal_share=0.4, reduction="none"),
    ]
    for label in (0.0, 0.25, 1.0):
        expected = -label * np.log(sigmoid(LOGITS[0])) - (1 - label) * np.log(sigmoid(-LOGITS[0]))
        for loss in (plain, *others):
            np.testing.assert_allclose(cost_each(loss, label), expected, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_unknown_labels_cost_nothing_and_have_no_gradient(name):
    loss = LOSSES[name].build(None, reduction="none")
    labels = np.array([[1.0, np.nan, 0.0], [np.nan] * 3], np.float32)
    logits = np.array([[0.7, 55.0, -0.2], [1.0, 2.0, 3.0]], np.float32)
    known = to_numpy(loss(labels[:1, ::2], logits[:1, ::2]))
    np.testing.assert_allclose(to_numpy(loss(labels, logits)), [known[0], 0.0], rtol=1e-6)
    changed = logits + np.array([[0, 9, 0], [9, 9, 9]], np.float32)
    np.testing.assert_array_equal(to_numpy(loss(labels, logits)), to_numpy(loss(labels, changed)))


@pytest.mark.parametrize("name", LOSSES)
def test_costs_and_steps_are_finite_at_any_logit(name):
    """One step of plain descent on the logits themselves, which lie far out, lowers no cost to NaN."""
    far = np.array([[-200.0, -30.0, -3.0, 3.0, 30.0, 200.0]], np.float32)
    layer = keras.layers.Dense(6, use_bias=False, kernel_initializer=keras.initializers.Identity())
    model = keras.Sequential([keras.Input((6,)), layer])
    model.compile(keras.optimizers.SGD(0.01), LOSSES[name].build(None), jit_compile=False)
    for labels in (np.ones((1, 6), np.float32), np.zeros((1, 6), np.float32)):
        assert np.isfinite(model.train_on_batch(far, labels))
        assert np.isfinite(to_numpy(layer.kernel)).all()


@pytest.mark.parametrize("name", LOSSES)
def test_class_weights_scale_the_cost_of_each_class(name):
    weights = np.array([[2.0, 0.5]])
    weighted, plain = (LOSSES[name].build(one, reduction="none") for one in (weights, None))
    for label, factor in ((0.0, 2.0), (1.0, 0.5)):
        np.testing.assert_allclose(cost_each(weighted, label), factor * cost_each(plain, label), rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_same_after_keras_saved_it(name):
    loss = LOSSES[name].build([[2.0, 0.5]])
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    assert type(again) is type(loss) and again.get_config() == loss.get_config()
    labels = (LOGITS > 0).astype(np.float32)
    assert float(again(labels, LOGITS)) == float(ops.convert_to_numpy(loss(labels, LOGITS)))


def test_loss_is_the_mean_over_known_labels():
    labels = np.array([[1, np.nan, 0], [np.nan, np.nan, np.nan]], "float32")
    logits = np.array([[2.0, 50.0, -1.0], [3.0, -3.0, 0.0]], "float32")
    expected = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0))) / 2
    loss = to_numpy(MaskedCrossentropy(reduction="none")(labels, logits))
    np.testing.assert_allclose(loss, [expected, 0.0], rtol=1e-6)


def test_class_weights_multiply_the_loss_of_their_class():
    labels, logits = np.array([[1.0], [0.0]], "float32"), np.zeros((2, 1), "float32")
    loss = to_numpy(MaskedCrossentropy(np.array([[0.5, 3.0]]), reduction="none")(labels, logits))
    np.testing.assert_allclose(loss, np.log(2) * np.array([3.0, 0.5]), rtol=1e-6)


def test_extreme_logits_have_a_finite_loss():
    loss = MaskedCrossentropy(reduction="none")(
        np.array([[1.0], [0.0]], "float32"), np.array([[-1e4], [1e4]], "float32")
    )
    np.testing.assert_allclose(to_numpy(loss), [1e4, 1e4])
