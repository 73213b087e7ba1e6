"""Read numbers from a DICOM header: finite numbers are accepted, empty values are None, others are rejected."""

import math
import typing
from collections.abc import Mapping
from typing import Any

from kmm.errors import ImageError

if typing.TYPE_CHECKING:
    from pydicom import Dataset

LARGEST = 1e30  # beyond this, float32 arithmetic on pixels may overflow


def take_numbers(header: "Dataset | Mapping[str, Any]", keyword: str, name: str) -> list[float | None]:
    """Reads the numbers of a header element.

    Args:
        header: `pydicom.Dataset`, or a dict.
        keyword: str. Keyword of the element, for example `"PixelSpacing"`.
        name: str. The file's name, for the error.

    Returns:
        list with a float for each value, and None for each empty one; empty if the element is absent or empty.

    Raises:
        ImageError: if a value is text, NaN, infinite or beyond +-1e30. The value is not quoted.

    Example:
        >>> header = {"PixelSpacing": [0.2, 0.1]}
        >>> take_numbers(header, "PixelSpacing", "film.dcm"), take_numbers(header, "WindowWidth", "film.dcm")
        ([0.2, 0.1], [])
    """
    try:
        value = header.get(keyword)
        values = [] if value is None else [value] if isinstance(value, str | bytes | int | float) else list(value)
        numbers = [None if item is None or item in ("", b"") else float(item) for item in values]
    except Exception as error:  # pydicom raises many kinds of exception on invalid values
        raise ImageError(f"{name}: {keyword} is not a number. Correct or remove it in the header.") from error
    for number in numbers:
        if number is not None and not abs(number) <= LARGEST:
            shown = f"{number:g}" if math.isfinite(number) else "NaN or infinite"
            raise ImageError(f"{name}: {keyword} is {shown}. Correct or remove it in the header.")
    return numbers if any(number is not None for number in numbers) else []


def take_number(header: "Dataset | Mapping[str, Any]", keyword: str, name: str) -> float | None:
    """Reads the first number of a header element.

    Args:
        header, keyword, name: as in `take_numbers`.

    Returns:
        float, or None if it is absent or empty.

    Raises:
        ImageError: as `take_numbers`, for any value of the element.

    Example:
        >>> take_number({"RescaleSlope": "nan"}, "RescaleSlope", "film.dcm")
        Traceback (most recent call last):
        kmm.errors.ImageError: film.dcm: RescaleSlope is NaN or infinite. Correct or remove it in the header.
    """
    return next(iter(take_numbers(header, keyword, name)), None)
