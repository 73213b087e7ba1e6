"""Metrics of learning curves, which Keras computes with the loss: accuracy, F1 and ROC AUC of known labels."""

from typing import Any

import keras
from keras import ops

BINS = 512  # of a probability, in the histograms of the ROC AUC


@keras.saving.register_keras_serializable(package="kmm")
class LabelAccuracy(keras.metrics.Metric):
    """Accuracy of logits at probability 0.5: the mean over labels. Labels that are NaN (unknown) do not count.

    Args:
        label_count: int.
        name: str.
        options: of every `keras.metrics.Metric`.

    Example:
        >>> metric = LabelAccuracy(1)
        >>> metric.update_state([[1.0], [0.0], [float("nan")]], [[2.0], [1.0], [0.0]])
        >>> float(metric.result())
        0.5
    """

    def __init__(self, label_count: int, name: str = "accuracy", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.label_count = label_count
        self.known = self.add_weight(shape=(label_count,), initializer="zeros", name="known")
        self.correct = self.add_weight(shape=(label_count,), initializer="zeros", name="correct")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the studies of a batch: labels and logits `(n, n_labels)`, weights `(n,)`."""
        labels, logits, weights = _prepare(y_true, y_pred, sample_weight)
        hits = ops.cast(ops.equal(logits > 0, labels > 0.5), "float32")
        self.known.assign_add(ops.sum(weights, axis=0))
        self.correct.assign_add(ops.sum(weights * hits, axis=0))

    def result(self) -> Any:
        """Returns the accuracy; NaN if no label is known."""
        defined = ops.cast(self.known > 0, "float32")
        return ops.sum(defined * self.correct / ops.maximum(self.known, 1.0)) / ops.sum(defined)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_count": self.label_count}


@keras.saving.register_keras_serializable(package="kmm")
class LabelF1(keras.metrics.Metric):
    """F1 of logits at probability 0.5: the mean over the labels that have a positive study (macro F1).

    Labels that are NaN (unknown) do not count. A label whose positives are all missed counts as 0.

    Args:
        label_count: int.
        name: str.
        options: of every `keras.metrics.Metric`.

    Example:
        >>> metric = LabelF1(1)
        >>> metric.update_state([[1.0], [1.0], [0.0], [float("nan")]], [[2.0], [-1.0], [1.0], [1.0]])
        >>> float(metric.result())  # one hit, one miss, one false alarm
        0.5
    """

    def __init__(self, label_count: int, name: str = "f1", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.label_count = label_count
        self.hits = self.add_weight(shape=(label_count,), initializer="zeros", name="hits")
        self.positive = self.add_weight(shape=(label_count,), initializer="zeros", name="positive")
        self.called = self.add_weight(shape=(label_count,), initializer="zeros", name="called")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the studies of a batch: labels and logits `(n, n_labels)`, weights `(n,)`."""
        labels, logits, weights = _prepare(y_true, y_pred, sample_weight)
        true, called = ops.cast(labels > 0.5, "float32"), ops.cast(logits > 0, "float32")
        self.hits.assign_add(ops.sum(weights * true * called, axis=0))
        self.positive.assign_add(ops.sum(weights * true, axis=0))
        self.called.assign_add(ops.sum(weights * called, axis=0))

    def result(self) -> Any:
        """Returns the macro F1; NaN if no label has a positive study."""
        defined = ops.cast(self.positive > 0, "float32")
        scores = 2 * self.hits / ops.maximum(self.positive + self.called, 1e-12)
        return ops.sum(defined * scores) / ops.sum(defined)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_count": self.label_count}


@keras.saving.register_keras_serializable(package="kmm")
class LabelAuc(keras.metrics.Metric):
    """ROC AUC of logits, the mean over labels, from histograms of the probabilities: exact but for ties in a bin.

    Args:
        label_count: int.
        name: str.
        options: of every `keras.metrics.Metric`.

    Example:
        >>> metric = LabelAuc(1)
        >>> metric.update_state([[1.0], [0.0], [0.0], [1.0]], [[2.0], [1.0], [-1.0], [0.0]])
        >>> float(metric.result())
        0.75
    """

    def __init__(self, label_count: int, name: str = "roc_auc", **options: Any) -> None:
        super().__init__(name=name, **options)
        self.label_count = label_count
        self.positive = self.add_weight(shape=(label_count, BINS), initializer="zeros", name="positive")
        self.negative = self.add_weight(shape=(label_count, BINS), initializer="zeros", name="negative")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds the studies of a batch: labels and logits `(n, n_labels)`, weights `(n,)`."""
        labels, logits, weights = _prepare(y_true, y_pred, sample_weight)
        places = ops.cast(ops.clip(ops.sigmoid(logits) * BINS, 0, BINS - 1), "int32")
        hits = ops.one_hot(places, BINS, dtype="float32")  # (n, n_labels, BINS)
        self.positive.assign_add(ops.sum(hits * (weights * labels)[..., None], axis=0))
        self.negative.assign_add(ops.sum(hits * (weights * (1 - labels))[..., None], axis=0))

    def result(self) -> Any:
        """Returns the area; NaN if no label has both classes."""
        pairs = ops.sum(self.positive, axis=1) * ops.sum(self.negative, axis=1)
        below = ops.cumsum(self.negative, axis=1) - self.negative / 2
        areas = ops.sum(self.positive * below, axis=1) / ops.maximum(pairs, 1.0)
        defined = ops.cast(pairs > 0, "float32")
        return ops.sum(defined * areas) / ops.sum(defined)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "label_count": self.label_count}


def _prepare(labels, logits, weights):
    """Returns labels without NaN, logits, and weights that are 0 where a label is unknown, all `(n, n_labels)`."""
    labels = ops.cast(ops.convert_to_tensor(labels), "float32")
    logits = ops.cast(ops.convert_to_tensor(logits), "float32")
    known = ops.logical_not(ops.isnan(labels))
    counted = ops.cast(known, "float32")
    if weights is not None:
        counted = counted * ops.reshape(ops.cast(ops.convert_to_tensor(weights), "float32"), (-1, 1))
    return ops.where(known, labels, 0.0), logits, counted
