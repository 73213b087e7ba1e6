"""Recognise files of films by their name or first bytes."""

from pathlib import Path

DICOM_SUFFIXES = (".dcm", ".dicom")
PNG_HEAD, JPEG_HEAD = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"  # the first bytes of a file


def is_dicom(path: Path | str, *, unreadable: bool = False) -> bool:
    """Returns whether the content of a file is DICOM.

    Args:
        path: path of the file.
        unreadable: bool. The result for a file that cannot be read.

    Returns:
        bool: whether the bytes 128 to 131 are `DICM`.

    Example:
        >>> import os
        >>> is_dicom(os.devnull)
        False
    """
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, ValueError):  # ValueError: a name with NUL
        return unreadable
