"""Return memory to the system after large requests and explanations.

TensorFlow's allocator for oneDNN keeps every block that it has ever allocated, and glibc keeps most freed memory. The
gigabyte that an explanation of a DenseNet needs while it runs would never return to the system.
"""

import contextlib
import ctypes
import os
import sys
import threading
from asyncio import AbstractEventLoop
from collections.abc import Iterator

LARGE_BYTES = 2**26  # total freed bytes from which a search for memory to return is worth its time
DELAY_SECONDS = 0.2  # so that blocks freed together are returned together
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
MOMENT_SECONDS = 1.0  # from the end of the last use to the return, since another use may follow


def use_system_allocator() -> None:
    """Makes TensorFlow allocate memory from the system, unless the environment says otherwise.

    It must be called before TensorFlow makes its first tensor in this process. By default glibc maps each large block
    separately and the system fills its pages one by one, which makes a call of a DenseNet a tenth slower. So all blocks
    come from the heap, and stay there until `trim`.

    Source: https://man7.org/linux/man-pages/man3/mallopt.3.html

    Example:
        >>> use_system_allocator()
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    if (configure := _find_call("mallopt")) is not None:
        configure(M_MMAP_MAX, 0)
        configure(M_TRIM_THRESHOLD, 2**31 - 1)


def _find_call(name):
    """Returns a function of glibc, or None with another C library."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def trim() -> bool:
    """Returns free memory of the C library to the system. Does nothing without glibc.

    Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html

    Returns:
        bool. Whether memory was returned.

    Example:
        >>> trim() in (True, False)
        True
    """
    release = _find_call("malloc_trim")
    return release is not None and bool(release(0))


class MemoryReturn:
    """Returns memory to the system shortly after large amounts were freed. Does nothing without glibc.

    Args:
        loop: the `asyncio` event loop in which `note` is called; the work itself runs in a thread.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop, self._freed, self._waiting = loop, 0, False

    def note(self, size: int) -> None:
        """Notes that `size` bytes are freed now or very soon."""
        self._freed += size
        if self._freed > LARGE_BYTES and not self._waiting:
            self._waiting = True
            self._loop.call_later(DELAY_SECONDS, self._begin)

    def _begin(self):
        self._freed, self._waiting = 0, False
        self._loop.run_in_executor(None, trim)


class Workspace:
    """Returns memory to the system shortly after the last memory-hungry block has ended.

    Args:
        seconds: float. Time between the end of the last block and the return.

    Example:
        >>> workspace = Workspace()
        >>> with workspace.use():
        ...     pass
    """

    def __init__(self, seconds: float = MOMENT_SECONDS) -> None:
        self._seconds, self._users = seconds, 0
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def use(self) -> Iterator[None]:
        """Marks the block as work that needs much memory."""
        with self._lock:
            self._users += 1
            if self._timer is not None:
                self._timer.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                if not self._users:
                    self._timer = threading.Timer(self._seconds, trim)
                    self._timer.daemon = True
                    self._timer.start()
