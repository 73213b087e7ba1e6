"""Give memory back to the system after large requests."""

import ctypes
import sys

LARGE_BYTES = 2**26  # freed in all, before it is worth looking for memory to give back: that takes time too
DELAY_SECONDS = 0.2  # so that much that is freed at once is given back at once


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


def trim():
    """Gives free memory of the C library back to the system, where it is glibc.

    Source: https://man7.org/linux/man-pages/man3/malloc_trim.3.html

    Returns:
        bool. Whether there was some.

    Example:
        >>> trim() in (True, False)
        True
    """
    if sys.platform != "linux":
        return False
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none
    return release is not None and bool(release(0))
