"""What an image file must be before its pixels are decoded, and quiet decoders."""

import contextlib
import os
import threading
import warnings

from kmm.errors import ImageError

MAX_PIXELS = 50_000_000
MIN_SIDE = 16


def check_size(name, width, height, *, max_pixels=MAX_PIXELS):
    """Refuses an image that is too small to be a film, or so large that decoding it would fill the memory.

    Args:
        name: str. The file's name, for the error.
        width, height: int. Pixels, as the file's header declares them.
        max_pixels: int. The largest `width * height` that is decoded.

    Raises:
        ImageError: if a side is under 16 pixels or there are more than `max_pixels` pixels.

    Example:
        >>> check_size("film.png", 2048, 2500)
        >>> check_size("dot.png", 1, 1)
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
    """Keeps the warnings of decoders about odd file headers from users: a file is either read whole or refused.

    Python's warning filters belong to the process, so the first thread that enters saves them and the last one that
    leaves puts them back. Use the one instance, `quiet_decoding`.

    Example:
        >>> with quiet_decoding:
        ...     warnings.warn("this tag is odd")
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._threads_inside = 0
        self._saved = None

    def __enter__(self):
        with self._lock:
            if self._threads_inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._threads_inside += 1

    def __exit__(self, *_):
        with self._lock:
            self._threads_inside -= 1
            if self._threads_inside == 0:
                self._saved.__exit__(None, None, None)


quiet_decoding = QuietDecoding()


@contextlib.contextmanager
def silent_libtiff():
    """Keeps libtiff from writing on standard error, which it does by itself for each fault of a compressed file.

    Standard error belongs to the process: what another thread writes meanwhile is lost too, so this surrounds the
    decoding of one compressed TIFF and nothing else. The error itself comes back as an exception.

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
