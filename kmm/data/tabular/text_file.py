"""Decode text files in the encodings that people export: UTF-8 with or without a byte order mark, UTF-16, UTF-32."""

import codecs
from pathlib import Path

from kmm.errors import InputError

_MARKS = (  # UTF-32 comes first, because its mark begins with the mark of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OTHER_FILES = (
    (b"PK\x03\x04", "an Excel workbook or another zip archive. Export the table as CSV in UTF-8"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook (.xls). Export the table as CSV in UTF-8"),
    (b"\x1f\x8b", "compressed by gzip. Unpack it first"),
    (b"PAR1", "a Parquet file. Export the table as CSV in UTF-8"),
)
_SAMPLE_BYTES = 400


def read_text(path: Path | str, max_bytes: int) -> str:
    """Reads a whole text file.

    Args:
        path: file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark. UTF-16 without a mark is recognised by the
            zero bytes next to its ASCII characters.
        max_bytes: int. A larger file is rejected before it is read.

    Returns:
        str without byte order marks; line endings are not changed.

    Raises:
        InputError: if the file cannot be read, is too large, is a workbook or an archive, or has bytes in another
            encoding; the error names the line and never repeats its text.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "table.csv")
        ...     _ = path.write_bytes("id;report".encode("utf-16"))
        ...     read_text(path, 100)
        'id;report'
    """
    path = Path(path)
    try:
        if path.stat().st_size > max_bytes:
            raise InputError(f"{path}: the file is larger than {max_bytes:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    for magic, kind in _OTHER_FILES:
        if data.startswith(magic):
            raise InputError(f"{path}: expected text. Received: {kind}")
    encoding = _find_encoding(data)
    try:
        return data.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: {_describe_error(data, encoding, error)}") from None


def _find_encoding(data):
    marked = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if marked:
        return marked
    sample = data[:_SAMPLE_BYTES]
    even, odd = (sample[start::2].count(0) / max(len(sample) // 2, 1) for start in (0, 1))
    if odd > 0.7 and even < 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > 0.7 and odd < 0.1 else "utf-8"


def _describe_error(data, encoding, error):
    if encoding != "utf-8":
        return f"not valid {encoding.upper()}, the encoding of its first bytes (byte {error.start}: {error.reason})"
    line = data.count(b"\n", 0, error.start) + 1
    return (
        f"expected UTF-8 text. Line {line} is not valid (byte {error.start}): the file may be Windows-1252 or Latin-1. "
        "Save it as UTF-8 (Excel: 'CSV UTF-8')"
    )
