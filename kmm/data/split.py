"""Train, validation and test: stratified by label, and never across a patient, an identical report body or a film."""

import csv
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from kmm.data.groups import deal_groups, find_keys, group_studies, name_some
from kmm.data.rows import read_rows, show_columns
from kmm.errors import InputError, LeakError
from kmm.storage.files import replace_file

PARTS = ("train", "validation", "test")
COLUMNS = ("study", "patient", "part")


@dataclass(frozen=True)
class Split:
    """Which part each study belongs to.

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

    def part(self, name):
        """Returns the ids of one part, as a tuple; empty when the part has none."""
        if name not in PARTS:
            raise InputError(f"The part must be one of {', '.join(PARTS)}. Received: {name}.")
        return tuple(study for study, part in self.parts.items() if part == name)

    @cached_property
    def rows(self):
        """The table `(study, patient, part)`, sorted by study."""
        return sorted((study, self.patients[study], part) for study, part in self.parts.items())

    @cached_property
    def digest(self):
        """SHA-256 of the sorted rows, in hexadecimal: equal digests mean equal splits."""
        return hashlib.sha256(json.dumps(self.rows).encode()).hexdigest()

    def save(self, path):
        """Writes the columns study, patient, part as csv; a file that was there is replaced in one step."""
        with replace_file(path) as place, open(place, "w", encoding="utf-8", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *self.rows])


def write_digest(path):
    """Writes the SHA-256 of a file beside it, as `<name>.sha256`, in the form that `sha256sum --check` reads.

    `read_parts` compares a split with it: a split that was altered is refused.
    """
    path = Path(path)
    with replace_file(_digest_place(path)) as place:
        place.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n", encoding="utf-8")


def split_studies(studies, *, shares=(0.7, 0.1, 0.2), seed=0, label_names=None):
    """Splits studies by groups: those that share a patient, a report body or a frontal film stay together.

    The groups are dealt out largest first (and those with the rarest label first), each to the part that then misses
    its shares of studies and of every label the least: iterative stratification, for groups. An unknown label (NaN)
    counts for nothing. An empty body joins nothing, nor does a film that was not identified: see
    `kmm.film_identity.identify_films`.

    Source: https://doi.org/10.1007/978-3-642-23808-6_10 (Sechidis et al. 2011; there for single studies)

    Args:
        studies: sequence of `Study`; its order does not matter.
        shares: three floats, of train, validation and test; each at least 0, their sum 1. A share of 0 leaves
            a part empty.
        seed: int, 0 or more.
        label_names: names of the labels to stratify by; None takes all.

    Returns:
        `Split`.

    Raises:
        InputError: if the shares are not as above, two studies have one id, or there are too few groups.

    Example:
        >>> from kmm.data.study import Study
        >>> studies = [Study(str(n), patient=str(n), labels={"abnormal": n % 2}) for n in range(20)]
        >>> [len(split_studies(studies).part(name)) for name in PARTS]
        [14, 2, 4]
    """
    shares = tuple(float(share) for share in shares)
    if len(shares) != 3 or not all(0 <= share <= 1 for share in shares) or abs(sum(shares) - 1) > 1e-6:
        raise InputError(f"The shares of train, validation and test must be 0 or more with sum 1. Received: {shares}.")
    groups = group_studies(studies)
    dealt = deal_groups(groups, shares, _seeded(seed), label_names=label_names)
    return _make_split(dict(zip(PARTS, dealt)))


def k_folds(studies, k, *, repeats=1, seed=0, validation=0.1, label_names=None):
    """Splits studies into `k` folds, each of which is the test part once (per repeat).

    Args:
        studies, seed, label_names: as in `split_studies`.
        k: int, 2 or more.
        repeats: int. How often to do it all over with other folds.
        validation: float. Share of all studies that becomes the validation part of each split.

    Returns:
        list of `repeats * k` `Split`, one repeat after the other.

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
            "Folds need k of 2 or more, repeats of 1 or more and a validation share in [0, 1 - 1 / k). "
            f"Received: k {k}, repeats {repeats}, validation {validation}."
        )
    groups = group_studies(studies)
    splits = []
    for repeat in range(repeats):
        folds = deal_groups(groups, (1 / k,) * k, _seeded(seed, repeat), label_names=label_names)
        for index, test in enumerate(folds):
            rest = [group for fold in folds if fold is not test for group in fold]
            share = validation / (1 - 1 / k)
            train, held_out = deal_groups(
                rest, (1 - share, share), _seeded(seed, repeat, index), label_names=label_names
            )
            splits.append(_make_split({"train": train, "validation": held_out, "test": test}))
    return splits


