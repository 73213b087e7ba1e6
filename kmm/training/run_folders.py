"""Folders that a fit keeps beside the saved classifiers: state of stopped runs, cached features, the phantom set."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import kmm
from kmm.errors import InputError, KmmError
from kmm.storage.classifier_folder import digest_file

WORK, LOCK, CACHE, PHANTOM = ".work-", ".lock-", ".cache", ".phantom"
STAGES = "stages"  # in a work folder: what `kmm fit --resume` goes on from
RUNNING, RESUMABLE, NOT_RESUMABLE, REUSED = "running", "can be resumed", "cannot be resumed", "reused"


@dataclass(frozen=True)
class KeptFolder:
    """A folder that a fit keeps. Every field is a plain value, for JSON.

    Attributes:
        name: str. Path from the folder of classifiers, with `/`.
        bytes: int. Size of the files in it.
        belongs_to: str. What it is, and of which run.
        state: str, one of `RUNNING`, `RESUMABLE`, `NOT_RESUMABLE`, `REUSED`.
        reason: str. Why a run cannot be resumed; else empty.
    """

    name: str
    bytes: int
    belongs_to: str
    state: str
    reason: str = ""

    def as_dict(self):
        """Returns a dict that JSON holds."""
        return asdict(self)


@contextlib.contextmanager
def open_work_folder(work, *, resume=False, overwrite=False):
    """Hands out the folder for the state of a run, to one process at a time.

    The folder is kept when the run fails after a stage has begun, so that `--resume` can go on.

    Args:
        work: Path of the folder, named `.work-<name>`.
        resume: bool. Go on with what lies there.
        overwrite: bool. Remove what lies there.

    Yields:
        Path, `work`.

    Raises:
        InputError: if another process has the folder, or a stopped run lies there and neither `resume` nor `overwrite`
            is true.
    """
    work.parent.mkdir(parents=True, exist_ok=True)
    with _lock(work) as held:
        if not held:
            raise InputError(f"{work}: another run of this name is at work. Choose another --name.")
        if work.exists() and not resume:
            if (work / STAGES).exists() and not overwrite:
                raise InputError(f"{work}: a run of this name was stopped. --resume goes on, --overwrite starts over.")
            shutil.rmtree(work)
        try:
            yield work
        except (KmmError, OSError):
            if not (work / STAGES).exists():
                shutil.rmtree(work, ignore_errors=True)
            raise


def list_kept(out):
    """Lists what fits keep in a folder of saved classifiers.

    Args:
        out: path of the folder, as `kmm fit --out` takes it. It may be missing.

    Returns:
        list of `KeptFolder`: work folders by name, then cached features, then the phantom set. Links are left out.

    Example:
        >>> list_kept("no-such-folder")
        []
    """
    out = Path(out)
    kept = [_describe_work(out, path) for path in _list_folders(out, f"{WORK}*")]
    features = "features of frozen image encoders, for all runs"
    kept += [_describe(out, path, features) for path in _list_folders(out / CACHE, "*")]
    return kept + [
        _describe(out, path, "phantom set of `kmm fit` without FOLDER") for path in _list_folders(out, PHANTOM)
    ]


def clear_kept(out, names):
    """Removes folders that `list_kept` lists.

    Args:
        out: path of the folder of saved classifiers.
        names: sequence of str, names of `KeptFolder`s.

    Returns:
        list of the `KeptFolder`s removed.

    Raises:
        InputError: if a name is not listed, or a running fit may use one of the folders. Nothing is removed then.
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
                    f"{blocked} cannot be removed: the run {run} is at work. Wait until it ends, or stop it."
                )
        for kept in chosen:
            shutil.rmtree(out / kept.name)
        with contextlib.suppress(OSError):  # not there, or not empty
            (out / CACHE).rmdir()
    return chosen


def digest_code(*places):
    """sha256 of source files of kmm: the version of the code, whether it was committed or not.

    Args:
        places: files and folders in kmm; all of it when none is named.

    Returns:
        str of 64 hexadecimal digits.
    """
    root, total = Path(kmm.__file__).parent, hashlib.sha256()
    chosen = [root / place for place in places] or [root]
    files = [file for place in chosen for file in ([place] if place.is_file() else place.rglob("*.py"))]
    for path in sorted(files):
        total.update(f"{path.relative_to(root).as_posix()} {digest_file(path)}\n".encode())
    return total.hexdigest()


@contextlib.contextmanager
def _lock(work):
    """Tries to lock a work folder without waiting and yields whether it did; the system unlocks it after a kill."""
    mark = work.with_name(work.name.replace(WORK, LOCK, 1))
    with open(mark, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = mark.exists() and os.path.samestat(os.fstat(lock.fileno()), mark.stat())  # else removed meanwhile
        except BlockingIOError:
            held = False
        try:
            yield held
        finally:
            if held:
                mark.unlink(missing_ok=True)


def _is_running(work):
    """Whether a process holds the lock of a work folder; makes no file."""
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
    """Work folders of all runs, also of one that holds its lock and has no folder yet."""
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
    return KeptFolder(path.name, _measure(path), f"run {name}: prepared films and training state", state, reason)


def _describe(out, path, belongs_to):
    return KeptFolder(path.relative_to(out).as_posix(), _measure(path), belongs_to, REUSED)


def _find_obstacle(out, path, name):
    """Why `kmm fit --resume` would refuse a work folder; empty when it would go on, on the same data and settings."""
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


def _measure(folder):
    """Bytes of the files in a folder, to any depth; links are not followed."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # a running fit removes and renames files
                total += os.lstat(os.path.join(place, name)).st_size
    return total
