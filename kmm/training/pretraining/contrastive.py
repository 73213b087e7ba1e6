"""Contrastive learning of films and reports: a film should be more like its own report than like those of others.

Sources: ConVIRT, https://arxiv.org/abs/2010.00747; CLIP, https://arxiv.org/abs/2103.00020
"""

from typing import Any

import keras
import numpy as np
from keras import layers, ops

from kmm.models.contrastive import UNITS, LogitScale, compute_infonce, mark_pairs
from kmm.training.stages.fit_stage import choose_steps
from kmm.training.stages.monitors import MONITORED
from kmm.training.stages.optimizers import make_optimizer
from kmm.training.stages.recipe import Stage


@keras.saving.register_keras_serializable(package="kmm")
class ContrastiveLoss(keras.losses.Loss):
    """InfoNCE of the pairs of a batch, see `kmm.models.contrastive.compute_infonce`, with the logits
    `s_ij = film_i . report_j`.

    Pairs with the same report are no negatives of each other: many reports have identical bodies, and a film fits them
    all. Pairs of one patient are none either. They share one of their numbers; a pair without any is no negative.

    Example:
        >>> vectors = np.eye(2, dtype="float32")
        >>> pairs = np.concatenate([vectors, vectors], axis=1)
        >>> loss = ContrastiveLoss(reduction="none")
        >>> [round(float(cost), 4) for cost in loss(np.array([[0.0], [1.0]]), pairs)]  # log(1 + exp(-1))
        [0.3133, 0.3133]
        >>> [float(cost) for cost in loss(np.array([[5.0], [5.0]]), pairs)]  # the same report
        [0.0, 0.0]
    """

    def __init__(self, reduction: str = "sum_over_batch_size", name: str = "contrastive", **options: Any) -> None:
        super().__init__(name=name, reduction=reduction, **options)

    def call(self, numbers: Any, vectors: Any) -> Any:
        """Takes `numbers (n, k)` of reports and patients, NaN for none, and `vectors (n, 2 d)`, those of film and
        report; returns `(n,)`."""
        films, reports = ops.split(ops.cast(vectors, "float32"), 2, axis=-1)
        return compute_infonce(ops.matmul(films, ops.transpose(reports)), *mark_pairs(numbers))


def build_projection(image_size: int, report_size: int, *, units: int = UNITS, seed: int = 0) -> keras.Model:
    """Builds the model that maps vectors of films and reports to the space in which they are compared.

    Args:
        image_size, report_size: int. Dimensions of a film's and of a report's vector.
        units: int. Dimensions of the common space.
        seed: int, which determines its weights.

    Returns:
        `keras.Model` from `{"image_vector": (n, image_size), "report_vector": (n, report_size)}` to
        `(n, 2 * units)`: the vector of the film, of length 1 times the inverse temperature, and that of the report, of
        length 1. The sum of their products is the logit of the pair.
    """
    keras.utils.set_random_seed(seed)
    image = keras.Input((image_size,), name="image_vector")
    report = keras.Input((report_size,), name="report_vector")
    film = layers.BatchNormalization(name="image_scale")(image)
    film = layers.Dense(units, use_bias=False, name="image_projection")(film)
    film = LogitScale(name="scale", dtype="float32")(layers.UnitNormalization(name="film", dtype="float32")(film))
    words = layers.Dense(units, use_bias=False, name="report_projection")(report)
    words = layers.UnitNormalization(name="report", dtype="float32")(words)
    pairs = layers.Concatenate(name="pairs", dtype="float32")([film, words])
    return keras.Model({"image_vector": image, "report_vector": report}, pairs, name="projection")


def compile_contrastive(
    model: keras.Model, stage: Stage, batch_size: int, class_weights: np.ndarray | None = None, steps: int = 1
) -> keras.Model:
    """Compiles a model of pairs with the contrastive loss; arguments as for
    `kmm.training.stages.fit_stage.compile_stage`."""
    model.compile(
        optimizer=make_optimizer(stage, model, steps),
        loss=ContrastiveLoss(reduction="mean_with_sample_weight"),
        weighted_metrics=[keras.metrics.MeanMetricWrapper(ContrastiveLoss(reduction="none"), name=MONITORED)],
        jit_compile="auto" if keras.backend.backend() == "jax" else False,
        steps_per_execution=choose_steps(model, batch_size, stage.epochs * steps),
    )
    return model
