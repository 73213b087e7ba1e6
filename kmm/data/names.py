"""Check names that come from outside before they are trusted: ids of studies and images, paths in tables."""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PureWindowsPath

from kmm.errors import InputError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".dcm", ".dicom")
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OPENI_NAME = re.compile(r"(?:CXR)?(\d+)(?:_1)?_(IM-.+)")
_LONGEST_NAME = 255
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CLOCK$"} | {
    f"{port}{number}" for port in ("COM", "LPT") for number in range(10)
}


def is_safe_id(text: str) -> bool:
    """Returns True if `text` is a valid file name on every system.

    A safe id has 1 to 100 of the ASCII letters, digits, `.`, `_` and `-`, and begins with a letter or digit.

    Example:
        >>> is_safe_id("patient-7.2"), is_safe_id("../secret"), is_safe_id("")
        (True, False, False)
    """
    return _SAFE_ID.fullmatch(text) is not None


def sort_key(text: str) -> list[int | str]:
    """Returns the key by which ids are sorted: numbers as numbers.

    Example:
        >>> sorted(["10", "9", "9b"], key=sort_key)
        ['9', '9b', '10']
    """
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)]


def strip_suffixes(name: str) -> str:
    """Returns a file name without the suffixes of image files; a name may have several.

    Example:
        >>> strip_suffixes("1_IM-0001-4001.dcm.png")
        '1_IM-0001-4001'
    """
    while name.lower().endswith(IMAGE_SUFFIXES):
        name = name.rpartition(".")[0]
    return name


def find_image_id(name: str) -> str:
    """Returns the id of an image, the same in every layout: Open-i's `CXR`, its `_1` and the suffixes are dropped.

    Args:
        name: str. A file name or the id of an image in an Open-i XML.

    Returns:
        str. For a name that is not Open-i's, the name without suffixes.

    Example:
        >>> find_image_id("CXR1_1_IM-0001-3001"), find_image_id("1_IM-0001-3001.dcm.jpg"), find_image_id("film.png")
        ('1_IM-0001-3001', '1_IM-0001-3001', 'film')
    """
    stem = strip_suffixes(name)
    match = _OPENI_NAME.fullmatch(stem)
    return f"{match[1]}_{match[2]}" if match else stem


def is_openi_id(image_id: str) -> bool:
    """Returns True for the id of an Open-i image. Such ids are unique across folders.

    Example:
        >>> is_openi_id("1_IM-0001-3001"), is_openi_id("film")
        (True, False)
    """
    return _OPENI_NAME.fullmatch(image_id) is not None


