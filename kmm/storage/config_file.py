"""Reading of a JSON file from elsewhere, such as the config.json of a model."""

import json
from pathlib import Path
from typing import Any

from kmm.errors import InputError

MAX_CONFIG_BYTES = 10_000_000


def read_config(path: Path) -> dict[str, Any]:
    """Reads a file with a JSON object.

    Raises:
        InputError: if it is missing, too large, no JSON or no object; it names the file.
    """
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise InputError(f"{path}: expected a file of at most {MAX_CONFIG_BYTES:,} bytes.")
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not valid JSON in UTF-8.") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected a JSON object. Received: {type(values).__name__}.")
    return values
