"""The index of a folder of explained studies as one HTML page; wording and layout are in `index.html`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from kmm.explain.output.markup import render_template

SHOWN = 200  # rows that are laid out at first, as in index.js


def render_index(rows: Sequence[Mapping[str, Any]], *, files: Collection[str] | None = None) -> str:
    """Renders the index of a folder: a table of studies that can be sorted and filtered.

    Pages find their previous and next study through it: `index.html#next=PAGE` redirects to the page after PAGE.

    Args:
        rows: list of dict with the columns in `docs/explanation.md`, one per study and label; a value that is missing,
            None or NaN is unknown. `file` is the name of the row's files without suffix; if missing, the study's id.
        files: collection of the names of the files in the folder. A row links to its page `<file>.html` if there is
            one, else to its picture. None: every row has a page and every film a picture.

    Returns:
        str. HTML, to be written as `index.html` beside the files of the studies. It contains no report text.

    Example:
        >>> page = render_index([{"study": "s 1", "score": 0.5}, {"study": "s2", "error": "no such file"}])
        >>> 'href="./s%201.html"' in page, "s2.html" in page, "no such file" in page
        (True, False, True)
    """
    return render_template(
        "index.html",
        "index.js",
        pictures="'self' file: data:",  # thumbnails are files of the folder
        title=_count_rows(rows),
        rows=[_describe_row(row, files) for row in rows],
        pages=[f"{_name_files(row)}.html" for row in rows if ".html" in _list_suffixes(row, files)],
        shown=SHOWN,
    )


def _count_rows(rows):
    """Counts the explained studies, the explanations if there are more, and the studies with an error, in words."""
    studies, failed = {row["study"] for row in rows}, {row["study"] for row in rows if row.get("error")}
    explained = sum(not row.get("error") for row in rows)
    explained_studies = len(studies - failed)
    title = f"{explained_studies} explained {'study' if explained_studies == 1 else 'studies'}"
    if explained > explained_studies:
        title += f", {explained} explanations"
    return f"{title}, {len(failed)} with an error" if failed else title


def _describe_row(row, files):
    error, warnings = row.get("error") or "", row.get("warnings") or ""
    place, suffixes = f"./{quote(_name_files(row), safe='')}", _list_suffixes(row, files)
    return {
        "study": row["study"],
        "link": next((place + suffix for suffix in (".html", ".png") if suffix in suffixes), None),
        "thumbnail": f"{place}.thumb.jpg" if ".thumb.jpg" in suffixes else None,
        "values": row,
        "error": error,
        "warnings": warnings,
        "kind": "failed" if error else "warned" if warnings else "well",
    }


def _list_suffixes(row, files):
    """Returns the suffixes of a row's page, picture and thumbnail, those that exist."""
    if row.get("error"):
        return set()
    if files is None:
        return {".html", ".png", ".thumb.jpg"} if row.get("image") else {".html"}
    return {suffix for suffix in (".html", ".png", ".thumb.jpg") if _name_files(row) + suffix in files}


def _name_files(row):
    return row.get("file") or row["study"]
