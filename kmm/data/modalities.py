"""What a study holds: film and report, a film alone, or a report alone. Each pattern has its own calibration."""

import numpy as np

from kmm.errors import InputError

PATTERNS = ("both", "image", "text")
PATTERN_TITLES = {"both": "film and report", "image": "film alone", "text": "report alone"}
KEPT = {"both": (1, 1), "image": (1, 0), "text": (0, 1)}  # which columns of `present` a pattern keeps


def find_patterns(present):
    """Finds which pattern each study has.

    Only sums and products are used, so that arrays of NumPy, TensorFlow, JAX and torch are answered alike.

    Args:
        present: float array or tensor `(n, 2)` of 0 and 1: whether the film and the report are there.

    Returns:
        float array or tensor `(n,)`: the place of the pattern in `PATTERNS`. A study that holds nothing gets the last.

    Example:
        >>> find_patterns(np.array([[1, 1], [1, 0], [0, 1]])).tolist()
        [0, 1, 2]
    """
    image, text = present[:, 0], present[:, 1]
    return 2 * (1 - image) + image * (1 - text)


def choose_rows(table, present):
    """Gives each study the numbers of its pattern.

    Args:
        table: array `(3, n_labels)`, a row for each of `PATTERNS`.
        present: array `(n, 2)` of 0 and 1.

    Returns:
        array `(n, n_labels)`.

    Example:
        >>> choose_rows(np.array([[0.5], [0.4], [0.3]]), np.array([[0, 1], [1, 1]])).tolist()
        [[0.3], [0.5]]
    """
    return np.asarray(table)[np.asarray(find_patterns(np.asarray(present))).astype(np.int64)]


def list_patterns(*, image, text):
    """Lists the patterns that a model can meet, the fullest first.

    Args:
        image, text: bool. Whether it reads films, and reports; one of them at least.

    Returns:
        tuple of `PATTERNS`.

    Example:
        >>> list_patterns(image=True, text=True), list_patterns(image=False, text=True)
        (('both', 'image', 'text'), ('text',))
    """
    return PATTERNS if image and text else ("image",) if image else ("text",)


def hide_sides(present, pattern):
    """Hides the side that a pattern lacks.

    Args:
        present: array `(n, 2)` of 0 and 1.
        pattern: str, one of `PATTERNS`.

    Returns:
        array `(n, 2)` with the hidden column 0, and bool `(n,)`: the studies that hold all that the pattern keeps.

    Example:
        >>> hidden, rows = hide_sides(np.array([[1, 1], [0, 1]]), "image")
        >>> hidden.tolist(), rows.tolist()
        ([[1, 0], [0, 0]], [True, False])
    """
    hidden = np.asarray(present) * np.array(KEPT[pattern], np.asarray(present).dtype)
    return hidden, (hidden == KEPT[pattern]).all(axis=1)


def as_table(values, name="numbers"):
    """Gives one row of numbers for each pattern.

    Args:
        values: array `(n_labels,)`, which holds for every pattern; array `(3, n_labels)`; or a mapping of each of
            `PATTERNS` to `n_labels` numbers, as JSON holds them.
        name: str. What the numbers are, for the error.

    Returns:
        float64 array `(3, n_labels)`.

    Raises:
        InputError: if the values have another shape or are not numbers.

    Example:
        >>> as_table([0.5, 0.7]).tolist()
        [[0.5, 0.7], [0.5, 0.7], [0.5, 0.7]]
    """
    try:
        rows = [values[pattern] for pattern in PATTERNS] if isinstance(values, dict) else values
        table = np.array(rows, np.float64)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"The {name} must be numbers for each of {', '.join(PATTERNS)}.") from None
    if table.ndim == 1:
        table = np.tile(table, (len(PATTERNS), 1))
    if table.ndim != 2 or len(table) != len(PATTERNS):
        raise InputError(f"The {name} must be ({len(PATTERNS)}, n_labels) numbers. Received: shape {table.shape}.")
    return table


def as_mapping(table):
    """The inverse of `as_table`, as JSON holds it: dict of pattern to list of float."""
    return {pattern: list(map(float, row)) for pattern, row in zip(PATTERNS, table, strict=True)}
