"""One stage of training: its pace, and the fit itself, which goes on where it was stopped."""

import math

import keras
import numpy as np

from kmm.errors import InputError, look_up, require
from kmm.models.loss import LOSSES
from kmm.progress import Progress
from kmm.training.checkpoint import MONITORED, Checkpoint
from kmm.training.optimizers import OPTIMIZERS

SMALL_MODEL = 2**22  # weights
SMALL_BATCH = 2**18  # numbers


def balance_classes(labels):
    """Weights that let both classes of each label weigh alike: float32 `(n_labels, 2)`.

    Example:
        >>> balance_classes(np.array([[1.0], [0.0], [0.0], [np.nan]])).round(2).tolist()
        [[0.75, 1.5]]
    """
    known = np.isfinite(labels).sum(axis=0)
    positive = np.nansum(labels, axis=0)
    return np.stack([known / (2 * np.maximum(known - positive, 1)), known / (2 * np.maximum(positive, 1))], 1).astype(
        np.float32
    )


def choose_steps(model, batch_size):
    """How many steps follow each other before Python looks in: 8 where a step takes milliseconds, else 1.

    The step of a small network is over before Python is ready for the next one. A large one is to be told of, and to
    be stopped, step by step. Only TensorFlow runs several steps without copying their code.

    Args:
        model: `keras.Model`.
        batch_size: int.

    Returns:
        int.
    """
    numbers = batch_size * sum(math.prod(tensor.shape[1:]) for tensor in model.inputs)
    small = model.count_params() <= SMALL_MODEL and numbers <= SMALL_BATCH
    return 8 if small and keras.backend.backend() == "tensorflow" else 1


def compile_stage(model, plan, batch_size, class_weights=None):
    """Gives a model the optimizer, the loss and the pace of a stage. Arguments as in `fit_stage`; returns the model.

    The metric is the loss without the penalties of weights that Keras adds to it: epochs are chosen by it.
    """
    build = look_up(LOSSES, plan.loss, "loss").build
    monitored = build(class_weights, reduction="none")
    model.compile(
        optimizer=look_up(OPTIMIZERS, plan.optimizer, "optimizer")(plan),
        loss=build(class_weights),
        metrics=[keras.metrics.MeanMetricWrapper(monitored, name=MONITORED)],
        jit_compile="auto" if keras.backend.backend() == "jax" else False,  # XLA compiles longer than small data train
        steps_per_execution=choose_steps(model, batch_size),
    )
    return model


def fit_stage(model, train, validation, *, plan, folder, class_weights=None, progress=None):
    """Trains a model to its best validation loss, going on from where an earlier run of the stage stopped.

    Args:
        model: `keras.Model` that gives logits.
        train, validation: `kmm.training.dataset.StudyDataset`.
        plan: `kmm.training.checkpoint.StagePlan`.
        folder: where the stage keeps its state; a folder of another plan must not be given.
        class_weights: see `kmm.models.loss.MaskedLoss`.
        progress: `kmm.progress.Progress`.

    Returns:
        dict of metric name to a list with one number per epoch: `loss`, `val_loss` (both without penalties of weights),
        `learning_rate`. The model is left with its best weights.

    Raises:
        InputError: if neither the weights that it starts from nor an epoch had a finite validation loss, or what the
            folder holds is damaged.
    """
    if plan.epochs == 0:
        return {}
    steps = len(train)
    compile_stage(model, plan, train.batch_size, class_weights)
    checkpoint = Checkpoint(plan, folder, train)
    checkpoint.set_model(model)
    with (progress or Progress()).step(plan.name, plan.epochs * steps, checkpoint.state["epoch"] * steps) as advance:
        checkpoint.advance = advance
        if not checkpoint.state["done"]:
            checkpoint.restore()
            check = validation.as_input()
            if not checkpoint.state["epoch"]:
                checkpoint.measure_start(check)
            train.start_epoch(
                checkpoint.state["epoch"]
            )  # a backend may look at the first batch before the epoch begins
            callbacks = [checkpoint]
            if plan.tensorboard:
                require("tensorboard", "tensorboard")
                callbacks.append(keras.callbacks.TensorBoard(plan.tensorboard))
            model.fit(
                train.as_input(),
                validation_data=check,
                epochs=plan.epochs,
                initial_epoch=checkpoint.state["epoch"],
                callbacks=callbacks,
                shuffle=False,  # the data set orders itself; Keras would shuffle by a seed that a resumed run lacks
                verbose=0,
            )
            if checkpoint.state["best"] is None:
                raise InputError(f"{plan.name}: no epoch had a finite validation loss. Try a lower learning rate.")
            checkpoint.finish()
        else:
            checkpoint.restore(best=True)
        advance(0, text=checkpoint.describe_best())
    return checkpoint.state["history"]
