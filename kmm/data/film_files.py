"""Films in a folder of any files: by what the files hold, and without what is hidden or was written by kmm."""

import os
import re
from collections import Counter
from pathlib import Path

from kmm.data.names import IMAGE_SUFFIXES
from kmm.data.views.dicom_header import Header, read_view_header
from kmm.errors import InputError
from kmm.storage.files import is_dicom
from kmm.storage.output_mark import OWN_HIDDEN, read_mark

HIDDEN, WRITTEN, OTHER_FILE = "hidden file", "result of kmm", "other file"


def walk_files(folder, passed_over=None, *, deep=True):
    """Lists the files in a folder and the folders inside it, without what is hidden or was written by kmm.

    Hidden is what begins with a dot, as the `._film.png` that a Mac writes beside `film.png`. Links to folders are not
    followed.

    Args:
        folder: Path.
        passed_over: `Counter`, to which the files and folders that were passed over are added by reason, or None.
        deep: bool. Whether the folders inside are walked too.

    Yields:
        Path of a file: those of a folder by name, then those of the folders inside it.
    """
    passed_over = Counter() if passed_over is None else passed_over
    for place, folders, names in os.walk(folder):
        mark = read_mark(place, {*folders, *names})
        for group in (folders, names):
            kept = []
            for name in sorted(group):
                if name.startswith("."):
                    passed_over[HIDDEN] += name not in OWN_HIDDEN
                elif mark.owns(name):
                    passed_over[WRITTEN] += 1
                else:
                    kept.append(name)
            group[:] = kept
        for name in names:
            path = Path(place, name)
            if path.is_file():
                yield path
        if not deep:
            return


def list_folders(folder):
    """Returns the folders in a folder, sorted by name, without those that are hidden or hold what kmm wrote."""
    names = os.listdir(folder)
    mark = read_mark(folder, names)
    kept = [Path(folder, name) for name in sorted(names) if not name.startswith(".") and not mark.owns(name)]
    return [place for place in kept if place.is_dir() and not read_mark(place).whole]


def find_films(files, passed_over=None):
    """Chooses the films among files: by the suffix of an image, and DICOM by content, whatever the suffix.

    Args:
        files: iterable of Path.
        passed_over: as in `walk_files`. DICOM files without a film, as presentation states, are counted by their kind.

    Yields:
        `(Path, tags)`, the tags being those of `Header`; empty for a file that is no DICOM or has a damaged header:
        whoever reads its pixels says what is wrong with it.
    """
    passed_over = Counter() if passed_over is None else passed_over
    for file in files:
        known = file.name.lower().endswith(IMAGE_SUFFIXES)
        if is_dicom(file, unreadable=not known):
            header = try_header(file)
            if header.kind:
                passed_over[header.kind] += 1
            else:
                yield file, header.tags
        elif known:
            yield file, {}
        else:
            passed_over[OTHER_FILE] += 1


def try_header(path):
    """Reads the header of a DICOM file as `read_header` does; an empty one where it cannot be read."""
    try:
        return read_view_header(path)
    except InputError:
        return Header()


def describe_passed_over(passed_over):
    """Returns what was passed over as words, the most frequent first; an empty str for nothing.

    Args:
        passed_over: mapping of reason to count, as `walk_files` and `find_films` fill it.

    Example:
        >>> describe_passed_over({"hidden file": 1, "presentation state": 2, "DICOMDIR": 1, "result of kmm": 3})
        '3 results of kmm, 2 presentation states, 1 DICOMDIR, 1 hidden file'
    """
    ordered = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {_make_plural(reason) if count > 1 else reason}" for reason, count in ordered if count)


def _make_plural(reason):
    return re.sub(r"^.*?(?= of | without |$)", lambda noun: f"{noun[0]}s", reason, count=1)
