"""Load Keras: its backend is checked first, so that a wrong one is a one-line error, and its messages are discarded."""

import contextlib
import importlib
import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from kmm.errors import InputError, KmmError

BACKENDS = ("tensorflow", "jax", "torch")


def check_backend() -> str:
    """Checks that kmm supports Keras's backend and that it is installed.

    Returns:
        str, the name of the backend.

    Raises:
        InputError: if the backend is unknown or not installed.

    Example:
        >>> os.environ["KERAS_BACKEND"] = "tensorflow"
        >>> check_backend()
        'tensorflow'
    """
    name, source = _find_backend()
    if name not in BACKENDS:
        *others, last = BACKENDS
        known = f"{', '.join(others)} or {last}"
        raise InputError(f"{source} names the unknown backend {name!r}. Set KERAS_BACKEND to {known}.")
    if importlib.util.find_spec(name) is None:
        install = "tensorflow" if name == "tensorflow" else f'"kmm[{name}]"'
        raise InputError(
            f"{source} names the backend {name}, which is not installed. Install it (pip install {install}) or set "
            "KERAS_BACKEND=tensorflow."
        )
    return name


def has_accelerator() -> bool:
    """Returns whether Keras's backend, which is loaded, has another device than processors."""
    name = check_backend()
    module = importlib.import_module(name)
    if name == "tensorflow":
        return any(device.device_type != "CPU" for device in module.config.list_physical_devices())
    if name == "jax":
        return any(device.platform != "cpu" for device in module.devices())
    return bool(module.cuda.is_available())


@contextlib.contextmanager
def load_keras_quietly() -> Iterator[None]:
    """Imports modules that need Keras without their messages.

    Later messages of TensorFlow below errors are switched off too, unless the variable TF_CPP_MIN_LOG_LEVEL is set.

    Raises:
        InputError: in one line, if Keras's backend or settings do not let it load.
    """
    name = check_backend()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    with silence_libraries():
        try:
            yield
        except KmmError:
            raise
        except Exception as error:  # importing Keras or its backend may raise anything; no data is read yet
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"Keras cannot be loaded on the backend {name}: {type(error).__name__}: {reason}. Repair its "
                "installation or keras.json, or set KERAS_BACKEND to another backend."
            ) from error


@contextlib.contextmanager
def silence_libraries() -> Iterator[None]:
    """Discards what C++ libraries print to standard error while they are loaded."""
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


def _find_backend():
    """Finds the backend as Keras does: from the variable, else the file, else TensorFlow. Returns it and its source."""
    if name := os.environ.get("KERAS_BACKEND"):
        return name, "KERAS_BACKEND"
    home = os.path.expanduser("~")
    folder = os.environ.get("KERAS_HOME") or Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    path = Path(folder, "keras.json").expanduser()
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # Keras ignores such a file too
        config = None
    name = config.get("backend", "tensorflow") if isinstance(config, dict) else "tensorflow"
    return str(name), str(path)
