"""Many studies, one after the other: what both clients share of streaming."""

from dataclasses import dataclass
from pathlib import Path

from kmm.client.results import Prediction
from kmm.data.study import Problem, Study
from kmm.errors import InputError


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

    Yields:
        `Study`, or `Problem` where a path holds none.
    """
    from kmm.data.inputs import read_inputs

    for source in [sources] if isinstance(sources, str | Path | Study) else sources:
        if isinstance(source, Study):
            yield source
            continue
        try:
            collection = read_inputs([source])
        except (InputError, OSError) as error:
            yield Problem(str(source), str(error))
            continue
        yield from collection.problems
        yield from collection.studies


def check_concurrency(concurrency):
    """Raises `InputError` where a number of requests at the same time is out of range."""
    if isinstance(concurrency, bool) or not isinstance(concurrency, int) or not 1 <= concurrency <= 1000:
        raise InputError(f"`concurrency` must be a whole number from 1 to 1000. Received: {concurrency!r}.")


def fail_row(study, error):
    """The row of a study that could not be predicted."""
    return Row(study, problem=Problem(f"study {study.id}", str(error)))
