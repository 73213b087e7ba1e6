"""Co-occurrence of labels: how many studies have both of two findings, against as many as chance would give."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from kmm.data.study import Study


def count_pairs(studies: Sequence[Study], names: Sequence[str]) -> list[dict[str, Any]]:
    """Counts the studies that have both of two labels, for each pair that occurs.

    Args:
        studies: sequence of `Study` with labels.
        names: sequence of the labels.

    Returns:
        list of dicts for JSON, most frequent pairs first: `label`, `other`, `both` (studies in which both are 1),
        `known` (studies in which both are known), and `expected`: as many as there would be of `both` if the labels
        were independent, float.

    Example:
        >>> studies = [Study(str(n), str(n), labels={"a": n < 2, "b": n < 1}) for n in range(4)]
        >>> count_pairs(studies, ["a", "b"])
        [{'label': 'a', 'other': 'b', 'both': 1, 'known': 4, 'expected': 0.5}]
    """
    table = np.array([[study.labels[name] for name in names] for study in studies], np.float64).reshape(-1, len(names))
    is_known, is_one = np.isfinite(table), np.nan_to_num(table) == 1
    rows = []
    for one, other in combinations(range(len(names)), 2):
        known = is_known[:, one] & is_known[:, other]
        both, count = int((is_one[:, one] & is_one[:, other]).sum()), int(known.sum())
        if both:
            expected = int((is_one[:, one] & known).sum()) * int((is_one[:, other] & known).sum()) / count
            rows.append(
                {"label": names[one], "other": names[other], "both": both, "known": count, "expected": expected}
            )
    return sorted(rows, key=lambda row: -row["both"])
