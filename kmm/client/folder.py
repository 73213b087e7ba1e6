"""Streams of many studies, for both clients."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kmm.client.arguments import take_whole
from kmm.data.study import Collection, Problem, Study
from kmm.errors import InputError, ServerError
from kmm.protocol.predictions import Prediction, Predictions, warn_of_unused

Sources = Path | str | Study | Collection | Iterable[Path | str | Study]


@dataclass(frozen=True)
class Row:
    """The result for one study of many.

    Attributes:
        study: `kmm.data.study.Study`; None where no study could be read from a source.
        prediction: `Prediction`, or None.
        problem: `kmm.data.study.Problem` that explains why there is no prediction; None where there is one.
    """

    study: Study | None
    prediction: Prediction | None = None
    problem: Problem | None = None


def list_rows(sources: Sources) -> Iterator[Study | Problem]:
    """Lists the studies to predict, without reading their files yet.

    Args:
        sources: a path, a `Study`, or an iterable of these; paths of images, folders of images, manifests, or folders
            in a layout that `kmm fit` reads.

    Returns:
        iterator of `Study`, and of `Problem` for each path without a usable study. It raises `InputError` at an item
        that is neither a path nor a `Study`.

    Raises:
        InputError: if `sources` has another type.
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


def check_concurrency(concurrency: int) -> int:
    """Returns the number of concurrent requests; raises `InputError` if it is not a whole number in [1, 1000]."""
    return take_whole("concurrency", concurrency, 1, 1000)


def fail_row(study: Study, error: Exception) -> Row:
    """Returns the row of a study that could not be predicted."""
    return Row(study, problem=Problem(f"study {study.id}", str(error)))


def check_alone(report: object) -> None:
    """Raises `InputError` if reports are given beside a `Collection`."""
    if report is not None:
        raise InputError("A `Collection` already contains its own reports. Do not pass others.")


def gather_predictions(collection: Collection, rows: Iterable[Row], *, stacklevel: int = 2) -> Predictions:
    """Gathers the predictions of a collection, as a local classifier returns them.

    Args:
        collection: `Collection`.
        rows: iterable of `Row` for its studies, in order.
        stacklevel: int. Of the warning, as for `warnings.warn`; 2 is the caller.

    Returns:
        `Predictions` of the studies that have one. `problems` lists those of the collection, and the other studies.

    Raises:
        ServerError: if the labels of the model changed meanwhile.

    Warns:
        UserWarning: if studies have no prediction.
    """
    found: list[Prediction] = []
    ids: list[str] = []
    problems = list(collection.problems)
    for row in rows:
        if row.problem is not None:
            problems.append(row.problem)
        elif row.study is not None and row.prediction is not None:
            found.append(row.prediction)
            ids.append(row.study.id)
    if any(list(one.probabilities) != list(found[0].probabilities) for one in found):
        raise ServerError("The labels of the served model changed during the requests. Try again.", "ABORTED")
    predictions = Predictions(found, ids, problems)
    warn_of_unused(predictions, len(collection), stacklevel=stacklevel + 1)
    return predictions
