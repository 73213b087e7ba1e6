"""Lengths to which reports are cut for an encoder that reads batches of one length: most are short."""

from collections.abc import Mapping

import numpy as np

LENGTHS = 4  # the fourths of the greatest length; each takes compiling the encoder once


def divide_by_length(token_ids: np.ndarray, rows: Mapping[str, int], greatest: int) -> dict[int, dict[str, int]]:
    """Divides reports by the least of `LENGTHS` lengths that they fit, which depends on no other report.

    Args:
        token_ids: int `(n, greatest)`, 0 is padding, behind the words.
        rows: mapping of a key to the row of its report.
        greatest: int, at least 1.

    Returns:
        dict of length, ascending, to the keys and rows of its reports, in their order.

    Example:
        >>> ids = np.int32([[5, 6, 7, 0, 0, 0, 0, 0], [5, 0, 0, 0, 0, 0, 0, 0], [5, 6, 7, 8, 0, 0, 0, 0]])
        >>> divide_by_length(ids, {"a": 0, "b": 1, "c": 2}, 8)
        {2: {'b': 1}, 4: {'a': 0, 'c': 2}}
    """
    lengths = [-(-greatest * number // LENGTHS) for number in range(1, LENGTHS + 1)]
    found: dict[int, dict[str, int]] = {}
    for key, row in rows.items():
        words = int(np.count_nonzero(token_ids[row]))
        found.setdefault(next(length for length in lengths if words <= length), {})[key] = row
    return dict(sorted(found.items()))
