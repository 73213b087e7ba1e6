"""Many studies, one after the other: what both clients share of streaming."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kmm.client.arguments import take_whole
from kmm.data.study import Problem, Study
from kmm.errors import InputError
from kmm.protocol.predictions import Prediction


@dataclass(frozen=True)
class Row:
    """One study of many.

    Attributes:
        study: `kmm.data.study.Study`; None where it could not even be listed.
        prediction: `Prediction`, or None.
        problem: `kmm.data.study.Problem`: why there is no prediction; else None.
    """

    study: Study | None
    prediction: Prediction | None = None
    problem: Problem | None = None


def list_rows(sources):
    """Lists what is to be predicted, without reading it yet.

    Args:
        sources: a path or an iterable of paths and of `Study`: images, folders of them, manifests, folders in a layout
            that `kmm fit` reads.

    Returns:
        iterator of `Study`, and of `Problem` where a path holds none. It raises `InputError` where an item is neither a
        path nor a `Study`.

    Raises:
        InputError: if `sources` is none of these.
    """
    if isinstance(sources, str | Path | Study):
        sources = [sources]
    if isinstance(sources, bytes | bytearray) or not isinstance(sources, Iterable):
        raise InputError(f"`sources` must be paths or studies. Received: {type(sources).__name__}.")
    return _walk(sources)


def _walk(sources):
    from kmm.data.inputs import read_inputs

    for source in sources:
        if isinstance(source, Study):
            yield source
            continue
        if not isinstance(source, str | Path):
            raise InputError(f"`sources` must be paths or studies. Received one of type {type(source).__name__}.")
        try:
            collection = read_inputs([source])
        except (InputError, OSError) as error:
            yield Problem(str(source), str(error))
            continue
        yield from collection.problems
        yield from collection.studies


def check_concurrency(concurrency):
    """A number of requests at the same time as int; raises `InputError` where it is not in [1, 1000]."""
    return take_whole("concurrency", concurrency, 1, 1000)


def fail_row(study, error):
    """The row of a study that could not be predicted."""
    return Row(study, problem=Problem(f"study {study.id}", str(error)))
