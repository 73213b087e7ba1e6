"""What a process needs that works for another one: its share of the cores, silence, errors that can travel."""

import contextlib
import ctypes
import os
import signal
import sys
import traceback

from kmm.errors import KmmError
from kmm.tracebacks import is_debugging

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
TRIES = 3  # how often a batch whose process was killed is done in all


def count_cores():
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def limit_threads(threads):
    """The environment of a process that shares its machine with others: it is read when TensorFlow is loaded.

    Args:
        threads: int >= 1.

    Returns:
        dict of str.
    """
    return {
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
        "OMP_NUM_THREADS": str(threads),
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
    }


def end_with(parent):
    """Makes this process end when its parent does. Linux sees to it; elsewhere a parent that is gone is seen now only.

    Args:
        parent: int. The process that started this one.

    Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it ended before
        os._exit(1)


def make_portable(error):
    """Makes an error that another process can raise: kmm's own and those of the disk as they are, others as text.

    A note holds the traceback, which does not travel otherwise: of others always, of kmm's own with KMM_DEBUG.

    Example:
        >>> from kmm.errors import InputError
        >>> make_portable(InputError("expected a film.")), make_portable(ZeroDivisionError("division by zero"))
        (InputError('expected a film.'), RuntimeError('ZeroDivisionError: division by zero'))
    """
    own = isinstance(error, KmmError | OSError)
    portable = error if own else RuntimeError(f"{type(error).__name__}: {error}")
    if not own or is_debugging():
        portable.add_note("".join(traceback.format_tb(error.__traceback__)))
    return portable


@contextlib.contextmanager
def silence_libraries():
    """Drops what C++ libraries write to standard error while they are loaded: it is no news to a user."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
