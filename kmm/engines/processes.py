"""Helpers for worker processes: their share of the cores, errors that can be sent back."""

import ctypes
import os
import signal
import sys
import traceback

from kmm.errors import KmmError, is_debugging

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
TRIES = 3  # attempts in total at a job whose process is killed


def describe_kills(cause: str = "") -> str:
    """Describes why a job was given up.

    Example:
        >>> describe_kills("signal 9")
        'the process that worked on it was killed 3 times (signal 9).'
    """
    return f"the process that worked on it was killed {TRIES} times{f' ({cause})' if cause else ''}."


def limit_threads(threads: int) -> dict[str, str]:
    """Returns the environment variables of a process that shares its machine; TensorFlow reads them when it is loaded.

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


def end_with(parent: int) -> None:
    """Makes this process end when its parent does. On systems other than Linux, it ends only if that is so by now.

    Args:
        parent: int. Id of the process that started this one.

    Source: https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent has ended already
        os._exit(1)


def make_portable(error: Exception) -> Exception:
    """Converts an error to one that another process can raise: kmm's own and OSError unchanged, others as text.

    A note holds the traceback, which pickling would lose: always for other errors, for kmm's own only with KMM_DEBUG.

    Example:
        >>> from kmm.errors import InputError
        >>> make_portable(InputError("expected a film.")), make_portable(ZeroDivisionError("division by zero"))
        (InputError('expected a film.'), RuntimeError('ZeroDivisionError: division by zero'))
    """
    own = isinstance(error, KmmError | OSError)
    portable: Exception = error if own else RuntimeError(f"{type(error).__name__}: {error}")
    if not own or is_debugging():
        portable.add_note("".join(traceback.format_tb(error.__traceback__)))
    return portable
