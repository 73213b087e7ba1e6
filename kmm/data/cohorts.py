"""Cohorts of studies for which results are reported apart: by view, by what is present, by heading, by patient."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from kmm.data.headings import level_heading
from kmm.data.labels import find_heads
from kmm.data.modalities import PATTERN_TITLES, PATTERNS, find_patterns
from kmm.data.study import SECTIONS, ImageFile, Study
from kmm.data.tabular.attributes import AGE, SEX, name_age_band
from kmm.data.views.terms import name_direction
from kmm.storage.file_kinds import DICOM_SUFFIXES

UNKNOWN, HEADING = "unknown", "heading"
MOST_HEADINGS = 20
LEAST_OF_A_HEADING = 10

Cohorts = dict[str, dict[str, np.ndarray]]


def find_cohorts(studies: Sequence[Study], present: np.ndarray) -> Cohorts:
    """Finds the cohorts of studies.

    Args:
        studies: sequence of `n` `Study`.
        present: array `(n, 2)` of 0 and 1: whether a film, and whether a report, was read.

    Returns:
        dict of grouping to a dict of value to a bool array `(n,)`, without empty cohorts: `present` (film and report,
        film alone, report alone), `view` of the film (`PA`, `AP`, `frontal` if the source does not say which),
        `source` of the film (kind of file), `sections` (with and without each), `heading` (MeSH heads, the most
        frequent 20 of at least 10 studies; cohorts may overlap), `sex` and `age`. A grouping of which nothing is
        known, or that divides nothing, is left out.

    Example:
        >>> studies = [Study("1", "1", attributes={"sex": "F"}), Study("2", "2", attributes={"sex": "M"})]
        >>> cohorts = find_cohorts(studies, np.array([[1, 0], [1, 0]]))
        >>> {name: list(values) for name, values in cohorts.items()}
        {'sex': ['F', 'M']}
    """
    groupings = {"present": _group(studies, present, _name_present)}
    groupings |= {name: _group(studies, present, function) for name, function in _GROUPINGS.items()}
    groupings["sections"] = _group_sections(studies)
    groupings[HEADING] = _group_headings(studies)
    found: Cohorts = {}
    for name, values in groupings.items():
        kept = {value: mask for value, mask in values.items() if mask.any()}
        divides = len(kept) > 1 or name == HEADING
        if divides and any(value != UNKNOWN for value in kept):
            found[name] = kept
    return found


def _group(studies, present, name):
    """Groups studies by a function of a study and of its row of `present`; an empty name leaves the study out."""
    named = np.array([name(study, row) for study, row in zip(studies, present, strict=True)], object)
    values = sorted(set(named.tolist()) - {""}, key=lambda value: (value == UNKNOWN, value))
    return {value: named == value for value in values}


def _name_present(study: Study, present: np.ndarray) -> str:
    return PATTERN_TITLES[PATTERNS[int(find_patterns(np.asarray(present)[None])[0])]] if any(present) else "neither"


def _of_film(name: Callable[[ImageFile], str]) -> Callable[[Study, np.ndarray], str]:
    """Makes a function of a study from one of its film; a study whose film was not read gets no name."""
    return lambda study, present: name(study.frontal) if present[0] and study.frontal is not None else ""


def name_film_view(film: ImageFile) -> str:
    """Names the direction of a frontal film, `"PA"` or `"AP"`; `"frontal"` if no tag of it does.

    Example:
        >>> from pathlib import Path
        >>> name_film_view(ImageFile(Path("1.png"), "frontal", tags={"view": "AP"}))
        'AP'
    """
    named = (name_direction(film.tags.get(tag, "")) for tag in ("view", "view_position", "view_meaning"))
    return next(filter(None, named), "frontal")


def _name_source(film: ImageFile) -> str:
    if film.memory is not None:
        return "in memory"
    suffix = film.path.suffix.lower()
    return "DICOM" if suffix in DICOM_SUFFIXES else suffix.lstrip(".").upper() or UNKNOWN


def _name_age(study: Study, present: np.ndarray) -> str:
    age = study.attributes.get(AGE)
    return UNKNOWN if age is None else name_age_band(float(age))


_GROUPINGS: dict[str, Callable[[Study, np.ndarray], str]] = {
    "view": _of_film(name_film_view),
    "source": _of_film(_name_source),
    SEX: lambda study, present: str(study.attributes.get(SEX, UNKNOWN)),
    AGE: _name_age,
}


def _group_sections(studies: Sequence[Study]) -> dict[str, np.ndarray]:
    """Groups studies by the sections of their reports; a section that all or none have says nothing."""
    found: dict[str, np.ndarray] = {}
    for section in SECTIONS:
        has = np.array([study.report is not None and bool(getattr(study.report, section).strip()) for study in studies])
        if has.any() and not has.all():
            found |= {f"with {section}": has, f"without {section}": ~has}
    return found


def _group_headings(studies: Sequence[Study]) -> dict[str, np.ndarray]:
    heads = [{level_heading(head): head for head in sorted(find_heads(study))} for study in studies]
    counts = Counter(key for one in heads for key in one)
    names = {key: head for one in reversed(heads) for key, head in one.items()}  # the first spelling
    kept = [key for key, count in counts.items() if count >= LEAST_OF_A_HEADING]
    kept = sorted(kept, key=lambda key: (-counts[key], key))[:MOST_HEADINGS]
    return {names[key]: np.array([key in one for one in heads]) for key in kept}
