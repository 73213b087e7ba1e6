"""Groups of studies that must stay together, and how they are dealt out to the parts of a split."""

import itertools
from collections import defaultdict

import numpy as np

from kmm.errors import InputError


def group_studies(studies):
    """Groups studies that must stay together, directly or through others: by patient, report body and frontal film.

    Args:
        studies: sequence of `Study`. A film without a `pixel_digest` (see `kmm.film_identity.identify_films`)
            joins nothing.

    Returns:
        list of lists of `Study`, in order of id.

    Raises:
        InputError: if two studies have one id.

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
        raise InputError(f"Every study needs an id of its own. {name_some(twice)} occur twice.")
    parent = list(range(len(studies)))

    def find_root(index):
        while parent[index] != index:
            parent[index] = index = parent[parent[index]]
        return index

    first = {}
    for index, study in enumerate(studies):
        for key in find_keys(study):
            parent[find_root(index)] = find_root(first.setdefault(key, index))
    groups = defaultdict(list)
    for index, study in enumerate(studies):
        groups[find_root(index)].append(study)
    return list(groups.values())


def find_keys(study):
    """What no two parts may share: pairs of `patient`, `body` or `film` and which one it is.

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


def deal_groups(groups, shares, rng, *, label_names=None):
    """Deals groups out to parts: each, largest first, to the part that then misses its shares the least.

    Args:
        groups: list of lists of `Study`.
        shares: floats with sum 1, one a part; a part with share 0 gets nothing.
        rng: `numpy.random.Generator`; decides between equals.
        label_names: names of the labels to stratify by; None takes all. Unknown labels (NaN) count for nothing.

    Returns:
        list of lists of groups, one a share; none with a share above 0 is empty.

    Raises:
        InputError: if there are fewer groups than parts to fill.
    """
    wanted = sum(share > 0 for share in shares)
    if len(groups) < wanted:
        raise InputError(
            f"A split into {wanted} parts needs as many groups of studies. Received: {len(groups)}. "
            "Studies that share a patient, a report body or a film are one group."
        )
    counts = _count_labels(groups, label_names)
    total = counts.sum(0)
    target = np.outer(shares, total)
    weight = np.divide(1.0, target, out=np.zeros_like(target), where=target > 0)
    rarest = np.where(counts[:, 1:] > 0, total[1:], np.inf).min(1, initial=np.inf)
    chance = rng.permutation(len(groups))
    dealt, missing = [[] for _ in shares], -2 * target
    unused = np.where(np.asarray(shares) > 0, 0.0, np.inf)
    for index in np.lexsort((chance, rarest, -counts[:, 0])):
        # The rise of sum((dealt - target) ** 2 / target) if this group goes to each part.
        rise = (weight * counts[index] * (missing + counts[index])).sum(1) + unused
        best = int(rise.argmin())
        dealt[best].append(groups[index])
        missing[best] += 2 * counts[index]
    for part, share in zip(dealt, shares):
        if share > 0 and not part:
            largest = max(dealt, key=len)
            part.append(largest.pop())
    return dealt


def _count_labels(groups, label_names):
    """float array `(n_groups, 1 + 2 * n_labels)`: studies, then of each label those with it and those without."""
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


def name_some(ids):
    """How many, and the first few."""
    some = ", ".join(ids[:5]) + (", ..." if len(ids) > 5 else "")
    return f"{len(ids)} studies ({some})"
