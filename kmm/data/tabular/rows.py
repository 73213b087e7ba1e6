"""Read the rows of CSV and JSONL tables as spreadsheets, pandas and databases export them."""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmm.data.study import SECTIONS, Problem
from kmm.data.tabular.text_file import read_text
from kmm.errors import InputError

MAX_TABLE_BYTES = 1 << 30
MAX_FIELD_CHARACTERS = 1 << 24
MAX_ROW_LINES = 20_000  # lines of one quoted cell; more lines mean that a quote was never closed
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
REPORT_COLUMNS = ("report", *SECTIONS)

# Missing values, in any letter case: those of pandas.read_csv, and those that databases (\N), R and spreadsheets write.
NULLS = frozenset(
    r"""
    nan -nan null n/a na none nat <na> #n/a #na 1.#ind -1.#ind 1.#qnan -1.#qnan \n
    #name? #ref! #value! #div/0! #num! #null!
    """.split()  # noqa: SIM905
) | {"", "#n/a n/a"}
_BAD_QUOTE = "a quote is not closed, or a quote inside a quoted cell is not doubled"

Row = dict[str, str]


def read_rows(
    path: Path | str, required: Sequence[str] = ()
) -> tuple[tuple[str, ...], list[tuple[int, Row]], list[Problem]]:
    """Reads the rows of a CSV file, or of a JSONL file if the suffix is `.jsonl`.

    All values are returned as str, empty if missing. A CSV may be separated by commas, semicolons, tabs or vertical
    bars: the separator is chosen by the header, or by a line `sep=;` before it. Blank rows are skipped. A cell whose
    whole text is a missing value (`NaN`, `NULL`, `N/A`, ... as in `NULLS`) becomes the empty string, except that `None`
    is kept in the columns of a report, where radiologists write it (383 of 2,701 COMPARISON sections of Open-i are that
    word).

    Args:
        path: UTF-8 text of at most 1 GiB, with or without a byte order mark, or UTF-16.
        required: names of columns that must be present.

    Returns:
        columns (tuple of str), rows (list of `(line number, dict)`, with the last line of the row), problems (list of
        `Problem`: rows that cannot be read; a bad quote affects only the row that contains it).

    Raises:
        InputError: if the file cannot be read, is not text, has a header that cannot be read, or lacks a required
            column.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "table.csv")
        ...     _ = path.write_text("id;patient;report\\n1;nan;Clear lungs, no mass.\\n;;\\n")
        ...     read_rows(path)[1]
        [(2, {'id': '1', 'patient': '', 'report': 'Clear lungs, no mass.'})]
    """
    path = Path(path)
    text = read_text(path, MAX_TABLE_BYTES)
    if path.suffix.lower() == ".jsonl":
        columns, rows, problems = _read_jsonl(path, text)
        layout = ""
    else:
        table = _CsvText.open(path, text, required)
        columns, rows, problems = table.read()
        layout = f", separated by {SEPARATORS.get(table.separator, repr(table.separator))}"
    missing = [name for name in required if name not in columns]
    if missing:
        first = f". Set aside: {problems[0]}" if problems else ""
        raise InputError(
            f"{path}: expected the columns {', '.join(required)}. Missing: {', '.join(missing)}. "
            f"Found: {show_columns(columns)}{layout}{first}"
        )
    return columns, [(line, {name: _blank_null(name, row[name]) for name in columns}) for line, row in rows], problems


def read_cells(path: Path | str, max_bytes: int = MAX_TABLE_BYTES) -> list[tuple[int, list[str]]]:
    """Reads the cells of a CSV in the format of `read_rows`, for tables whose header has empty or repeated names.

    Args:
        path: of the file.
        max_bytes: int. A larger file is rejected.

    Returns:
        list of `(line number, list of str)`, the header first; blank rows are left out.

    Raises:
        InputError: if the file cannot be read, is not text, or a row cannot be read.
    """
    path = Path(path)
    table = _CsvText.open(path, read_text(path, max_bytes), ())
    rows: list[tuple[int, list[str]]] = []
    for line, fields in table.split_rows():
        if isinstance(fields, str):
            raise InputError(f"{path}: line {line}: {fields}")
        if any(field.strip() for field in fields):
            rows.append((line, fields))
    return rows


def is_null(text: str) -> bool:
    """Returns True if the whole text of a cell is a missing value.

    Example:
        >>> is_null(" NaN "), is_null("n/a"), is_null("nancy")
        (True, True, False)
    """
    return text.strip().lower() in NULLS


def show_columns(columns: Sequence[str]) -> str:
    """Returns the names of columns for an error.

    A file without a header may have report text in its first line, so names of more than one word are only counted.

    Example:
        >>> show_columns(["id", "No mass"])
        'id and 1 other'
    """
    words = [name for name in columns if re.fullmatch(r"[\w:-]{1,40}", name)][:30]
    others = len(columns) - len(words)
    counted = [f"{others} other{'s' * (others > 1)}"] if others else []
    return " and ".join([", ".join(words)] * bool(words) + counted) or "none"


def _blank_null(name: str, value: str) -> str:
    if name in REPORT_COLUMNS and value.strip().lower() == "none":
        return value
    return "" if is_null(value) else value


def _skip_blank(lines: Sequence[str], start: int) -> int:
    """Returns the index of the first line from `start` on that has more than white space and separators."""
    blank = "".join(SEPARATORS) + '"\r\n '
    return next((number for number in range(start, len(lines)) if lines[number].strip(blank)), len(lines))


