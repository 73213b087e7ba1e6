"""Gradients d score / d input on each backend: the only file that asks which backend runs.

Everything else in `kmm.explain` is written with `keras.ops` and works on every backend.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
from keras import ops

from kmm.errors import require

Tensors = Mapping[str, Any]  # name to tensor of the backend in use
Stem = Callable[[Tensors, Tensors], Tensors]  # first half of a model: (inputs, fixed) -> inner
Score = Callable[[Tensors, Tensors], Any]  # second half: (inner, fixed) -> scores (m,) or (m, n_labels)


def compile_function(function: Callable, *, freeze: bool = False) -> Callable:
    """Compiles a function of tensors. It is traced once for each set of shapes.

    Args:
        function: takes and returns (nested dicts, lists and tuples of) tensors.
        freeze: bool. On TensorFlow, turn all variables into constants, so that the graph can be simplified with their
            values. It may run a few percent faster, but the conversion takes seconds and up to gigabytes. Later changes
            of weights have no effect.

    Returns:
        a function of arrays or tensors that returns tensors.

    Example:
        >>> double = compile_function(lambda values: {"y": 2 * values["x"]})
        >>> float(double({"x": ops.convert_to_tensor(3.0)})["y"])
        6.0
    """
    return _BACKENDS[keras.backend.backend()].compile(function, freeze)


def differentiate(function: Callable[..., Any]) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Makes the function that returns scores and their gradients.

    Args:
        function: takes a dict of tensors first, any other arguments after it, and returns scores `(m,)`. Row i of the
            scores must depend only on row i of the inputs; then the gradient of the sum holds each row's gradient.

    Returns:
        function of the same arguments, to be called inside `compile_function`, that returns the scores `(m,)` and a
        dict of gradients, each of the shape of its input. Gradients with respect to weights are not computed.

    Example:
        >>> square = compile_function(differentiate(lambda values: values["x"] ** 2))
        >>> scores, gradients = square({"x": ops.convert_to_tensor([1.0, 3.0])})
        >>> ops.convert_to_numpy(gradients["x"]).tolist()
        [2.0, 6.0]
    """
    both = differentiate_beside(lambda *given: (function(*given), ()))
    return lambda *given: both(*given)[:2]


def differentiate_beside(function: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, dict[str, Any], Any]]:
    """Makes the function that returns scores, their gradients, and what the same pass computed beside the scores.

    Args:
        function: as for `differentiate`, but it returns the scores `(m,)` and any nested dict, list or tuple of
            tensors, which is not differentiated.

    Returns:
        function of the same arguments, to be called inside `compile_function`, that returns the scores, a dict of
        gradients, and the other tensors.

    Example:
        >>> double = lambda values: (values["x"] ** 2, [2 * values["x"]])
        >>> found = compile_function(differentiate_beside(double))({"x": ops.convert_to_tensor([1.0, 3.0])})
        >>> ops.convert_to_numpy(found[1]["x"]).tolist(), ops.convert_to_numpy(found[2][0]).tolist()
        ([2.0, 6.0], [2.0, 6.0])
    """
    return _BACKENDS[keras.backend.backend()].differentiate(function)


def differentiate_each(
    function: Callable[..., tuple[Any, Any]], finish: Callable[[dict[str, Any], Any], dict[str, Any]]
) -> Callable[..., tuple[Any, dict[str, Any]]]:
    """Makes the function that differentiates several labels' scores, all behind one forward pass.

    One gradient is computed after the other, so that memory does not grow with their number, but for the results.

    Args:
        function: takes a dict of tensors first, any other arguments after it, and returns scores `(m, n_labels)`, row
            by row as for `differentiate`, and any nested dict, list or tuple of tensors, which is not differentiated.
        finish: function of a dict of gradients, each of the shape of its input, and of those other tensors, that
            returns a dict of tensors.

    Returns:
        function `(count, targets, *arguments)`, to be called inside `compile_function`, that returns the scores, and
        the results of `finish` stacked along a new first axis: result i is that of the gradients of each row's score
        for the label `targets[i]`. `targets` is an int array `(k, m)`, where -1 stands for no label and gives gradients
        of 0. `count` is an integer tensor from 1 to `k`: what follows the first `count` results has no meaning. The
        function is traced once for each `k`.

    Example:
        >>> powers = lambda values: (ops.stack([values["x"], values["x"] ** 2], axis=1), ())
        >>> each = compile_function(differentiate_each(powers, lambda gradients, _: gradients))
        >>> targets = ops.convert_to_tensor([[0, 0], [1, -1]])
        >>> _, found = each(ops.convert_to_tensor(2), targets, {"x": ops.convert_to_tensor([1.0, 3.0])})
        >>> ops.convert_to_numpy(found["x"]).tolist()
        [[1.0, 1.0], [2.0, 0.0]]
    """
    return _BACKENDS[keras.backend.backend()].differentiate_each(function, finish)


def keeps_copies() -> bool:
    """Returns whether convolutions and poolings read copies of their inputs in another layout, which a gradient keeps.

    Keras's images have their channels last and PyTorch's first, so on PyTorch each of these layers copies its input.
    """
    return _BACKENDS[keras.backend.backend()].keeps_copies


