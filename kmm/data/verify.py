"""What is missing, unreadable, empty, duplicated, orphaned or inverted in a folder of studies."""

import hashlib
import os
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from kmm.data.collection import MISSING_IMAGE, read_collection
from kmm.data.film_files import OTHER_FILE, describe_passed_over, find_films, walk_files
from kmm.data.names import make_printable
from kmm.data.study import FRONTAL, LATERAL
from kmm.errors import ImageError
from kmm.progress import Progress

FULL_OPENI = {"reports": 3955, "images": 7470}
# Top, left, height, width as shares of the film: what is bright and what is dark on a chest film.
_BRIGHT = ((0.30, 0.42, 0.40, 0.16), (0.88, 0.20, 0.12, 0.60))
_DARK = (
    *((0, 0, 0.08, 0.08), (0, 0.92, 0.08, 0.08)),  # upper corners
    *((0, 0, 1, 0.04), (0, 0.96, 1, 0.04)),  # sides
    *((0.30, 0.20, 0.30, 0.15), (0.30, 0.65, 0.30, 0.15)),  # lungs
)
_MARGIN = 15
_AT_ONCE = 64  # images handed to the threads together, so that Ctrl-C ends soon


@dataclass(frozen=True)
class Check:
    """One row of the table.

    Attributes:
        name: str.
        found: int. How many there are.
        expected: int or None. How many there should be, None where no number is right or wrong.
        wrong: bool. True if this alone makes the answer bad news.
        examples: tuple of str: each file, study or group of them; never report text.
    """

    name: str
    found: int
    expected: int | None = None
    wrong: bool = False
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerifyReport:
    """What `verify_collection` found.

    Attributes:
        folder, layout: str. What was read, and as what.
        counts: dict of str to int: studies, with_report, with_frontal, images, frontal, lateral, unknown_view (all that
            are neither).
        checks: tuple of `Check`.
    """

    folder: str
    layout: str
    counts: dict[str, int]
    checks: tuple[Check, ...]

    @property
    def ok(self):
        """True if nothing is wrong."""
        return not any(check.wrong for check in self.checks)

    def as_dict(self):
        """Returns the report as plain dicts, lists, numbers and str, for JSON."""
        return asdict(self) | {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def verify_collection(path, read_image, *, view_overrides=None, progress=None):
    """Reads every study and every pixel of a collection and reports what is not as it should be.

    Wrong are: images that are missing (a table names them, no file is there), unreadable, empty (no bytes, or one gray
    level), equal to another image pixel by pixel, orphaned (no study names them) or inverted (`is_inverted`), and files
    or rows that were set aside. For information only: the counts, identical report bodies (common in Open-i, where a
    split keeps them together), conflicts of view, studies without a frontal or a report, files that were passed over
    because they are hidden, hold no film or were written by kmm, and for the original layout the totals of the full
    Open-i.

    Args:
        path: what `read_collection` takes.
        read_image: path -> float array `(height, width)`, 0..255; raises `ImageError`. As `kmm.image.read.read_image`.
        view_overrides: as in `read_collection`.
        progress: `kmm.progress.Progress`, or None for silence.

    Returns:
        `VerifyReport`. Images are read on all cores; memory does not grow with their number.

    Raises:
        InputError: as `read_collection`.
    """
    collection = read_collection(path, view_overrides=view_overrides)
    images = [image for study in collection.studies for image in study.images]
    missing = [problem.source for problem in collection.problems if problem.reason == MISSING_IMAGE]
    set_aside = [str(problem) for problem in collection.problems if problem.reason != MISSING_IMAGE]
    passed_over = Counter(collection.passed_over)
    orphans = _find_orphans(collection.folder, [image.path for image in images], passed_over)
    checks = [
        Check("images", len(images), len(images) + len(missing)),
        _expect_none("missing images", missing),
        _expect_none("files or rows set aside", set_aside),
        *_check_pixels([image.path for image in images], read_image, progress or Progress()),
        _expect_none("orphaned images", orphans),
        *_inform(collection, images),
        _count_passed_over(passed_over),
    ]
    if collection.layout.startswith("Open-i original"):
        found = {"reports": len(collection.studies), "images": len(images)}
        checks += [Check(f"{name} of the full Open-i", found[name], total) for name, total in FULL_OPENI.items()]
    counts = _count(collection.studies, images)
    return VerifyReport(str(collection.folder), collection.layout, counts, tuple(checks))


def is_inverted(image):
    """Says whether a chest film is shown with black and white exchanged.

    The midline and the lower edge (mediastinum, spine, abdomen) are bright; the upper corners, the sides and the lungs
    are dark, on frontal and lateral films alike. The film is inverted if the first are darker than the second by more
    than 15 gray levels. On 2,773 Open-i films, on which these numbers were chosen, no film was called inverted; of
    their negatives all but 6 were.

    Args:
        image: float array `(height, width)`, 0..255, both at least 1.

    Returns:
        bool; False for an image of one gray level.

    Example:
        >>> film = np.full((100, 100), 200.0); film[:, :10] = film[:, -10:] = 0
        >>> is_inverted(film), is_inverted(255 - film)
        (False, True)
    """
    height, width = image.shape

    def mean(places):
        cuts = [_cut(image, y * height, x * width, h * height, w * width) for y, x, h, w in places]
        return float(np.mean([cut.mean() for cut in cuts]))

    return mean(_BRIGHT) < mean(_DARK) - _MARGIN


def _cut(image, top, left, height, width):
    top, left = int(top), int(left)
    return image[top : top + max(int(height), 1), left : left + max(int(width), 1)]


def _expect_none(name, examples):
    return Check(name, len(examples), 0, wrong=bool(examples), examples=tuple(examples))


def _check_pixels(paths, read_image, progress):
    faults, groups = defaultdict(list), defaultdict(list)
    with progress.step("Reading images", len(paths)) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            for path, (fault, detail) in zip(some, pool.map(lambda path: _examine(path, read_image), some)):
                if fault in ("", "inverted"):
                    groups[detail].append(_name(path))
                if fault:
                    faults[fault].append(detail if fault == "unreadable" else _name(path))
                advance()
    return [
        _expect_none("unreadable images", faults["unreadable"]),
        _expect_none("empty images", faults["empty"]),
        _expect_none("inverted images", faults["inverted"]),
        _expect_none("groups of equal images", _join_groups(groups)),
    ]


def _examine(path, read_image):
    """Returns what is wrong with one image, if anything, and its digest or the reason."""
    if path.stat().st_size == 0:
        return "empty", ""
    try:
        image = read_image(path)
    except ImageError as error:
        return "unreadable", make_printable(str(error).replace(str(path), path.name))
    if image.max() - image.min() < 1:
        return "empty", ""
    digest = hashlib.blake2b(np.ascontiguousarray(image), key=str(image.shape).encode(), digest_size=16).hexdigest()
    return "inverted" if is_inverted(image) else "", digest


def _name(path):
    return make_printable(path.name)


def _join_groups(groups):
    return [" = ".join(names) for names in groups.values() if len(names) > 1]


def _find_orphans(folder, paths, passed_over):
    """Film files beside those that studies name: in the same folder of the collection, at any depth."""
    tops = {folder / path.relative_to(folder).parts[0] for path in paths} or {folder}
    known, files = set(paths), []
    for top in sorted(top for top in tops if top.is_dir()):
        files += walk_files(top, passed_over)
    if any(not top.is_dir() for top in tops):
        files += (file for file in walk_files(folder, passed_over, deep=False))
    strays = dict.fromkeys(file for file in files if file not in known)
    return sorted(_name(file) for file, _ in find_films(strays, passed_over))


def _count_passed_over(passed_over):
    """Files beside the films that are none; texts and tables lie in every collection and are not counted."""
    kinds = {kind: count for kind, count in passed_over.items() if kind != OTHER_FILE}
    said = describe_passed_over(kinds)
    return Check("files passed over", sum(kinds.values()), examples=(said,) if said else ())


def _inform(collection, images):
    bodies = defaultdict(list)
    for study in collection.studies:
        if study.report and study.report.body:
            bodies[study.report.body].append(study.id)
    conflicts = [
        f"{_name(image.path)}: {image.view or 'unknown'} ({image.evidence or 'no evidence'}), but "
        + ", ".join(image.conflicts)
        for image in images
        if image.conflicts
    ]
    groups = {
        "groups of equal report bodies": _join_groups(bodies),
        "conflicts of view": conflicts,
        "studies without frontal": [study.id for study in collection.studies if study.frontal is None],
        "studies without report": [study.id for study in collection.studies if study.report is None],
    }
    return [Check(name, len(examples), examples=tuple(examples)) for name, examples in groups.items()]


def _count(studies, images):
    views = [image.view for image in images]
    return {
        "studies": len(studies),
        "with_report": sum(study.report is not None for study in studies),
        "with_frontal": sum(study.frontal is not None for study in studies),
        "images": len(images),
        "frontal": views.count(FRONTAL),
        "lateral": views.count(LATERAL),
        "unknown_view": len(views) - views.count(FRONTAL) - views.count(LATERAL),
    }
