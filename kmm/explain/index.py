"""The index of a folder of explained studies as one HTML page; what it shows and says stands in `index.html`."""

from urllib.parse import quote

from kmm.explain.markup import render_template

SHOWN = 200  # studies that are laid out at first, as in index.js


def render_index(rows, *, pages=True):
    """Writes the index of a folder: a table of studies that can be sorted and filtered.

    Pages find the studies before and after them here: `index.html#next=PAGE` goes on to the next page.

    Args:
        rows: list of dict with the columns in `docs/explanation.md`, one per study; what is missing, None or NaN is
            unknown. `file` is the name of the row's files without suffix; the study's id where it is missing.
        pages: bool. Whether studies have pages, `<file>.html`, to be linked; else their pictures are.

    Returns:
        str. HTML, to be written as `index.html` beside `<file>.png`, `<file>.thumb.jpg` and the pages. It holds no
        report text.

    Example:
        >>> page = render_index([{"study": "s 1", "score": 0.5}, {"study": "s2", "error": "no such file"}])
        >>> 'href="./s%201.html"' in page, "s2.html" in page, "no such file" in page
        (True, False, True)
    """
    return render_template(
        "index.html",
        "index.js",
        rows=[_describe_row(row, pages) for row in rows],
        pages=[f"{_name_files(row)}.html" for row in rows if pages and not row.get("error")],
        shown=SHOWN,
    )


def _describe_row(row, pages):
    error, warnings = row.get("error") or "", row.get("warnings") or ""
    place, film = f"./{quote(_name_files(row), safe='')}", bool(row.get("image")) and not error
    return {
        "study": row["study"],
        "link": f"{place}{'.html' if pages else '.png'}" if not error and (pages or film) else None,
        "thumbnail": f"{place}.thumb.jpg" if film else None,
        "values": row,
        "error": error,
        "warnings": warnings,
        "kind": "failed" if error else "warned" if warnings else "well",
    }


def _name_files(row):
    return row.get("file") or row["study"]
