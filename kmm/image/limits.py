"""Limits on image files, checked before their pixels are decoded, and contexts that keep decoders quiet."""

import contextlib
import os
import threading
import warnings
from collections.abc import Iterator

from kmm.errors import ImageError

MAX_PIXELS = 50_000_000
MIN_SIDE = 16


def check_film_size(name: str, width: int, height: int, *, max_pixels: int = MAX_PIXELS) -> None:
    """Rejects an image that is too small to be a film, or so large that decoding it could exhaust the memory.

    Args:
        name: str. The file's name, for the error.
        width, height: int. Pixels, as the file's header declares them.
        max_pixels: int. The largest `width * height` that is decoded.

    Raises:
        ImageError: if a side is under 16 pixels or there are more than `max_pixels` pixels.

    Example:
        >>> check_film_size("film.png", 2048, 2500)
        >>> check_film_size("dot.png", 1, 1)
        Traceback (most recent call last):
        kmm.errors.ImageError: dot.png: expected an image of at least 16x16 pixels. Received: 1x1.
    """
    if min(width, height) < MIN_SIDE:
        raise ImageError(
            f"{name}: expected an image of at least {MIN_SIDE}x{MIN_SIDE} pixels. Received: {width}x{height}."
        )
    if width * height > max_pixels:
        raise ImageError(f"{name}: expected at most {max_pixels} pixels. Received: {width}x{height}.")


class QuietDecoding:
    """Hides decoders' warnings about unusual file headers, because a file is either read completely or rejected.

    Python's warning filters belong to the process, so the first thread that enters saves them and the last one that
    leaves restores them. Use the shared instance, `quiet_decoding`.

    Example:
        >>> with quiet_decoding:
        ...     warnings.warn("this tag is odd")
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads_inside = 0
        self._saved: warnings.catch_warnings | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._threads_inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._threads_inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._threads_inside -= 1
            if self._threads_inside == 0 and self._saved is not None:
                self._saved.__exit__(None, None, None)


quiet_decoding = QuietDecoding()


@contextlib.contextmanager
def silent_libtiff() -> Iterator[None]:
    """Stops libtiff from writing to standard error for each fault of a compressed file.

    Standard error belongs to the process, so output of other threads is lost too. Use this only around the decoding of
    one compressed TIFF. The error itself is raised as an exception.

    Example:
        >>> with silent_libtiff():
        ...     written = os.write(2, b"LZWDecode: ...")
    """
    with _stderr_lock, open(os.devnull, "wb") as nowhere:
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


_stderr_lock = threading.Lock()
