"""The index of a folder of explained studies as one HTML page."""

from urllib.parse import quote

from kmm.explain.markup import escape, fill_template, format_number, format_percent, format_probability, is_known

SHOWN = 200  # studies that are laid out at first, as in index.js

# Columns of the index: name of the column of the table, its heading, how it is written.
COLUMNS = (
    ("target", "label", None),
    ("probability", "probability", format_probability),
    ("threshold", "threshold", format_probability),
    ("decision", "positive", None),
    ("score", "score", format_number),
    ("regions", "circles", format_number),
    ("top_weight", "heaviest circle", format_percent),
    ("image_share", "film's share", format_percent),
    ("text_share", "text's share", format_percent),
    ("map_error", "map error", format_percent),
    ("completeness_gap", "sum off by", format_percent),
)


def render_index(rows, *, pages=True):
    """Writes the index of a folder: a table of studies that can be sorted and filtered.

    Args:
        rows: list of dict with the columns in `docs/explanation.md`, one a study; what is missing, None or
            NaN is unknown.
        pages: bool. Whether studies have pages, `<id>.html`, to be linked; else their pictures are.

    Returns:
        str. HTML, to be written as `index.html` beside `<id>.png` and the pages. It holds no report text.

    Example:
        >>> page = render_index([{"study": "s 1", "score": 0.5}, {"study": "s2", "error": "no such file"}])
        >>> 'href="./s%201.html"' in page, "s2.html" in page, "no such file" in page
        (True, False, True)
    """
    columns = [("study", None), *((title, write) for _, title, write in COLUMNS), ("warnings", None)]
    head = '<th scope="col">film</th>' + "".join(
        f'<th scope="col" class="{"number" if write else "text"}"><button type="button">{title}</button></th>'
        for title, write in columns
    )
    lines = [_write_row(row, pages) for row in rows]
    return fill_template(
        "index.html",
        "index.js",
        count=len(rows),
        head=head,
        rows="\n".join(lines[:SHOWN]),
        rest="\n".join(lines[SHOWN:]),
        shown=min(len(rows), SHOWN),
    )


def _write_row(row, pages):
    study, error = row["study"], row.get("error") or ""
    warnings = row.get("warnings") or ""
    name, picture = f"<bdi>{escape(study)}</bdi>", ""
    place, film = f"./{quote(row.get('file') or study, safe='')}", bool(row.get("image"))
    if not error and (pages or film):
        link = f'<a href="{place}{".html" if pages else ".png"}"'
        name = f"{link}>{name}</a>"
        if film:
            image = f'<img src="{place}.png" alt="" loading="lazy" decoding="async">'
            picture = f'{link} tabindex="-1">{image}</a>'
    cells = [f"<td>{picture}</td>", f'<td class="text">{name}</td>']
    for column, _, write in COLUMNS:
        value = row.get(column)
        if write is None:
            cells.append(f'<td class="text">{escape(value or ("error" if error and column == "target" else "–"))}</td>')
        elif is_known(value):
            cells.append(f'<td class="number" data-value="{float(value):.6g}">{write(value)}</td>')
        else:
            cells.append('<td class="number">–</td>')
    note = f"<strong>Error:</strong> {escape(error)}" if error else escape(warnings)
    kind = "failed" if error else "warned" if warnings else "well"
    return f'<tr class="{kind}">{"".join(cells)}<td class="note">{note}</td></tr>'
