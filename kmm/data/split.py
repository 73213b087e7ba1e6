"""Split studies into train, validation and test, stratified by label.

Studies that share a patient, a report body or a frontal film are always in the same part.
"""

import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kmm.data.groups import assign_groups, find_keys, group_studies, name_some
from kmm.data.study import Study
from kmm.data.tabular.rows import read_rows, show_columns
from kmm.errors import InputError, LeakError
from kmm.storage.files import replace_file

PARTS = ("train", "validation", "test")
SPLIT_COLUMNS = ("study", "patient", "part")


@dataclass(frozen=True)
class Split:
    """The part of each study: train, validation or test.

    Attributes:
        parts: mapping of study id to `"train"`, `"validation"` or `"test"`.
        patients: mapping of study id to patient.

    Example:
        >>> split = Split({"1": "train", "2": "test"}, {"1": "p1", "2": "p2"})
        >>> split.part("test"), split.digest[:8]
        (('2',), 'e2143d92')
    """

    parts: Mapping[str, str]
    patients: Mapping[str, str]

    def part(self, name: str) -> tuple[str, ...]:
        """Returns the ids of the studies of one part; may be empty."""
        if name not in PARTS:
            raise InputError(f"The part must be one of {', '.join(PARTS)}. Received: {name}.")
        return tuple(study for study, part in self.parts.items() if part == name)

    @cached_property
    def rows(self) -> list[tuple[str, str, str]]:
        """The table `(study, patient, part)`, sorted by study."""
        return sorted((study, self.patients[study], part) for study, part in self.parts.items())

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the sorted rows, in hexadecimal: equal digests mean equal splits."""
        return hashlib.sha256(json.dumps(self.rows).encode()).hexdigest()

    def save(self, path: Path | str) -> None:
        """Writes the columns study, patient, part as CSV; an existing file is replaced in one step."""
        with replace_file(path) as place, open(place, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([SPLIT_COLUMNS, *self.rows])


def write_digest(path: Path | str) -> None:
    """Writes the SHA-256 of a file next to it, as `<name>.sha256`, in the form that `sha256sum --check` reads.

    `read_parts` compares a split with this digest and rejects a split that was altered.
    """
    path = Path(path)
    with replace_file(_digest_place(path)) as place:
        place.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n", encoding="utf-8")


def split_studies(
    studies: Iterable[Study],
    *,
    shares: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
    label_names: Sequence[str] | None = None,
) -> Split:
    """Splits studies by groups: studies that share a patient, a report body or a frontal film stay together.

    Groups are assigned largest first (of equal size, those with the rarest label first), each to the part that brings
    all parts closest to their shares of studies and of every label. This is iterative stratification, applied to
    groups. Unknown labels (NaN) are not counted. Empty bodies do not join studies, nor do films that were not
    identified: see `kmm.batches.identify_films`.

    Source: https://doi.org/10.1007/978-3-642-23808-6_10 (Sechidis et al. 2011, who assign single examples)

    Args:
        studies: sequence of `Study`; its order does not matter.
        shares: three floats, of train, validation and test; each at least 0, their sum 1. A share of 0 leaves
            a part empty.
        seed: int, 0 or more.
        label_names: names of the labels to stratify by; None takes all.

    Returns:
        `Split`.

    Raises:
        InputError: if the shares are not as above, two studies have the same id, or there are too few groups.

    Example:
        >>> from kmm.data.study import Study
        >>> studies = [Study(str(n), patient=str(n), labels={"abnormal": n % 2}) for n in range(20)]
        >>> [len(split_studies(studies).part(name)) for name in PARTS]
        [14, 2, 4]
    """
    shares = tuple(map(float, shares))
    if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"The shares of train, validation and test must be 0 or more with sum 1. Received: {shares}.")
    groups = group_studies(studies)
    assigned = assign_groups(groups, shares, _seeded(seed), label_names=label_names)
    return _make_split(dict(zip(PARTS, assigned)))


def k_folds(
    studies: Iterable[Study],
    k: int,
    *,
    repeats: int = 1,
    seed: int = 0,
    validation: float = 0.1,
    label_names: Sequence[str] | None = None,
) -> list[Split]:
    """Splits studies into `k` folds; in each repeat, every fold is the test part exactly once.

    Args:
        studies, seed, label_names: as in `split_studies`.
        k: int, 2 or more.
        repeats: int, 1 or more. Number of times to repeat the k-fold split with different folds.
        validation: float in [0, 1 - 1 / k). Share of all studies that becomes the validation part of each split.

    Returns:
        list of `repeats * k` `Split`, ordered by repeat.

    Raises:
        InputError: if a number is out of range or there are fewer groups than parts.

    Example:
        >>> from kmm.data.study import Study
        >>> folds = k_folds([Study(str(n), patient=str(n)) for n in range(20)], 4)
        >>> [len(fold.part("test")) for fold in folds]
        [5, 5, 5, 5]
    """
    if k < 2 or repeats < 1 or not 0 <= validation < 1 - 1 / k:
        raise InputError(
            "k-fold splits need k of 2 or more, repeats of 1 or more and a validation share in [0, 1 - 1 / k). "
            f"Received: k {k}, repeats {repeats}, validation {validation}."
        )
    groups = group_studies(studies)
    splits = []
    for repeat in range(repeats):
        folds = assign_groups(groups, (1 / k,) * k, _seeded(seed, repeat), label_names=label_names)
        for index, test in enumerate(folds):
            rest = [group for fold in folds if fold is not test for group in fold]
            share = validation / (1 - 1 / k)
            train, held_out = assign_groups(
                rest, (1 - share, share), _seeded(seed, repeat, index), label_names=label_names
            )
            splits.append(_make_split({"train": train, "validation": held_out, "test": test}))
    return splits


def load_split(path: Path | str, studies: Sequence[Study], *, allow_missing: bool = False) -> Split:
    """Reads a split from a CSV file with the columns study and part (others are ignored) and matches it to the studies.

    Args:
        path: Path or str.
        studies: sequence of `Study`.
        allow_missing: bool. True ignores rows for studies that are not in `studies`.

    Returns:
        `Split` of exactly these studies.

    Raises:
        InputError: if the file cannot be read, lacks a column, names an unknown part, names a study twice or not at
            all, or (unless `allow_missing`) names studies that are not in `studies`.
    """
    path = Path(path)
    parts = read_parts(path)
    patients = {study.id: study.patient for study in studies}
    unnamed = [study for study in patients if study not in parts]
    if unnamed:
        raise InputError(f"{path}: every study must have a row. {name_some(unnamed)} of the data have none.")
    unknown = [study for study in parts if study not in patients]
    if unknown and not allow_missing:
        raise InputError(f"{path}: every row must name a study of the data. {name_some(unknown)} of the file do not.")
    return restrict_split(parts, studies)


def restrict_split(parts: Mapping[str, str], studies: Iterable[Study]) -> Split:
    """Returns the `Split` of those studies that a mapping of study id to part names, with the patients of the studies.

    Example:
        >>> from kmm.data.study import Study
        >>> restrict_split({"1": "train", "7": "test"}, [Study("1", "p1"), Study("2", "p2")])
        Split(parts={'1': 'train'}, patients={'1': 'p1'})
    """
    patients = {study.id: study.patient for study in studies if study.id in parts}
    return Split({study: parts[study] for study in patients}, patients)


def check_leaks(split: Split, studies: Iterable[Study]) -> None:
    """Checks that no patient, report body or film occurs in more than one part of a split.

    Args:
        split: `Split`.
        studies: sequence of `Study`; studies that the split does not name are ignored.

    Raises:
        LeakError: if one does; it counts the patients, bodies and films that cross, and names some studies.
    """
    crossing = _find_crossing(split, studies)
    if crossing:
        count = Counter(kind for kind, _ in crossing)
        ids = dict.fromkeys(study for group in crossing.values() for study in group)
        examples = ", ".join(f"{study} ({split.parts[study]})" for study in list(ids)[:6])
        raise LeakError(
            "No patient, identical report body or identical film may cross the parts of a split. Films that cross: "
            f"{count['film']}. Patients that cross: {count['patient']}; report bodies: {count['body']}; studies: "
            f"{len(ids)}, for example {examples}. Give the studies that share one the same part, or leave them out of "
            "the others."
        )


def count_leaks(split: Split, studies: Iterable[Study]) -> dict[str, int]:
    """Counts what occurs in more than one part of a split.

    Args:
        split, studies: as in `check_leaks`.

    Returns:
        dict of `"patients"`, `"bodies"`, `"films"` and `"studies"`, those that share one of them, to their numbers.

    Example:
        >>> from kmm.data.study import Study
        >>> count_leaks(Split({"1": "train", "2": "test"}, {"1": "a", "2": "a"}), [Study("1", "a"), Study("2", "a")])
        {'patients': 1, 'bodies': 0, 'films': 0, 'studies': 2}
    """
    crossing = _find_crossing(split, studies)
    count = Counter(kind for kind, _ in crossing)
    ids = {study for group in crossing.values() for study in group}
    return {"patients": count["patient"], "bodies": count["body"], "films": count["film"], "studies": len(ids)}


def _find_crossing(split, studies):
    """Returns a dict of each key that crosses the parts of a split to the ids of its studies."""
    keys: dict[tuple[str, str], list[str]] = defaultdict(list)
    for study in studies:
        if study.id in split.parts:
            for key in find_keys(study):
                keys[key].append(study.id)
    return {key: ids for key, ids in keys.items() if len({split.parts[study] for study in ids}) > 1}


def _make_split(assigned: Mapping[str, Iterable[Iterable[Study]]]) -> Split:
    part_of = {study.id: (study, name) for name, groups in assigned.items() for group in groups for study in group}
    rows = [part_of[key] for key in sorted(part_of)]
    return Split({study.id: name for study, name in rows}, {study.id: study.patient for study, _ in rows})


def _seeded(seed: int, *more: int) -> np.random.Generator:
    if seed < 0:
        raise InputError(f"The seed must be 0 or more. Received: {seed}.")
    return np.random.default_rng([seed, *more])


def read_parts(path: Path | str) -> dict[str, str]:
    """Reads the part of each study from a split CSV.

    Returns:
        dict of study id to part.

    Raises:
        InputError: if the file cannot be read, is not a valid split, or differs from the digest file next to it.
    """
    path = Path(path)
    try:
        _compare_digest(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: the split cannot be read: {error.strerror}.") from error
    columns, rows, problems = read_rows(path)
    if not {"study", "part"} <= set(columns):
        raise InputError(f"{path}: a split needs the columns study and part. Found: {show_columns(columns)}.")
    if problems:
        raise InputError(f"{path}: {problems[0]}")
    parts: dict[str, str] = {}
    for line, row in rows:
        study, part = row["study"].strip(), row["part"].strip()
        if not study:
            raise InputError(f"{path}: row {line}: the study is empty.")
        if part not in PARTS:
            raise InputError(f"{path}: row {line}: the part must be one of {', '.join(PARTS)}.")
        if study in parts:
            raise InputError(f"{path}: row {line}: study {study} already has a row. Remove one of them.")
        parts[study] = part
    return parts


def _digest_place(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _compare_digest(path: Path, data: bytes) -> None:
    """Rejects a split whose bytes differ from the digest file next to it, if there is one."""
    place = _digest_place(path)
    if place.is_file() and place.read_bytes()[:64] != hashlib.sha256(data).hexdigest().encode():
        raise InputError(
            f"{path} was altered since {place.name} was written. Write the split again, or remove {place.name} to use "
            "the split in its present form."
        )
