"""Sizes of the training part: which ones a comparison has, and splits with fewer studies to train on."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from kmm.data.groups import assign_groups, group_studies
from kmm.data.split import Split
from kmm.data.study import Study
from kmm.errors import InputError

HALVES = "auto"  # stands for sizes that are halved from the whole training part
ABOUT = 75  # studies: halving ends above it, so with 75 to 150
LEAST = 10  # studies of the smallest size that can be asked for
SHRUNK = ("train", "validation")  # parts that have fewer studies; the test part stays whole
TOLERANCE = 0.1  # of a size, which groups that stay together may miss


def check_sizes(sizes: Any) -> tuple[int, ...] | None:
    """Checks the sizes that a user asks for.

    Args:
        sizes: None or False for none; True, or `"auto"`, for sizes that are halved from the training part; or a
            sequence of whole numbers of training studies.

    Returns:
        ascending tuple of int, empty for halves; None for none.

    Raises:
        InputError: for anything else.

    Example:
        >>> check_sizes(["400", "100"]), check_sizes(True), check_sizes(None)
        ((100, 400), (), None)
    """
    if sizes is None or sizes is False:
        return None
    if sizes is True or sizes == HALVES or (isinstance(sizes, Sequence) and list(sizes) == [HALVES]):
        return ()
    words = [sizes] if isinstance(sizes, str) or not isinstance(sizes, Iterable) else list(sizes)
    numbers = [int(word) if str(word).strip().isdecimal() else 0 for word in words]
    if not numbers or min(numbers) < LEAST or len(set(numbers)) < len(numbers):
        raise InputError(
            f"`sizes` must be different whole numbers of training studies, {LEAST} or more, as in 100,200,400. "
            f"Received: {', '.join(map(str, words)) or 'none'}."
        )
    return tuple(sorted(numbers))


def choose_sizes(splits: Sequence[Split], asked: Collection[int]) -> list[int]:
    """Chooses the sizes of the training part that are compared beside the whole one.

    Args:
        splits: sequence of `Split`.
        asked: sizes that were asked for; without any, the smallest training part is halved until about 100 are left.

    Returns:
        list of int, the largest first, each below the smallest training part.

    Raises:
        InputError: if a size is not below it, or it is too small to be halved.

    Example:
        >>> split = Split({str(n): "train" for n in range(1664)}, {})
        >>> choose_sizes([split], ()), choose_sizes([split], (100, 500))
        ([832, 416, 208, 104], [500, 100])
    """
    whole = min(len(split.part("train")) for split in splits)
    if asked:
        if max(asked) >= whole:
            raise InputError(
                f"Each of `sizes` must be below the training part, which is compared too and has {whole} studies. "
                f"Received: {max(asked)}."
            )
        return sorted(asked, reverse=True)
    halves = [size for power in range(1, whole.bit_length()) if (size := whole >> power) >= ABOUT]
    if not halves:
        raise InputError(
            f"The training part has {whole} studies, too few to be halved. Give `sizes` as numbers of training studies."
        )
    return halves


def shrink_split(
    split: Split,
    studies: Iterable[Study],
    size: int,
    *,
    seed: int,
    label_names: Sequence[str] | None = None,
    plain: bool = False,
) -> Split:
    """Returns a split with fewer studies in training and, in proportion, in validation. The test part stays whole.

    It stands for a hospital that has fewer studies, of which some must be kept for validation. Studies that share a
    patient, a report body or a film are taken together or left out together, stratified by label. A smaller split of
    the same seed is inside a larger one, and depends on no other size.

    Args:
        split: `Split`.
        studies: iterable of its `Study`.
        size: int. Number of training studies.
        seed: int >= 0, another one for each split.
        label_names: names of the labels to stratify by; None takes all.
        plain: bool. Takes each study for itself.

    Returns:
        `Split` that names fewer studies. Groups are not divided, so the training part may miss the size a little.

    Raises:
        InputError: if groups that stay together make it miss the size by more than a tenth.

    Example:
        >>> studies = [Study(str(n), str(n), labels={"a": n % 2}) for n in range(60)]
        >>> parts = {study.id: ("train", "train", "validation", "test")[int(study.id) // 15] for study in studies}
        >>> small = shrink_split(Split(parts, {study.id: study.patient for study in studies}), studies, 10, seed=0)
        >>> [len(small.part(name)) for name in ("train", "validation", "test")]
        [10, 5, 15]
    """
    members = {study.id: study for study in studies if study.id in split.parts}
    share = size / len(split.part("train"))
    kept = set(split.part("test"))
    for number, part in enumerate(SHRUNK):
        own = [members[study] for study in split.part(part)]
        groups: list[list[Study]] = [[study] for study in own] if plain else group_studies(own)
        wanted = size if part == "train" else max(1, round(share * len(own)))
        taken = _take(groups, wanted, (seed, number), label_names)
        chosen = {study.id for group in taken for study in group}
        if part == "train" and abs(len(chosen) - size) > max(1, TOLERANCE * size):
            raise InputError(
                f"A training part of {size} studies cannot be made: studies that share a patient, a report body or a "
                f"film stay together, and the nearest has {len(chosen)}. Give larger `sizes`."
            )
        kept |= chosen
    return Split(
        {study: part for study, part in split.parts.items() if study in kept},
        {study: patient for study, patient in split.patients.items() if study in kept},
    )


def _take(groups, size, path, label_names):
    """Takes groups with about as many studies as wanted: a whole half of them, or a part of it, or more than it.

    The halves are stratified, and depend on nothing but the groups and the path to them, so what is taken for a size is
    inside what is taken for a larger one. The half with the largest group comes last: it fits into no small size.
    """
    total = sum(map(len, groups))
    if size >= total or not size:
        return groups if size else []
    if len(groups) == 1:
        return groups if 2 * size >= total else []
    halves = assign_groups(groups, (0.5, 0.5), np.random.default_rng(path), label_names=label_names)
    first, second = sorted(halves, key=lambda half: max(map(len, half)))
    count = sum(map(len, first))
    if size <= count:
        return _take(first, size, (*path, 0), label_names)
    return [*first, *_take(second, size - count, (*path, 1), label_names)]
