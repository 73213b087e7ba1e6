"""Marks on output folders of kmm, so that no command takes its results for input.

A folder that was empty before is marked as a whole. In a folder with other files, for example films, the mark lists
the names that kmm wrote, and everything else stays input. Files that a user copies elsewhere have no mark. Output
folders of earlier versions are recognised by their content.
"""

import contextlib
import json
import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kmm.errors import InputError
from kmm.storage.files import replace_file

MARK = ".kmm-output"
MAX_MARK_BYTES = 1 << 28
# Names that occur together only in a saved classifier and in a SavedModel.
_OWN_FILES = (("classifier.json", "settings.json"), ("saved_model.pb", "variables"))
# Explanations of version 0: a folder of parts, files of the whole folder, and files of each study.
_PARTS = ".parts"
OWN_HIDDEN = (MARK, _PARTS)
_FOLDER_FILES = ("index.html", "explanations.csv", "explanations.parquet")
_PICTURES = {"roc.png", "precision_recall.png", "calibration.png", "confusion.png"}  # of an evaluation
_MORE_PICTURES = {"learning_curves.png", "decision_curve.png"}
_STUDY_SUFFIXES = (".json", ".png", ".html", ".sr.dcm", ".pr.dcm", ".sc.dcm")


@dataclass(frozen=True)
class OutputMark:
    """The files of a folder that kmm wrote.

    Attributes:
        whole: bool. True if kmm wrote the whole folder.
        written: frozenset of names that kmm wrote.
        found: frozenset of names that existed before a command that is still writing; None if no command is writing.
    """

    whole: bool = False
    written: frozenset[str] = frozenset()
    found: frozenset[str] | None = None

    def owns(self, name: str) -> bool:
        """Returns whether kmm wrote the file or folder of this name."""
        return self.whole or name in self.written or (self.found is not None and name not in self.found)


@contextlib.contextmanager
def marking_output(folder: Path | str) -> Iterator[OutputMark]:
    """Marks everything that a block writes into a folder.

    The mark is written first, so that it is complete even if the process is killed.

    Args:
        folder: path of the folder, created if it is missing.

    Yields:
        `OutputMark` from before the block.

    Raises:
        OSError: if the folder cannot be created or written.

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
    before = frozenset() if mark.whole else _list_visible(folder)  # avoids listing a folder of many results
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
def marking_file(path: Path | str) -> Iterator[None]:
    """Marks the only file that a block writes, in any folder.

    Args:
        path: path of the file, in an existing folder.

    Raises:
        OSError: if the folder cannot be written.
    """
    yield
    path = Path(path)
    mark = read_mark(path.parent)
    if not mark.owns(path.name):
        _write_mark(path.parent, {"written": sorted(mark.written | {path.name})})


def read_mark(folder: Path | str, names: Collection[str] | None = None) -> OutputMark:
    """Reads the mark of a folder.

    Args:
        folder: path of the folder.
        names: collection of the names in it, if the caller has already listed them.

    Returns:
        `OutputMark`, which owns nothing if kmm wrote nothing. A damaged mark owns the whole folder.
    """
    folder = Path(folder)
    known = _Names(folder) if names is None else names
    if MARK not in known and any(all(name in known for name in group) for group in _OWN_FILES):
        return OutputMark(whole=True)
    if MARK in known:
        content = _read_json(folder / MARK)
        written, found = content.get("written"), content.get("found")
        if not isinstance(written, list) or not isinstance(found, list | None):
            return OutputMark(whole=True)
        return OutputMark(False, frozenset(map(str, written)), None if found is None else frozenset(map(str, found)))
    return _read_parts(folder) if _PARTS in known else _read_pictures(folder, known)


def refuse_output(path: Path | str) -> None:
    """Rejects an input that kmm wrote: a whole folder, or one file.

    Args:
        path: path of a file or folder; it may be missing.

    Raises:
        InputError: if kmm wrote it.
    """
    path = Path(path).absolute()
    if path.is_dir() and read_mark(path).whole:
        hint = f" If this is your own folder, delete {MARK} in it." if (path / MARK).exists() else ""
        raise InputError(f"{path} is an output folder of kmm, without studies. Give the folder of the films.{hint}")
    if path.is_file() and read_mark(path.parent).owns(path.name):
        raise InputError(
            f"{path} is an output file of kmm. Give the film itself, or copy the file elsewhere to use it."
        )


def refuse_foreign(folder: Path, mark: OutputMark, names: Iterable[str]) -> None:
    """Rejects names of output files that would overwrite files not written by kmm.

    Args:
        folder: Path of an existing folder.
        mark: `OutputMark` of the folder before anything is written.
        names: iterable of str: names of the files to write.

    Raises:
        InputError: if one of them exists and kmm did not write it.
    """
    foreign = sorted(name for name in names if not mark.owns(name) and (folder / name).exists())
    if foreign:
        place = folder / foreign[0]
        raise InputError(f"{place} already exists, and kmm did not write it. Choose another output folder.")


def _read_parts(folder):
    """Reconstructs the mark of a folder of explanations of version 0 from the ids that its run lists."""
    studies = _read_json(folder / _PARTS / "run.json").get("studies")
    if not isinstance(studies, list):
        return OutputMark()
    written = {*_FOLDER_FILES, *(f"{study}{suffix}" for study in studies for suffix in _STUDY_SUFFIXES)}
    visible = _list_visible(folder)
    return OutputMark(whole=visible <= written, written=frozenset(visible & written))


def _read_pictures(folder, names):
    """Recognises a folder of an evaluation's pictures without a mark: it has all of them and no other files."""
    if not all(name in names for name in _PICTURES):
        return OutputMark()
    return OutputMark(whole=_list_visible(folder) <= _PICTURES | _MORE_PICTURES)


class _Names:
    """Names in a folder, looked up one by one, so that a folder of many films is not listed."""

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
    """Reads the object in a JSON file; returns an empty one if the file is missing, damaged or too large."""
    try:
        if path.stat().st_size > MAX_MARK_BYTES:
            return {}
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
