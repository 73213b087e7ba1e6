"""Files that are written whole or not at all, and DICOM files recognised by what they hold."""

import contextlib
import json
import os
from pathlib import Path


@contextlib.contextmanager
def replace_file(path):
    """Hands out a temporary name beside `path`; what was written there takes the place of `path` in one step.

    When the block fails, what was at `path` stays as it was and the temporary file is gone. An error that names the
    temporary file is said of `path`.

    Args:
        path: of the file to write. The temporary name begins with a dot and keeps the suffix.

    Yields:
        Path. The block must write a file there.

    Raises:
        OSError: if the folder is missing or the disk is full.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with replace_file(Path(folder, "words.txt")) as place:
        ...         _ = place.write_text("mass", encoding="utf-8")
        ...     [file.name for file in Path(folder).iterdir()]
        ['words.txt']
    """
    path = Path(path)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        if error.filename == str(temporary):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        temporary.unlink(missing_ok=True)


def is_dicom(path, *, unreadable=False):
    """Says whether a file is DICOM, by its content.

    Args:
        path: str or Path.
        unreadable: bool. The answer for a file that cannot be read.

    Returns:
        bool.

    Example:
        >>> is_dicom(os.devnull)
        False
    """
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return unreadable


def write_json(path, value):
    """Writes a JSON file, whole or not at all."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with replace_file(path) as place:
        place.write_text(text, encoding="utf-8")
