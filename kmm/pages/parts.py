"""Parts of a page: sections, tables and links as values."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

INSIDE = re.compile(r"(?:[\w\-. ]+/)*[\w\-. ]+")  # a relative path that leads nowhere but into the folder


@dataclass(frozen=True)
class Link:
    """A text that leads to an address.

    Attributes:
        text: str.
        address: str, https, or a path inside the folder of the page.
    """

    text: str
    address: str


Cell = str | Link


@dataclass(frozen=True)
class Table:
    """A table; its first column names the rows.

    Attributes:
        caption: str.
        head: sequence of str.
        rows: sequence of rows, each a sequence of one `Cell` per column of the head, or of one: a heading of the rows
            below it.
        words: tuple of int. Further columns that hold words and not numbers.
        published: tuple of int. Rows with published numbers, which were not measured here.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: tuple[int, ...] = ()
    published: tuple[int, ...] = ()


def group_rows(groups: Mapping[str, Sequence[Sequence[Cell]]]) -> list[Sequence[Cell]]:
    """Puts a heading above the rows of each group, if there are several groups.

    Example:
        >>> group_rows({"": [["joint", "0.9"]]}), group_rows({"a": [["joint", "0.9"]], "b": [["joint", "0.8"]]})
        ([['joint', '0.9']], [['a'], ['joint', '0.9'], ['b'], ['joint', '0.8']])
    """
    filled = {title: rows for title, rows in groups.items() if rows}
    several = len(filled) > 1
    return [row for title, rows in filled.items() for row in ([[title], *rows] if several else rows)]


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: str. Its id.
        title: str.
        lines: sequence of str, paragraphs.
        points: sequence of str or `Link`, a list below them.
        figures: tuple of str, names of figures.
        tables: tuple of `Table`.
        folded: tuple of `Table`, long ones, each shown when it is asked for.
        notes: sequence of str, paragraphs at the end, in small print.
        code: tuple of pairs: the title and the text of a block to copy.
    """

    name: str
    title: str
    lines: Sequence[str] = ()
    points: Sequence[Cell] = ()
    figures: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    folded: tuple[Table, ...] = ()
    notes: Sequence[str] = ()
    code: tuple[tuple[str, str], ...] = ()


def link_inside(text: str, path: object) -> Cell:
    """Links to a file inside the folder of the page; plain text if the path is absent or leads elsewhere.

    Example:
        >>> link_inside("study-4", "explanations/study-4.html")
        Link(text='study-4', address='explanations/study-4.html')
        >>> link_inside("study-4", "../study-4.html"), link_inside("study-4", "javascript:x"), link_inside("a", None)
        ('study-4', 'study-4', 'a')
    """
    parts = str(path).split("/") if isinstance(path, str) else [""]
    inside = isinstance(path, str) and INSIDE.fullmatch(path) and not any(set(part) <= set(". ") for part in parts)
    return Link(text, str(path)) if inside else text