def resolve_inside(folder: Path | str, name: str) -> Path:
    """Returns the path of a file that a table names, if it lies inside the folder.

    Args:
        folder: Path. May itself be a symbolic link.
        name: str. A relative path; both `/` and `\\` are separators.

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
        raise InputError("the file name is empty or not valid")
    if pure.drive or pure.root or ".." in pure.parts:
        raise InputError("the file name leads out of the folder; expected a relative path inside it")
    path = Path(folder, *pure.parts)
    if not is_inside(folder, path):
        raise InputError("the file is a link that leads out of the folder")
    return path


def is_inside(folder: Path | str, path: Path | str) -> bool:
    """Returns True if `path`, with links resolved, lies inside `folder`."""
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def is_path(text: Path | str) -> bool:
    """Returns whether a file can have this path; no file system takes longer names, or NUL in them.

    Example:
        >>> is_path("films/1.png"), is_path("The lungs are clear. " * 20), is_path("a\\0b")
        (True, False, False)
    """
    parts = str(text).split("/")
    return (
        "\0" not in str(text)
        and all(len(os.fsencode(part)) <= _LONGEST_NAME for part in parts)
        and len(str(text)) < 4096
    )


def is_prose(path: Path) -> bool:
    """Returns whether a path may be the text of a report, which must not be shown: it has spaces and no known suffix.

    Example:
        >>> is_prose(Path("Clear lungs.")), is_prose(Path("my films/1.png"))
        (True, False)
    """
    return " " in str(path) and path.suffix.lower() not in IMAGE_SUFFIXES


def make_printable(name: str) -> str:
    """Returns a file name that fits on one line of any terminal: characters that cannot be printed become `?`.

    Example:
        >>> make_printable("1\\n.xml")
        '1?.xml'
    """
    return "".join(letter if letter.isprintable() else "?" for letter in name)


def describe_some(names: Sequence[str], noun: str) -> str:
    """Returns the number of things and the names of the first few, for an error.

    Args:
        names: sequence of str.
        noun: str, in the singular; its plural ends in `s`.

    Example:
        >>> describe_some(["1.png"], "film"), describe_some(["1.png", "2.png", "3.png", "4.png"], "film")
        ('1 film (1.png)', '4 films (1.png, 2.png, 3.png, ...)')
    """
    some = ", ".join(map(make_printable, names[:3])) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} {noun}{'s' * (len(names) > 1)} ({some})"


class UniqueNames:
    """Makes names unique: a name that is already taken gets the first number that makes it free.

    Example:
        >>> names = UniqueNames()
        >>> [names.take(name) for name in ("film", "film-2", "film", "film")]
        ['film', 'film-2', 'film-3', 'film-4']
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()
        self._last: dict[str, int] = {}

    def take(self, name: str) -> str:
        """Returns `name`, or `name-2`, `name-3`, ... The last number is remembered, so repeated names stay cheap."""
        count, free = self._last.get(name, 1), name
        while free in self._taken:
            count += 1
            free = f"{name}-{count}"
        self._taken.add(free)
        self._last[name] = count
        return free


def choose_file_names(texts: Iterable[str], taken: Iterable[str] = (), *, dots: bool = True) -> dict[str, str]:
    """Chooses a file name for each text that is valid and unique on every file system.

    A text that is a safe name keeps it. Other texts lose the characters that are not portable, and get eight digits of
    their SHA-256 if the rest is empty, a Windows device name (`CON`, also `con.1`), or differs from another name in
    letter case only. Windows drops a dot or a space at the end of a name.

    Args:
        texts: iterable of distinct str: ids of studies, or names of labels.
        taken: iterable of str. File names that are already in use, in any letter case.
        dots: bool. Whether the names may contain dots.

    Returns:
        dict of each text to its name: 1 to 109 ASCII letters, digits, `_`, `-` and perhaps `.`.

    Source: https://learn.microsoft.com/en-us/windows/win32/fileio/naming-a-file

    Example:
        >>> choose_file_names(["a.", "b", "B", "CON", "Index"], taken=["index"])
        {'b': 'b', 'B': 'B-df7e70e5', 'CON': 'CON-a3dbc4b6', 'Index': 'Index-39c3be11', 'a.': 'a'}
        >>> choose_file_names(["Pleural Effusion"], dots=False)
        {'Pleural Effusion': 'Pleural-Effusion'}
    """
    names: dict[str, str] = {}
    in_use = {name.casefold() for name in taken}
    simple = {text: _simplify(text, dots) for text in texts}
    for text in sorted(simple, key=lambda text: simple[text] != text):  # texts that are already safe choose first
        name = simple[text]
        if not name or name.partition(".")[0].upper() in _DEVICES or name.casefold() in in_use:
            digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            name = "-".join(filter(None, (name.replace(".", "-"), digest)))
        names[text] = name
        in_use.add(name.casefold())
    return names


def _simplify(text: str, dots: bool) -> str:
    """Returns a text without the characters that are not portable in file names; may be empty."""
    allowed = r"A-Za-z0-9._-" if dots else r"A-Za-z0-9_-"
    if not re.fullmatch(rf"[A-Za-z0-9](?:[{allowed}]{{0,98}}[{allowed.replace('.', '')}])?", text):
        text = re.sub(rf"[^{allowed}]+", "-", text).lstrip("._-")[:100].rstrip(".-")
    return text
