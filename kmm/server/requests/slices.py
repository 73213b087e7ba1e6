"""Run a request in slices of rows: it takes the memory of one slice, and ends soon after its client disconnects."""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from kmm.protocol.signatures import DESCRIBE, EXPLAIN, MOST_EXPLAINED, MOST_ROWS
from kmm.server.models.servable import Servable
from kmm.server.status import ServingError

SLICE_ROWS, SLICE_EXPLAINED = 32, 1  # an explanation takes seconds
SLICE_PIXELS = 2**24
_NUMBERED = re.compile(r"\A((?:assertion failed: \[)?\w+ )(\d+)(?=: )")


def cut_rows(servable: Servable, key: str, arrays: Mapping[str, np.ndarray], pixels: Sequence[int]) -> list[slice]:
    """Cuts a request into slices of rows.

    A request stays whole if its model may not treat rows independently, or if the graph will refuse it: if the shape of
    an input does not fit the signature, or the inputs have different numbers of rows or too many.

    Args:
        servable: `kmm.server.models.servable.Servable`.
        key: str, a name in `servable.signatures`.
        arrays: dict of input name to array.
        pixels: list of int, the pixels of the film in each row; empty if no input holds films.

    Returns:
        list of `slice`, in order.
    """
    inputs, explained = servable.signatures[key].inputs, key.startswith(EXPLAIN)
    fit = all(_fits(array, inputs[name].tensor_shape) for name, array in arrays.items())
    counts = {len(array) for array in arrays.values()} if fit else ()
    most = MOST_EXPLAINED if explained else MOST_ROWS
    if DESCRIBE not in servable.signatures or len(counts) != 1 or not 0 < max(counts) <= most:
        return [slice(0, None)]
    return list(_walk_slices(pixels or [0] * max(counts), SLICE_EXPLAINED if explained else SLICE_ROWS))


def run_slices(
    run: Callable[[slice, Mapping[str, np.ndarray]], dict[str, np.ndarray]],
    arrays: Mapping[str, np.ndarray],
    slices: Sequence[slice],
) -> dict[str, np.ndarray]:
    """Runs a request slice by slice.

    Args:
        run: function of a `slice` and a dict of arrays with its rows; returns a dict of arrays with the same number of
            rows. Its errors count rows within the slice.
        arrays: dict of input name to array.
        slices: list of `slice`, as returned by `cut_rows`.

    Returns:
        dict of output name to array, the rows of all slices.

    Raises:
        ServingError: as raised by `run`, with row numbers of the whole request.
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


def shift_row(text: str, first: int) -> str:
    """Replaces the row number in the error of a slice by the number of the row in the request.

    Args:
        text: str. Text of the error.
        first: int. Number of the first row of the slice.

    Example:
        >>> shift_row("assertion failed: [image 1: expected a film.]", 32)
        'assertion failed: [image 33: expected a film.]'
    """
    return _NUMBERED.sub(lambda found: f"{found[1]}{int(found[2]) + first}", text)


def _fits(array, shape):
    """Returns whether an array has the shape of a signature whose first axis is the batch."""
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
