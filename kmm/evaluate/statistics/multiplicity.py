"""Adjust the p-values of several tests for their number."""

import math
from collections.abc import Mapping

from kmm.errors import InputError


def adjust_holm(p_values: Mapping[str, float | None]) -> dict[str, float | None]:
    """Adjusts a family of p-values by Holm's step-down procedure.

    If each test whose adjusted p is below `a` is called significant, the chance of any wrong call in the family is at
    most `a`, however the tests depend on each other.

    Source: https://www.jstor.org/stable/4615733

    Args:
        p_values: dict of the name of a test to its p in [0, 1]; None for a test that could not be done, which does not
            count as a member of the family.

    Returns:
        dict of the same names, in the same order, to the adjusted p in [0, 1]; None stays None.

    Raises:
        InputError: if a p is not in [0, 1].

    Example:
        >>> adjust_holm({"joint-text": 0.01, "joint-image": 0.04, "joint-tfidf": 0.03, "joint-sum": None})
        {'joint-text': 0.03, 'joint-image': 0.06, 'joint-tfidf': 0.06, 'joint-sum': None}
    """
    known = {name: float(p) for name, p in p_values.items() if p is not None}
    for name, p in known.items():
        if math.isnan(p) or not 0 <= p <= 1:
            raise InputError(f'The p of "{name}" must be in [0, 1], or None. Received: {p}.')
    adjusted: dict[str, float | None] = dict.fromkeys(p_values)
    largest = 0.0
    for place, (name, p) in enumerate(sorted(known.items(), key=lambda item: item[1])):
        largest = max(largest, min(1.0, (len(known) - place) * p))
        adjusted[name] = largest
    return adjusted
