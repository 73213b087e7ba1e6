"""One stage of training: compilation of the model, and a fit that can be resumed."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kmm.errors import InputError, look_up
from kmm.models.curve_metrics import LabelAccuracy, LabelAuc
from kmm.models.loss import LOSSES
from kmm.progress import Progress
from kmm.training.stages.checkpoint import CURVES, Checkpoint, EpochStart
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.monitors import MONITORED, MONITORS
from kmm.training.stages.optimizers import make_optimizer
from kmm.training.stages.recipe import Stage
from kmm.training.stages.weight_average import AveragedWeights

SMALL_MODEL = 2**22  # weights
SMALL_BATCH = 2**18  # input values
MANY_STEPS = 500  # from which the tracing of several steps at once, a second or two per stage, is worth its while


def balance_classes(labels: np.ndarray) -> np.ndarray:
    """Returns weights that give both classes of each label the same total weight: float32 `(n_labels, 2)`.

    Example:
        >>> balance_classes(np.array([[1.0], [0.0], [0.0], [np.nan]])).round(2).tolist()
        [[0.75, 1.5]]
    """
    known = np.isfinite(labels).sum(axis=0)
    positive = np.nansum(labels, axis=0)
    return np.stack([known / (2 * np.maximum(known - positive, 1)), known / (2 * np.maximum(positive, 1))], 1).astype(
        np.float32
    )


def weigh_classes(stage: Stage, labels: np.ndarray) -> np.ndarray | None:
    """Returns the weights of both classes of each label that a stage uses, float32 `(n_labels, 2)`, or None.

    Args:
        stage: `Stage`.
        labels: float array `(n, n_labels)`, what the training studies learn.
    """
    balanced = stage.class_weights or look_up(LOSSES, stage.loss, "loss").balances
    return balance_classes(labels) if balanced else None


def weigh_linear(stage: Stage, labels: np.ndarray) -> np.ndarray | None:
    """Returns the weights with which logistic regression fits what a stage trains next, as `weigh_classes` does: those
    of positives in the loss `hybrid` count too.

    Example:
        >>> weigh_linear(Stage("head", 1, 0.1, loss="hybrid"), np.float32([[1], [0], [0]])).tolist()
        [[1.0, 2.0]]
    """
    weights = weigh_classes(stage, labels)
    positive = list_options(stage, labels).get("positive_weights")
    if positive is None:
        return weights
    own = np.stack([np.ones_like(positive), positive], axis=1)
    return own if weights is None else own * weights


def list_options(stage: Stage, labels: np.ndarray) -> dict[str, Any]:
    """Lists further arguments of the loss of a stage, see `kmm.models.loss.LossEntry`; arguments as for
    `weigh_classes`."""
    choose = look_up(LOSSES, stage.loss, "loss").options
    return choose(labels, stage) if choose else {}


def choose_steps(model: keras.Model, batch_size: int, steps: int) -> int:
    """Chooses the number of training steps per call from Python: 8 in a stage of many steps that take milliseconds,
    else 1.

    A step of a small network ends before Python is ready for the next one. The progress of a large network is reported
    after each step, and it can be stopped there. Only TensorFlow runs several steps without copying their code; it
    needs longer to trace them.

    Args:
        model: `keras.Model`.
        batch_size: int.
        steps: int, those of the whole stage.

    Returns:
        int, the `steps_per_execution` of `keras.Model.compile`.
    """
    numbers = batch_size * sum(math.prod(tensor.shape[1:]) for tensor in model.inputs)
    small = model.count_params() <= SMALL_MODEL and numbers <= SMALL_BATCH and steps >= MANY_STEPS
    return 8 if small and keras.backend.backend() == "tensorflow" else 1


def compile_stage(
    model: keras.Model,
    stage: Stage,
    batch_size: int,
    class_weights: np.ndarray | None = None,
    steps: int = 1,
    *,
    options: Mapping[str, Any] | None = None,
) -> keras.Model:
    """Compiles a model with the optimizer and the loss of a stage. Arguments as for `fit_stage`; `steps` are those
    of an epoch, `options` those of `list_options`. Returns the model.

    The metric `MONITORED` is the loss without the weight penalties that Keras adds. Both count a study
    as often as its weight in the batch says, so that those which fill up a batch of `StudyDataset` change neither.
    """
    build = partial(look_up(LOSSES, stage.loss, "loss").build, **(options or {}))
    monitored, label_count = build(class_weights, reduction="none"), model.outputs[0].shape[-1]
    model.compile(
        optimizer=make_optimizer(stage, model, steps),
        loss=build(class_weights, reduction="mean_with_sample_weight"),
        weighted_metrics=[
            keras.metrics.MeanMetricWrapper(monitored, name=MONITORED),
            LabelAccuracy(label_count, name=CURVES[0]),
            LabelAuc(label_count, name=CURVES[1]),
            *(make(label_count) for make in MONITORS[stage.monitor].metrics),
        ],
        jit_compile="auto" if keras.backend.backend() == "jax" else False,  # XLA compiles longer than small data trains
        steps_per_execution=choose_steps(model, batch_size, stage.epochs * steps),
    )
    return model


Compile = Callable[[keras.Model, Stage, int, np.ndarray | None, int], keras.Model]


def fit_stage(
    model: keras.Model,
    train: StudyDataset,
    validation: StudyDataset,
    *,
    stage: Stage,
    folder: Path | str,
    class_weights: np.ndarray | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    progress: Progress | None = None,
    compile_model: Compile | None = None,
) -> dict[str, list[float]]:
    """Trains a model to its best validation; resumes an earlier run of the stage.

    Callbacks run between the two of the stage: an epoch begins with its order of studies, its random state and its
    learning rate before a callback sees it, and is saved after a callback has seen it end. So a callback may change the
    learning rate or the weights, stop the stage (`model.stop_training`), and read exact losses in its logs. It sees the
    epochs by Keras's numbers from 0, also in a stage that is resumed; those that were saved before are not repeated.
    Where weights are averaged it sees the averages during validation, and the weights at the end of the epoch.

    Args:
        model: `keras.Model` that returns logits. It ends with its best weights.
        train, validation: `kmm.training.stages.dataset.StudyDataset`.
        stage: `kmm.training.stages.recipe.Stage`.
        folder: path of the folder for the state of the stage. It must not belong to another stage.
        class_weights: see `kmm.models.loss.MaskedLoss`.
        callbacks: sequence of `keras.callbacks.Callback`.
        progress: `kmm.progress.Progress`.
        compile_model: function of the arguments of `compile_stage`, for a model that does not return logits of labels;
            it must give the model a metric named `kmm.training.stages.monitors.MONITORED`. None for `compile_stage`.

    Returns:
        dict of metric name to a list with one number per epoch: `loss`, `val_loss` (both without weight penalties),
        `learning_rate`, and `val_accuracy`, `val_roc_auc` and `val_f1` if they are computed and defined, the first and
        the last at probability 0.5; empty if the stage has no epochs.

    Raises:
        InputError: if neither the initial weights nor any epoch had a finite validation loss, or a file of the folder
            is damaged.
    """
    if stage.epochs == 0:
        return {}
    steps, progress = len(train), progress or Progress()
    (compile_model or compile_stage)(model, stage, train.batch_size, class_weights, steps)
    checkpoint = Checkpoint(stage, folder, train)
    checkpoint.set_model(model)
    with progress.step(stage.name, stage.epochs * steps, checkpoint.state["epoch"] * steps) as advance:
        checkpoint.advance = advance
        checkpoint.restore()
        if not checkpoint.state["done"]:
            advance(0, text="compiling")
            if keras.backend.backend() == "jax":  # for minutes, in which a log without a bar would say nothing
                progress.note(f"{stage.name}: compiling")
            _run_epochs(model, train, validation.as_input(), checkpoint, callbacks)
            if checkpoint.state["best"] is None:
                raise InputError(
                    f"{stage.name}: no epoch had a finite {checkpoint.monitor.noun}. Try a lower learning rate."
                )
            checkpoint.finish()
        advance(0, text=checkpoint.describe_best())
    return checkpoint.state["history"]


def _run_epochs(model, train, validation, checkpoint, callbacks):
    """Runs the epochs that are left."""
    if not checkpoint.state["epoch"]:
        checkpoint.measure_start(validation)
    if checkpoint.state["ended"]:  # killed before its end was saved
        return
    # A backend may read the first batch before the epoch begins.
    train.start_epoch(checkpoint.state["epoch"])
    averages = [AveragedWeights()] if checkpoint.stage.weight_average else []
    model.fit(
        train.as_input(),
        validation_data=validation,
        epochs=checkpoint.stage.epochs,
        initial_epoch=checkpoint.state["epoch"],
        callbacks=[EpochStart(checkpoint), *averages, *callbacks, checkpoint],
        shuffle=False,  # the data set shuffles itself; Keras would use a seed that a resumed run lacks
        verbose=0,
    )
