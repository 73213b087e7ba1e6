"""Atomic writes of files, and recognition of DICOM files by content."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replace_file(path: Path | str) -> Iterator[Path]:
    """Provides a temporary file next to `path` that replaces `path` in one step when the block succeeds.

    If the block fails, `path` stays unchanged and the temporary file is removed.

    Args:
        path: path of the file to write. The temporary name begins with a dot and keeps the suffix.

    Yields:
        Path at which the block must write a file.

    Raises:
        OSError: if the folder is missing or the disk is full. It names `path` instead of the temporary file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replace_file(Path(folder, "words.txt")) as place:
        ...         _ = place.write_text("mass", encoding="utf-8")
        ...     [file.name for file in Path(folder).iterdir()]
        ['words.txt']
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}.{threading.get_ident()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path | str, value: Any) -> None:
    """Writes a JSON file atomically."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with replace_file(path) as place:
        place.write_text(text, encoding="utf-8")
