"""The rows of a request a few at a time: it takes the memory of a slice, and ends soon after its client is gone."""

import re

import numpy as np

from kmm.protocol.signatures import MOST_EXPLAINED, MOST_ROWS
from kmm.server.status import ServingError

EXPLAIN = "explain"  # what the names of signatures that explain begin with
SLICE_ROWS, SLICE_EXPLAINED = 32, 1  # an explanation takes seconds
SLICE_PIXELS = 2**24
_NUMBERED = re.compile(r"\A((?:assertion failed: \[)?\w+ )(\d+)(?=: )")


def cut_rows(servable, key, arrays, pixels):
    """Cuts a request into slices of rows.

    A request stays whole if its model is not known to take rows one by one, and if the graph refuses it as a whole:
    if an input has another shape than its signature, or they have different numbers of rows, or too many.

    Args:
        servable: `kmm.server.models.servable.Servable`.
        key: str, a name in `servable.signatures`.
        arrays: dict of input name to array.
        pixels: list of int, the pixels of the film of each row; empty where no input holds films.

    Returns:
        list of `slice`, in order.
    """
    inputs, explained = servable.signatures[key].inputs, key.startswith(EXPLAIN)
    fit = all(_fits(array, inputs[name].tensor_shape) for name, array in arrays.items())
    counts = {len(array) for array in arrays.values()} if fit else ()
    most = MOST_EXPLAINED if explained else MOST_ROWS
    if "describe" not in servable.signatures or len(counts) != 1 or not 0 < max(counts) <= most:
        return [slice(0, None)]
    return list(_walk_slices(pixels or [0] * max(counts), SLICE_EXPLAINED if explained else SLICE_ROWS))


def run_slices(run, arrays, slices):
    """Runs a request slice by slice.

    Args:
        run: function of a `slice` and a dict of arrays with its rows; returns a dict of arrays with as many rows. Its
            errors number the rows of the slice.
        arrays: dict of input name to array.
        slices: list of `slice`, as of `cut_rows`.

    Returns:
        dict of output name to array, the rows of all slices.

    Raises:
        ServingError: as `run`; a row that it numbers is that of the request.
    """
    if len(slices) == 1:
        return run(slices[0], arrays)
    parts = []
    for rows in slices:
        try:
            parts.append(run(rows, {name: array[rows] for name, array in arrays.items()}))
        except ServingError as error:
            raise ServingError(error.code, shift_row(str(error), rows.start)) from error.__cause__
    return {name: np.concatenate([part.pop(name) for part in parts]) for name in list(parts[0])}


def shift_row(text, first):
    """The text of an error of a slice, with the number that the row has in the request.

    Args:
        text: str.
        first: int. The number of the slice's first row.

    Example:
        >>> shift_row("assertion failed: [image 1: expected a film.]", 32)
        'assertion failed: [image 33: expected a film.]'
    """
    return _NUMBERED.sub(lambda found: f"{found[1]}{int(found[2]) + first}", text)


def _fits(array, shape):
    """Whether an array has the shape that a signature states, whose first axis is the batch."""
    sides = [side.size for side in shape.dim]
    return array.ndim > 0 and not shape.unknown_rank and sides == [-1, *array.shape[1:]]


def _walk_slices(pixels, most_rows):
    start, held = 0, 0
    for row, size in enumerate(pixels):
        if row > start and (row - start == most_rows or held + size > SLICE_PIXELS):
            yield slice(start, row)
            start, held = row, 0
        held += size
    yield slice(start, len(pixels))
