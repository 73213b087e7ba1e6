"""Attention by its formula, and that the layers of it are one function."""

import numpy as np
from keras import ops

from kmm.models.networks.vision_layers import SelfAttention
from kmm.models.transformer.attention import Attention
from kmm.models.transformer.dot_product import HIDDEN, attend, weigh
from tests.model_checks import to_numpy

RANDOM = np.random.default_rng(0)


def make(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def test_attention_is_the_softmax_of_products_times_values():
    query, key, value, bias = make(2, 3, 4, 8), make(2, 3, 5, 8), make(2, 3, 5, 6), make(3, 1, 5)
    weights = np.exp(query @ key.swapaxes(2, 3) / np.sqrt(8) + bias)
    expected = weights / weights.sum(axis=-1, keepdims=True) @ value
    np.testing.assert_allclose(to_numpy(attend(query, key, value, bias)), expected, atol=1e-6)


def test_a_hidden_place_has_no_influence_at_all():
    query, key, value = make(4, 8), make(5, 8), make(5, 6)
    bias = np.array([0, 0, 0, HIDDEN, HIDDEN], "float32")
    found = to_numpy(attend(query, key, value, bias))
    np.testing.assert_allclose(found, to_numpy(attend(query, key[:3], value[:3])), atol=1e-6)
    key[3:], value[3:] = 1e3, -1e6
    assert np.array_equal(to_numpy(attend(query, key, value, bias)), found)


def test_layers_of_a_film_and_of_a_report_are_one_function():
    x = make(2, 5, 3 * 8)
    packed = to_numpy(SelfAttention(heads=2)(x))
    query, key, value = np.split(x, 3, axis=-1)
    np.testing.assert_allclose(packed, to_numpy(Attention(heads=2)(query, key, value)), atol=1e-6)
    read = to_numpy(Attention(heads=2)(query, key, value, np.array([[1, 1, 1, 1, 0]] * 2, "float32")))
    fewer = to_numpy(Attention(heads=2)(query, key[:, :4], value[:, :4]))
    np.testing.assert_allclose(read, fewer, atol=1e-6)


def test_a_single_key_has_the_weight_1_even_if_it_is_hidden():
    weights = weigh(ops.ones((2, 3, 4)), ops.ones((2, 1, 4)), ops.full((2, 1, 1), HIDDEN))
    np.testing.assert_array_equal(to_numpy(weights), np.ones((2, 3, 1)))
