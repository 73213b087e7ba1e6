"""The nouns of kmm.data: a study, its report, its images, and what a reader returns."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from kmm.settings import SECTIONS as SECTIONS

FRONTAL, LATERAL = "frontal", "lateral"


@dataclass(frozen=True)
class ImageFile:
    """One image of a study.

    Attributes:
        path: Path of the file.
        view: `"frontal"`, `"lateral"` or None (unknown).
        evidence: str. Why `view` is believed, for example `"projections table"`.
        conflicts: tuple of str. Evidence that says otherwise; empty when all agree.
        tags: mapping of header or table values that the view rules read (`view_position`, `patient_orientation`).
        pixel_digest: str or None. Identity of the decoded film, see `kmm.identity.digest_film`; None where the film was
            not read or shows nothing. Studies whose frontal films share it never cross a split.
    """

    path: Path
    view: str | None = None
    evidence: str = ""
    conflicts: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    pixel_digest: str | None = None


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
        """FINDINGS and IMPRESSION with case and spacing levelled: two reports with one body are duplicates."""
        return " ".join(f"{self.findings} {self.impression}".lower().split())


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
    """Something set aside while reading: which file or row, and why. Never holds report text."""

    source: str
    reason: str

    def __str__(self):
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True)
class Collection:
    """What a reader returns.

    Attributes:
        folder: Path that was read.
        layout: str. The layout found, in words, for example `"Kaggle csv (indiana_reports.csv)"`.
        studies: tuple of `Study`, sorted by id (numbers as numbers).
        problems: tuple of `Problem`: what was set aside.
    """

    folder: Path
    layout: str
    studies: tuple[Study, ...]
    problems: tuple[Problem, ...] = ()
