"""The results of an evaluation, as a notebook uses them: a table, a frame, and pictures."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kmm.errors import look_up, require
from kmm.evaluate.compare import ROWS
from kmm.evaluate.decisions.operating_points import COUNTS
from kmm.evaluate.metrics import METRICS
from kmm.evaluate.output import plots
from kmm.evaluate.output.decision_plot import plot_decision_curve
from kmm.evaluate.output.tables import write_results_table
from kmm.storage.results import add_schema, write_with_schema

if TYPE_CHECKING:
    import pandas

BRACKETS = "brackets: 95 % bootstrap interval over patients"
WILSON = "brackets: 95 % Wilson interval"
BARS = "bars: 95 % Wilson interval"


class Picture(bytes):
    """The bytes of a PNG, which a notebook shows."""

    def _repr_png_(self) -> bytes:
        return bytes(self)

    def __repr__(self) -> str:
        return f"<Picture of {len(self)} bytes>"


@dataclass(frozen=True)
class Curves:
    """Labels, probabilities and thresholds of each row of the results of one part, from which its plots are drawn."""

    curves: dict[str, tuple[np.ndarray, np.ndarray]]
    thresholds: dict[str, np.ndarray]


@dataclass(frozen=True, repr=False)
class Results:
    """The results of `Classifier.evaluate`: prints as the table of `kmm evaluate`.

    Attributes:
        parts: dict of part (`validation`, `test`, `unverified`) to its result, as in `docs/results.md`; a part without
            studies is absent.
        labels: tuple of the names of the labels.
        notes: tuple of str: which studies were left out, and what to keep in mind.
        problems: tuple of `kmm.data.study.Problem`: studies that could not be used.
    """

    parts: Mapping[str, Mapping[str, Any]]
    labels: tuple[str, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[Any, ...] = ()
    _curves: Mapping[str, Curves] = field(default_factory=dict)

    @property
    def caution(self) -> str:
        """Why the results may be too good; empty if there is no reason to think so."""
        return next((result["caution"] for result in self.parts.values() if "caution" in result), "")

    def as_dict(self) -> dict[str, Any]:
        """Returns the results as `kmm evaluate --json` writes them."""
        return add_schema(self.parts)

    def save(self, path: Path | str) -> None:
        """Writes the results as JSON, as `kmm evaluate --json` does."""
        write_with_schema(path, self.parts)

    def to_frame(self) -> "pandas.DataFrame":
        """Returns a pandas frame with a row per part, model and label.

        Columns: `part`, `model` (a name in `kmm.evaluate.compare.ROWS`), `label`, `n`, `n_positive`, each metric with
        the ends of its interval, as `roc_auc`, `roc_auc_low` and `roc_auc_high`, the confusion counts `tp`, `fp`, `tn`
        and `fn` at the stored thresholds, and the predictive values `ppv` and `npv` with the ends of their intervals.

        Raises:
            MissingPackageError: if pandas is not installed.
        """
        return require("pandas", "pandas").DataFrame(self.to_records())

    def to_records(self) -> list[dict[str, Any]]:
        """Returns the rows of `to_frame` as a list of dicts."""
        return [
            {"part": part, "model": model, "label": label, **_flatten(found, result[model])}
            for part, result in self.parts.items()
            for model in ROWS
            if result.get(model) is not None
            for label, found in result[model].get("per_label", {self.labels[0]: result[model]}).items()
        ]

    def plot_roc(self, path: Path | str | None = None, *, part: str | None = None) -> Path | Picture:
        """Plots sensitivity against 1 - specificity, with the area of each model and its interval.

        Args:
            path: of the PNG, SVG or PDF file to write; None returns a picture that a notebook shows.
            part: str, the part that is drawn; None for the last: test studies, where there are any.

        Returns:
            Path of the file, or `Picture`.

        Raises:
            InputError: if the part was not measured, or the suffix of the file is unknown.
        """
        return self._draw(plots.plot_roc, path, part, BRACKETS, intervals="roc_auc")

    def plot_precision_recall(self, path: Path | str | None = None, *, part: str | None = None) -> Path | Picture:
        """Plots precision against recall, with the average precision of each model and its interval; as `plot_roc`."""
        return self._draw(plots.plot_precision_recall, path, part, BRACKETS, intervals="average_precision")

    def plot_calibration(self, path: Path | str | None = None, *, part: str | None = None) -> Path | Picture:
        """Plots the fraction of positives against the probability, with intervals as bars; as `plot_roc`."""
        return self._draw(plots.plot_calibration, path, part, BARS)

    def plot_confusion(self, path: Path | str | None = None, *, part: str | None = None) -> Path | Picture:
        """Plots the confusion matrix at the stored thresholds, with sensitivity and specificity; as `plot_roc`."""
        part = self._choose_part(part)
        return self._draw(plots.plot_confusion, path, part, WILSON, thresholds=self._curves[part].thresholds)

    def plot_decision_curve(self, path: Path | str | None = None, *, part: str | None = None) -> Path | Picture:
        """Plots the net benefit of acting on each model, beside acting on every study and on none; as `plot_roc`."""
        return self._draw(plot_decision_curve, path, part, "dotted: all studies treated, and none")

    def _choose_part(self, part):
        if part is None:
            return list(self.parts)[-1]
        look_up(self.parts, part, "part of the results")
        return part

    def _draw(self, plot: Callable[..., Path], path, part, meaning, *, intervals=None, **given):
        part = self._choose_part(part)
        result = self.parts[part]
        positive = "positive" if len(self.labels) == 1 else "positive labels"
        given["caption"] = f"{part}: n = {result['n']} ({result['n_positive']} {positive}); {meaning}"
        if intervals:
            given["intervals"] = {
                name: _list_intervals(result[name], intervals, self.labels) for name in self._curves[part].curves
            }
        curves = self._curves[part].curves
        if path is not None:
            return plot(curves, Path(path), label_names=self.labels, **given)
        with tempfile.TemporaryDirectory() as folder:
            return Picture(plot(curves, Path(folder, "plot.png"), label_names=self.labels, **given).read_bytes())

    def __str__(self) -> str:
        return "\n".join([*self.notes, write_results_table(self.parts).rstrip()])

    def __repr__(self) -> str:
        return str(self)


def _flatten(found: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Flattens the numbers of one label: counts, and each metric with the ends of its interval."""
    flat = {name: found.get(name, row.get(name)) for name in ("n", "n_positive")}
    for metric in METRICS:
        between: Sequence[float | None] = (found.get("intervals") or {}).get(metric) or (None, None)
        flat |= {metric: found.get(metric), f"{metric}_low": between[0], f"{metric}_high": between[1]}
    point = found.get("operating_point") or {}
    flat |= {count: point.get(count) for count in COUNTS}
    for rate in ("ppv", "npv"):
        between = (point.get("intervals") or {}).get(rate) or (None, None)
        flat |= {rate: point.get(rate), f"{rate}_low": between[0], f"{rate}_high": between[1]}
    return flat


def _list_intervals(row, metric, labels):
    """Returns a dict of label to the interval of a metric, or None; a plot of one label names it or leaves it empty."""
    singles = row.get("per_label") or {labels[0]: row}
    return {label: (found.get("intervals") or {}).get(metric) for label, found in singles.items()}
