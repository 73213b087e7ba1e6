"""The nouns of kmm.data: a study, its report, its images, and what a reader returns."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kmm.settings import SECTIONS as SECTIONS

FRONTAL, LATERAL, OTHER = "frontal", "lateral", "other"


@dataclass(frozen=True)
class ImageFile:
    """One image of a study.

    Attributes:
        path: Path of the file.
        view: `"frontal"`, `"lateral"`, `"other"` (known to be neither, as an oblique film) or None (unknown).
        evidence: str. Why `view` is believed, for example `"projections table"`.
        conflicts: tuple of str. Evidence that says otherwise; empty when all agree.
        tags: mapping of header or table values that the view rules read: `view` and `projection` of a table, where `;`
            separates several, and those of `kmm.data.views.dicom_header.Header`.
        pixel_digest: str or None. Identity of the decoded film, see `kmm.film_identity.digest_film`; None where the
            film was not read or shows nothing. Studies whose frontal films share it never cross a split.
    """

    path: Path
    view: str | None = None
    evidence: str = ""
    conflicts: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    pixel_digest: str | None = None


def merge_images(images):
    """Makes one image of those that name the same file; what tables say of their view is kept, also where it differs.

    Args:
        images: iterable of `ImageFile`, views not yet decided.

    Returns:
        tuple of `ImageFile`, in the order of the first of each.

    Example:
        >>> film = Path("film.png")
        >>> twice = (ImageFile(film, tags={"view": "PA"}), ImageFile(film, tags={"view": "lateral"}))
        >>> [dict(image.tags) for image in merge_images(twice)]
        [{'view': 'PA;lateral'}]
    """
    merged = {}
    for image in images:
        first = merged.setdefault(image.path, image)
        if first is not image:
            tags = dict(first.tags)
            for name, value in image.tags.items():
                said = tags.get(name, "").split(";") if tags.get(name) else []
                tags[name] = ";".join(said if value in said else [*said, value])
            merged[image.path] = replace(first, tags=tags)
    return tuple(merged.values())


@dataclass(frozen=True)
class Report:
    """A radiology report, its sections kept apart. A section that is absent is the empty string.

    Example:
        >>> Report(indication="Cough.", findings="Clear lungs.").text(["indication", "impression", "findings"])
        'Cough. Clear lungs.'
    """

    indication: str = ""
    comparison: str = ""
    findings: str = ""
    impression: str = ""

    def text(self, sections=("indication", "impression", "findings")):
        """Returns the named sections in their order, joined by one space; empty ones are left out."""
        return " ".join(text for text in (getattr(self, name) for name in sections) if text)

    def spans(self, sections=("indication", "impression", "findings")):
        """Returns `[(section, start, end), ...]`: where each section lies in `text(sections)`.

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
    def body(self):
        """FINDINGS and IMPRESSION with case, spacing and Unicode form levelled: two with one body are duplicates."""
        return " ".join(unicodedata.normalize("NFC", f"{self.findings} {self.impression}").lower().split())


@dataclass(frozen=True)
class Study:
    """One examination of one patient.

    Attributes:
        id: str, unique in its collection, safe as a file name.
        patient: str. Studies of one patient never cross a split.
        images: tuple of `ImageFile`, in the order of the source; empty when there is none.
        report: `Report` or None when there is none.
        mesh_major, mesh_automatic: tuples of MeSH terms with qualifiers, as `"Opacity/lung/base/right"`.
        labels: mapping of label name to 0.0, 1.0 or NaN (unknown).
    """

    id: str
    patient: str
    images: tuple[ImageFile, ...] = ()
    report: Report | None = None
    mesh_major: tuple[str, ...] = ()
    mesh_automatic: tuple[str, ...] = ()
    labels: Mapping[str, float] = field(default_factory=dict)

    @property
    def frontal(self):
        """The first image believed to be frontal, or None."""
        return next((image for image in self.images if image.view == FRONTAL), None)

    def with_pixel_digest(self, digest):
        """Returns the study with the identity of its frontal film noted; without such a film, the study itself."""
        film = self.frontal
        if film is None:
            return self
        marked = replace(film, pixel_digest=digest)
        return replace(self, images=tuple(marked if image is film else image for image in self.images))


@dataclass(frozen=True)
class Problem:
    """Something that cannot be used: which file, row or study, and why. Never holds report text.

    Attributes:
        source, reason: str.
        study: str. Id of the study that lacks the file and is used all the same, or nothing.
        kept_on: str. What that study still has, for example `"its report"`, or nothing.
    """

    source: str
    reason: str
    study: str = ""
    kept_on: str = ""

    def __str__(self):
        return f"{self.source}: {self.reason}"


def part_problems(problems):
    """Parts what was set aside from what a study that is used merely lacks.

    Args:
        problems: sequence of `Problem` or str. One whose study is set aside too, under `"study <id>"`, is set aside.

    Returns:
        two lists of str: what was set aside, and notes.

    Example:
        >>> lacking = Problem("1.png", "film missing", study="1", kept_on="its report")
        >>> part_problems([lacking, Problem("2.png", "film missing")])
        (['2.png: film missing'], ['1.png: film missing, study kept on its report'])
        >>> part_problems([lacking, "study 1: expected a frontal image"])
        (['1.png: film missing', 'study 1: expected a frontal image'], [])
    """
    lost = {str(problem).partition(": ")[0] for problem in problems}
    set_aside, notes = [], []
    for problem in problems:
        if getattr(problem, "kept_on", "") and f"study {problem.study}" not in lost:
            notes.append(f"{problem}, study kept on {problem.kept_on}")
        else:
            set_aside.append(str(problem))
    return set_aside, notes


@dataclass(frozen=True)
class Collection:
    """What a reader returns.

    Attributes:
        folder: Path that was read.
        layout: str. The layout found, in words, for example `"Kaggle csv (indiana_reports.csv)"`.
        studies: tuple of `Study`, sorted by id (numbers as numbers).
        problems: tuple of `Problem`: what was set aside.
        passed_over: mapping of a kind of file to how many of it were passed over, because they hold no film or because
            kmm wrote them.
    """

    folder: Path
    layout: str
    studies: tuple[Study, ...]
    problems: tuple[Problem, ...] = ()
    passed_over: Mapping[str, int] = field(default_factory=dict)
