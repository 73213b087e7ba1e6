"""Arguments of a request, converted to rows of film and report."""

from collections.abc import Sequence
from typing import Any, TypeVar

from kmm.client.films import Film
from kmm.data.study import SECTIONS, Collection, Report, Study
from kmm.data.tabular.columns import is_table
from kmm.errors import InputError

AnyImage = Film | Study | None
AnyReport = str | Report | Study | None
Images = AnyImage | Sequence[AnyImage] | Collection
Reports = AnyReport | Sequence[AnyReport]
Targets = str | None | Sequence[str | None]
_Result = TypeVar("_Result")


class Studies:
    """Arguments of a request as rows of image and report.

    Args:
        image: a film, a `kmm.data.study.Study` for both, or a list of these; None marks a missing film. A
            `kmm.data.study.Collection` is the list of its studies.
        report: a report, or a list of them; None marks a missing report.

    Attributes:
        rows: list of `(image, report)`.
        ids: list of str: the ids of the studies, or their numbers.
        many: bool. Whether lists were given.
        is_study: bool. Whether studies were given; the model then takes only the parts that it reads.
        need_sections: bool. Whether a report consists of separate sections.

    Raises:
        InputError: if the lists have different lengths, a study comes with a second report, or a table is given.
    """

    def __init__(self, image: Images, report: Reports):
        if isinstance(image, Collection):
            image = list(image)
        elif is_table(image):
            raise InputError(
                "A client does not read tables. Pass the studies of `kmm.studies(table, image=..., report=...)`."
            )
        self.many = isinstance(image, list | tuple) or isinstance(report, list | tuple)
        images, reports = (_as_rows(value) for value in (image, report))
        if self.many and None in (images, reports):
            count = len(reports if images is None else images)
            images, reports = ([None] * count if rows is None else rows for rows in (images, reports))
        images, reports = ([None] if rows is None else rows for rows in (images, reports))
        if len(images) != len(reports):
            raise InputError(
                f"Expected equal numbers of images and reports. Received: {len(images)} images, {len(reports)} reports."
            )
        self.is_study = any(isinstance(image, Study) for image in images)
        self.ids = [image.id if isinstance(image, Study) else str(row) for row, image in enumerate(images)]
        self.rows = [_split_study(image, report) for image, report in zip(images, reports)]
        self.need_sections = any(not isinstance(report, str | None) for _, report in self.rows)

    def unpack(self, results: list[_Result]) -> _Result | list[_Result]:
        """Returns the results in the form of the request: a list where lists were given, else the only result."""
        return results if self.many else results[0]


def _as_rows(value):
    if value is None:
        return None
    return list(value) if isinstance(value, list | tuple) else [value]


def _split_study(image, report):
    if not isinstance(image, Study):
        return image, report
    if report is not None:
        raise InputError("A `Study` already contains its own report. Do not pass another one.")
    film = image.frontal
    return film and (film.path if film.memory is None else film.memory), image.report


def list_targets(target: Targets, count: int) -> list[str | None]:
    """Lists the names of the labels to explain, one per study; None means the most probable label.

    Args:
        target: str or None, for all studies; or a list with one per study.
        count: int. Number of studies.

    Raises:
        InputError: if the number of targets differs from `count`, or one is not a str.

    Example:
        >>> list_targets("mass", 2)
        ['mass', 'mass']
    """
    targets: list[Any] = list(target) if isinstance(target, list | tuple) else [target] * count
    if len(targets) != count:
        raise InputError(f"`target` must be one label or a list of {count} targets. Received: {len(targets)} targets.")
    for name in targets:
        if not isinstance(name, str | None):
            raise InputError(f"`target` must be the name of a label. Received: {type(name).__name__}.")
    return targets


def list_sections(description: dict[str, Any]) -> tuple[str, ...]:
    """Lists the sections of a report that a model reads, from the reply of `describe`.

    Example:
        >>> list_sections({"preparation": {"text": {"sections": ["findings"]}}}), list_sections({})
        (('findings',), ())
    """
    found: Any = description
    for key in ("preparation", "text", "sections"):
        found = found.get(key) if isinstance(found, dict) else None
    return tuple(name for name in found if name in SECTIONS) if isinstance(found, list) else ()
