"""Batches of studies: which cases are one study, and what each batch computes."""

import dataclasses

import numpy as np
import pytest

from kmm.explain.attribution.methods import Case
from kmm.explain.attribution.study_batches import attribute_batches, group_cases


def make_case(number, target=0):
    inputs, fixed = {"image": np.full((2, 2, 1), number, np.float32)}, {"present": np.ones(2, np.float32)}
    return Case(str(number), inputs, frozenset(), fixed, target=target)


def make_cases(targets):
    """Cases of successive studies with the targets of each."""
    for number, own in enumerate(targets):
        first = make_case(number)
        yield from (dataclasses.replace(first, target=target) for target in own)


@pytest.mark.parametrize(
    ("most", "groups"),
    [(None, [[0, 1, 2], [3], [4, 5]]), (2, [[0, 1], [2], [3], [4, 5]]), (1, [[n] for n in range(6)])],
)
def test_successive_cases_with_the_same_arrays_are_one_study(most, groups):
    found = list(group_cases(make_cases([(0, 1, 2), (0,), (3, 1)]), most))
    assert [[number for number, _ in group] for group in found] == groups
    assert list(group_cases([])) == []


@pytest.mark.parametrize("shared", [False, True])
def test_each_case_gets_what_was_computed_for_its_study_and_label(shared):
    asked = []

    def compute(inputs, fixed, targets, count):
        asked.append((targets.tolist(), int(count), fixed["present"].shape))
        of_label = targets[:1] * 0 if shared else targets
        film = inputs["image"][:, 0, 0, 0]
        return {"map": 100 * of_label[:count] + film}, np.stack([film, -film], axis=1)

    found = dict(
        attribute_batches(
            make_cases([(1, 0), (0,), (1,)]),
            compute,
            lambda case, values, scores: (case.study, case.target, float(values["map"]), scores.tolist()),
            size=2,
            labels=2,
        )
    )
    assert asked == [([[1, 0], [0, -1]], 2, (2, 2)), ([[1, -1], [-1, -1]], 1, (2, 2))]
    maps = [0, 0, 1, 2] if shared else [100, 0, 1, 102]
    expected = zip([0, 0, 1, 2], [1, 0, 0, 1], maps, strict=True)
    assert [found[number] for number in range(4)] == [(str(s), t, m, [s, -s]) for s, t, m in expected]
