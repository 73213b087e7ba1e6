"""Predictions of studies, the same types from a local classifier and from a server."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from kmm.errors import require

if TYPE_CHECKING:
    import pandas

MOST_SHOWN = 10  # studies that `repr` lists
ABSTAIN = "abstain"  # in place of a decision
FIELDS = ("probability", "threshold", "decision")  # columns of each label in a frame


@dataclass(frozen=True)
class Prediction:
    """The prediction of one study.

    Attributes:
        probabilities: dict of label name to calibrated probability.
        logits: dict of label name to score, before calibration.
        thresholds: dict of label name to the probability at or above which the label is positive.
        decisions: dict of label name to bool: whether the probability is at or above the threshold; `"abstain"` if
            validation does not support a decision at the error level that was asked for.
        model: str. Name of the served model; None from a local classifier.
        version: int. Version of the served model that answered; None from a local classifier.
        sets: dict of label name to the classes (0, 1) that validation does not rule out at that error level: none, one
            or both; None if no error level was asked for.

    Example:
        >>> prediction = Prediction({"mass": 0.8}, {"mass": 1.4}, {"mass": 0.5}, {"mass": True})
        >>> prediction.as_dict()["decisions"]
        {'mass': True}
        >>> prediction
        <Prediction mass 0.800 (positive)>
    """

    probabilities: dict[str, float]
    logits: dict[str, float]
    thresholds: dict[str, float]
    decisions: dict[str, bool | str]
    model: str | None = None
    version: int | None = None
    sets: dict[str, list[int]] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns the prediction as a JSON-compatible dict."""
        return asdict(self)

    def to_frame(self) -> "pandas.DataFrame":
        """Returns a pandas frame with a row per label: `label`, `probability`, `threshold`, `decision`.

        Raises:
            MissingPackageError: if pandas is not installed.
        """
        rows = [
            {
                "label": name,
                "probability": value,
                "threshold": self.thresholds[name],
                "decision": self.decisions[name],
            }
            for name, value in self.probabilities.items()
        ]
        return require("pandas", "pandas").DataFrame(rows)

    def __repr__(self) -> str:
        labels = (
            f"{name} {value:.3f} ({_name_decision(self.decisions[name])})" for name, value in self.probabilities.items()
        )
        return f"<Prediction {', '.join(labels)}>"


