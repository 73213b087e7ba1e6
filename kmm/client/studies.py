"""The arguments of a request as rows of film and report."""

from kmm.data.study import SECTIONS, Study
from kmm.errors import InputError


class Studies:
    """Arguments of a request as rows of image and report.

    Args:
        image: a film, a `kmm.data.study.Study` for both, or a list of these; None entries for what is missing.
        report: a report, or a list of them.

    Attributes:
        rows: list of `(image, report)`.
        many: bool. Whether lists were given.
        is_study: bool. Whether studies were given, of which the model takes what it reads.
        need_sections: bool. Whether a report comes in sections.
    """

    def __init__(self, image, report):
        self.many = isinstance(image, list | tuple) or isinstance(report, list | tuple)
        images, reports = (_as_rows(value) for value in (image, report))
        if self.many and None in (images, reports):
            count = len(reports if images is None else images)
            images, reports = ([None] * count if rows is None else rows for rows in (images, reports))
        images, reports = ([None] if rows is None else rows for rows in (images, reports))
        if len(images) != len(reports):
            raise InputError(f"Expected as many images as reports. Received: {len(images)} and {len(reports)}.")
        self.is_study = any(isinstance(image, Study) for image in images)
        self.rows = [_split_study(image, report) for image, report in zip(images, reports)]
        self.need_sections = any(not isinstance(report, str | None) for _, report in self.rows)

    def unpack(self, results):
        """The results as they were asked for: a list, or the only one."""
        return results if self.many else results[0]


def _as_rows(value):
    if value is None:
        return None
    return list(value) if isinstance(value, list | tuple) else [value]


def _split_study(image, report):
    if not isinstance(image, Study):
        return image, report
    if report is not None:
        raise InputError("A study brings its own report. Received: a study and a report.")
    return image.frontal and image.frontal.path, image.report


def list_targets(target, count):
    """Names of labels to explain, one a study; None stands for the most probable one.

    Args:
        target: str or None, for all studies; or a list of them.
        count: int. Studies.

    Raises:
        InputError: if there is another number of them, or one is no str.

    Example:
        >>> list_targets("mass", 2)
        ['mass', 'mass']
    """
    targets = list(target) if isinstance(target, list | tuple) else [target] * count
    if len(targets) != count:
        raise InputError(f"Expected {count} targets. Received: {len(targets)}.")
    for name in targets:
        if not isinstance(name, str | None):
            raise InputError(f"`target` must be the name of a label. Received: {type(name).__name__}.")
    return targets


def list_sections(description):
    """The sections of a report that a model reads, of what `describe` says.

    Example:
        >>> list_sections({"preparation": {"text": {"sections": ["findings"]}}}), list_sections({})
        (('findings',), ())
    """
    found = description
    for key in ("preparation", "text", "sections"):
        found = found.get(key) if isinstance(found, dict) else None
    return tuple(name for name in found if name in SECTIONS) if isinstance(found, list) else ()
