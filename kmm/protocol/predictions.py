"""The prediction of one study, the same type from a local classifier and from a server."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Prediction:
    """The prediction of one study.

    Attributes:
        probabilities: dict of label name to calibrated probability.
        logits: dict of label name to score, before calibration.
        thresholds: dict of label name to the probability at or above which the label is positive.
        decisions: dict of label name to bool: whether the probability is at or above the threshold.
        model: str. Name of the served model; None from a local classifier.
        version: int. Version of the served model that answered; None from a local classifier.

    Example:
        >>> Prediction({"mass": 0.8}, {"mass": 1.4}, {"mass": 0.5}, {"mass": True}).as_dict()["decisions"]
        {'mass': True}
    """

    probabilities: dict[str, float]
    logits: dict[str, float]
    thresholds: dict[str, float]
    decisions: dict[str, bool]
    model: str | None = None
    version: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the prediction as a JSON-compatible dict."""
        return asdict(self)
