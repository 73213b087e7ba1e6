"""Data classes for studies, their reports and images, and the collections that readers return."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

from kmm.settings import SECTIONS as SECTIONS

FRONTAL, LATERAL, OTHER = "frontal", "lateral", "other"


@dataclass(frozen=True)
class ImageFile:
    """One image of a study.

    Attributes:
        path: Path of the file; for a film in memory a name that is not a file, as `Path("7 (in memory)")`.
        view: `"frontal"`, `"lateral"`, `"other"` (known to be neither, as an oblique film) or None (unknown).
        evidence: str. The evidence that decided `view`, for example `"projections table"`.
        conflicts: tuple of str. Evidence for another view; empty when all evidence agrees.
        tags: mapping of header or table values that the view rules read: `view` and `projection` of a table, where `;`
            separates several, and those of `kmm.data.views.dicom_header.Header`.
        pixel_digest: str or None. Identity of the decoded film, see `kmm.image.film_identity.digest_film`; None if the
            film was not read or is blank. Studies whose frontal films share it are always in the same part of a split.
        memory: the film itself, if it is not in a file: an array, the bytes of a file, a PIL image or a pydicom
            dataset, see `kmm.image.source`; None for a file.
    """

    path: Path
    view: str | None = None
    evidence: str = ""
    conflicts: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    pixel_digest: str | None = None
    memory: Any = field(default=None, repr=False, compare=False)


def merge_images(images: Iterable[ImageFile]) -> tuple[ImageFile, ...]:
    """Merges images that name the same file and keeps every view that the tables give for it.

    Args:
        images: iterable of `ImageFile`, views not yet decided.

    Returns:
        tuple of `ImageFile`, in the order in which the files first occur.

    Example:
        >>> film = Path("film.png")
        >>> twice = (ImageFile(film, tags={"view": "PA"}), ImageFile(film, tags={"view": "lateral"}))
        >>> [dict(image.tags) for image in merge_images(twice)]
        [{'view': 'PA;lateral'}]
    """
    merged: dict[Path, ImageFile] = {}
    for image in images:
        first = merged.setdefault(image.path, image)
        if first is not image:
            tags = dict(first.tags)
            for name, value in image.tags.items():
                known = tags[name].split(";") if tags.get(name) else []
                tags[name] = ";".join(known if value in known else [*known, value])
            merged[image.path] = replace(first, tags=tags)
    return tuple(merged.values())


@dataclass(frozen=True)
class Report:
    """A radiology report, split into sections. A section that is absent is the empty string.

    Example:
        >>> Report(indication="Cough.", findings="Clear lungs.").text(["indication", "impression", "findings"])
        'Cough. Clear lungs.'
    """

    indication: str = ""
    comparison: str = ""
    findings: str = ""
    impression: str = ""

    def text(self, sections: Iterable[str] = ("indication", "impression", "findings")) -> str:
        """Returns the named sections in the order given, joined by one space; empty sections are left out."""
        return " ".join(text for text in (getattr(self, name) for name in sections) if text)

    def spans(self, sections: Iterable[str] = ("indication", "impression", "findings")) -> list[tuple[str, int, int]]:
        """Returns `[(section, start, end), ...]`: the position of each section in `text(sections)`.

        Example:
            >>> Report(indication="Cough.", findings="Clear.").spans(["indication", "findings"])
            [('indication', 0, 6), ('findings', 7, 13)]
        """
        spans, start = [], 0
        for name in sections:
            text = getattr(self, name)
            if text:
                spans.append((name, start, start + len(text)))
                start += len(text) + 1
        return spans

    @property
    def body(self) -> str:
        """FINDINGS and IMPRESSION with normalized case, white space and Unicode form; duplicates have equal bodies."""
        return " ".join(unicodedata.normalize("NFC", f"{self.findings} {self.impression}").lower().split())

    def __repr__(self) -> str:
        """Returns the number of words of each section, without their text."""
        counts = {name: len(getattr(self, name).split()) for name in SECTIONS}
        return f"Report({', '.join(f'{name}: {count} words' for name, count in counts.items() if count)})"


def own_patient(id: str) -> str:
    """Returns the patient of a study whose patient is not in the data, made up from its id."""
    return f"study:{id}"


@dataclass(frozen=True)
class Study:
    """One examination of one patient.

    Attributes:
        id: str, unique in its collection, safe as a file name.
        patient: str. All studies of one patient are in the same part of a split.
        images: tuple of `ImageFile`, in the order of the source; may be empty.
        report: `Report` or None when there is none.
        mesh_major, mesh_automatic: tuples of MeSH terms with qualifiers, as `"Opacity/lung/base/right"`.
        labels: mapping of label name to 0.0, 1.0 or NaN (unknown).
        uncertain: frozenset of str. Labels that the source calls uncertain; NaN in `labels` unless a label scheme that
            decides on them was applied, see `kmm.data.labels.LABEL_SCHEMES`.
        made_up: frozenset of `"id"` and `"patient"`: those that are not in the data. Such an id is the number of a row;
            such a patient stands for this study alone. They identify nothing outside of the collection.
        attributes: mapping of `sex` and `age`, if the data have them: see `kmm.data.tabular.attributes`. No model reads
            them.
    """

    id: str
    patient: str
    images: tuple[ImageFile, ...] = ()
    report: Report | None = None
    mesh_major: tuple[str, ...] = ()
    mesh_automatic: tuple[str, ...] = ()
    labels: Mapping[str, float] = field(default_factory=dict)
    uncertain: frozenset[str] = frozenset()
    made_up: frozenset[str] = frozenset()
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def knows_patient(self) -> bool:
        """Whether the patient is in the data, or was given since."""
        given_since = self.patient != self.id and not self.patient.startswith(own_patient(""))
        return "patient" not in self.made_up or given_since

    def with_id(self, id: str) -> "Study":
        """Returns a copy with another id, which counts as made up; so does its patient, if it was made up before.

        Example:
            >>> own = Study("1", own_patient("1"), made_up=frozenset({"patient"}))
            >>> [study.with_id("2").patient for study in (own, Study("1", "1"))]
            ['study:2', '1']
        """
        patient = self.patient if self.knows_patient else own_patient(id)
        return replace(self, id=id, patient=patient, made_up=self.made_up | {"id"})

    @property
    def frontal(self) -> ImageFile | None:
        """The first image whose view is frontal, or None."""
        return next((image for image in self.images if image.view == FRONTAL), None)

    def with_pixel_digest(self, digest: str | None) -> "Study":
        """Returns a copy with `pixel_digest` set on the frontal film; the study itself if it has no frontal film."""
        film = self.frontal
        if film is None:
            return self
        marked = replace(film, pixel_digest=digest)
        return replace(self, images=tuple(marked if image is film else image for image in self.images))

    def __repr__(self) -> str:
        """Returns id, number of images, size of the report and labels; no report text, nothing about the patient."""
        labels = "".join(f", {name}={value:g}" for name, value in self.labels.items())
        return f"Study({self.id!r}, images={len(self.images)}, report={self.report}{labels})"


@dataclass(frozen=True)
class Problem:
    """A file, row or study that cannot be used, and the reason. Never holds report text.

    Attributes:
        source, reason: str.
        study: str. Id of the study that lacks the file but is still used; empty if there is none.
        kept_on: str. The input which that study still has, for example `"its report"`; empty if there is none.
    """

    source: str
    reason: str
    study: str = ""
    kept_on: str = ""

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


def part_problems(problems: Sequence[Problem | str]) -> tuple[list[str], list[str]]:
    """Separates files, rows and studies that were set aside from files that a study merely lacks.

    Args:
        problems: sequence of `Problem` or str. A missing file counts as set aside if its study was set aside too, which
            a problem with the source `"study <id>"` reports.

    Returns:
        two lists of str: what was set aside, and notes on studies that are used without a file.

    Example:
        >>> lacking = Problem("1.png", "film missing", study="1", kept_on="its report")
        >>> part_problems([lacking, Problem("2.png", "film missing")])
        (['2.png: film missing'], ['1.png: film missing; the study is used with its report'])
        >>> part_problems([lacking, "study 1: expected a frontal image"])
        (['1.png: film missing', 'study 1: expected a frontal image'], [])
    """
    lost = {str(problem).partition(": ")[0] for problem in problems}
    set_aside, notes = [], []
    for problem in problems:
        if isinstance(problem, Problem) and problem.kept_on and f"study {problem.study}" not in lost:
            notes.append(f"{problem}; the study is used with {problem.kept_on}")
        else:
            set_aside.append(str(problem))
    return set_aside, notes


@dataclass(frozen=True)
class Collection:
    """The studies that a reader found, and what it left out.

    Attributes:
        folder: Path that was read.
        layout: str. The layout found, in words, for example `"Kaggle csv (indiana_reports.csv)"`.
        studies: tuple of `Study`, sorted by id (numbers as numbers), or in the order of a table in memory.
        problems: tuple of `Problem`: files, rows and studies that were set aside.
        skipped: mapping of a kind of file to the number of such files that were skipped because they hold no film
            or because kmm wrote them.
        columns: mapping of an argument of `kmm.studies` to the names of its columns, for studies made from a table in
            memory; empty for others.
        parts: mapping of study id to `"train"`, `"validation"` or `"test"`, for collections that were published with
            parts; empty for others. A study that it does not name belongs to no part. A fit without a split of its own
            uses them.

    A collection has a length, can be iterated over, and is indexed like a tuple: an int gives a `Study`, a slice a
    `Collection`.

    Example:
        >>> ward = Collection(Path("ward"), "manifest (ward.csv)", (Study("1", "a"), Study("2", "b")))
        >>> ward
        <Collection of 2 studies: manifest (ward.csv)>
        >>> [study.id for study in ward[1:]]
        ['2']
    """

    folder: Path
    layout: str
    studies: tuple[Study, ...]
    problems: tuple[Problem, ...] = ()
    skipped: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.studies)

    def __iter__(self) -> Iterator[Study]:
        return iter(self.studies)

    @overload
    def __getitem__(self, place: int) -> Study: ...
    @overload
    def __getitem__(self, place: slice) -> "Collection": ...
    def __getitem__(self, place: int | slice) -> "Study | Collection":
        return replace(self, studies=self.studies[place]) if isinstance(place, slice) else self.studies[place]

    def __repr__(self) -> str:
        """Returns the number of studies and the layout; neither report text nor patients."""
        count = len(self.studies)
        aside = f", {len(self.problems)} problems" if self.problems else ""
        return f"<Collection of {count} {'study' if count == 1 else 'studies'}: {self.layout}{aside}>"
