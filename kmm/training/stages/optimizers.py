"""Optimizers, one table entry each."""

from collections.abc import Callable
from typing import Any

import keras

from kmm.errors import look_up
from kmm.models.views.depth import scale_by_depth
from kmm.training.stages.recipe import Stage
from kmm.training.stages.scaled_rates import ScaledAdam, ScaledAdamW
from kmm.training.stages.schedule import make_course

NOT_DECAYED = ("bias", "gamma", "beta")  # names of weights that shift or scale: decay would only bias them


def _list_shared(stage: Stage) -> dict[str, Any]:
    """Lists the arguments of every optimizer."""
    average = {"use_ema": True, "ema_momentum": stage.weight_average} if stage.weight_average else {}
    return {"learning_rate": stage.learning_rate, "global_clipnorm": stage.clip_norm or None, **average}


def _adam(stage: Stage, **scaled: Any) -> keras.optimizers.Optimizer:
    """Source: https://arxiv.org/abs/1412.6980"""
    kind = ScaledAdam if scaled else keras.optimizers.Adam
    return kind(**_list_shared(stage), **scaled)


def _adamw(stage: Stage, **scaled: Any) -> keras.optimizers.Optimizer:
    """Source: https://arxiv.org/abs/1711.05101"""
    kind = ScaledAdamW if scaled else keras.optimizers.AdamW
    optimizer = kind(weight_decay=stage.weight_decay, **_list_shared(stage), **scaled)
    optimizer.exclude_from_weight_decay(var_names=list(NOT_DECAYED))
    return optimizer


# Functions of a stage and, for one whose rates differ by step or weight, of the arguments of `ScaledRates`.
OPTIMIZERS: dict[str, Callable[..., keras.optimizers.Optimizer]] = {"adam": _adam, "adamw": _adamw}


def make_optimizer(stage: Stage, model: keras.Model, steps: int = 1) -> keras.optimizers.Optimizer:
    """Makes the optimizer of a stage for the weights of a model that are trained.

    Args:
        stage: `Stage`.
        model: `keras.Model` with what is trained marked.
        steps: int. Steps of an epoch, by which the stage's warm-up is counted.

    Returns:
        `keras.optimizers.Optimizer`; with `kmm.training.stages.scaled_rates.ScaledRates` if rates differ by step or
        weight.

    Raises:
        InputError: if the optimizer is unknown.
    """
    scaled: dict[str, Any] = {}
    if factors := scale_by_depth(model, stage.rate_decay):
        scaled["factors"] = factors
    if course := make_course(stage, steps):
        scaled["course"] = course
    return look_up(OPTIMIZERS, stage.optimizer, "optimizer")(stage, **scaled)
