"""Check Keras's backend before Keras is imported, so that a wrong one is a one-line error."""

import importlib.util
import json
import os
from pathlib import Path

from kmm.errors import InputError

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
