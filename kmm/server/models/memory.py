"""Memory that goes back to the system after use.

TensorFlow's allocator for oneDNN keeps every block that it ever took, and glibc keeps most of what is freed: an
explanation of a DenseNet, which needs a gigabyte while it runs, would hold it for good.
"""

import contextlib
import ctypes
import os
import sys
import threading

MOMENT_SECONDS = 1.0  # between the end of the last use and the return: another use may begin at once


def use_system_allocator():
    """Has TensorFlow take memory from the system, unless the environment says otherwise.

    It has an effect only before TensorFlow makes its first tensor in this process.

    Example:
        >>> use_system_allocator()
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")


def return_memory():
    """Gives free memory back to the system. Does nothing where the C library has no call for it.

    Example:
        >>> return_memory()
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


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
                    self._timer = threading.Timer(self._seconds, return_memory)
                    self._timer.daemon = True
                    self._timer.start()
