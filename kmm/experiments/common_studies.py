"""Measures of two models on the studies and labels of both: a model of films has none for a study without a film."""

from collections import defaultdict

import numpy as np

from kmm.evaluate.metrics import score_labels
from kmm.experiments.schema import MACRO
from kmm.experiments.tables import Columns

Model = tuple[str, str]  # variant and model
PLACE = ("split", "variant", "part", "model", "label")


class CommonStudies:
    """Finds, split by split, the test studies that two models share, and measures both on them alone.

    Args:
        predictions: columns of `predictions.csv`.
    """

    def __init__(self, predictions: Columns) -> None:
        self.predictions = predictions
        self._places: dict[tuple[str, str, str], dict[str, dict[str, int]]] = defaultdict(dict)
        for (split, variant, part, model, label), start, end in _find_blocks(predictions):
            if part == "test":
                studies = predictions["study"][start:end].tolist()
                known = self._places[split, variant, model].setdefault(label, {})
                known.update(zip(studies, range(start, end), strict=True))

    def differ(self, split: str, first: Model, second: Model) -> bool:
        """Returns whether two models of a split were measured on different studies; False if one has no predictions."""
        one, other = (self._places.get((split, *model)) for model in (first, second))
        return bool(one and other) and _list_studies(one) != _list_studies(other)

    def share_labels(self, split: str, first: Model, second: Model) -> list[str] | None:
        """Lists the labels that two models of a split share.

        Returns:
            list of str in the order of the first model; None if both have the same labels, or one has no predictions.
        """
        one, other = (self._places.get((split, *model)) for model in (first, second))
        if not one or not other or one.keys() == other.keys():
            return None
        return [label for label in one if label in other]

    def measure(self, split: str, first: Model, second: Model, metric: str, label: str) -> tuple[float, float]:
        """Measures two models of a split on the test studies of both.

        Args:
            split: str, as in the table.
            first, second: variant and model.
            metric: str, a key of `kmm.evaluate.metrics.METRICS`.
            label: str; `macro` for the mean over the labels that both models have and for which the metric of both is
                defined.

        Returns:
            the values of the first and the second model; NaN where undefined.

        Example:
            >>> from kmm.experiments.tables import PREDICTIONS, make_columns
            >>> place = {"split": "1", "variant": "", "part": "test", "label": "a", "patient": "", "has_report": 1}
            >>> place |= {"has_image": 1, "threshold": 0.5, "study": ["1", "2"], "truth": [0, 1]}
            >>> both = make_columns(PREDICTIONS, {**place, "model": "joint", "probability": [0.9, 0.8]})
            >>> film = make_columns(PREDICTIONS, {**place, "model": "image", "probability": [0.2, 0.4]})
            >>> table = {name: np.append(both[name], film[name][1:]) for name in both}
            >>> CommonStudies(table).measure("1", ("", "joint"), ("", "image"), "accuracy", "a")
            (1.0, 0.0)
        """
        sides = [self._places[split, *model] for model in (first, second)]
        studies = _list_studies(sides[0]) & _list_studies(sides[1])
        names = [name for name in sides[0] if name in sides[1] and label in (MACRO, name)]
        pairs = np.array([[self._measure(side[name], studies, metric) for side in sides] for name in names])
        defined = pairs[~np.isnan(pairs).any(axis=1)] if names else pairs
        if not len(defined):
            return np.nan, np.nan
        one, other = defined.mean(axis=0).tolist()
        return one, other

    def _measure(self, places, studies, metric):
        rows = [row for study, row in places.items() if study in studies]
        columns = (self.predictions[column][rows] for column in ("truth", "probability", "threshold"))
        truth, probability, threshold = columns
        value = score_labels(truth, probability, threshold[:, None])[metric]
        return np.nan if value is None else value


def _list_studies(side):
    """Returns the studies of a model; it is measured on the same ones for every label."""
    return next(iter(side.values())).keys()


def _find_blocks(predictions):
    """Iterates over the runs of rows with one split, variant, part, model and label: its names, first row and end."""
    count = len(predictions["study"])
    if not count:
        return
    changes = np.zeros(count, bool)
    changes[0] = True
    for name in PLACE:
        changes[1:] |= predictions[name][1:] != predictions[name][:-1]
    starts = np.flatnonzero(changes)
    for start, end in zip(starts, np.append(starts[1:], count), strict=True):
        yield tuple(str(predictions[name][start]) for name in PLACE), int(start), int(end)
