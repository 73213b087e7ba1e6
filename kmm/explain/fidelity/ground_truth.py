"""Known findings of studies: boxes on films and words in reports, sorted by the labels of a model."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kmm.data.study import Study
from kmm.data.tabular.rows import read_rows, show_columns
from kmm.errors import ImageError, InputError
from kmm.explain.explanation import Explanation
from kmm.explain.fidelity.boxes import Box, place_boxes

# Normalised names of one finding: ChestX-ray14's table of boxes has Infiltrate, its table of labels Infiltration; MeSH
# names the place of effusion and atelectasis.
ALIASES = {
    "infiltrate": "infiltration",
    "pleural effusion": "effusion",
    "pulmonary atelectasis": "atelectasis",
}


@dataclass(frozen=True)
class Naming:
    """The words of a report that name its finding.

    Attributes:
        findings: tuple of str: the findings that the words name; empty if the table does not say.
        words: frozenset of str.
    """

    findings: tuple[str, ...]
    words: frozenset[str]


@dataclass(frozen=True)
class Truth:
    """Known boxes and words of studies, for the labels of one model. `make_truth` makes it from tables.

    Attributes:
        boxes: dict of image file name to dict of label to list of `Box`; empty if none are known.
        words: dict of study id to dict of label to set of str: the words of its report that name the label.
    """

    boxes: Mapping[str, Mapping[str, list[Box]]] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, set[str]]] = field(default_factory=dict)

    def has_box(self, study: Study) -> bool:
        """Returns whether a box lies on the film of a study."""
        return bool(self._on_film(study))

    def knows(self, study: Study) -> bool:
        """Returns whether a box lies on the film of a study, or words of its report are known to name a label."""
        return self.has_box(study) or study.id in self.words

    def target_of(self, study: Study) -> str | None:
        """Returns the label to explain: that of the first box on the film, else that named by words, else None."""
        return next(iter({**self._on_film(study), **self.words.get(study.id, {})}), None)

    def of_film(self, explanation: Explanation) -> list[Box]:
        """Returns the boxes of the explained label on the film of an explanation, empty if there are none.

        Tables give boxes in pixels of the film's file. If those are not square, the boxes are converted to the square
        pixels of `explanation.film`, in which its regions are.

        Raises:
            InputError: if a box ends beyond the film.
        """
        if explanation.film is None or explanation.image is None:
            return []
        boxes = self.boxes.get(Path(explanation.image).name, {}).get(explanation.target, [])
        return place_boxes(boxes, explanation.film.shape, explanation.pixel_scale, explanation.image)

    def of_report(self, explanation: Explanation) -> set[str]:
        """Returns the words that name the explained label in the report of an explanation, empty if unknown."""
        return self.words.get(explanation.study, {}).get(explanation.target, set())

    def check_films(
        self,
        studies: Iterable[Study],
        read_film: Callable[[Study], np.ndarray | None],
        find_scale: Callable[[Study], tuple[float, float]] | None = None,
    ) -> None:
        """Checks that boxes lie on their films, before anything is explained.

        Args:
            studies: sequence of `Study`.
            read_film: function of a `Study` that returns its film, for example `BatchMaker.film`. A film that cannot be
                read is skipped here; explaining it reports the error.
            find_scale: function of a `Study` that returns the pixel scale of its film, as
                `kmm.image.pixel_aspect.find_pixel_scale` does; None: pixels are square.

        Raises:
            InputError: if a box ends beyond its film.
        """
        for study in studies:
            boxes = [box for found in self._on_film(study).values() for box in found]
            try:
                film = read_film(study) if boxes else None
                scale = find_scale(study) if find_scale and film is not None else (1.0, 1.0)
            except ImageError:
                continue
            if film is not None and study.frontal:
                place_boxes(boxes, film.shape, scale, study.frontal.path)

    def _on_film(self, study):
        return self.boxes.get(study.frontal.path.name, {}) if study.frontal else {}


NOTHING_KNOWN = Truth()


def make_truth(
    labels: Sequence[str],
    *,
    boxes: Mapping[str, Sequence[Box]] | None = None,
    words: Mapping[str, Naming] | None = None,
    target: str | None = None,
) -> Truth:
    """Sorts boxes and naming words from tables by the labels of a model; findings without a label are left out.

    A finding belongs to the label of the same name, ignoring case, underscores and `ALIASES`. If a model has a single
    label that the table does not name, as with normal and abnormal, every finding belongs to that label.

    Args:
        labels: tuple of str, the labels of the model.
        boxes: dict of image file name to list of `Box`, from `read_boxes`, or None.
        words: dict of study id to `Naming`, from `read_naming_words`, or None. Words that name findings of several
            labels are left out.
        target: str or None. The only label to explain; None: all labels.

    Returns:
        `Truth`.

    Raises:
        InputError: if the target is not a label, a table has no finding of the labels, or the model has several labels
            and the table of words does not say which finding they name.

    Example:
        >>> from kmm.explain.fidelity.boxes import Box
        >>> boxes = {"1.png": [Box("Mass", 5, 6, 20, 30), Box("Effusion", 0, 0, 9, 9)]}
        >>> list(make_truth(("mass", "edema"), boxes=boxes).boxes["1.png"])
        ['mass']
    """
    if target is not None and target not in labels:
        raise InputError(f"`target` must be a label of the model: {', '.join(labels)}. Received: {target}.")
    wanted = (target,) if target else labels
    return Truth(_sort_boxes(boxes or {}, labels, wanted), _sort_words(words or {}, labels, wanted))


def match_findings(findings: Iterable[str], labels: Sequence[str]) -> dict[str, str]:
    """Matches findings to the labels of a model, by the rules of `make_truth`.

    Args:
        findings: iterable of str: all findings in a table.
        labels: tuple of str.

    Returns:
        dict of finding to label, findings of no label left out.

    Example:
        >>> match_findings(["Infiltrate", "Mass"], ("Infiltration", "Edema")), match_findings(["Mass"], ("abnormal",))
        ({'Infiltrate': 'Infiltration'}, {'Mass': 'abnormal'})
    """
    findings, own = list(findings), {_normalise(label): label for label in labels}
    found = {finding: own[_normalise(finding)] for finding in findings if _normalise(finding) in own}
    return dict.fromkeys(findings, labels[0]) if len(labels) == 1 and not found else found


def _normalise(finding):
    name = " ".join(finding.replace("_", " ").lower().split())
    return ALIASES.get(name, name)


def _sort_boxes(boxes, labels, wanted):
    findings = dict.fromkeys(box.finding for found in boxes.values() for box in found)
    labels_of, sorted_boxes = match_findings(findings, labels), {}
    for film, found in boxes.items():
        for box in found:
            if (label := labels_of.get(box.finding)) in wanted:
                sorted_boxes.setdefault(film, {}).setdefault(label, []).append(box)
    if boxes and not sorted_boxes:
        raise InputError(f"Expected boxes of {', '.join(wanted)}. Found boxes of {show_columns(list(findings))}.")
    return sorted_boxes


def _sort_words(words, labels, wanted):
    findings = dict.fromkeys(finding for naming in words.values() for finding in naming.findings)
    if words and not findings and len(labels) > 1:
        raise InputError(
            f"A model of {len(labels)} labels needs the column finding in the table of words, which is missing or "
            "empty. It says which finding the words name."
        )
    labels_of, sorted_words = match_findings(findings, labels), {}
    for study, naming in words.items():
        named = {labels_of.get(finding) for finding in naming.findings} if findings else {labels[0]}
        if len(named) == 1 and (label := next(iter(named))) in wanted:
            sorted_words[study] = {label: set(naming.words)}
    if words and not sorted_words:
        raise InputError(
            f"Expected words that name {', '.join(wanted)}. Found words of {show_columns(list(findings))}."
        )
    return sorted_words


def read_naming_words(path: Path | str) -> dict[str, Naming]:
    """Reads the words that name the finding of each report from a table.

    Args:
        path: path of a CSV with the columns `uid` (id of the study), `words` (separated by white space) and, for a
            model of several labels, `finding` (the finding that they name; several separated by `|`), like the phantom
            set's `phantom_truth.csv`.

    Returns:
        dict of study id to `Naming`, without studies that have no words.

    Raises:
        InputError: if the file cannot be read, is not a CSV, lacks a column or has an incomplete row. The error quotes
            no cell.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "words.csv")
        ...     _ = path.write_text("uid,finding,words\\n7,Nodule,nodule nodular\\n8,,\\n")
        ...     found = read_naming_words(path)
        >>> list(found), found["7"].findings, sorted(found["7"].words)
        (['7'], ('Nodule',), ['nodular', 'nodule'])
    """
    path = Path(path)
    _, rows, problems = read_rows(path, ("uid", "words"))
    if problems:
        raise InputError(f"{path.with_name(problems[0].source)}: {problems[0].reason}")
    return {
        row["uid"].strip(): Naming(
            tuple(part.strip() for part in row.get("finding", "").split("|") if part.strip()),
            frozenset(row["words"].split()),
        )
        for _, row in rows
        if row["words"].split()
    }
