"""The backend of Keras, checked before Keras is imported: a wrong one is one line then, not Keras's traceback."""

import importlib.util
import json
import os
from pathlib import Path

from kmm.errors import InputError

BACKENDS = ("tensorflow", "jax", "torch")


def check_backend():
    """Makes sure that Keras can be imported: its backend is one that kmm runs on, and is installed.

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
    """The backend as Keras finds it, and where it is named: the variable, else the file, else TensorFlow."""
    if name := os.environ.get("KERAS_BACKEND"):
        return name, "KERAS_BACKEND"
    home = os.path.expanduser("~")
    folder = os.environ.get("KERAS_HOME") or Path(home if os.access(home, os.W_OK) else "/tmp", ".keras")
    path = Path(folder, "keras.json").expanduser()
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # Keras goes on without it too
        said = None
    name = said.get("backend", "tensorflow") if isinstance(said, dict) else "tensorflow"
    return str(name), str(path)
