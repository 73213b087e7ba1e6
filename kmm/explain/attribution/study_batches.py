"""Batches of whole studies, for methods that follow no path: several labels of a study in one pass."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from kmm.explain.attribution.result import Attribution

if TYPE_CHECKING:
    from kmm.explain.attribution.methods import Case

BATCH = 8  # most studies at once; their films stay in memory at their own size meanwhile
Arrays = Mapping[str, np.ndarray]


def group_cases(cases: "Iterable[Case]", most: int | None = None) -> "Iterator[list[tuple[int, Case]]]":
    """Groups successive cases with the same arrays: the labels of one study.

    Args:
        cases: iterable of `kmm.explain.attribution.methods.Case`. Read one further than what was yielded.
        most: int >= 1. Most cases of a group; None: any number.

    Yields:
        list of the number of a case, from 0, and the case.
    """
    group: list[tuple[int, Case]] = []
    for number, case in enumerate(cases):
        first = group[0][1] if group else case
        if len(group) == most or case.inputs is not first.inputs or case.fixed is not first.fixed:
            yield group
            group = []
        group.append((number, case))
    if group:
        yield group


def attribute_batches(
    cases: "Iterable[Case]",
    compute: Callable[[Arrays, Arrays, np.ndarray, np.ndarray], tuple[Mapping[str, Any], Any]],
    settle: "Callable[[Case, Arrays, np.ndarray], Attribution]",
    *,
    size: int,
    labels: int = 1,
) -> Iterator[tuple[int, Attribution]]:
    """Explains many studies, in batches of one size, so that nothing is traced twice.

    Args:
        cases: iterable of `kmm.explain.attribution.methods.Case`, each with a target.
        compute: function `(inputs, fixed, targets, count)` of arrays with a first axis of `size` studies, of int
            `(labels, size)`, and of the number of rows of `targets` that are needed; -1 stands for no label. It returns
            a dict of tensors `(labels, size, ...)`, or `(1, size, ...)` if they are those of every label, and the
            scores `(size, n_labels)`.
        settle: function of a case, its own part of that dict, and its scores.
        size: int >= 1. Studies at once.
        labels: int >= 1. Most labels of a study at once.

    Yields:
        the number of a case, from 0, and its `Attribution`.
    """
    groups = group_cases(cases, labels)
    while batch := list(islice(groups, size)):
        firsts = [group[0][1] for group in batch]
        firsts += firsts[:1] * (size - len(batch))
        targets = np.full((labels, size), -1, np.int32)
        for column, group in enumerate(batch):
            targets[: len(group), column] = np.array([case.target for _, case in group])
        values, scores = compute(
            stack([case.inputs for case in firsts]),
            stack([case.fixed for case in firsts]),
            targets,
            np.array(max(map(len, batch)), np.int32),
        )
        values = {name: ops.convert_to_numpy(value) for name, value in values.items()}
        scores = ops.convert_to_numpy(scores).astype(np.float64)
        for column, group in enumerate(batch):
            for row, (number, case) in enumerate(group):
                own = {name: value[min(row, len(value) - 1), column] for name, value in values.items()}
                yield number, settle(case, own, scores[column])


def stack(dicts: "list[Mapping[str, np.ndarray]]") -> dict[str, np.ndarray]:
    """Stacks the arrays of several dicts with the same names."""
    return {name: np.stack([values[name] for values in dicts]) for name in dicts[0]}
