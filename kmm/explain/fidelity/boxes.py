"""Boxes around findings on films, drawn by radiologists or known of the phantom set, read from a table."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmm.data.tabular.rows import read_cells, show_columns
from kmm.errors import InputError

BOX_COLUMNS = ("image index", "finding label", "x", "y", "w", "h")
MAX_BYTES = 100_000_000
ROUNDING = 1.0  # pixels by which a box may end beyond its film


@dataclass(frozen=True)
class Box:
    """A box on a film, in pixels of the film.

    Attributes:
        finding: str. Name of the finding in it.
        x, y: float >= 0. Its left and upper edge, measured from the film's left and upper edge.
        width, height: float > 0.
    """

    finding: str
    x: float
    y: float
    width: float
    height: float


def read_boxes(path: Path | str) -> dict[str, list[Box]]:
    """Reads a table of boxes: ChestX-ray14's `BBox_List_2017.csv`, or the `boxes.csv` of the phantom set.

    The columns are `Image Index`, `Finding Label`, x, y, w and h, in this order; ChestX-ray14 writes the header of the
    last four as `Bbox [x,y,w,h]`, followed by empty columns.

    Source: https://arxiv.org/abs/1705.02315 (ChestX-ray8 and its boxes).

    Args:
        path: str or Path. A CSV of at most 100 MB, in the encodings and with the separators of
            `kmm.data.tabular.rows.read_rows`; numbers may have a decimal comma.

    Returns:
        dict of image file name to its list of `Box`, in the order of the table; empty when the table has no rows.

    Raises:
        InputError: if the file cannot be read, lacks a column or has a row that is not a box; it names the line.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "boxes.csv")
        ...     _ = path.write_text("Image Index,Finding Label,Bbox [x,y,w,h],,,\\n1.png,Mass,5,6,20.5,30,,,\\n")
        ...     read_boxes(path)
        {'1.png': [Box(finding='Mass', x=5.0, y=6.0, width=20.5, height=30.0)]}
    """
    path = Path(path)
    boxes: dict[str, list[Box]] = {}
    rows = read_cells(path, MAX_BYTES)
    _check_header(path, rows[0][1] if rows else [])
    for line, fields in rows[1:]:
        name, box = _read_row(fields, f"{path} line {line}")
        boxes.setdefault(name, []).append(box)
    return boxes


def check_inside(boxes: Iterable[Box], film_size: Sequence[float], film: Path | str) -> None:
    """Checks that boxes were drawn on this film, and not on a larger copy of it.

    Args:
        boxes: list of `Box`.
        film_size: (height, width) of the film in pixels.
        film: str or Path: name of the film, for the error.

    Raises:
        InputError: if a box ends more than a pixel beyond the film.

    Example:
        >>> check_inside([Box("Mass", 100, 40, 100, 60)], (256, 256), "1.png")
    """
    height, width = film_size
    for box in boxes:
        right, bottom = box.x + box.width, box.y + box.height
        if right > width + ROUNDING or bottom > height + ROUNDING:
            raise InputError(
                f"{film}: expected boxes within the film of {width:g} x {height:g} pixels. Received one that ends at "
                f"{right:g} x {bottom:g}. Boxes must be in pixels of this film, not of a larger copy."
            )


def place_boxes(
    boxes: Sequence[Box], film_size: Sequence[int], pixel_scale: tuple[float, float], film: Path | str
) -> list[Box]:
    """Converts boxes from pixels of the film's file to the square pixels of the film after reading.

    Args:
        boxes: list of `Box`, in pixels of the file.
        film_size: (height, width) of the film after reading.
        pixel_scale: `(across, down)`, from `kmm.image.pixel_aspect.find_pixel_scale`.
        film: str or Path: name of the film, for the error.

    Returns:
        list of `Box`.

    Raises:
        InputError: if a box ends more than one pixel of the file beyond the film.

    Example:
        >>> place_boxes([Box("Mass", 10, 40, 5, 20)], (200, 100), (1.0, 2.0), "1.dcm")
        [Box(finding='Mass', x=10.0, y=80.0, width=5.0, height=40.0)]
    """
    across, down = pixel_scale
    check_inside(boxes, (film_size[0] / down, film_size[1] / across), film)
    return [Box(box.finding, box.x * across, box.y * down, box.width * across, box.height * down) for box in boxes]


def _check_header(path, header):
    """Checks the columns of the header, with `Bbox [x,y,w,h]` in one cell or in four."""
    columns = re.sub(r"bbox\s*\[|\]", "", ",".join(header).lower()).split(",")
    columns = tuple(name.strip() for name in columns)
    if columns[: len(BOX_COLUMNS)] != BOX_COLUMNS or any(columns[len(BOX_COLUMNS) :]):
        raise InputError(
            f"{path}: expected the columns Image Index, Finding Label, x, y, w, h of a table of boxes. "
            f"Found: {show_columns([name.strip() for name in header if name.strip()])}"
        )


def _read_number(text):
    """Reads a number, perhaps with a decimal comma. `1,234` is rejected, as it may mean 1234."""
    return float(text if re.fullmatch(r"\d{1,3}(,\d{3})+", text) else text.replace(",", "."))


def _read_row(fields, place):
    if len(fields) < len(BOX_COLUMNS) or any(field.strip() for field in fields[len(BOX_COLUMNS) :]):
        raise InputError(f"{place}: expected {len(BOX_COLUMNS)} fields. Received: {len(fields)}")
    name, finding, *edges = (field.strip() for field in fields[: len(BOX_COLUMNS)])
    if not name or not finding:
        raise InputError(f"{place}: expected the names of an image file and of a finding. One of them is empty.")
    try:
        x, y, width, height = map(_read_number, edges)
    except ValueError:
        raise InputError(f"{place}: x, y, w and h must be numbers. At least one is not.") from None
    if not all(map(math.isfinite, (x, y, width, height))) or min(x, y) < 0 or min(width, height) <= 0:
        raise InputError(
            f"{place}: x and y must be 0 or more, w and h above 0. Received: {x:g}, {y:g}, {width:g}, {height:g}."
        )
    return name, Box(finding, x, y, width, height)
