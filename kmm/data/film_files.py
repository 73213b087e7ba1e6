"""Find the films among the files of a folder, skipping hidden files and files that kmm wrote."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from kmm.data.names import IMAGE_SUFFIXES
from kmm.data.views.dicom_header import Header, read_view_header
from kmm.errors import InputError
from kmm.storage.file_kinds import is_dicom
from kmm.storage.output_mark import OWN_HIDDEN, read_mark

HIDDEN, WRITTEN, OTHER_FILE = "hidden file", "result of kmm", "other file"


def walk_files(folder: Path, skipped: Counter[str] | None = None, *, deep: bool = True) -> Iterator[Path]:
    """Lists the files in a folder and its subfolders, except hidden files and files that kmm wrote.

    A file is hidden if its name begins with a dot, as the `._film.png` that a Mac writes beside `film.png`. Links to
    folders are not followed.

    Args:
        folder: Path.
        skipped: `Counter` of skipped files and folders by reason, which is updated, or None.
        deep: bool. Whether subfolders are walked too.

    Yields:
        Path of a file: the files of a folder sorted by name, then those of its subfolders.
    """
    skipped = Counter() if skipped is None else skipped
    for place, folders, names in os.walk(folder):
        mark = read_mark(place, {*folders, *names})
        for group in (folders, names):
            kept = []
            for name in sorted(group):
                if name.startswith("."):
                    skipped[HIDDEN] += name not in OWN_HIDDEN
                elif mark.owns(name):
                    skipped[WRITTEN] += 1
                else:
                    kept.append(name)
            group[:] = kept
        for name in names:
            path = Path(place, name)
            if path.is_file():
                yield path
        if not deep:
            return


def list_folders(folder: Path) -> list[Path]:
    """Returns the subfolders of a folder, sorted by name, except hidden folders and those that kmm wrote."""
    names = os.listdir(folder)
    mark = read_mark(folder, names)
    kept = [Path(folder, name) for name in sorted(names) if not name.startswith(".") and not mark.owns(name)]
    return [place for place in kept if place.is_dir() and not read_mark(place).whole]


def find_films(files: Iterable[Path], skipped: Counter[str] | None = None) -> Iterator[tuple[Path, Mapping[str, str]]]:
    """Selects the films among files: images by suffix, and DICOM files by content under any suffix.

    Args:
        files: iterable of Path.
        skipped: as in `walk_files`. DICOM files without a film, such as presentation states, are counted by kind.

    Yields:
        `(Path, tags)`, with the tags of `Header`; the tags are empty for a file that is not DICOM or has a damaged
        header, which is reported when its pixels are read.
    """
    skipped = Counter() if skipped is None else skipped
    for file in files:
        known = file.name.lower().endswith(IMAGE_SUFFIXES)
        if is_dicom(file, unreadable=not known):
            header = try_header(file)
            if header.kind:
                skipped[header.kind] += 1
            else:
                yield file, header.tags
        elif known:
            yield file, {}
        else:
            skipped[OTHER_FILE] += 1


def try_header(path: Path) -> Header:
    """Reads the header of a DICOM file as `read_view_header` does; returns an empty `Header` if it cannot be read."""
    try:
        return read_view_header(path)
    except InputError:
        return Header()


def describe_skipped(skipped: Mapping[str, int]) -> str:
    """Describes the files that were skipped, the most frequent kind first; empty if there are none.

    Args:
        skipped: mapping of reason to count, as `walk_files` and `find_films` fill it.

    Example:
        >>> describe_skipped({"hidden file": 1, "presentation state": 2, "DICOMDIR": 1, "result of kmm": 3})
        '3 results of kmm, 2 presentation states, 1 DICOMDIR, 1 hidden file'
    """
    ordered = sorted(skipped.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {_make_plural(reason) if count > 1 else reason}" for reason, count in ordered if count)


def _make_plural(reason: str) -> str:
    return re.sub(r"^.*?(?= of | without |$)", lambda noun: f"{noun[0]}s", reason, count=1)
