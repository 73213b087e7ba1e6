"""The look of kmm's figures, and picture files of them: the same figure gives the same bytes.

The palette is safe for colour-blind readers, and each curve has its own line style, so that figures can be printed in
grey.

Source: https://jfly.uni-koeln.de/color/ (palette of Okabe and Ito).
"""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from kmm.errors import look_up
from kmm.storage.files import replace_file

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
STYLES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))
GREY = "#666666"
DOTS_PER_INCH = 120
LEGEND: dict = {"fontsize": 8, "title_fontsize": 8, "frameon": True, "framealpha": 0.85, "edgecolor": "none"}


def list_looks() -> Iterator[dict[str, Any]]:
    """Yields the colour, style and width of each curve in turn."""
    return ({"color": colour, "linestyle": style, "linewidth": 1.6} for colour, style in zip(COLOURS, STYLES))


def tidy_axes(axes: Axes) -> None:
    """Gives axes the look of kmm's plots: no frame at the top and right, and a light grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#DDDDDD", linewidth=0.5)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: Path | str, caption: str = "") -> Path:
    """Writes a figure as a picture file, by its suffix, with a caption below it; returns the Path."""
    path = Path(path)
    if caption:
        figure.supxlabel(caption, fontsize=8, color=GREY, wrap=True)
    picture = encode_figure(figure, path.suffix.lower())
    with replace_file(path) as place:
        place.write_bytes(picture)
    return path


def encode_figure(figure: Figure, suffix: str) -> bytes:
    """Encodes a figure as the content of a picture file: the same figure gives the same bytes.

    Args:
        figure: Matplotlib's `Figure`.
        suffix: str, a key of `FORMATS`.

    Returns:
        bytes.

    Raises:
        InputError: for an unknown suffix.

    Example:
        >>> encode_figure(Figure(figsize=(1, 1)), ".png")[1:4]
        b'PNG'
    """
    encode = look_up(FORMATS, suffix, "kind of picture file")
    file = io.BytesIO()
    with matplotlib.rc_context(REPRODUCIBLE):
        encode(figure, file)
    return file.getvalue()


def _print_png(figure, file):
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})


def _print_svg(figure, file):
    FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})


def _print_pdf(figure, file):
    FigureCanvasPdf(figure).print_pdf(file, metadata={"CreationDate": None, "Creator": None, "Producer": None})


FORMATS = {".png": _print_png, ".svg": _print_svg, ".pdf": _print_pdf}  # suffix of a file to what writes it
REPRODUCIBLE = {"svg.hashsalt": "kmm", "svg.fonttype": "none", "pdf.fonttype": 42}
