"""The index of a folder: valid, sortable by value, safe, and quick with thousands of rows."""

import json
import re

import html5lib
import numpy as np

from kmm.explain.output.index import SHOWN, render_index

NAMESPACES = {"h": "http://www.w3.org/1999/xhtml"}
GOOD = {
    "study": "s1",
    "image": "films/s1.png",
    "target": "opacity",
    "probability": 0.876,
    "threshold": 0.5,
    "decision": "yes",
    "score": np.float32(1.5),
    "regions": 2,
    "top_weight": 0.71,
    "image_share": 0.63,
    "text_share": 0.37,
    "map_error": 0.021,
    "completeness_gap": float("nan"),
    "warnings": "map error 6 %",
    "error": None,
}


def parse_rows(page):
    """Rows of the table as lists of cells."""
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=True).parse(page)
    rows = tree.findall(".//h:tbody/h:tr", NAMESPACES)
    return [(row.get("class"), row.findall("h:td", NAMESPACES)) for row in rows]


def read_text(element):
    return "".join(element.itertext())


def find_links(cell):
    return [a.get("href") for a in cell.iter(f"{{{NAMESPACES['h']}}}a")]


def test_a_row_says_what_the_table_says():
    ((kind, cells),) = parse_rows(render_index([GOOD]))
    assert kind == "warned"
    assert [read_text(cell) for cell in cells] == [
        *(
            "",
            "s1",
            "opacity",
            "0.876",
            "0.500",
            "yes",
            "1.5",
            "2",
            "71.0 %",
            "63.0 %",
            "37.0 %",
            "2.1 %",
            "–",
            "map error 6 %",
        )
    ]
    values = [cell.get("data-value") for cell in cells]
    assert values[3:8] == ["0.876", "0.5", None, "1.5", "2"] and values[12] is None


def test_head_and_rows_have_as_many_cells():
    page = render_index([GOOD, {"study": "s2", "error": "s2.png: no image"}])
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=True).parse(page)
    head = tree.findall(".//h:thead/h:tr/h:th", NAMESPACES)
    assert {len(cells) for _, cells in parse_rows(page)} == {len(head)}


def test_links_are_quoted_and_relative_and_pictures_load_late():
    ((_, cells),) = parse_rows(render_index([{**GOOD, "study": 'a:b %<"é'}]))
    assert find_links(cells[0]) == find_links(cells[1]) == ["./a%3Ab%20%25%3C%22%C3%A9.html"]
    (image,) = cells[0].iter(f"{{{NAMESPACES['h']}}}img")
    assert image.get("src") == "./a%3Ab%20%25%3C%22%C3%A9.thumb.jpg" and image.get("loading") == "lazy"
    assert read_text(cells[1]) == 'a:b %<"é'


def test_errors_are_shown_without_links():
    error = 's2.png: expected an image. Received: "<b>"'
    ((kind, cells),) = parse_rows(render_index([{"study": "s2", "image": "s2.png", "error": error}]))
    assert kind == "failed" and read_text(cells[-1]) == f"Error: {error}"
    assert [read_text(cell) for cell in cells].count("error") == 1
    assert not find_links(cells[0]) + find_links(cells[1])


def test_a_study_without_film_has_no_picture():
    ((_, cells),) = parse_rows(render_index([{**GOOD, "image": None}]))
    assert not find_links(cells[0]) and find_links(cells[1])


def test_only_what_is_there_is_linked():
    rows = [{**GOOD, "study": "page"}, {**GOOD, "study": "picture"}, {**GOOD, "study": "text", "image": None}]
    files = {"page.html", "page.png", "page.thumb.jpg", "picture.png", "picture.thumb.jpg", "text.json"}
    page = render_index(rows, files=files)
    whole, film, text = (cells for _, cells in parse_rows(page))
    assert find_links(whole[0]) == find_links(whole[1]) == ["./page.html"]
    assert find_links(film[0]) == find_links(film[1]) == ["./picture.png"]
    assert not find_links(text[0]) + find_links(text[1]) and read_text(text[1]) == "text"
    assert read_pages(page) == ["page.html"] and page.count("<img") == 2


def test_the_heading_counts_studies_and_not_rows():
    failed = {"study": "s3", "error": "s3.png: no image"}

    def read_heading(*rows):
        tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=True).parse(render_index(rows))
        return read_text(tree.find(".//h:h1", NAMESPACES)), read_text(tree.find(".//h:title", NAMESPACES))

    several = [{**GOOD, "target": label} for label in ("mass", "cyst")]
    assert read_heading(GOOD) == ("1 explained study",) * 2
    assert read_heading(GOOD, {**GOOD, "study": "s2"}, failed) == ("2 explained studies, 1 with an error",) * 2
    assert read_heading(*several, {**GOOD, "study": "s2"}) == ("2 explained studies, 3 explanations",) * 2


def read_pages(page):
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=True).parse(page)
    (held,) = [script for script in tree.findall(".//h:script", NAMESPACES) if script.get("id") == "pages"]
    assert held.get("type") == "application/json"
    return json.loads(held.text)


def test_pages_find_their_neighbours_here_in_the_order_of_the_table():
    rows = [{**GOOD, "study": name} for name in ("b", "</script><b>", "a")]
    page = render_index([rows[0], {"study": "broken", "error": "no film"}, *rows[1:]])
    assert read_pages(page) == ["b.html", "</script><b>.html", "a.html"]
    assert page.index('id="pages"') < page.index("location.replace") < page.index("<table")  # before the table is read


def test_files_that_are_not_called_like_their_study_are_linked():
    rows = [{**GOOD, "file": "s1.opacity"}, {**GOOD, "file": "s1.normal", "target": "normal"}]
    page = render_index(rows)
    assert [find_links(cells[1]) for _, cells in parse_rows(page)] == [["./s1.opacity.html"], ["./s1.normal.html"]]
    assert read_pages(page) == ["s1.opacity.html", "s1.normal.html"]
    assert 'src="./s1.opacity.thumb.jpg"' in page


def test_no_studies_is_a_page():
    assert parse_rows(render_index([])) == []


def test_asks_for_its_own_pictures_only():
    page = render_index([GOOD])
    assert not re.search(r"https?:|@import|url\(|fetch\(|style=", page)
    assert "default-src 'none'" in page and "unsafe" not in page


def test_of_five_thousand_rows_a_browser_lays_out_the_first_only():
    page = render_index([{**GOOD, "study": f"s{i}"} for i in range(5000)])
    assert len(page) < 5_000_000 and page.count("<tr class=") == 5000
    laid_out, _, rest = page.partition('<tbody id="rest" hidden>')
    assert laid_out.count("<tr class=") == SHOWN and rest.count("<tr class=") == 5000 - SHOWN
    assert f"const most = {SHOWN};" in page
