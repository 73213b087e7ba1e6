"""Memory that goes back to the system after large requests and explanations.

TensorFlow's allocator for oneDNN keeps every block that it ever took, and glibc keeps most of what is freed: an
explanation of a DenseNet, which needs a gigabyte while it runs, would hold it for good.
"""

import contextlib
import ctypes
import os
import sys
import threading

LARGE_BYTES = 2**26  # freed in all, before it is worth looking for memory to give back: that takes time too
DELAY_SECONDS = 0.2  # so that much that is freed at once is given back at once
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
MOMENT_SECONDS = 1.0  # between the end of the last use and the return: another use may begin at once


def use_system_allocator():
    """Has TensorFlow take memory from the system, unless the environment says otherwise.

    It has an effect only before TensorFlow makes its first tensor in this process. glibc would map each large block
    anew, and the system fill its pages one by one: a call of a DenseNet takes a tenth more time for that. So all blocks
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
    """A call of glibc; None with another library (musl has none of them)."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None


def trim():
    """Gives free memory of the C library back to the system, where it is glibc.

    Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html

    Returns:
        bool. Whether there was some.

    Example:
        >>> trim() in (True, False)
        True
    """
    release = _find_call("malloc_trim")
    return release is not None and bool(release(0))


class MemoryReturn:
    """Gives memory back a moment after much was freed: glibc by itself keeps it. Does nothing with another library.

    Args:
        loop: the `asyncio` event loop in which `note` is called; the work itself runs in a thread.
    """

    def __init__(self, loop):
        self._loop, self._freed, self._waiting = loop, 0, False

    def note(self, size):
        """Says that so many bytes are freed now, or very soon."""
        self._freed += size
        if self._freed > LARGE_BYTES and not self._waiting:
            self._waiting = True
            self._loop.call_later(DELAY_SECONDS, self._begin)

    def _begin(self):
        self._freed, self._waiting = 0, False
        self._loop.run_in_executor(None, trim)


class Workspace:
    """Returns memory a moment after the last of those that need much of it has ended.

    Args:
        seconds: float. Length of the moment.

    Example:
        >>> workspace = Workspace()
        >>> with workspace.use():
        ...     pass
    """

    def __init__(self, seconds=MOMENT_SECONDS):
        self._seconds, self._users, self._timer = seconds, 0, None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def use(self):
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
