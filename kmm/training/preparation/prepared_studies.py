"""The studies of a fit: read, labelled, split and checked for leaks, once for any number of runs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

from kmm.batches import BatchMaker, TextPreparation
from kmm.data.given_parts import GivenParts
from kmm.data.labels import (
    audit_headings,
    count_classes,
    describe_audit,
    describe_classes,
    label_studies,
    name_unread_columns,
)
from kmm.data.split import PARTS, Split, check_leaks, count_leaks, load_split, read_parts, restrict_split, split_studies
from kmm.data.study import Collection, Study, part_problems
from kmm.errors import InputError, KmmError
from kmm.image.prepare import ImagePreparation
from kmm.progress import Progress
from kmm.rules.rule_audit import audit_rules, describe_rules
from kmm.rules.rule_scheme import AUDIT, KEPT, find_rules, make_scheme, open_scheme
from kmm.settings import FitSettings
from kmm.text.bert_vocabulary import read_bert_vocabulary
from kmm.text.redaction import read_redaction
from kmm.training.preparation.study_reading import ReadStudies, read_studies

Note = Callable[[str], None]


@dataclass(frozen=True, repr=False)
class PreparedStudies(ReadStudies):
    """The studies of a fit as columns. They never change, so that folds and runs can share them. They can be pickled
    for other processes, which read the films from the same files.

    What depends on a vocabulary, and so on the training part alone, belongs to a run:
    `kmm.training.preparation.token_ids.encode_reports`.

    Attributes:
        maker: `kmm.batches.BatchMaker` without vocabulary; its `label_names` are the labels to train.
        split: `kmm.data.split.Split` of these studies.
        labels: float32 `(n, n_labels)`, NaN where unknown.
        candidates: tuple of str. All labels of the scheme; those with both classes in the training part are trained.
        facts: mapping for JSON: layout and counts, for the provenance of a classifier.
        problems, studies, films, film_digests, sketches, present: see
            `kmm.training.preparation.study_reading.ReadStudies`.
    """

    maker: BatchMaker
    split: Split
    labels: np.ndarray
    candidates: tuple[str, ...]
    facts: Mapping[str, Any]

    def __repr__(self) -> str:
        parts = ", ".join(f"{part} {len(self.rows(part))}" for part in PARTS)
        return f"{super().__repr__()[:-1]}, labels {', '.join(self.maker.label_names)}, {parts})"

    def rows(self, part: str) -> np.ndarray:
        """Returns the int64 row numbers of a part of the split: train, validation or test."""
        wanted = set(self.split.part(part))
        return np.array([row for row, study in enumerate(self.studies) if study.id in wanted], np.int64)

    def take(self, rows: np.ndarray) -> Self:
        """Returns the studies of some rows, an int array, with their labels and parts. No film is read."""
        taken = super().take(rows)
        return replace(taken, labels=self.labels[rows], split=restrict_split(self.split.parts, taken.studies))

    def with_split(
        self, split: Split, *, note: Note | None = None, record_leaks: bool = False, partial: bool = False
    ) -> Self:
        """Returns the same studies with another split, for example of a fold. Labels are chosen for its training part.

        Args:
            split: `Split` that names every study.
            note: callable that takes one line about a label or part that lacks something; see `prepare_studies`.
            record_leaks: bool. Accepts a split that leaks, and counts what leaks as `leaks` in the facts. Results of
                such a split are too optimistic; it is for repeating published ones.
            partial: bool. Accepts a split that leaves studies out; these are in no part. Features of films stay those
                of all studies, so that splits share them.

        Raises:
            LeakError: if a patient, report body or film is in more than one part, unless leaks are recorded.
            InputError: if a study has no part, a part has no studies, or the training part has no film or no label with
                both classes.
        """
        leaks = {"leaks": count_leaks(split, self.studies)} if record_leaks else {}
        if not record_leaks:
            check_leaks(split, self.studies)
        unnamed = [study.id for study in self.studies if study.id not in split.parts]
        if unnamed and not partial:
            raise InputError(f"The split must name every study. It lacks {len(unnamed)}, for example {unnamed[0]}.")
        notify = note or _ignore
        moved = replace(self, split=split, maker=_rename(self.maker, self.candidates))
        for part in ("train", "validation"):  # a test part may be empty
            if not len(moved.rows(part)):
                raise InputError(f"The part {part} of the split has no studies. Give another --split, or more studies.")
        names = _choose_labels(moved, notify)
        maker = _rename(self.maker, names)
        labels = np.array([maker.labels(study) for study in self.studies], np.float32).reshape(-1, len(names))
        parts = {part: len(moved.rows(part)) for part in PARTS}
        chosen = replace(
            moved,
            maker=maker,
            labels=labels,
            facts={**self.facts, "parts": parts, "split_digest": split.digest, **leaks},
        )
        if maker.image:
            _check_films(chosen, notify)
        return chosen


def prepare_studies(
    collection: Collection,
    settings: FitSettings,
    *,
    films: Path | str,
    split: Split | GivenParts | Path | str | None = None,
    progress: Progress | None = None,
) -> PreparedStudies:
    """Labels and reads the studies of a collection, splits them, and checks the split.

    Args:
        collection: `kmm.data.study.Collection`.
        settings: `FitSettings`.
        films: path of the folder of prepared films, shared by all fits.
        split: `Split` or path of a `split.csv` that names every study, or, of a collection with published parts, those
            to use; `GivenParts`, of which the parts that are not given are split at random; None for the published
            parts, completed in the same way and without the studies that make them leak, or else for a random split.
            Studies that cannot be used are left out of it.
        progress: `kmm.progress.Progress`. It notes labels that are left out, and parts that lack films or a class.

    Returns:
        `PreparedStudies`.

    Raises:
        InputError: if the data or settings cannot be used. The `problems` of the error list the unusable studies.
        LeakError: if the split leaks; `problems` likewise.
    """
    progress = progress or Progress()
    known, maker, facts = _label(collection, settings, progress.note)
    published = GivenParts(collection.parts) if collection.parts and split is None else None
    if collection.parts:
        known = _choose_named(known, split or collection.parts, progress.note)
    read = read_studies(known, maker, films, strict=settings.strict, progress=progress)
    if published:
        read = read.leave_out(published.find_leaks(read.studies))
    try:
        _check_read(collection, settings, read)
        return PreparedStudies(
            **vars(read),
            maker=maker,
            split=Split({}, {}),
            labels=np.zeros((len(read.studies), 0), np.float32),
            candidates=maker.label_names,
            facts={
                **facts,
                "set_aside": len(part_problems([*collection.problems, *read.problems])[0]),
                "with_image": int(read.present[:, 0].sum()),
            },
        ).with_split(_split(read.studies, settings, published or split, maker.label_names), note=progress.note)
    except KmmError as error:
        error.problems = read.problems
        raise


def _choose_named(
    studies: Sequence[Study], split: Split | GivenParts | Path | str | Mapping[str, str], note: Note
) -> list[Study]:
    """Returns the studies that have a part, and notes how many have none: published parts may leave studies out."""
    if isinstance(split, str | Path):
        parts: Mapping[str, str] = read_parts(split)
    else:
        parts = split if isinstance(split, Mapping) else split.parts
    named = [study for study in studies if study.id in parts]
    if len(named) < len(studies):
        note(f"Not used, because they have no part: {len(studies) - len(named)} of {len(studies)} studies.")
    return named


def _check_read(collection, settings, read):
    """Raises `InputError` if no study has a film, or none has words, and the model reads nothing else."""
    first = f" The first of {len(read.problems)} set aside: {read.problems[0]}" if read.problems else ""
    if settings.image_encoder and not read.present[:, 0].any():
        raise InputError(
            f"{collection.folder} has no study with a frontal image that can be used. Train on reports alone with "
            f"--image-encoder none.{first}"
        )
    if not len(read.studies):
        sections = ", ".join(name.upper() for name in settings.sections)
        left = " that the redaction leaves" if settings.redact else ""
        named = ", ".join(f"{name!r}: ..." for name in settings.sections)
        hint = (
            f" Name their columns with sections={{{named}}}, or" if collection.columns else " Use reports with them, or"
        )
        raise InputError(
            f"{collection.folder} has no study with words{left} in {sections}.{hint} read others with --sections."
        )


def _label(collection, settings, note):
    """Returns the studies with a known label, their `BatchMaker`, and facts about them."""
    s, scheme = settings, open_scheme(settings.labels)
    try:
        studies, names = label_studies(
            collection.studies, scheme, min_count=s.label_min_count, not_findings=s.not_findings, note=note
        )
    except InputError as error:
        raise InputError(f"{collection.folder}: {error}") from None
    known = [study for study in studies if any(np.isfinite(study.labels[name]) for name in names)]
    maker = make_maker(s, names)
    facts = {
        **note_labels(collection.studies, s, note),
        "label_sources": {name: list(scheme.list_sources(name)) for name in names},
        "layout": collection.layout,
        "studies": len(collection.studies),
        "unlabelled": len(studies) - len(known),
    }
    return known, maker, facts


def make_maker(settings: FitSettings, label_names: Sequence[str]) -> BatchMaker:
    """Returns the preparation of films and reports that the settings describe, without a vocabulary."""
    s = settings
    return BatchMaker(
        ImagePreparation(s.pixels, s.image_fit) if s.image_encoder else None,
        make_text(s) if s.text_encoder else None,
        vocabulary=None,
        label_names=tuple(label_names),
    )


def make_text(settings: FitSettings) -> TextPreparation:
    """Returns the preparation of reports that the settings describe."""
    s = settings
    return TextPreparation(
        s.sections,
        choose_cleaning(s),
        s.deidentified,
        s.length,
        s.truncate,
        pieces=bool(s.word_pieces or s.text_weights),
        redaction=read_redaction(s.redact) if s.redact else None,
    )


def choose_cleaning(settings: FitSettings) -> str:
    """Returns the cleaning mode of a fit: that of the text weights, unless the settings name one for a BERT."""
    if not settings.text_weights or settings.cleaning != FitSettings.cleaning:
        return settings.cleaning
    return read_bert_vocabulary(settings.text_weights).cleaning


def note_labels(studies: tuple[Study, ...], settings: FitSettings, note: Note) -> dict[str, Any]:
    """Notes the label columns that a label scheme ignores, and the headings that it leaves out.

    Returns:
        dict for the facts of the studies: `not_findings`, the headings left out, if the scheme reads headings; if it is
        one of rules, the rules as `kmm.rules.rule_scheme.KEPT`, and `label_audit`, what each of them took.
    """
    rules = find_rules(settings.labels)
    unread = name_unread_columns(studies, settings.labels if rules is None else make_scheme(rules))
    if unread:
        note(unread)
    if rules is not None:
        audit = audit_rules(studies, rules)
        note(describe_rules(audit, rules.name))
        return {KEPT: rules.as_dict(), AUDIT: audit}
    if settings.labels != "findings":
        return {}
    rows = audit_headings(studies, min_count=settings.label_min_count, not_findings=settings.not_findings)
    note(describe_audit(rows))
    return {"not_findings": rows}


def _split(studies, settings, split, label_names):
    if isinstance(split, str | Path):
        return load_split(split, studies, allow_missing=True)
    if isinstance(split, Split):
        return restrict_split(split.parts, studies)
    divide = split_studies if split is None else split.complete
    return divide(studies, shares=settings.shares, seed=settings.seed, label_names=label_names)


def _rename(maker, label_names):
    return BatchMaker(maker.image, maker.text, vocabulary=None, label_names=label_names)


def _ignore(line: str) -> None:
    pass


def _choose_labels(prepared, note):
    """Chooses the labels with both classes in the training part, and notes the names of the others and the classes that
    validation or test lack.

    Raises:
        InputError: if no label has both classes.
    """
    chosen, rejected = [], []
    for name in prepared.candidates:
        counts = {part: _count_classes(prepared, name, prepared.rows(part)) for part in PARTS}
        if not all(counts["train"]):
            rejected.append(f"label {name!r} lacks a class in the training part ({describe_classes(counts['train'])})")
            continue
        chosen.append(name)
        if not all(counts["validation"]):
            note(
                f"Label {name!r} lacks a class in validation ({describe_classes(counts['validation'])}): its threshold "
                "and its temperature cannot be chosen."
            )
        if len(prepared.rows("test")) and not all(counts["test"]):
            note(
                f"Label {name!r} lacks a class in test ({describe_classes(counts['test'])}): ROC AUC and other "
                "measures of two classes are left out."
            )
    if not chosen:
        raise InputError(
            f"Training needs studies of both classes, but {'; '.join(rejected)}. Give a --split with both classes in "
            "every part, another --seed, or more studies."
        )
    for line in rejected:
        note(f"Left out: {line}.")
    return tuple(chosen)


def _check_films(prepared, note):
    """Checks that the training part has films. Notes parts without films, and labels for which all training films have
    the same class.

    Raises:
        InputError: if the training part has no film.
    """
    films = {part: _with_films(prepared, part) for part in PARTS}
    if not len(films["train"]):
        raise InputError(
            "The training part has no study with a film. Give a --split with films in every part, or train on reports "
            "alone with --image-encoder none."
        )
    for part, purpose in (("validation", "choose its epochs and thresholds"), ("test", "be evaluated")):
        if len(prepared.rows(part)) and not len(films[part]):
            note(f"No study of {part} has a film: the image part cannot {purpose}.")
    for name in prepared.maker.label_names:
        counts = _count_classes(prepared, name, films["train"])
        if not all(counts):
            note(
                f"Label {name!r}: all training films have the same class ({describe_classes(counts)}), so the image "
                "part cannot learn it."
            )


def _with_films(prepared, part):
    rows = prepared.rows(part)
    return rows[prepared.present[rows, 0] > 0]


def _count_classes(prepared, name, rows):
    return count_classes(prepared.studies[row].labels[name] for row in rows)
