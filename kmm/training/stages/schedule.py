"""Schedules of the learning rate, one table entry each, and the warm-up before them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops

from kmm.training.stages.recipe import Stage


def _keep(rate, *_):
    return rate


def _cosine(rate, stage, epoch):
    """Lowers the rate along half a cosine, after a warm-up in every step. Source: https://arxiv.org/abs/1608.03983"""
    if stage.warmup:
        return stage.learning_rate
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / stage.epochs))


def _cosine_in_step(done):
    return 0.5 * (1 + ops.cos(math.pi * done))


def _warm_up_and_cosine(rate, stage, epoch):
    """Raises the rate in equal steps over the first tenth of the epochs, at least one, then lowers it as `_cosine`."""
    warm = max(1, round(stage.epochs / 10))
    if epoch < warm:
        return stage.learning_rate * (epoch + 1) / (warm + 1)
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * (epoch - warm) / max(stage.epochs - warm, 1)))


def _reduce_on_plateau(rate, stage, waited):
    return rate * 0.3 if waited == max(1, stage.patience // 2) else rate


@dataclass(frozen=True)
class Schedule:
    """A row of the table `SCHEDULES`: functions that return the new learning rate of a stage.

    Attributes:
        at_start: function `(rate, stage, epoch)`, called before each epoch; `epoch` counts from 0.
        without_gain: function `(rate, stage, waited)`, called after an epoch without a better validation loss; `waited`
            is the number of such epochs in a row, at least 1.
        in_step: function of the share of the steps after a warm-up that are done, a tensor in [0, 1]; it returns the
            factor of the rate in the next step. None for 1. A stage without a warm-up does not call it.

    `stage` is a `kmm.training.stages.recipe.Stage`.

    Example:
        >>> from kmm.training.stages.recipe import Stage
        >>> stage = Stage("head", epochs=4, learning_rate=0.1, patience=5)
        >>> [round(SCHEDULES["cosine"].at_start(0.1, stage, epoch), 3) for epoch in range(4)]
        [0.1, 0.085, 0.05, 0.015]
        >>> [round(SCHEDULES["plateau"].without_gain(0.1, stage, waited), 3) for waited in (1, 2, 3)]
        [0.1, 0.03, 0.1]
    """

    at_start: Callable[[float, Stage, int], float] = _keep
    without_gain: Callable[[float, Stage, int], float] = _keep
    in_step: Callable[[Any], Any] | None = None


SCHEDULES = {
    "plateau": Schedule(without_gain=_reduce_on_plateau),
    "cosine": Schedule(at_start=_cosine, in_step=_cosine_in_step),
    "warmup-cosine": Schedule(at_start=_warm_up_and_cosine),
    "constant": Schedule(),
}


@keras.saving.register_keras_serializable(package="kmm")
class Course(keras.optimizers.schedules.LearningRateSchedule):
    """Factor of the learning rate in each step of a stage with a warm-up.

    Over the warm-up of `w` steps it rises in equal steps from 0 before the first one to 1 after the last one: in step
    `t`, from 0, it is `(t + 1) / (w + 1)`. Then it is what `Schedule.in_step` returns.

    Args:
        schedule: str. Key of `SCHEDULES`.
        warm_up: int. Steps of the warm-up.
        steps: int, at least `warm_up`. Steps of the stage.

    Source: https://arxiv.org/abs/1706.02677

    Example:
        >>> course = Course("cosine", warm_up=3, steps=7)
        >>> [round(float(course(step)), 3) for step in range(7)]
        [0.25, 0.5, 0.75, 1.0, 0.854, 0.5, 0.146]
    """

    def __init__(self, schedule: str, warm_up: int, steps: int):
        super().__init__()
        self.schedule, self.warm_up, self.steps = schedule, warm_up, steps

    def __call__(self, step: Any) -> Any:
        """Takes the number of a step, from 0; returns a float32 scalar."""
        step = ops.cast(step, "float32")
        rising = (step + 1) / (self.warm_up + 1)
        later = SCHEDULES[self.schedule].in_step
        done = ops.clip((step - self.warm_up) / max(self.steps - self.warm_up, 1), 0.0, 1.0)
        return ops.where(step < self.warm_up, rising, later(done) if later else ops.ones_like(step))

    def get_config(self) -> dict[str, Any]:
        return {"schedule": self.schedule, "warm_up": self.warm_up, "steps": self.steps}


def make_course(stage: Stage, steps: int) -> Course | None:
    """Returns the course of the learning rate of a stage with a warm-up, of at least one step; None without one.

    Args:
        stage: `Stage`.
        steps: int. Steps of an epoch.
    """
    if not stage.warmup:
        return None
    total = stage.epochs * steps
    return Course(stage.schedule, max(1, round(stage.warmup * total)), total)


def average_rate(rate: float, stage: Stage, epoch: int, steps: int) -> float:
    """Returns the mean learning rate over the steps of an epoch.

    Args:
        rate: float. The rate that the schedule set at the start of the epoch.
        stage: `Stage`.
        epoch: int, from 0.
        steps: int. Steps of an epoch.
    """
    course = make_course(stage, steps)
    if course is None:
        return rate
    return rate * float(ops.mean(course(ops.arange(epoch * steps, (epoch + 1) * steps))))
