"""Count copies: identical report bodies and identical films, by bytes and by decoded pixels."""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kmm.batches import identify_films
from kmm.data.study import Study
from kmm.progress import Progress


def count_equal_bodies(studies: Sequence[Study], labels: Mapping[str, Mapping[str, float]]) -> dict[str, int]:
    """Counts studies whose reports have identical bodies, see `kmm.data.study.Report.body`.

    Args:
        studies: sequence of `Study`.
        labels: mapping of study id to its labels, from one scheme of `kmm.audit.label_schemes.apply_schemes`.

    Returns:
        dict for JSON, as `count_groups`, and `conflicting` and `conflicting_studies`: groups, and studies in them, in
        which a label is both 0 and 1.

    Example:
        >>> from kmm.data.study import Report
        >>> studies = [Study(id, id, report=Report(findings=text)) for id, text in zip("123", ("A.", "a. ", "B."))]
        >>> found = count_equal_bodies(studies, {"1": {"mass": 0.0}, "2": {"mass": 1.0}})
        >>> found["groups"], found["studies"], found["conflicting"]
        (1, 2, 1)
    """
    keys = [(study.report.body, study) for study in studies if study.report is not None and study.report.body]
    conflicting = [group for group in _group(keys) if _disagree(labels.get(study.id, {}) for study in group)]
    return {
        **count_groups(keys),
        "conflicting": len(conflicting),
        "conflicting_studies": sum(map(len, conflicting)),
    }


def count_equal_films(studies: Sequence[Study], *, progress: Progress | None = None) -> dict[str, Any]:
    """Reads films and counts copies.

    Every file is compared by its bytes. The frontal film of each study is also decoded and compared by its pixels, as a
    split does, so that copies in other lossless formats are found.

    Args:
        studies: sequence of `Study`.
        progress: `kmm.progress.Progress`.

    Returns:
        dict for JSON: `same_bytes`: `count_groups` of all files; `same_pixels`: that of the frontal films; `decoded`,
        `unreadable` and `blank`: the numbers of frontal films that were decoded, cannot be, and have one gray level
        only (these are no copies of each other).

    Example:
        >>> count_equal_films([Study("1", "1")])["same_bytes"]
        {'groups': 0, 'members': 0, 'studies': 0, 'patients': 0, 'across_patients': 0}
    """
    marked, problems = identify_films(studies, progress=progress)
    films = [(study.frontal.pixel_digest, study) for study in marked if study.frontal is not None]
    return {
        "same_bytes": count_groups(_digest_files(studies)),
        "same_pixels": count_groups([(digest, study) for digest, study in films if digest]),
        "decoded": len(films) - len(problems),
        "unreadable": len(problems),
        "blank": sum(not digest for digest, _ in films) - len(problems),
    }


def count_groups(keys: Iterable[tuple[Hashable, Study]]) -> dict[str, int]:
    """Counts the groups of two or more members with equal keys.

    Args:
        keys: iterable of a key and its study, one per member: a report or a film.

    Returns:
        dict of `groups`; `members`, `studies` and `patients` in them; `across_patients`: groups of several patients.

    Example:
        >>> count_groups([("a", Study("1", "ann")), ("a", Study("2", "ann")), ("b", Study("3", "ben"))])
        {'groups': 1, 'members': 2, 'studies': 2, 'patients': 1, 'across_patients': 0}
    """
    groups = _group(keys)
    members = [study for group in groups for study in group]
    return {
        "groups": len(groups),
        "members": len(members),
        "studies": len({study.id for study in members}),
        "patients": len({study.patient for study in members}),
        "across_patients": sum(len({study.patient for study in group}) > 1 for group in groups),
    }


def _group(keys: Iterable[tuple[Hashable, Study]]) -> list[list[Study]]:
    groups: dict[Hashable, list[Study]] = defaultdict(list)
    for key, study in keys:
        groups[key].append(study)
    return [group for group in groups.values() if len(group) > 1]


def _disagree(labels: Iterable[Mapping[str, float]]) -> bool:
    values: dict[str, set[float]] = defaultdict(set)
    for one in labels:
        for name, value in one.items():
            if not math.isnan(value):
                values[name].add(value)
    return any(len(found) > 1 for found in values.values())


def _digest_files(studies: Sequence[Study]) -> list[tuple[Hashable, Study]]:
    """Pairs each film file with its digest. Files of a size that no other has are not read: they have no copy."""
    files = [(image.path, study) for study in studies for image in study.images if image.memory is None]
    sizes = {path: _measure(path) for path, _ in files}
    counts = Counter(sizes[path] for path, _ in files)
    digests = {path: _digest(path) for path, size in sizes.items() if size and counts[size] > 1}
    return [(digests[path], study) for path, study in files if digests.get(path)]


def _measure(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # whoever decodes the film says what is wrong with it
        return 0


def _digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""
