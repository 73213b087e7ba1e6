"""Handle DICOM films with non-square pixels: the size with square pixels, and the scale back to the file's pixels.

A film is enlarged along its coarser axis, so that no detail is lost, with triangle weights (`kmm.image.prepare`).
Ratios within 1 % of 1 are ignored. Coordinates on the film as read are divided by its pixel scale to give coordinates
in the file.

Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_10.7.html (spacing),
https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.7.6.3.html (aspect ratio)
"""

import typing
from pathlib import Path

from kmm.errors import ImageError
from kmm.image.header_numbers import take_numbers

if typing.TYPE_CHECKING:
    from pydicom import Dataset

# Each gives the spacing of rows, then of columns; the first that is set counts.
ASPECT_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
ASPECT_TOLERANCE = 0.01 + 1e-9  # of ratios of decimal numbers, which are rounded
LARGEST_ASPECT = 10


def read_square_size(header: "Dataset", name: str) -> tuple[int, int]:
    """Returns the number of rows and columns of a film after resampling to square pixels.

    Args:
        header: `pydicom.Dataset` with `Rows` and `Columns`.
        name: str. The file's name, for the error.

    Returns:
        `(rows, columns)`, each at least as large as in the header, and equal to the header's if pixels are square
        within 1 % or the header gives no spacing. Spacings of 0 are ignored.

    Raises:
        ImageError: if a spacing or ratio is not a positive number, or a pixel is over 10 times as long as wide.

    Example:
        >>> from pydicom import Dataset
        >>> header = Dataset()
        >>> header.Rows, header.Columns, header.ImagerPixelSpacing = 100, 80, [0.2, 0.1]
        >>> read_square_size(header, "film.dcm")
        (200, 80)
    """
    rows, columns = header.Rows, header.Columns
    for keyword in ASPECT_KEYWORDS:
        spacings = take_numbers(header, keyword, name)
        if len(spacings) < 2 or not any(spacings):
            continue
        positive = [spacing for spacing in spacings if spacing and spacing > 0]
        if len(spacings) > 2 or len(positive) < 2:
            raise ImageError(f"{name}: {keyword} is not two positive numbers. Correct or remove it in the header.")
        aspect = positive[0] / positive[1]
        if not 1 / LARGEST_ASPECT <= aspect <= LARGEST_ASPECT:
            raise ImageError(
                f"{name}: {keyword} makes pixels {aspect:g} times as high as wide. Correct or remove it in the header."
            )
        if abs(aspect - 1) <= ASPECT_TOLERANCE:
            break
        return (round(rows * aspect), columns) if aspect > 1 else (rows, round(columns / aspect))
    return rows, columns


def find_pixel_scale(path: Path | str) -> tuple[float, float]:
    """Finds the number of pixels of the film, as kmm reads it, per pixel of its file.

    Args:
        path: str or Path of a film that can be read.

    Returns:
        `(across, down)`, floats >= 1; `(1.0, 1.0)` unless the file is DICOM and its pixels are not square. With pixel
        centres at integers, x of the file is `(x + 0.5) / across - 0.5`, y likewise.

    Raises:
        ImageError: if the file cannot be read.

    Example:
        >>> import os
        >>> find_pixel_scale(os.devnull)
        (1.0, 1.0)
    """
    try:
        with open(path, "rb") as file:
            if file.read(132)[128:] != b"DICM":
                return 1.0, 1.0
            from kmm.image.dicom import read_header

            file.seek(0)
            header = read_header(file, str(path), ["Rows", "Columns", *ASPECT_KEYWORDS])
    except OSError as error:
        raise ImageError(f"{path}: the file cannot be read ({error.strerror}).") from error
    return read_dataset_scale(header, str(path))


def read_dataset_scale(header: "Dataset", name: str) -> tuple[float, float]:
    """Finds the pixel scale of `find_pixel_scale` from a DICOM header or dataset.

    Args:
        header: `pydicom.Dataset` with `Rows` and `Columns`.
        name: str. Its name in the error.

    Returns:
        `(across, down)`, floats >= 1.

    Raises:
        ImageError: as `read_square_size`.
    """
    rows, columns = read_square_size(header, name)
    return columns / header.Columns, rows / header.Rows
