"""Monitors: what of the validation decides which epoch of a stage is kept, one table entry each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from kmm.models.curve_metrics import LabelF1

MONITORED = "crossentropy"  # the metric of the loss without weight penalties
F1, AUC = "f1", "roc_auc"  # metrics of `kmm.models.curve_metrics`


@dataclass(frozen=True)
class Monitor:
    """A row of the table `MONITORS`.

    Attributes:
        noun: str. What the value is, in messages.
        value: function of the metrics of validation, a mapping of names to numbers; an epoch of a lower value is
            better. NaN where it is undefined.
        metrics: tuple of functions of the number of labels that make the Keras metrics which it needs besides
            `MONITORED`, the accuracy and the ROC AUC.
    """

    noun: str
    value: Callable[[Mapping[str, float]], float]
    metrics: tuple[Callable[[int], LabelF1], ...] = ()


def _miss_f1_and_auc(metrics):
    """Returns 1 minus the mean of macro F1 and macro ROC AUC."""
    return 1 - (metrics[F1] + metrics[AUC]) / 2


MONITORS = {
    "loss": Monitor("validation loss", lambda metrics: metrics[MONITORED]),
    "f1-auc": Monitor(
        "1 - mean of macro F1 and AUC on validation", _miss_f1_and_auc, (lambda count: LabelF1(count, name=F1),)
    ),
}
