"""A figure with its caption and a description for readers who do not see it, as a picture file or inside a page."""

import base64
import textwrap
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font

from kmm.evaluate.output.figure_files import GREY, encode_figure

MOST_LETTERS = 60  # of a label in a figure
LETTERS_PER_INCH, MOST_CAPTION = 15, 1000  # letters of a caption


@dataclass(frozen=True)
class Drawing:
    """One figure.

    Attributes:
        name: str. Name of its files, without suffix.
        title: str.
        caption: str. What was measured on what, and what lines, bands and intervals mean.
        alt: str. Description in words of what the figure shows, without its numbers: these are in a table.
        draw: function without arguments that draws the figure.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[], Figure]

    def encode(self, suffix: str, *, captioned: bool = True) -> bytes:
        """Encodes the figure as a picture file, with or without the caption below it.

        Args:
            suffix: str, a key of `kmm.evaluate.output.figure_files.FORMATS`.
            captioned: bool.

        Returns:
            bytes, equal for equal numbers.
        """
        figure = self.draw()
        if captioned:
            caption = clean_text(f"{self.title}. {self.caption}", most=MOST_CAPTION)
            lines = textwrap.wrap(caption, int(LETTERS_PER_INCH * figure.get_figwidth()))
            figure.supxlabel("\n".join(lines), fontsize=8, color=GREY)
        return encode_figure(figure, suffix)

    def embed(self, file: str = "") -> dict[str, str]:
        """Makes what the template of a page shows: the picture as a data URL, and its texts.

        Args:
            file: str. Place of the picture as a file, which the page names; empty if there is none.

        Returns:
            dict of `source`, `alt`, `title`, `caption` and `file`.
        """
        picture = base64.b64encode(self.encode(".png", captioned=False)).decode("ascii")
        return {
            "source": f"data:image/png;base64,{picture}",
            "alt": self.alt,
            "title": self.title,
            "caption": self.caption,
            "file": file,
        }


def clean_text(text: object, most: int = MOST_LETTERS) -> str:
    """Makes any text fit for a figure: one short line, without formulas and characters that the font lacks.

    Example:
        >>> clean_text("a$b\\n c"), clean_text("x" * 9, most=5)
        ('a\\\\$b c', 'xxxx…')
    """
    line = " ".join(str(text).split())
    line = "".join(letter for letter in line if unicodedata.category(letter) not in ("Cc", "Cf", "Cs"))
    line = "".join(letter if ord(letter) in _list_glyphs() else "□" for letter in line)
    line = line if len(line) <= most else line[: most - 1] + "…"
    return line.replace("$", r"\$")


@cache
def _list_glyphs():
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())
