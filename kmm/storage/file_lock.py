"""Lock on a file, held by one process at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def hold_file(mark: Path) -> Iterator[bool]:
    """Tries to lock a file without waiting. The system releases the lock of a killed process.

    Args:
        mark: Path of the file, in an existing folder. It is created, and removed at the end.

    Yields:
        bool: whether no other process holds it.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with hold_file(Path(folder, "lock")) as first, hold_file(Path(folder, "lock")) as second:
        ...         print(first, second)
        True False
    """
    with open(mark, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Another process may have removed the file meanwhile.
            held = mark.exists() and os.path.samestat(os.fstat(lock.fileno()), mark.stat())
        except BlockingIOError:
            held = False
        try:
            yield held
        finally:
            if held:
                mark.unlink(missing_ok=True)