@dataclass
class _CsvText:
    """The text of a CSV, its separator, and the index of its header line."""

    path: Path
    lines: list[str]
    separator: str
    start: int

    @classmethod
    def open(cls, path: Path, text: str, required: Sequence[str]) -> "_CsvText":
        csv.field_size_limit(max(csv.field_size_limit(), MAX_FIELD_CHARACTERS))
        lines = io.StringIO(text, newline="").readlines()
        start = _skip_blank(lines, 0)
        named = re.fullmatch(r'"?sep=(.)"?[\s;,]*', lines[start], re.IGNORECASE) if start < len(lines) else None
        if named:
            return cls(path, lines, named[1], _skip_blank(lines, start + 1))

        def rate(separator: str) -> tuple[int, int]:
            header = cls(path, lines, separator, start).read_header()
            return sum(name in header for name in required), max(len(header), 1)

        return cls(path, lines, max(SEPARATORS, key=rate), start)

    def read_header(self) -> list[str]:
        """Returns the names in the header, stripped; empty if it cannot be read."""
        fields = next(self.split_rows(), (0, []))[1]
        return [name.strip() for name in fields] if isinstance(fields, list) else []

    def read(self) -> tuple[tuple[str, ...], list[tuple[int, Row]], list[Problem]]:
        header = self.read_header()
        rows: list[tuple[int, Row]] = []
        problems: list[Problem] = []
        if self.start < len(self.lines) and not header:
            raise InputError(f"{self.path}: line {self.start + 1}: the header cannot be read: {_BAD_QUOTE}")
        columns = tuple(name for name in header if name)  # spreadsheets write columns without a name
        twice = [name for name in columns if columns.count(name) > 1]
        if twice:
            raise InputError(f"{self.path}: the header names a column twice: {show_columns(twice[:1])}")
        places = {name: place for place, name in enumerate(header) if name}
        found = self.split_rows()
        next(found, None)
        for last, fields in found:
            reason = fields if isinstance(fields, str) else self._check_row(fields, len(header))
            if reason:
                problems.append(Problem(f"{self.path.name} line {last}", reason))
            elif any(field.strip() for field in fields):
                rows.append((last, {name: fields[place] for name, place in places.items()}))
        return columns, rows, problems

    def _check_row(self, fields: Sequence[str], expected: int) -> str:
        """Returns what is wrong with a row; empty if nothing is."""
        cells = [field.strip() for field in fields]
        if any(cells) and (len(cells) < expected or any(cells[expected:])):
            separated = SEPARATORS.get(self.separator, repr(self.separator))
            return f"expected {expected} fields; found {len(fields)}, separated by {separated}"
        return "the row has a NUL character" if any("\0" in field for field in fields) else ""

    def split_rows(self) -> Iterator[tuple[int, list[str] | str]]:
        """Yields the number of the last line of each row, counted from 1, and its fields, the header first.

        For a row that cannot be read, yields the number of its first line and the reason; reading continues with the
        next line.
        """
        begin = self.start

        def feed(first: int) -> Iterator[str]:
            for number in range(first, len(self.lines)):
                if number - begin > MAX_ROW_LINES:
                    raise csv.Error("a cell of too many lines")
                yield self.lines[number]

        while begin < len(self.lines):
            first = begin
            reader = csv.reader(feed(first), delimiter=self.separator, strict=True)
            try:
                for fields in reader:
                    begin = first + reader.line_num
                    if fields:
                        yield begin, fields
                return
            except csv.Error as error:
                begin += 1
                yield begin, "a cell is too long" if "field limit" in str(error) else _BAD_QUOTE


def _read_jsonl(path: Path, text: str) -> tuple[tuple[str, ...], list[tuple[int, Row]], list[Problem]]:
    columns: dict[str, None] = {}
    rows: list[tuple[int, Row]] = []
    problems: list[Problem] = []
    for number, line in enumerate(io.StringIO(text, newline=""), 1):
        if not line.strip():
            continue
        try:
            row = {str(key): _to_cell(value) for key, value in _read_object(line).items()}
        except InputError as error:
            problems.append(Problem(f"{path.name} line {number}", str(error)))
            continue
        columns |= dict.fromkeys(row)
        rows.append((number, row))
    if problems and not rows:
        _refuse_document(path, text)
    return tuple(columns), [(number, dict.fromkeys(columns, "") | row) for number, row in rows], problems


def _refuse_document(path: Path, text: str) -> None:
    """Raises `InputError` if the text is a single JSON document (a list or a pretty-printed object)."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return
    if isinstance(document, list) or (isinstance(document, dict) and "\n" in text.strip()):
        kind = "a list" if isinstance(document, list) else "one object over several lines"
        raise InputError(
            f"{path}: expected one JSON object on each line. Received: {kind}. Write one line per study (pandas: "
            "to_json(path, orient='records', lines=True))"
        )


def _read_object(line: str) -> dict[str, object]:
    if len(line) > MAX_FIELD_CHARACTERS:
        raise InputError(f"expected at most {MAX_FIELD_CHARACTERS:,} characters")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        row = None
    if not isinstance(row, dict):
        raise InputError("expected one JSON object")
    return row


def _to_cell(value: object) -> str:
    """Returns a JSON value as the text of a CSV cell."""
    if isinstance(value, list) and not any(isinstance(part, list) for part in value):
        return ";".join("" if is_null(text) else text for text in map(_to_cell, value))
    if isinstance(value, dict | list):
        raise InputError("values must be text, numbers or lists of these, not objects or lists of lists")
    text = "" if value is None else str(int(value) if isinstance(value, bool) else value)
    return text.encode("utf-8", "replace").decode("utf-8")  # JSON may contain unpaired surrogates
