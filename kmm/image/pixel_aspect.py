"""Pixels of DICOM films that are not square: how much longer a film becomes with square ones, and the way back.

A film is enlarged along the coarser axis, so that nothing is lost, by triangle weights (`kmm.image.prepare`). Ratios
within 1 % of 1 are left alone. Coordinates on the film as read are divided by its pixel scale to give the file's own.

Source: https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_10.7.html (spacing),
https://dicom.nema.org/medical/dicom/current/output/chtml/part03/sect_C.7.6.3.html (aspect ratio)
"""

from kmm.errors import ImageError
from kmm.image.header_numbers import take_numbers

# Each holds the distance of rows, then of columns; the first one that says something counts.
ASPECT_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio")
TOLERANCE = 0.01 + 1e-9  # of ratios of decimal numbers, which are rounded
LARGEST_ASPECT = 10


def read_square_size(header, name):
    """Reads how many rows and columns a film has once its pixels are square.

    Args:
        header: `pydicom.Dataset` with `Rows` and `Columns`.
        name: str. The file's name, for the error.

    Returns:
        `(rows, columns)`, each at least those of the header, which they equal if the pixels are square within 1 % or
        nothing is said of them. Spacings of 0 say nothing.

    Raises:
        ImageError: if a spacing or ratio is no positive number, or a pixel is over 10 times as long as wide.

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
        if len(spacings) > 2 or not all(spacing and spacing > 0 for spacing in spacings):
            raise ImageError(f"{name}: {keyword} is not two positive numbers. Correct or remove it in the header.")
        aspect = spacings[0] / spacings[1]
        if not 1 / LARGEST_ASPECT <= aspect <= LARGEST_ASPECT:
            raise ImageError(
                f"{name}: {keyword} makes pixels {aspect:g} times as high as wide. Correct or remove it in the header."
            )
        if abs(aspect - 1) <= TOLERANCE:
            break
        return (round(rows * aspect), columns) if aspect > 1 else (rows, round(columns / aspect))
    return rows, columns


def find_pixel_scale(path):
    """Finds how many pixels of the film, as kmm reads it, one pixel of its file became.

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
        raise ImageError(f"{path}: expected a readable file. Received: {error.strerror}.") from error
    rows, columns = read_square_size(header, str(path))
    return columns / header.Columns, rows / header.Rows
