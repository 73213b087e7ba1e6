"""Lock on a file, held by one process at a time."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def hold_file(mark: Path, *, wait: bool = False) -> Iterator[bool]:
    """Locks a file. The system releases the lock of a killed process.

    Args:
        mark: Path of the file, in an existing folder. It is created, and removed at the end.
        wait: bool. Waits until no other process holds it.

    Yields:
        bool: whether this process holds it; always true after waiting.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with hold_file(Path(folder, "lock")) as first, hold_file(Path(folder, "lock")) as second:
        ...         print(first, second)
        True False
    """
    with contextlib.ExitStack() as opened:
        held = False
        while not held:
            lock = opened.enter_context(open(mark, "w", encoding="utf-8"))
            # Another process may hold the file, or remove it meanwhile.
            with contextlib.suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
                held = os.path.samestat(os.fstat(lock.fileno()), mark.stat())
            if not wait:
                break
            if not held:
                opened.close()
        try:
            yield held
        finally:
            if held:
                mark.unlink(missing_ok=True)
