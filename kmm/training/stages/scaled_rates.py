"""Optimizers whose learning rate is scaled, by step and by weight."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops


class ScaledRates:
    """Mixin for a `keras.optimizers.Optimizer`: weight `i` is updated in step `t` with the rate

        learning_rate * course(t) * factors[i]

    and weight decay is scaled alike. All else is that of the optimizer: moments and clipping see the gradients as they
    are. So the update of a weight is that of the plain optimizer at this rate. To scale a gradient instead would change
    nothing in Adam, which divides by the size of the gradients.

    Args:
        options: of the optimizer.
        factors: sequence of float, one for each weight that is trained, in their order; empty for factors of 1.
        course: `keras.optimizers.schedules.LearningRateSchedule` that returns a factor; None for 1.

    Raises:
        ValueError: if the optimizer is built for another number of weights.

    Example:
        >>> one, other = keras.Variable(1.0), keras.Variable(1.0)
        >>> optimizer = ScaledAdam(0.1, factors=(1.0, 0.5))
        >>> optimizer.apply([ops.ones(()), ops.ones(())], [one, other])
        >>> round(float(one), 4), round(float(other), 4)
        (0.9, 0.95)
    """

    def __init__(self, *options: Any, factors: Sequence[float] = (), course: Any = None, **named: Any):
        super().__init__(*options, **named)
        self.factors, self.course = tuple(map(float, factors)), course

    def build(self, variables: list[keras.Variable]) -> None:
        """Creates the variables of the optimizer."""
        if self.factors and len(self.factors) != len(variables):
            raise ValueError(f"There are {len(self.factors)} factors for {len(variables)} weights.")
        super().build(variables)  # type: ignore[misc]  # of the optimizer that the mixin precedes

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one weight."""
        super().update_step(gradient, variable, self._scale(variable, learning_rate))  # type: ignore[misc]

    def _apply_weight_decay(self: Any, variables: Any) -> None:
        if self.weight_decay is None:
            return
        for variable in variables:
            if self._use_weight_decay(variable):
                rate = ops.cast(self._scale(variable, self.learning_rate), variable.dtype)
                variable.assign(variable - variable * self.weight_decay * rate)

    def _scale(self: Any, variable: Any, rate: Any) -> Any:
        if self.course is not None:
            rate = rate * self.course(self.iterations)
        return rate * self.factors[self._get_variable_index(variable)] if self.factors else rate

    def get_config(self) -> dict[str, Any]:
        course = None if self.course is None else keras.saving.serialize_keras_object(self.course)
        return {**super().get_config(), "factors": list(self.factors), "course": course}  # type: ignore[misc]

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """Makes an optimizer from what `get_config` returned."""
        course = config.get("course")
        if isinstance(course, dict):
            course = keras.saving.deserialize_keras_object(course, custom_objects=custom_objects)
        return super().from_config({**config, "course": course}, custom_objects)  # type: ignore[misc]


@keras.saving.register_keras_serializable(package="kmm")
class ScaledAdam(ScaledRates, keras.optimizers.Adam):
    """Adam with `ScaledRates`."""


@keras.saving.register_keras_serializable(package="kmm")
class ScaledAdamW(ScaledRates, keras.optimizers.AdamW):
    """AdamW with `ScaledRates`."""
