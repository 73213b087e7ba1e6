"""Folders that fits keep next to saved classifiers: state of stopped runs, films and features, the phantom set."""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kmm.errors import InputError, KmmError
from kmm.storage.file_lock import hold_file
from kmm.training.cache.cache_folder import CacheEntry, claim_entry, list_entries, measure_folder, remove_entry
from kmm.training.source_code import digest_code

WORK, LOCK, CACHE, PHANTOM = ".work-", ".lock-", ".cache", ".phantom"
STAGES = "stages"  # part of a work folder: the state from which `kmm fit --resume` continues
OBJECTIVE = "objective.json"  # part of the work folder of `kmm weights pretrain`
KINDS = {  # beginnings of the names of entries of the cache
    "films-": "prepared films, for all runs",
    "features-": "features of frozen encoders, for all runs",
    "compiled": "steps that JAX compiled, for all runs",
}
RUNNING, RESUMABLE, NOT_RESUMABLE, REUSED = "running", "can be resumed", "cannot be resumed", "reused"


@dataclass(frozen=True)
class KeptFolder:
    """A folder that a fit keeps. Every field is a plain value, for JSON.

    Attributes:
        name: str. Path relative to the folder of classifiers, with `/`.
        bytes: int. Size of its files.
        belongs_to: str. Description of the content, with the name of the run.
        state: str, one of `RUNNING`, `RESUMABLE`, `NOT_RESUMABLE`, `REUSED`.
        reason: str. Why a run cannot be resumed; else empty.
        days: float. Days since the folder was last used, or written if it is a run's or the phantom set.
    """

    name: str
    bytes: int
    belongs_to: str
    state: str
    reason: str = ""
    days: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields as a dict for JSON."""
        return asdict(self)


@contextlib.contextmanager
def open_work_folder(work: Path, *, resume: bool = False, overwrite: bool = False) -> Iterator[Path]:
    """Opens the folder for the state of a run, for one process at a time.

    If the run fails after a stage has begun, the folder is kept for `--resume`.

    Args:
        work: Path of the folder, named `.work-<name>`.
        resume: bool. Continues a stopped run.
        overwrite: bool. Removes the state of a stopped run.

    Yields:
        Path, `work`.

    Raises:
        InputError: if another process uses the folder, or it has the state of a stopped run and neither `resume` nor
            `overwrite` is true.
    """
    work.parent.mkdir(parents=True, exist_ok=True)
    with _lock(work) as held:
        if not held:
            raise InputError(f"{work} is in use by another run of this name. Choose another --name.")
        if work.exists() and not resume:
            if (work / STAGES).exists() and not overwrite:
                raise InputError(
                    f"{work} has the state of a stopped run. Pass --resume to continue, or --overwrite to start over."
                )
            shutil.rmtree(work)
        try:
            yield work
        except (KmmError, OSError):
            if not (work / STAGES).exists():
                shutil.rmtree(work, ignore_errors=True)
            raise


def list_kept(out: Path | str) -> list[KeptFolder]:
    """Lists the folders that fits keep next to saved classifiers.

    Args:
        out: path of the folder of classifiers, as for `kmm fit --out`. It may be missing.

    Returns:
        list of `KeptFolder`: work folders by name, then films and features, then the phantom set, without links.

    Example:
        >>> list_kept("no-such-folder")
        []
    """
    out = Path(out)
    kept = [_describe_work(out, path) for path in _list_folders(out, f"{WORK}*")]
    kept += [_describe(out, entry, _classify(entry.path.name)) for entry in list_entries(out / CACHE)]
    phantom = [measure_folder(path) for path in _list_folders(out, PHANTOM)]
    return kept + [_describe(out, entry, "phantom set of `kmm fit` without FOLDER") for entry in phantom]


def clear_kept(out: Path | str, names: Sequence[str]) -> list[KeptFolder]:
    """Removes folders that `list_kept` lists.

    Args:
        out: path of the folder of saved classifiers.
        names: sequence of str, names of `KeptFolder`s.

    Returns:
        list of the removed `KeptFolder`s.

    Raises:
        InputError: if a name is not listed, or a running fit may use one of the folders; nothing is removed then.
    """
    out, listed = Path(out), {kept.name: kept for kept in list_kept(out)}
    for name in names:
        if name not in listed:
            known = ", ".join(listed) or "nothing"
            raise InputError(f"{name!r} is not a folder that kmm keeps in {out}. Choose from: {known}.")
    chosen = [listed[name] for name in dict.fromkeys(names)]
    shared = [kept for kept in chosen if kept.state == REUSED]
    with contextlib.ExitStack() as locks:
        for path in _list_runs(out) if shared else [out / kept.name for kept in chosen]:
            if not locks.enter_context(_lock(path)):
                blocked = path if path.name in names else out / shared[0].name
                run = path.name.removeprefix(WORK)
                raise InputError(
                    f"{blocked} cannot be removed: the run {run} may use it. Wait until it ends, or stop it."
                )
        for kept in chosen:
            if Path(kept.name).parent.name == CACHE and not locks.enter_context(claim_entry(out / kept.name)):
                raise InputError(f"{out / kept.name} cannot be removed: a process uses it. Wait until it ends.")
        for kept in chosen:
            remove = remove_entry if Path(kept.name).parent.name == CACHE else shutil.rmtree
            remove(out / kept.name)
        with contextlib.suppress(OSError):  # missing or not empty
            (out / CACHE).rmdir()
    return chosen


def _lock(work):
    """Tries to lock a work folder without waiting; a context that yields whether it succeeded."""
    return hold_file(work.with_name(work.name.replace(WORK, LOCK, 1)))


def _is_running(work):
    """Returns whether a process holds the lock of a work folder, without creating a file."""
    mark = work.with_name(work.name.replace(WORK, LOCK, 1))
    try:
        with open(mark, encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _list_runs(out):
    """Lists the work folders of all runs, including runs that hold the lock but have no folder yet."""
    names = {path.name for path in _list_folders(out, f"{WORK}*")}
    names |= {path.name.replace(LOCK, WORK, 1) for path in out.glob(f"{LOCK}*")}
    return [out / name for name in sorted(names)]


def _list_folders(folder, pattern):
    return sorted(path for path in folder.glob(pattern) if path.is_dir() and not path.is_symlink())


def _describe_work(out, path):
    name = path.name.removeprefix(WORK)
    running = _is_running(path)
    reason = "" if running else _find_obstacle(out, path, name)
    state = RUNNING if running else NOT_RESUMABLE if reason else RESUMABLE
    return _describe(out, measure_folder(path), f"run {name}: training state", state, reason)


def _describe(out: Path, entry: CacheEntry, belongs_to: str, state: str = REUSED, reason: str = "") -> KeptFolder:
    name = entry.path.relative_to(out).as_posix()
    return KeptFolder(name, entry.bytes, belongs_to, state, reason, entry.days)


def _classify(name):
    return next(
        (text for kind, text in KINDS.items() if name.startswith(kind)), "features of an earlier version of kmm"
    )


def _find_obstacle(out, path, name):
    """Returns the reason for which `kmm fit --resume` would refuse a work folder; empty if it would accept it with the
    same data and settings."""
    if not (path / STAGES).exists():
        return "no stage has begun"
    if (out / name).exists():
        return f"a classifier {name} is saved; --resume needs --overwrite too"
    try:
        begun = json.loads((path / "data.json").read_text(encoding="utf-8"))
        code = begun["code"]
    except (OSError, ValueError, KeyError, TypeError):
        return "data.json is missing or damaged"
    return "" if code == digest_code() else "the code of kmm has changed"
