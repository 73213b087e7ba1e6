"""Verify a folder of studies: find missing, unreadable, empty, duplicate, orphaned and inverted images."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmm.data.collection import MISSING_IMAGE, read_collection
from kmm.data.film_files import OTHER_FILE, describe_skipped, find_films, walk_files
from kmm.data.names import make_printable
from kmm.data.study import FRONTAL, LATERAL, Collection, ImageFile, Study
from kmm.errors import ImageError
from kmm.progress import Progress

FULL_OPENI = {"reports": 3955, "images": 7470}
# Regions that are bright and regions that are dark on a chest film: top, left, height, width as fractions of the film.
_BRIGHT = ((0.30, 0.42, 0.40, 0.16), (0.88, 0.20, 0.12, 0.60))
_DARK = (
    *((0, 0, 0.08, 0.08), (0, 0.92, 0.08, 0.08)),  # upper corners
    *((0, 0, 1, 0.04), (0, 0.96, 1, 0.04)),  # sides
    *((0.30, 0.20, 0.30, 0.15), (0.30, 0.65, 0.30, 0.15)),  # lungs
)
_MARGIN = 15
Namer = Callable[[Path], str]
_AT_ONCE = 64  # images submitted to the threads together; few, so that Ctrl-C takes effect soon


@dataclass(frozen=True)
class DataCheck:
    """One row of the table of results.

    Attributes:
        name: str.
        found: int. The number found.
        expected: int or None. The number expected; None for counts that are for information only.
        wrong: bool. True if this check alone makes the verification fail.
        examples: tuple of str: each file, study or group of them; never report text.
    """

    name: str
    found: int
    expected: int | None = None
    wrong: bool = False
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class VerifyReport:
    """The result of `verify_collection`.

    Attributes:
        folder, layout: str. The path that was read, and the layout found.
        counts: dict of str to int: studies, with_report, with_frontal, images, frontal, lateral, unknown_view (all
            images that are neither).
        checks: tuple of `DataCheck`.
    """

    folder: str
    layout: str
    counts: dict[str, int]
    checks: tuple[DataCheck, ...]

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not any(check.wrong for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """Returns the report as plain dicts, lists, numbers and str, for JSON."""
        return asdict(self) | {"ok": self.ok, "checks": [asdict(check) for check in self.checks]}


def verify_collection(
    path: Path | str,
    read_image: Callable[[Path], np.ndarray],
    *,
    view_overrides: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Reads every study and every pixel of a collection and reports what is wrong.

    Errors are: images that are missing (a table names them, but the file does not exist), unreadable, empty (no bytes,
    or one gray level), equal to another image pixel by pixel, orphaned (no study names them) or inverted
    (`is_inverted`), and files or rows that were set aside. For information only: the counts, identical report bodies
    (common in Open-i; a split keeps them together), conflicts of view, studies without a frontal or a report, files
    that were skipped because they are hidden, hold no film or were written by kmm, and for the original layout the
    totals of the full Open-i.

    Args:
        path: as in `read_collection`.
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
    skipped = Counter(collection.skipped)
    name = _choose_names(collection.folder, [image.path for image in images])
    orphans = _find_orphans(collection.folder, [image.path for image in images], skipped, name)
    checks = [
        DataCheck("images", len(images), len(images) + len(missing)),
        _expect_none("missing images", missing),
        _expect_none("files or rows set aside", set_aside),
        *_check_pixels([image.path for image in images], read_image, progress or Progress(), name),
        _expect_none("orphaned images", orphans),
        *_inform(collection, images, name),
        _count_skipped(skipped),
    ]
    if collection.layout.startswith("Open-i original"):
        found = {"reports": len(collection.studies), "images": len(images)}
        checks += [DataCheck(f"{name} of the full Open-i", found[name], total) for name, total in FULL_OPENI.items()]
    counts = _count(collection.studies, images)
    return VerifyReport(str(collection.folder), collection.layout, counts, tuple(checks))


def is_inverted(image: np.ndarray) -> bool:
    """Returns True if a chest film is shown with black and white exchanged.

    On frontal and lateral films, the midline and the lower edge (mediastinum, spine, abdomen) are bright; the upper
    corners, the sides and the lungs are dark. The film is inverted if the bright regions are darker than the dark
    regions by more than 15 gray levels. On 2,773 Open-i films, on which these numbers were chosen, no film was called
    inverted, and all but 6 of their negatives were.

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

    def mean(regions: Iterable[tuple[float, float, float, float]]) -> float:
        cuts = [_cut(image, y * height, x * width, h * height, w * width) for y, x, h, w in regions]
        return float(np.mean([cut.mean() for cut in cuts]))

    return mean(_BRIGHT) < mean(_DARK) - _MARGIN


