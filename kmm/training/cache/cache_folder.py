"""The folder of what fits compute once and share: an entry per kind of array, with a size, an age and a limit."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmm.errors import InputError

MARK = ".use"  # file of an entry: who uses the entry holds a shared lock on it; its time is that of the last use
GONE = ".gone-"  # beginning of the name of an entry that is being removed
LIMIT_VARIABLE, DEFAULT_LIMIT_GB = "KMM_CACHE_GB", 50.0


@dataclass(frozen=True)
class CacheEntry:
    """An entry of the folder.

    Attributes:
        path: Path of the entry's folder.
        bytes: int. Size of its files.
        used: float. Time of the last use: of its newest file, in seconds since 1970.
    """

    path: Path
    bytes: int
    used: float

    @property
    def days(self) -> float:
        """Days since the last use, at least 0, rounded to 0.1."""
        return max(0.0, round((time.time() - self.used) / 86_400, 1))


def name_entry(kind: str, facts: Mapping[str, Any]) -> str:
    """Names the entry of arrays that depend on some facts and on nothing else.

    Args:
        kind: str for people, for example `"films-224"`.
        facts: mapping for JSON of everything that decides the numbers.

    Returns:
        str: the kind and 16 hexadecimal digits.

    Example:
        >>> name_entry("films-224", {"pixels": 224}), name_entry("films-224", {"pixels": 224, "fit": "stretch"})
        ('films-224-d0df5597846ef254', 'films-224-7692049e1b516287')
    """
    return f"{kind}-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]}"


class Use:
    """Marks an entry as in use while the object lives, so that nothing removes it. Any number of processes may use an
    entry at once, and the system ends the use of a killed process.

    Args:
        folder: Path of the entry, created if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.descriptor = -1
        while self.descriptor < 0:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # removed by another process meanwhile
                self.descriptor = _open_mark(folder, fcntl.LOCK_SH)
        os.utime(self.descriptor)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


@contextlib.contextmanager
def claim_entry(folder: Path) -> Iterator[bool]:
    """Yields whether no process uses an entry; while the block runs, none can begin to."""
    descriptor = -1
    try:
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            descriptor = _open_mark(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield descriptor >= 0
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def list_entries(cache: Path) -> list[CacheEntry]:
    """Lists the entries of a folder by name, without links; the folder may be missing."""
    folders = sorted(path for path in cache.glob("[!.]*") if path.is_dir() and not path.is_symlink())
    return [measure_folder(path) for path in folders]


def read_limit() -> float:
    """Returns the limit of the folder in bytes: the variable KMM_CACHE_GB, or 50 GB.

    Raises:
        InputError: if the variable is not a number above 0.
    """
    given = os.environ.get(LIMIT_VARIABLE, "")
    try:
        limit = float(given) if given else DEFAULT_LIMIT_GB
    except ValueError:
        limit = 0
    if not limit > 0:
        raise InputError(f"{LIMIT_VARIABLE} must be a number of GB above 0. Received: {given!r}.")
    return limit * 1e9


def make_room(cache: Path, need: float) -> list[str]:
    """Removes the entries that were not used for the longest time until new arrays fit within the limit.

    An entry in use is never removed. So the folder may exceed its limit, if the running fits need more.

    Args:
        cache: Path of the folder.
        need: bytes of the new arrays.

    Returns:
        list of str, the names of the removed entries.
    """
    entries, removed = list_entries(cache), []
    total, limit = sum(entry.bytes for entry in entries) + need, read_limit()
    for entry in sorted(entries, key=lambda entry: entry.used):
        if total <= limit:
            break
        with claim_entry(entry.path) as free:
            if free:
                remove_entry(entry.path)
                total -= entry.bytes
                removed.append(entry.path.name)
    return removed


def remove_entry(folder: Path) -> None:
    """Removes an entry that was claimed, in one step for those who want to use it, and what is left of entries whose
    removal was interrupted."""
    folder.rename(folder.with_name(f"{GONE}{os.getpid()}-{folder.name}"))
    for rest in folder.parent.glob(f"{GONE}*"):
        shutil.rmtree(rest, ignore_errors=True)


def require_disk(folder: Path, need: float, what: str) -> None:
    """Checks the free disk before something is written.

    Args:
        folder: Path where it will be written; it may be missing.
        need: bytes.
        what: str, plural. What needs the space.

    Raises:
        InputError: if less is free.
    """
    place = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(place).free
    if need * 1.02 > free:
        raise InputError(
            f"{folder} has too little free disk space: {what} need {need / 1e9:.2f} GB, and {free / 1e9:.2f} GB are "
            "free. Free some space, or choose another --out."
        )


def measure_folder(folder: Path) -> CacheEntry:
    """Sums the sizes of the files in a folder, at any depth, without following links, and finds the newest one."""
    total, newest = 0, 0.0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a running fit removes and renames files
                found = os.lstat(os.path.join(place, name))
                total, newest = total + found.st_size, max(newest, found.st_mtime)
    return CacheEntry(folder, total, newest or folder.stat().st_mtime)


def _open_mark(folder, mode):
    """Opens and locks the mark of an entry. Raises FileNotFoundError if the entry was removed meanwhile."""
    mark = folder / MARK
    descriptor = os.open(mark, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, mode)
        if not os.path.samestat(os.fstat(descriptor), mark.stat()):
            raise FileNotFoundError(str(mark))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
