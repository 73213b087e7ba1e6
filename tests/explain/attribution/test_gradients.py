"""Gradients against formulas, on the backend in use."""

import keras
import numpy as np
import pytest
from keras import ops

from kmm.explain.attribution.gradients import compile_function, differentiate, differentiate_each

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(5, 4)).astype(np.float32)
Y = RANDOM.normal(size=(5, 3)).astype(np.float32)
FREEZE = pytest.mark.parametrize("freeze", [False, True])


def to_numpy(tensors):
    return keras.tree.map_structure(ops.convert_to_numpy, tensors)


@FREEZE
def test_gradients_of_several_inputs_are_those_of_the_formula(freeze):
    def score(inputs, weights):
        return ops.sum(inputs["x"] ** 2 * weights["w"], axis=1) + ops.sum(ops.sin(inputs["y"]), axis=1)

    w = np.float32([1, -2, 0.5, 3])
    scores, gradients = to_numpy(compile_function(differentiate(score), freeze=freeze)({"x": X, "y": Y}, {"w": w}))
    np.testing.assert_allclose(scores, (X**2 * w).sum(1) + np.sin(Y).sum(1), rtol=1e-5)
    np.testing.assert_allclose(gradients["x"], 2 * X * w, rtol=1e-5)
    np.testing.assert_allclose(gradients["y"], np.cos(Y), rtol=1e-5)


@FREEZE
def test_each_row_has_the_gradient_of_its_own_score(freeze):
    gradient = compile_function(differentiate(lambda inputs: ops.prod(inputs["x"], axis=1)), freeze=freeze)
    together = to_numpy(gradient({"x": X})[1])["x"]
    np.testing.assert_allclose(together, X.prod(1, keepdims=True) / X, rtol=1e-4)
    alone = np.concatenate([to_numpy(gradient({"x": X[row : row + 1]})[1])["x"] for row in range(len(X))])
    np.testing.assert_allclose(together, alone, rtol=1e-5)


@FREEZE
def test_an_input_that_the_score_ignores_has_gradient_zero(freeze):
    gradient = compile_function(differentiate(lambda inputs, unused: ops.sum(inputs["x"], axis=1)), freeze=freeze)
    gradients = to_numpy(gradient({"x": X, "y": Y}, {"unused": np.float32([1, 2])})[1])
    assert (gradients["x"] == 1).all() and gradients["y"].shape == Y.shape and not gradients["y"].any()


@FREEZE
def test_nested_arguments_and_results_keep_their_structure(freeze):
    def function(first, second):
        return {"sum": first["b"] + first["a"], "pair": (second[0] * 2, [second[1]])}

    made = compile_function(function, freeze=freeze)
    found = to_numpy(made({"b": X, "a": 2 * X}, (Y, np.int32([7]))))
    np.testing.assert_allclose(found["sum"], 3 * X, rtol=1e-6)
    np.testing.assert_allclose(found["pair"][0], 2 * Y, rtol=1e-6)
    assert found["pair"][1][0].tolist() == [7]
    np.testing.assert_allclose(to_numpy(compile_function(lambda x: x + 1, freeze=freeze)(X)), X + 1, rtol=1e-6)


@FREEZE
def test_labels_behind_one_pass_have_the_gradients_of_their_formulas(freeze):
    w = np.float32([1, -2, 0.5, 3])

    def look(inputs, weights):
        scores = [ops.sum(inputs["x"] ** 2 * weights["w"], axis=1), ops.sum(ops.sin(inputs["y"]), axis=1)]
        return ops.stack(scores, axis=1), {"double": 2 * inputs["x"]}

    def finish(gradients, beside):
        return {**gradients, "both": gradients["x"] + beside["double"]}

    targets = np.array([[0, 1, 0, 1, -1], [1, 1, 0, 0, -1], [0, 0, 0, 0, 0]])
    each = compile_function(differentiate_each(look, finish), freeze=freeze)
    for count in (3, 1, 2):
        scores, found = to_numpy(each(np.array(count), targets, {"x": X, "y": Y}, {"w": w}))
        expected = np.stack([(X**2 * w).sum(1), np.sin(Y).sum(1)], axis=1)
        np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
        of_x = (targets[:count, :, None] == 0) * (2 * X * w)
        np.testing.assert_allclose(found["x"][:count], of_x, rtol=1e-5)
        np.testing.assert_allclose(found["y"][:count], (targets[:count, :, None] == 1) * np.cos(Y), rtol=1e-5)
        np.testing.assert_allclose(found["both"][:count], of_x + 2 * X, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def network():
    keras.utils.set_random_seed(0)
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(1)])


def score_of(network):
    return lambda inputs: network(inputs["x"], training=False)[:, 0]


def test_a_frozen_network_gives_what_the_network_gives(network):
    free, frozen = (compile_function(differentiate(score_of(network)), freeze=freeze) for freeze in (False, True))
    for rows in (X, X[:2]):  # another size is traced anew
        (score, one), (frozen_score, other) = (to_numpy(made({"x": rows})) for made in (free, frozen))
        np.testing.assert_allclose(frozen_score, score, rtol=1e-5)
        np.testing.assert_allclose(other["x"], one["x"], rtol=1e-5, atol=1e-7)
    first, bias, second, _ = (ops.convert_to_numpy(weight) for weight in network.weights)
    expected = ((1 - np.tanh(X @ first + bias) ** 2) * second[:, 0]) @ first.T
    np.testing.assert_allclose(to_numpy(frozen({"x": X})[1])["x"], expected, rtol=1e-4, atol=1e-6)


def test_no_weight_gets_a_gradient(network):
    """The graph holds the matrix products of the two passes, and none that makes a weight's gradient."""
    compile_function(differentiate(score_of(network)))({"x": X})
    if keras.backend.backend() == "torch":
        assert all(weight.value.grad is None for weight in network.weights)
    if keras.backend.backend() == "tensorflow":
        graph = compile_function(differentiate(score_of(network))).get_concrete_function({"x": X}).graph
        shapes = [tuple(node.outputs[0].shape) for node in graph.get_operations() if node.type == "MatMul"]
        assert sorted(shapes) == [(5, 1), (5, 4), (5, 6), (5, 6)]
