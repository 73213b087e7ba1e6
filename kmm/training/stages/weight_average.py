"""Moving average of the weights that a stage trains: the optimizer keeps it, validation and the result use it."""

from typing import Any

import keras
import numpy as np
from keras import ops


class AveragedWeights(keras.callbacks.Callback):
    """Evaluates the averages in place of the weights, and puts the weights back bit by bit.

    After step `t` the average of a weight is `m * average + (1 - m) * weight`, where `m` is the momentum of the
    optimizer; after the first step it is the weight. Statistics of batch normalisation are not averaged: they are
    moving averages themselves.

    Source: https://arxiv.org/abs/1703.01780
    """

    def __init__(self) -> None:
        super().__init__()
        self._weights: list[np.ndarray] = []

    def on_test_begin(self, logs: Any = None) -> None:
        """Takes the weights out of the model, and puts the averages in."""
        self._weights = [_copy(weight) for weight, _ in _list_averages(self.model)]
        use_averages(self.model)

    def on_test_end(self, logs: Any = None) -> None:
        """Puts the weights back."""
        for (weight, _), value in zip(_list_averages(self.model), self._weights, strict=True):
            weight.assign(value)


def start_averages(model: keras.Model) -> None:
    """Sets the averages to the weights, as before the first step; nothing if the optimizer keeps none."""
    for weight, average in _list_averages(model):
        average.assign(_copy(weight))


def use_averages(model: keras.Model) -> None:
    """Sets the weights to their averages; nothing if the optimizer keeps none."""
    for weight, average in _list_averages(model):
        weight.assign(_copy(average))


def _list_averages(model: keras.Model) -> list[tuple[keras.Variable, keras.Variable]]:
    """Returns the trained weights with their averages, which Keras names after them."""
    averages = [variable for variable in model.optimizer.variables if variable.path.endswith("_average")]
    return list(zip(model.trainable_variables, averages, strict=True)) if averages else []


def _copy(variable: keras.Variable) -> np.ndarray:
    """Returns the value of a variable; torch would share its memory."""
    return np.array(ops.convert_to_numpy(variable))
