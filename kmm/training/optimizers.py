"""Optimizers, one table entry each."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import keras

if TYPE_CHECKING:
    from kmm.training.checkpoint import StagePlan

NOT_DECAYED = ("bias", "gamma", "beta")  # names of weights that shift or scale: decay would only bias them


def _adam(plan: "StagePlan") -> keras.optimizers.Optimizer:
    """Source: https://arxiv.org/abs/1412.6980"""
    return keras.optimizers.Adam(plan.learning_rate, global_clipnorm=plan.clip_norm or None)


def _adamw(plan: "StagePlan") -> keras.optimizers.Optimizer:
    """Source: https://arxiv.org/abs/1711.05101"""
    optimizer = keras.optimizers.AdamW(
        plan.learning_rate, weight_decay=plan.weight_decay, global_clipnorm=plan.clip_norm or None
    )
    optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    return optimizer


OPTIMIZERS: dict[str, Callable[["StagePlan"], keras.optimizers.Optimizer]] = {"adam": _adam, "adamw": _adamw}
