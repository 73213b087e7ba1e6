"""Marks on folders into which kmm writes results, so that no command takes them for input.

A folder that held nothing before is marked as a whole. In a folder that holds other files too, films for example, the
mark lists the names that kmm wrote; everything else there stays input. Files that a user copies elsewhere carry no
mark. Folders that earlier versions wrote are recognised by what they hold.
"""

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from kmm.errors import InputError
from kmm.storage.files import replace_file

MARK = ".kmm-output"
MAX_MARK_BYTES = 1 << 28
# What only a saved classifier and a SavedModel hold together.
_OWN_FILES = (("classifier.json", "settings.json"), ("saved_model.pb", "variables"))
# What explanations of version 0 left: a folder of parts, files of the folder, and files of each study.
_PARTS = ".parts"
OWN_HIDDEN = (MARK, _PARTS)
_FOLDER_FILES = ("index.html", "explanations.csv", "explanations.parquet")
_PICTURES = {"roc.png", "precision_recall.png", "calibration.png", "confusion.png"}  # of an evaluation
_MORE_PICTURES = {"learning_curves.png"}
_STUDY_SUFFIXES = (".json", ".png", ".html", ".sr.dcm", ".pr.dcm", ".sc.dcm")


@dataclass(frozen=True)
class OutputMark:
    """What a folder says of kmm's files in it.

    Attributes:
        whole: bool. True if all that it holds is kmm's.
        written: frozenset of names that kmm wrote.
        found: frozenset of names that were there before kmm, while a command is writing, or None.
    """

    whole: bool = False
    written: frozenset[str] = frozenset()
    found: frozenset[str] | None = None

    def owns(self, name):
        """True if the file or folder of this name is kmm's."""
        return self.whole or name in self.written or (self.found is not None and name not in self.found)


@contextlib.contextmanager
def marking_output(folder):
    """Marks what a block writes into a folder.

    The mark is written first, so that it holds after a kill too.

    Args:
        folder: Path; made where it is missing.

    Yields:
        `OutputMark` as it was before the block: which of the names that are there already are kmm's.

    Raises:
        OSError: if the folder cannot be made or written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     films = Path(place)
        ...     _ = (films / "film.png").write_bytes(b"")
        ...     with marking_output(films):
        ...         _ = (films / "circles.png").write_bytes(b"")
        ...     mark = read_mark(films)
        ...     mark.owns("film.png"), mark.owns("circles.png")
        (False, True)
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    mark = read_mark(folder)
    before = frozenset() if mark.whole else _list_visible(folder)  # a folder of many results need not be listed
    found = frozenset(name for name in before if not mark.owns(name))
    if not found:
        _write_mark(folder, {"whole": True})
        yield OutputMark(whole=True)
        return
    _write_mark(folder, {"written": sorted(before - found), "found": sorted(found)})
    try:
        yield mark
    finally:
        if written := _list_visible(folder) - found:
            _write_mark(folder, {"written": sorted(written)})
        else:
            (folder / MARK).unlink()


@contextlib.contextmanager
def marking_file(path):
    """Marks the one file that a block writes, whatever its folder holds.

    Args:
        path: Path of the file, in a folder that exists.

    Raises:
        OSError: if the folder cannot be written.
    """
    yield
    path = Path(path)
    mark = read_mark(path.parent)
    if not mark.owns(path.name):
        _write_mark(path.parent, {"written": sorted(mark.written | {path.name})})


def read_mark(folder, names=None):
    """Reads what a folder says of kmm's files in it.

    Args:
        folder: str or Path.
        names: collection of the names in it, where the caller has listed them already.

    Returns:
        `OutputMark`; one that owns nothing where kmm wrote nothing. A mark that is damaged owns the whole folder.
    """
    folder = Path(folder)
    names = _Names(folder) if names is None else names
    if MARK not in names and any(all(name in names for name in group) for group in _OWN_FILES):
        return OutputMark(whole=True)
    if MARK in names:
        said = _read_json(folder / MARK)
        written, found = said.get("written"), said.get("found")
        if not isinstance(written, list) or not isinstance(found, list | None):
            return OutputMark(whole=True)
        return OutputMark(False, frozenset(map(str, written)), None if found is None else frozenset(map(str, found)))
    return _read_parts(folder) if _PARTS in names else _read_pictures(folder, names)


def refuse_output(path):
    """Refuses an input that kmm wrote: a folder as a whole, or one file.

    Args:
        path: Path of a file or folder; it may be missing.

    Raises:
        InputError: if it is kmm's output.
    """
    path = Path(path).absolute()
    if path.is_dir() and read_mark(path).whole:
        hint = f" If it is yours, delete {MARK} in it." if (path / MARK).exists() else ""
        raise InputError(f"{path}: kmm wrote this folder; it holds no studies. Name the folder of the films.{hint}")
    if path.is_file() and read_mark(path.parent).owns(path.name):
        raise InputError(f"{path}: kmm wrote this file. Name the film itself, or copy the file elsewhere to use it.")


def refuse_foreign(folder, mark, names):
    """Refuses to write over files that kmm did not write.

    Args:
        folder: Path of a folder that is there.
        mark: `OutputMark` of the folder before anything is written.
        names: iterable of str: names of the files that are to be written.

    Raises:
        InputError: if one of them is there and is not kmm's.
    """
    foreign = sorted(name for name in names if not mark.owns(name) and (folder / name).exists())
    if foreign:
        place = folder / foreign[0]
        raise InputError(f"{place}: expected a free name. Found a file that is not kmm's. Choose another folder.")


def _read_parts(folder):
    """The mark of an explained folder of version 0, by the ids that its run lists."""
    studies = _read_json(folder / _PARTS / "run.json").get("studies")
    if not isinstance(studies, list):
        return OutputMark()
    written = {*_FOLDER_FILES, *(f"{study}{suffix}" for study in studies for suffix in _STUDY_SUFFIXES)}
    visible = _list_visible(folder)
    return OutputMark(whole=visible <= written, written=frozenset(visible & written))


def _read_pictures(folder, names):
    """The mark of a folder of an evaluation's pictures that carries none: it holds all of them and nothing else."""
    if not all(name in names for name in _PICTURES):
        return OutputMark()
    return OutputMark(whole=_list_visible(folder) <= _PICTURES | _MORE_PICTURES)


class _Names:
    """The names in a folder, asked for one by one: a folder of many films need not be listed."""

    def __init__(self, folder):
        self.folder = folder

    def __contains__(self, name):
        return os.path.lexists(self.folder / name)


def _list_visible(folder):
    return {name for name in os.listdir(folder) if not name.startswith(".")}


def _write_mark(folder, content):
    with replace_file(folder / MARK) as place:
        place.write_text(json.dumps({"by": "kmm", **content}) + "\n", encoding="utf-8")


def _read_json(path):
    """The object in a file; an empty one where the file is missing, damaged or too large."""
    try:
        if path.stat().st_size > MAX_MARK_BYTES:
            return {}
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
