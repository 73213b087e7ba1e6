"""Measures of two models on the studies on which both were measured: a model of films has none for a study without."""

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

    def measure(self, split: str, first: Model, second: Model, metric: str, label: str) -> tuple[float, float]:
        """Measures two models of a split on the test studies of both.

        Args:
            split: str, as in the table.
            first, second: variant and model.
            metric: str, a key of `kmm.evaluate.metrics.METRICS`.
            label: str; `macro` for the mean over the labels of each model.

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
        one, other = (self._measure(side, studies, metric, label) for side in sides)
        return one, other

    def _measure(self, side, studies, metric, label):
        values = []
        for name, places in side.items():
            if label in (MACRO, name):
                rows = [row for study, row in places.items() if study in studies]
                columns = (self.predictions[column][rows] for column in ("truth", "probability", "threshold"))
                truth, probability, threshold = columns
                values.append(score_labels(truth, probability, threshold[:, None])[metric])
        defined = [value for value in values if value is not None]
        return float(np.mean(defined)) if defined else np.nan


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