class _TensorFlow:
    keeps_copies = False

    @staticmethod
    def compile(function, freeze):
        tf = require("tensorflow", "tensorflow")
        return _Frozen(tf, function) if freeze else tf.function(function, autograph=False, jit_compile=False)

    @staticmethod
    def differentiate(function):
        tf = require("tensorflow", "tensorflow")

        def with_gradients(inputs, *rest):
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(inputs)
                scores, beside = function(inputs, *rest)
            zero = tf.UnconnectedGradients.ZERO
            return scores, tape.gradient(scores, inputs, unconnected_gradients=zero), beside

        return with_gradients

    @staticmethod
    def differentiate_each(function, finish):
        tf = require("tensorflow", "tensorflow")

        def with_gradients(count, targets, inputs, *rest):
            with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
                tape.watch(inputs)
                scores, beside = function(inputs, *rest)
            zero = tf.UnconnectedGradients.ZERO

            def find(number):
                chosen = _choose(targets[number], scores)
                return finish(
                    tape.gradient(scores, inputs, output_gradients=chosen, unconnected_gradients=zero), beside
                )

            def go_on(number, arrays):
                found = find(number)
                return number + 1, {name: array.write(number, found[name]) for name, array in arrays.items()}

            first, count = find(0), tf.cast(count, tf.int32)
            arrays = {
                name: tf.TensorArray(value.dtype, size=count, element_shape=value.shape).write(0, value)
                for name, value in first.items()
            }
            _, arrays = tf.while_loop(
                lambda number, arrays: number < count, go_on, (tf.constant(1), arrays), parallel_iterations=1
            )
            return scores, {name: array.stack() for name, array in arrays.items()}

        return with_gradients


class _Frozen:
    """A TensorFlow function whose variables become constants when it is first called with a set of shapes."""

    def __init__(self, tf, function):
        self.tf, self.function, self.made = tf, function, {}

    def __call__(self, *arguments):
        from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

        tf = self.tf
        flat = [tf.convert_to_tensor(value) for value in tf.nest.flatten(arguments)]
        shapes = tuple((value.dtype, tuple(value.shape)) for value in flat)
        if shapes not in self.made:
            specs = [tf.TensorSpec(value.shape, value.dtype, name=f"argument_{i}") for i, value in enumerate(flat)]
            traced = tf.function(
                lambda *values: self.function(*tf.nest.pack_sequence_as(arguments, values)),
                autograph=False,
                jit_compile=False,
            ).get_concrete_function(*specs)
            self.made[shapes] = convert_variables_to_constants_v2(traced), traced.structured_outputs
        frozen, structure = self.made[shapes]
        return tf.nest.pack_sequence_as(structure, frozen(*flat))


class _Jax:
    keeps_copies = False

    @staticmethod
    def compile(function, freeze):
        return require("jax", "jax").jit(function)

    @staticmethod
    def differentiate(function):
        jax = require("jax", "jax")

        def with_gradients(inputs, *rest):
            def total(values):
                scores, beside = function(values, *rest)
                return scores.sum(), (scores, beside)

            gradients, (scores, beside) = jax.grad(total, has_aux=True)(inputs)
            return scores, gradients, beside

        return with_gradients

    @staticmethod
    def differentiate_each(function, finish):
        jax = require("jax", "jax")

        def with_gradients(count, targets, inputs, *rest):
            scores, pull, beside = jax.vjp(lambda values: function(values, *rest), inputs, has_aux=True)

            def find(number):
                return finish(*pull(_choose(targets[number], scores)), beside)

            def go_on(number, stacks):
                found = find(number)
                return {name: stack.at[number].set(found[name]) for name, stack in stacks.items()}

            shapes = jax.eval_shape(find, 0)
            stacks = {name: ops.zeros((len(targets), *one.shape), one.dtype) for name, one in shapes.items()}
            return scores, jax.lax.fori_loop(0, count, go_on, stacks)

        return with_gradients


class _Torch:
    keeps_copies = True

    @staticmethod
    def compile(function, freeze):
        torch = require("torch", "torch")

        def run(*arguments):
            with torch.no_grad():
                return function(*keras.tree.map_structure(ops.convert_to_tensor, arguments))

        return run

    @staticmethod
    def differentiate(function):
        torch = require("torch", "torch")

        def with_gradients(inputs, *rest):
            with torch.enable_grad():
                leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
                scores, beside = function(leaves, *rest)
                gradients = torch.autograd.grad(
                    scores.sum(), list(leaves.values()), allow_unused=True, materialize_grads=True
                )
            beside = keras.tree.map_structure(lambda value: value.detach(), beside)
            return scores.detach(), dict(zip(leaves, gradients)), beside

        return with_gradients

    @staticmethod
    def differentiate_each(function, finish):
        torch = require("torch", "torch")

        def with_gradients(count, targets, inputs, *rest):
            with torch.enable_grad():
                leaves = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
                scores, beside = function(leaves, *rest)
            beside, found = keras.tree.map_structure(lambda value: value.detach(), beside), []
            for number in range(int(count)):
                gradients = torch.autograd.grad(
                    scores,
                    list(leaves.values()),
                    _choose(targets[number], scores),
                    retain_graph=number + 1 < int(count),
                    allow_unused=True,
                    materialize_grads=True,
                )
                found.append(finish(dict(zip(leaves, gradients)), beside))
            return scores.detach(), {name: ops.stack([one[name] for one in found]) for name in found[0]}

        return with_gradients


def _choose(targets, scores):
    """Returns the derivative of each row's score for its label with respect to all scores: 1 for the label, else 0."""
    return ops.one_hot(targets, scores.shape[-1], dtype=scores.dtype)


_BACKENDS: dict[str, type[_TensorFlow] | type[_Jax] | type[_Torch]] = {
    "tensorflow": _TensorFlow,
    "jax": _Jax,
    "torch": _Torch,
}
