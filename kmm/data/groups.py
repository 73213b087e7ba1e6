"""Group studies that must stay together, and assign the groups to the parts of a split."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from kmm.data.study import Study
from kmm.errors import InputError


def group_studies(studies: Iterable[Study]) -> list[list[Study]]:
    """Groups studies that share a patient, a report body or a frontal film, directly or through other studies.

    Args:
        studies: sequence of `Study`. A film without a `pixel_digest` (see `kmm.batches.identify_films`) does not
            join studies.

    Returns:
        list of lists of `Study`, in order of id.

    Raises:
        InputError: if two studies have the same id.

    Example:
        >>> from kmm.data.study import Report, Study
        >>> same = Report(findings="Clear.")
        >>> studies = [Study("1", "a", report=same), Study("2", "b", report=same), Study("3", "b"), Study("4", "c")]
        >>> [[study.id for study in group] for group in group_studies(studies)]
        [['1', '2', '3'], ['4']]
    """
    studies = sorted(studies, key=lambda study: study.id)
    twice = [one.id for one, other in itertools.pairwise(studies) if one.id == other.id]
    if twice:
        raise InputError(f"Study ids must be unique. {name_some(twice)} occur twice.")
    parent = list(range(len(studies)))

    def find_root(index: int) -> int:
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    first: dict[tuple[str, str], int] = {}
    for index, study in enumerate(studies):
        for key in find_keys(study):
            parent[find_root(index)] = find_root(first.setdefault(key, index))
    groups: dict[int, list[Study]] = defaultdict(list)
    for index, study in enumerate(studies):
        groups[find_root(index)].append(study)
    return list(groups.values())


def find_keys(study: Study) -> list[tuple[str, str]]:
    """Returns the keys that no two parts of a split may share: pairs of a kind and an identity.

    The kinds are `patient`, `body` (of the report) and `film` (the digest of the frontal film).

    Example:
        >>> from kmm.data.study import Study
        >>> find_keys(Study("1", "a"))
        [('patient', 'a')]
    """
    keys = [("patient", study.patient)]
    if study.report is not None and study.report.body:
        keys.append(("body", study.report.body))
    if study.frontal is not None and study.frontal.pixel_digest:
        keys.append(("film", study.frontal.pixel_digest))
    return keys


def assign_groups(
    groups: Sequence[Sequence[Study]],
    shares: Sequence[float],
    rng: np.random.Generator,
    *,
    label_names: Sequence[str] | None = None,
) -> list[list[Sequence[Study]]]:
    """Assigns groups to parts, largest first, each to the part that brings all parts closest to their shares.

    Args:
        groups: list of lists of `Study`.
        shares: floats with sum 1, one per part; a part with share 0 gets no group.
        rng: `numpy.random.Generator`; breaks ties.
        label_names: names of the labels to stratify by; None takes all. Unknown labels (NaN) are not counted.

    Returns:
        list of lists of groups, one per share; a part with a share above 0 is never empty.

    Raises:
        InputError: if there are fewer groups than parts to fill.
    """
    wanted = sum(share > 0 for share in shares)
    if len(groups) < wanted:
        raise InputError(
            f"A split into {wanted} parts needs as many groups of studies. Received: {len(groups)}. "
            "Studies that share a patient, a report body or a film form one group."
        )
    counts = _count_labels(groups, label_names)
    total = counts.sum(0)
    target = np.outer(shares, total)
    weight = np.divide(1.0, target, out=np.zeros_like(target), where=target > 0)
    rarest = np.where(counts[:, 1:] > 0, total[1:], np.inf).min(1, initial=np.inf)
    chance = rng.permutation(len(groups))
    assigned: list[list[Sequence[Study]]] = [[] for _ in shares]
    missing = -2 * target
    unused = np.where(np.asarray(shares) > 0, 0.0, np.inf)
    for index in np.lexsort((chance, rarest, -counts[:, 0])):
        # The rise of sum((assigned - target) ** 2 / target) if this group goes to each part.
        rise = (weight * counts[index] * (missing + counts[index])).sum(1) + unused
        best = int(rise.argmin())
        assigned[best].append(groups[index])
        missing[best] += 2 * counts[index]
    for part, share in zip(assigned, shares):
        if share > 0 and not part:
            largest = max(assigned, key=len)
            part.append(largest.pop())
    return assigned


def _count_labels(groups: Sequence[Sequence[Study]], label_names: Sequence[str] | None) -> np.ndarray:
    """Returns a float array `(n_groups, 1 + 2 * n_labels)`: counts of studies, then of each label's 1s and 0s.

    All columns of 1s precede those of 0s.
    """
    if label_names is None:
        label_names = sorted({name for group in groups for study in group for name in study.labels})
    studies = [study for group in groups for study in group]
    values = np.full((len(studies), len(label_names)), np.nan)
    for column, name in enumerate(label_names):
        values[:, column] = [study.labels.get(name, np.nan) for study in studies]
    owner = np.repeat(np.arange(len(groups)), [len(group) for group in groups])
    counts = np.zeros((len(groups), 1 + 2 * len(label_names)))
    np.add.at(counts, owner, np.column_stack([np.ones(len(studies)), values > 0.5, values <= 0.5]))
    return counts


def name_some(ids: Sequence[str]) -> str:
    """Returns the number of studies and the first few ids, for an error."""
    some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
    return f"{len(ids)} studies ({some})"