def load_split(path, studies, *, allow_missing=False):
    """Reads a split from a csv file with the columns study and part (others are not read) and fits it to the studies.

    Args:
        path: Path or str.
        studies: sequence of `Study`.
        allow_missing: bool. True leaves out studies that the file names and `studies` lacks.

    Returns:
        `Split` of exactly these studies.

    Raises:
        InputError: if the file cannot be read, lacks a column, names an unknown part or a study twice, or does not
            name every study, or (unless `allow_missing`) names others.
    """
    path = Path(path)
    parts = read_parts(path)
    patients = {study.id: study.patient for study in studies}
    unnamed = [study for study in patients if study not in parts]
    if unnamed:
        raise InputError(f"{path}: every study must have a row. {name_some(unnamed)} of the data have none.")
    unknown = [study for study in parts if study not in patients]
    if unknown and not allow_missing:
        raise InputError(f"{path}: every row must be a study of the data. {name_some(unknown)} of the file are not.")
    return Split({study: parts[study] for study in patients}, patients)


def check_leaks(split, studies):
    """Makes sure that no patient, identical report body or identical film crosses from one part of a split to another.

    Args:
        split: `Split`.
        studies: sequence of `Study`; those that the split does not name are not looked at.

    Raises:
        LeakError: if one crosses; it tells how many patients, bodies and films, and names some studies.
    """
    keys = defaultdict(list)
    for study in studies:
        if study.id in split.parts:
            for key in find_keys(study):
                keys[key].append(study.id)
    crossing = {key: ids for key, ids in keys.items() if len({split.parts[study] for study in ids}) > 1}
    if crossing:
        count = Counter(kind for kind, _ in crossing)
        ids = dict.fromkeys(study for group in crossing.values() for study in group)
        examples = ", ".join(f"{study} ({split.parts[study]})" for study in list(ids)[:6])
        raise LeakError(
            "No patient, identical report body or identical film may cross the parts of a split. Films that cross: "
            f"{count['film']}. Patients that cross: {count['patient']}; report bodies: {count['body']}; studies: "
            f"{len(ids)}, for example {examples}."
        )


def _make_split(dealt):
    part_of = {study.id: (study, name) for name, groups in dealt.items() for group in groups for study in group}
    rows = [part_of[key] for key in sorted(part_of)]
    return Split({study.id: name for study, name in rows}, {study.id: study.patient for study, _ in rows})


def _seeded(seed, *more):
    if seed < 0:
        raise InputError(f"The seed must be 0 or more. Received: {seed}.")
    return np.random.default_rng([seed, *more])


def read_parts(path):
    """Reads which part each study has in a split.csv.

    Raises:
        InputError: if it is none, or not the one that its digest beside it was written for.

    Returns:
        dict of study id to part.
    """
    path = Path(path)
    try:
        _compare_digest(path, path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: the split cannot be read: {error.strerror}.") from error
    columns, rows, problems = read_rows(path)
    if not {"study", "part"} <= set(columns):
        raise InputError(f"{path}: a split needs the columns study and part. Received: {show_columns(columns)}.")
    if problems:
        raise InputError(f"{path}: {problems[0]}")
    parts = {}
    for line, row in rows:
        study, part = row["study"].strip(), row["part"].strip()
        if not study:
            raise InputError(f"{path}: row {line}: expected a study.")
        if part not in PARTS:
            raise InputError(f"{path}: row {line}: the part must be one of {', '.join(PARTS)}.")
        if study in parts:
            raise InputError(f"{path}: row {line}: every study may have one row. Study {study} has two.")
        parts[study] = part
    return parts


def _digest_place(path):
    return path.with_name(f"{path.name}.sha256")


def _compare_digest(path, data):
    """Refuses a split that is not the one of its digest; one without a digest is taken as it is."""
    place = _digest_place(path)
    if place.is_file() and place.read_bytes()[:64] != hashlib.sha256(data).hexdigest().encode():
        raise InputError(
            f"{path}: expected the split that {place.name} was written for. It was altered since: write it anew, or "
            f"remove {place.name} to take it as it is."
        )
