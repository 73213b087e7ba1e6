"""Optimizers, one table entry each."""

from collections.abc import Callable

import keras

from kmm.training.recipe import Stage

NOT_DECAYED = ("bias", "gamma", "beta")  # names of weights that shift or scale: decay would only bias them


def _adam(stage: Stage) -> keras.optimizers.Optimizer:
    """Source: https://arxiv.org/abs/1412.6980"""
    return keras.optimizers.Adam(stage.learning_rate, global_clipnorm=stage.clip_norm or None)


def _adamw(stage: Stage) -> keras.optimizers.Optimizer:
    """Source: https://arxiv.org/abs/1711.05101"""
    optimizer = keras.optimizers.AdamW(
        stage.learning_rate, weight_decay=stage.weight_decay, global_clipnorm=stage.clip_norm or None
    )
    optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    return optimizer


OPTIMIZERS: dict[str, Callable[[Stage], keras.optimizers.Optimizer]] = {"adam": _adam, "adamw": _adamw}