def _cut(image, top, left, height, width):
    top, left = int(top), int(left)
    return image[top : top + max(int(height), 1), left : left + max(int(width), 1)]


def _expect_none(name: str, examples: Sequence[str]) -> DataCheck:
    return DataCheck(name, len(examples), 0, wrong=bool(examples), examples=tuple(examples))


def _check_pixels(
    paths: Sequence[Path], read_image: Callable[[Path], np.ndarray], progress: Progress, name: Namer
) -> list[DataCheck]:
    faults: dict[str, list[str]] = defaultdict(list)
    groups: dict[str, list[str]] = defaultdict(list)
    with progress.step("Reading images", len(paths)) as advance, ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            for path, (fault, detail) in zip(some, pool.map(lambda path: _examine(path, read_image), some)):
                if fault in ("", "inverted"):
                    groups[detail].append(name(path))
                if fault:
                    line = make_printable(detail.replace(str(path), name(path)))
                    faults[fault].append(line if fault == "unreadable" else name(path))
                advance()
    return [
        _expect_none("unreadable images", faults["unreadable"]),
        _expect_none("empty images", faults["empty"]),
        _expect_none("inverted images", faults["inverted"]),
        _expect_none("groups of equal images", _join_groups(groups)),
    ]


def _examine(path: Path, read_image: Callable[[Path], np.ndarray]) -> tuple[str, str]:
    """Returns the fault of one image, or an empty str, and its digest; for an unreadable image, the reason."""
    if path.stat().st_size == 0:
        return "empty", ""
    try:
        image = read_image(path)
    except ImageError as error:
        return "unreadable", str(error)
    if image.max() - image.min() < 1:
        return "empty", ""
    digest = hashlib.blake2b(
        np.ascontiguousarray(image).data, key=str(image.shape).encode(), digest_size=16
    ).hexdigest()
    return "inverted" if is_inverted(image) else "", digest


def _choose_names(folder: Path, paths: Sequence[Path]) -> Namer:
    """Returns a function that names a film by its file, and by its path in the folder if films share the name."""
    counts = Counter(path.name for path in paths)

    def name(path: Path) -> str:
        shared = counts[path.name] > 1 and path.is_relative_to(folder)
        return make_printable(path.relative_to(folder).as_posix() if shared else path.name)

    return name


def _join_groups(groups: Mapping[str, Sequence[str]]) -> list[str]:
    return [" = ".join(names) for names in groups.values() if len(names) > 1]


def _find_orphans(folder: Path, paths: Sequence[Path], skipped: Counter[str], name: Namer) -> list[str]:
    """Lists films that no study names, in those top-level folders of the collection that hold named films."""
    tops = {folder / path.relative_to(folder).parts[0] for path in paths} or {folder}
    known = set(paths)
    files: list[Path] = []
    for top in sorted(top for top in tops if top.is_dir()):
        files += walk_files(top, skipped)
    if any(not top.is_dir() for top in tops):
        files += (file for file in walk_files(folder, skipped, deep=False))
    strays = dict.fromkeys(file for file in files if file not in known)
    return sorted(name(file) for file, _ in find_films(strays, skipped))


def _count_skipped(skipped: Mapping[str, int]) -> DataCheck:
    """Counts the files that were skipped, except text files and tables, which every collection has."""
    kinds = {kind: count for kind, count in skipped.items() if kind != OTHER_FILE}
    summary = describe_skipped(kinds)
    return DataCheck("files passed over", sum(kinds.values()), examples=(summary,) if summary else ())


def _inform(collection: Collection, images: Sequence[ImageFile], name: Namer) -> list[DataCheck]:
    bodies: dict[str, list[str]] = defaultdict(list)
    for study in collection.studies:
        if study.report and study.report.body:
            bodies[study.report.body].append(study.id)
    conflicts = [
        f"{name(image.path)}: {image.view or 'unknown'} ({image.evidence or 'no evidence'}), but "
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
    return [DataCheck(name, len(examples), examples=tuple(examples)) for name, examples in groups.items()]


def _count(studies: Sequence[Study], images: Sequence[ImageFile]) -> dict[str, int]:
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
