"""Choice of the weight of auxiliary targets: the image side is trained with each, and validation decides."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from kmm.training.features import Features
from kmm.training.head_choice import measure_model
from kmm.training.run_context import RunContext
from kmm.training.stages.fit_stage import weigh_linear
from kmm.training.stages.recipe import Stage

Train = Callable[[Sequence[Stage], Features], tuple[keras.Model, dict[str, Any]]]


def divide_stages(stages: Sequence[Stage]) -> dict[float, tuple[Stage, ...]]:
    """Divides the stages of the image side by the weight of auxiliary targets, in their order.

    Example:
        >>> stages = [Stage(name, 1, 0.1, auxiliary_weight=weight) for weight in (0.1, 1.0) for name in ("head", "top")]
        >>> {weight: [stage.name for stage in own] for weight, own in divide_stages(stages).items()}
        {0.1: ['head', 'top'], 1.0: ['head', 'top']}
    """
    found: dict[float, tuple[Stage, ...]] = {}
    for stage in stages:
        found[stage.auxiliary_weight] = (*found.get(stage.auxiliary_weight, ()), stage)
    return found


def train_weights(
    context: RunContext, stages: Sequence[Stage], features: Features, train: Train
) -> tuple[keras.Model, dict[str, Any], dict[str, Any]]:
    """Trains the image side once for each weight, each time from its start, and keeps the model whose log loss of the
    labels on validation is the lowest; of equal ones the first.

    Args:
        context: `RunContext`.
        stages: sequence of `Stage` of the image side.
        features: `Features` of the run.
        train: function of the stages of one weight, and of `Features` for them, that starts and trains a model and
            returns it with the facts of the choice of its head.

    Returns:
        the model, the facts of the choice of its head, and those of the choice of the weight for JSON: `kept`,
        `losses`, for each weight the log loss on validation (None if validation has no film), and `studies` of
        validation; empty if there is one weight.
    """
    groups = divide_stages(stages)
    if len(groups) == 1 or not context.auxiliary:  # without targets all weights are the same
        return (*train(next(iter(groups.values())), features), {})
    class_weights = weigh_linear(stages[0], context.targets_of("image")[context.rows("train")])
    facts: dict[str, Any] = {"kept": None, "losses": {}, "studies": 0}
    best, lowest = None, math.inf
    for weight, own in groups.items():
        branch = Features(context, features.ahead)  # starts from the encoder as it was
        branch.probes = features.probes
        trained = train(own, branch)
        losses = measure_model(context, "image", trained[0], branch, class_weights)
        loss = float(losses.mean()) if len(losses) else None
        facts["losses"][f"{weight:g}"], facts["studies"] = loss, len(losses)
        if best is None or (loss is not None and loss < lowest):
            best, facts["kept"], lowest = trained, weight, (math.inf if loss is None else loss)
    assert best is not None
    for side in {side for stage in stages for side in stage.trained}:
        features.mark_trained(side)
    context.progress.note(describe_weights(facts))
    return (*best, facts)


def describe_weights(facts: dict[str, Any]) -> str:
    """Describes the choice of a weight in one line for the user.

    Args:
        facts: dict of `train_weights`.

    Example:
        >>> print(describe_weights({"kept": 0.3, "losses": {"0.1": 0.57, "0.3": 0.56}, "studies": 9}))
        Auxiliary targets of image: weight 0.3 is kept, of the validation losses 0.1: 0.5700, 0.3: 0.5600
    """
    losses = ", ".join(
        f"{weight}: {'not measured' if loss is None else f'{loss:.4f}'}" for weight, loss in facts["losses"].items()
    )
    return f"Auxiliary targets of image: weight {facts['kept']:g} is kept, of the validation losses {losses}"