class Predictions(Sequence[Prediction]):
    """The predictions of many studies: a sequence of `Prediction` that prints as a table.

    Args:
        predictions: iterable of `Prediction` with the same labels.
        studies: sequence of str, the ids of the studies; their numbers from 0 if there are none.
        problems: sequence of `kmm.data.study.Problem`: studies that could not be predicted, and have no row; and files
            that others lack.
        labels: sequence of str, the names of the labels; those of the predictions if there are none.

    Example:
        >>> one = Prediction({"mass": 0.8}, {"mass": 1.4}, {"mass": 0.5}, {"mass": True})
        >>> found = Predictions([one, one], ["a", "b"])
        >>> found.probabilities.tolist(), found[1] == one, len(found[:1])
        ([[0.8], [0.8]], True, 1)
        >>> found
        study  mass
        a      0.800 *
        b      0.800 *
        2 predictions; * at or above the label's threshold
    """

    def __init__(
        self,
        predictions: Iterable[Prediction],
        studies: Sequence[str] = (),
        problems: Sequence[Any] = (),
        labels: Sequence[str] = (),
    ) -> None:
        self._rows = tuple(predictions)
        self._labels = tuple(labels) or (tuple(self._rows[0].probabilities) if self._rows else ())
        self.studies = tuple(studies) or tuple(map(str, range(len(self._rows))))
        self.problems = tuple(problems)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the labels, in the order of the columns."""
        return self._labels

    @property
    def probabilities(self) -> np.ndarray:
        """The calibrated probabilities, float64 `(n, n_labels)`."""
        return self._gather("probabilities", np.float64)

    @property
    def logits(self) -> np.ndarray:
        """The scores before calibration, float64 `(n, n_labels)`."""
        return self._gather("logits", np.float64)

    @property
    def thresholds(self) -> np.ndarray:
        """The thresholds by which of film and report each study has, float64 `(n, n_labels)`."""
        return self._gather("thresholds", np.float64)

    @property
    def decisions(self) -> np.ndarray:
        """Whether each probability is at or above its threshold, bool `(n, n_labels)`.

        If an error level was asked for, an object array of True, False and `"abstain"`.
        """
        return self._gather("decisions", bool if all(row.sets is None for row in self._rows) else object)

    def to_frame(self) -> "pandas.DataFrame":
        """Returns a pandas frame with a row per study: `study`, and for each label `probability:<label>`,
        `threshold:<label>` and `decision:<label>`.

        Raises:
            MissingPackageError: if pandas is not installed.
        """
        columns: dict[str, Any] = {"study": list(self.studies)}
        tables = dict(zip(FIELDS, (self.probabilities, self.thresholds, self.decisions), strict=True))
        for place, name in enumerate(self.labels):
            columns |= {f"{field}:{name}": table[:, place] for field, table in tables.items()}
        return require("pandas", "pandas").DataFrame(columns)

    def _gather(self, name, kind):
        rows = [[getattr(row, name)[label] for label in self.labels] for row in self._rows]
        return np.array(rows, kind).reshape(len(self._rows), len(self.labels))

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self._rows)

    @overload
    def __getitem__(self, place: int) -> Prediction: ...
    @overload
    def __getitem__(self, place: slice) -> "Predictions": ...
    def __getitem__(self, place: int | slice) -> "Prediction | Predictions":
        if isinstance(place, slice):
            return Predictions(self._rows[place], self.studies[place], self.problems, self._labels)
        return self._rows[place]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and not isinstance(other, str) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Returns a table of at most `MOST_SHOWN` studies, without reports."""
        shown = [
            [study, *(show_decision(value, row.decisions[name]) for name, value in row.probabilities.items())]
            for study, row in zip(self.studies[:MOST_SHOWN], self._rows)
        ]
        cells = [["study", *self.labels], *shown] if shown else []
        widths = [max(map(len, column)) for column in zip(*cells)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
        more = f", {len(self) - MOST_SHOWN} not shown" if len(self) > MOST_SHOWN else ""
        aside = f", {_count_problems(self.problems)}: see .problems" if self.problems else ""
        star = f"; {explain_marks(row.decisions for row in self._rows)}" if shown else ""
        noun = "prediction" if len(self) == 1 else "predictions"
        return "\n".join([*lines, f"{len(self)} {noun}{more}{aside}{star}"])


def show_decision(probability: float, decision: bool | str) -> str:
    """Returns a probability with the mark of its decision: a star if positive, a question mark if there is none.

    Example:
        >>> show_decision(0.8, True), show_decision(0.2, False), show_decision(0.5, ABSTAIN)
        ('0.800 *', '0.200', '0.500 ?')
    """
    return f"{probability:.3f}{' ?' if decision == ABSTAIN else ' *' if decision else ''}"


def explain_marks(decisions: Iterable[Mapping[str, bool | str]]) -> str:
    """Returns what the marks of a table of `show_decision` mean, as far as they can occur in it.

    Example:
        >>> explain_marks([{"mass": True}, {"mass": ABSTAIN}])
        "* at or above the label's threshold, ? undecided"
    """
    undecided = any(ABSTAIN in row.values() for row in decisions)
    return f"* at or above the label's threshold{', ? undecided' if undecided else ''}"


def _name_decision(decision):
    return "undecided" if decision == ABSTAIN else "positive" if decision else "negative"


def _count_problems(problems):
    """Counts the studies that were set aside, and those that only lack a file; a study may have several problems."""
    aside = {problem.source for problem in problems if problem.source.startswith("study ")}
    lacking = {problem.study for problem in problems if problem.kept_on and f"study {problem.study}" not in aside}
    counts = ((len(aside), "set aside"), (len(lacking), "without a file"))
    found = [f"{count} {'study' if count == 1 else 'studies'} {what}" for count, what in counts if count]
    return ", ".join(found) or f"{len(problems)} problem{'' if len(problems) == 1 else 's'}"
