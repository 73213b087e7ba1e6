"""Schedules of the learning rate, one table entry each."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from kmm.training.recipe import Stage


def _keep(rate, *_):
    return rate


def _cosine(rate, stage, epoch):
    """Lowers the rate along half a cosine. Source: https://arxiv.org/abs/1608.03983"""
    return stage.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / stage.epochs))


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
    """A row of the table `SCHEDULES`: two functions that return the new learning rate of a stage.

    Attributes:
        at_start: function `(rate, stage, epoch)`, called before each epoch; `epoch` counts from 0.
        without_gain: function `(rate, stage, waited)`, called after an epoch without a better validation loss; `waited`
            is the number of such epochs in a row, at least 1.

    `stage` is a `kmm.training.recipe.Stage`.

    Example:
        >>> from kmm.training.recipe import Stage
        >>> stage = Stage("head", epochs=4, learning_rate=0.1, patience=5)
        >>> [round(SCHEDULES["cosine"].at_start(0.1, stage, epoch), 3) for epoch in range(4)]
        [0.1, 0.085, 0.05, 0.015]
        >>> [round(SCHEDULES["plateau"].without_gain(0.1, stage, waited), 3) for waited in (1, 2, 3)]
        [0.1, 0.03, 0.1]
    """

    at_start: Callable[[float, Stage, int], float] = _keep
    without_gain: Callable[[float, Stage, int], float] = _keep


SCHEDULES = {
    "plateau": Schedule(without_gain=_reduce_on_plateau),
    "cosine": Schedule(at_start=_cosine),
    "warmup-cosine": Schedule(at_start=_warm_up_and_cosine),
    "constant": Schedule(),
}
