"""Names that come from outside, checked before they are trusted: ids of studies and images, views, paths in tables."""

import os
import re
from pathlib import Path, PureWindowsPath

from kmm.data.view_terms import VIEW_NAMES as VIEW_NAMES
from kmm.data.view_terms import name_view as name_view
from kmm.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OPENI_NAME = re.compile(r"(?:CXR)?(\d+)(?:_1)?_(IM-.+)")
_LONGEST_NAME = 255


def is_safe_id(text):
    """True if `text` can be a file name anywhere: letters, digits, `.`, `_`, `-`, at most 100, no leading mark.

    Example:
        >>> is_safe_id("patient-7.2"), is_safe_id("../secret"), is_safe_id("")
        (True, False, False)
    """
    return _SAFE_ID.fullmatch(text) is not None


def sort_key(text):
    """Returns the key by which ids are sorted: numbers as numbers.

    Example:
        >>> sorted(["10", "9", "9b"], key=sort_key)
        ['9', '9b', '10']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def strip_suffixes(name):
    """Returns a file name without the suffixes of image files, of which it may have two.

    Example:
        >>> strip_suffixes("1_IM-0001-4001.dcm.png")
        '1_IM-0001-4001'
    """
    while name.lower().endswith(IMAGE_SUFFIXES):
        name = name.rpartition(".")[0]
    return name


def find_image_id(name):
    """Returns what identifies an image whatever its layout: Open-i's `CXR`, its `_1` and the suffixes are dropped.

    Args:
        name: str. A file name or the id of an image in an Open-i XML.

    Returns:
        str. For a name that is not of Open-i, the name without suffixes.

    Example:
        >>> find_image_id("CXR1_1_IM-0001-3001"), find_image_id("1_IM-0001-3001.dcm.jpg"), find_image_id("film.png")
        ('1_IM-0001-3001', '1_IM-0001-3001', 'film')
    """
    stem = strip_suffixes(name)
    match = _OPENI_NAME.fullmatch(stem)
    return f"{match[1]}_{match[2]}" if match else stem


def is_openi_id(image_id):
    """True for the id of an image of Open-i, which no other image has, whatever its folder.

    Example:
        >>> is_openi_id("1_IM-0001-3001"), is_openi_id("film")
        (True, False)
    """
    return _OPENI_NAME.fullmatch(image_id) is not None


def resolve_inside(folder, name):
    """Returns the path of a file that a table names, if it lies inside the folder.

    Args:
        folder: Path. May itself be a symbolic link.
        name: str. A relative path; both `/` and `\\` separate.

    Returns:
        Path `folder / name`; the file need not exist.

    Raises:
        InputError: if the name is empty, absolute, too long, or leads out of the folder (by `..` or by a link).

    Example:
        >>> resolve_inside(Path("films"), "a/1.png").as_posix()
        'films/a/1.png'
    """
    pure = PureWindowsPath(name)
    if not pure.parts or "\0" in name or any(len(os.fsencode(part)) > _LONGEST_NAME for part in pure.parts):
        raise InputError("the file name is empty or impossible")
    if pure.drive or pure.root or ".." in pure.parts:
        raise InputError("the file name leads out of the folder; expected a relative path inside it")
    path = Path(folder, *pure.parts)
    if not is_inside(folder, path):
        raise InputError("the file is a link that leads out of the folder")
    return path


def is_inside(folder, path):
    """True if `path`, its links followed, lies inside `folder`."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def make_printable(name):
    """Returns a file name that fits on one line of any terminal: what cannot be printed becomes `?`.

    Example:
        >>> make_printable("1\\n.xml")
        '1?.xml'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in name)


class UniqueNames:
    """Hands out names, none twice: a name that is taken gets the first number that makes it free.

    Example:
        >>> names = UniqueNames()
        >>> [names.take(name) for name in ("film", "film-2", "film", "film")]
        ['film', 'film-2', 'film-3', 'film-4']
    """

    def __init__(self):
        self._taken, self._last = set(), {}

    def take(self, name):
        """Returns `name`, or `name-2`, `name-3`, ...; the next number is remembered, so that many cost no search."""
        count, free = self._last.get(name, 1), name
        while free in self._taken:
            count += 1
            free = f"{name}-{count}"
        self._taken.add(free)
        self._last[name] = count
        return free
