"""Result of a comparison: its tables and its summary, in memory and in a folder."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm.errors import ArtefactError, require
from kmm.evaluate.label_source import MINED, say_mined_variants
from kmm.evaluate.output.p_values import show_p
from kmm.experiments.output.size_claims import list_cautions, state_wanted, tabulate_sizes
from kmm.experiments.schema import COMPARISON_SCHEMA
from kmm.experiments.size_curves import CURVES, tabulate_curves
from kmm.experiments.tables import FORMATS, HISTORY, PREDICTIONS, ROWS, Columns, read_csv, write_csv
from kmm.storage.classifier_folder import read_json
from kmm.storage.files import write_json

if TYPE_CHECKING:
    import pandas

COMPARISON, EPOCHS, SUMMARY = "comparison.csv", "history.csv", "summary.json"
LEARNING_CURVE = "learning_curve.csv"
SHOWN = ("roc_auc", "accuracy", "average_precision", "brier")  # metrics of the table that is printed
WIDTH = 140
DIFFERENCES = (
    "differences on the studies of both models: corrected resampled t-test (Nadeau-Bengio), p adjusted by Holm"
)
TESTED_ONCE = "differences of ROC AUC on studies tested once: DeLong's test, which takes the models as fixed"


@dataclass(frozen=True, repr=False)
class Comparison:
    """Models and baselines on many splits. It prints as the table of `kmm compare`.

    Attributes:
        folder: Path of its folder.
        rows: columns of `comparison.csv`, a row per number.
        predictions: columns of `predictions.csv`, a row per study, model and label.
        history: columns of `history.csv`, a row per stage, epoch and metric.
        summary: dict for JSON: means over splits, differences and their tests; docs/compare.md describes it.
    """

    folder: Path
    rows: Columns
    predictions: Columns
    history: Columns
    summary: dict[str, Any] = field(default_factory=dict)

    def save(self, *, predictions: str = "csv") -> None:
        """Writes the tables and the summary into the folder.

        Args:
            predictions: str, a key of `FORMATS`. A table of predictions in another format is removed.
        """
        write_csv(self.folder / COMPARISON, self.rows, ROWS)
        write_csv(self.folder / EPOCHS, self.history, HISTORY)
        FORMATS[predictions].write(self.folder / f"predictions.{predictions}", self.predictions, PREDICTIONS)
        for other in set(FORMATS) - {predictions}:
            (self.folder / f"predictions.{other}").unlink(missing_ok=True)
        if sizes := self.summary.get("sizes"):
            write_csv(self.folder / LEARNING_CURVE, tabulate_curves(sizes), CURVES)
        else:
            (self.folder / LEARNING_CURVE).unlink(missing_ok=True)
        write_json(self.folder / SUMMARY, {"schema": COMPARISON_SCHEMA, **self.summary})

    @classmethod
    def load(cls, folder: Path | str) -> "Comparison":
        """Reads a comparison from its folder.

        Raises:
            ArtefactError: if a file is missing.
        """
        folder = Path(folder)
        formats = [name for name in FORMATS if (folder / f"predictions.{name}").is_file()]
        if not (folder / COMPARISON).is_file() or not (folder / SUMMARY).is_file() or not formats:
            raise ArtefactError(
                f"{folder} holds no complete comparison. Run the same `kmm compare` again to finish it."
            )
        return cls(
            folder,
            read_csv(folder / COMPARISON, ROWS),
            FORMATS[formats[0]].read(folder / f"predictions.{formats[0]}", PREDICTIONS),
            read_csv(folder / EPOCHS, HISTORY),
            {name: value for name, value in read_json(folder / SUMMARY).items() if name != "schema"},
        )

    def to_frame(self) -> "pandas.DataFrame":
        """Returns the rows as a pandas frame.

        Raises:
            MissingPackageError: if pandas is not installed.
        """
        return require("pandas", "pandas").DataFrame(dict(self.rows))

    def as_dict(self) -> dict[str, Any]:
        """Returns the summary as `kmm compare --json` writes it."""
        return {"schema": COMPARISON_SCHEMA, "folder": str(self.folder), **self.summary}

    def __str__(self) -> str:
        return render_summary(self.summary)

    def __repr__(self) -> str:
        return str(self)


def render_summary(summary: Mapping[str, Any], *, terminal: bool = False) -> str:
    """Writes the means over splits, the claims and the learning curves as tables.

    Args:
        summary: dict of `kmm.experiments.statistics.summarize`.
        terminal: bool. Whether to use the width and the styles of the terminal.

    Returns:
        str.
    """
    from rich.console import Console
    from rich.table import Table

    console = Console(file=io.StringIO(), width=None if terminal else WIDTH, force_terminal=terminal, highlight=False)
    several = len(summary["models"]) > 1
    mined = _say_mined(summary)
    table = Table(title=f"test, {summary['resampling']['description']}: mean (95 % interval over splits){mined}")
    for name in [*(["variant"] if several else []), "model", *SHOWN]:
        table.add_column(name)
    for variant, models in summary["models"].items():
        for model, metrics in models.items():
            cells = [_show_mean(metrics.get(metric)) for metric in SHOWN]
            table.add_row(*([variant] if several else []), model, *cells)
    for row in summary["published"]:
        if not row["printed"]:
            continue
        cells = [f"{row['value']:.2f}" if row["metric"] == metric else "" for metric in SHOWN]
        table.add_row(*([""] if several else []), f"published: {row['model']} ({row['what']})", *cells, style="dim")
    console.print(table)
    console.print(_list_claims(summary["differences"], several, mined))
    if summary.get("pooled") and len(summary["labels"]) == 1:
        console.print(_list_claims(_flatten_pooled(summary["pooled"]), several, mined, title=TESTED_ONCE))
    if summary.get("sizes"):
        _print_sizes(console, summary)
    for line in summary["reduced"]:
        console.print(f"note: {line}", markup=False)
    return console.file.getvalue()  # type: ignore[attr-defined]


def _say_mined(summary):
    """Says for a title which variants read the words that their labels were made from."""
    said = say_mined_variants(summary.get(MINED) or {})
    return f"; {said}" if said else ""


def _print_sizes(console, summary):
    """Prints the area under the ROC curve of each model by size, and what a wanted one would take."""
    from rich.table import Table

    for title, head, rows in tabulate_sizes(summary):
        table = Table(title=title + _say_mined(summary))
        for name in head:
            table.add_column(name)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in [*state_wanted(summary), *list_cautions(summary)]:
        console.print(line, markup=False)


def _flatten_pooled(pooled):
    """Returns the tests of mean areas in the form of differences across splits."""
    place = {"metric": "roc_auc", "label": "macro"}
    return [{**row, **row["mean_auc"], **place, "first": row["first"], "second": row["second"]} for row in pooled]


def _list_claims(differences, several, mined, title=DIFFERENCES):
    from rich.table import Table

    table = Table(title=title + mined)
    for name in ("difference", "metric", *(["variant"] if several else []), "mean", "95 % interval", "p", "p (Holm)"):
        table.add_column(name)
    for row in differences:
        if row["label"] != "macro":
            continue
        against = row["second"] if row["against"] is None else f"{row['second']} of {row['against']}"
        variant = [row["variant"]] if several else []
        ends = "-" if row["interval"] is None else "{:+.3f} to {:+.3f}".format(*row["interval"])
        mean = "-" if row["difference"] is None else f"{row['difference']:+.3f}"
        ps = [show_p(row[name]) for name in ("p", "p_holm")]
        table.add_row(f"{row['first']} - {against}", row["metric"], *variant, mean, ends, *ps)
    return table


def _show_mean(found):
    if not found or found["mean"] is None:
        return "-"
    ends = found["interval"]
    return f"{found['mean']:.3f}" + ("" if ends is None else f" ({ends[0]:.3f} to {ends[1]:.3f})")
