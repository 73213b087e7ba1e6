"""The page of an audit: its numbers are those of the audit, and it has no text, no name and no file of the studies."""

import csv

import pytest
from PIL import Image

from kmm.audit.collection_audit import audit_collection
from kmm.audit.figures import MOST_LABELS, choose_labels, list_figures
from kmm.audit.page import check_page as check_name
from kmm.audit.page import render_audit, write_page
from kmm.audit.terms import Terms, find_terms
from kmm.data.collection import read_collection
from kmm.data.verify import verify_collection
from kmm.errors import InputError
from kmm.image.read import read_image
from tests.factories.pages import check_page, find_section, parse, read_all, read_text

HEADER = ["id", "patient", "image", "view", "findings", "impression", "label:mass"]
ROWS = [
    ["1", "smith", "a.png", "PA", "There is a mass. Seen by Quaxley.", "Mass.", 1],
    ["1", "smith", "b.png", "lateral", "There is a mass. Seen by Quaxley.", "Mass.", 1],
    ["2", "smith", "c.png", "oblique", "Clear lungs.", "", 0],
    ["3", "jones", "", "", "clear  LUNGS.", "", 1],
    ["4", "brown", "d.png", "AP", "", "", 0],
    ["5", "black", "", "", "A mass.", "", ""],
]


ALL = tuple(range(len(HEADER)))


def write(folder, rows, columns=ALL):
    with open(folder / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([[row[column] for column in columns] for row in (HEADER, *rows)])
    for level, name in enumerate("abcd"):
        Image.linear_gradient("L").resize((20 + level // 2, 20)).save(folder / f"{name}.png")
    return folder


def render(folder, films=True, **options):
    collection = read_collection(folder)
    audit = audit_collection(collection, films=films)
    return audit, render_audit(audit, find_terms(collection.studies, **options))


@pytest.fixture
def ward(tmp_path):
    return write(tmp_path, ROWS)


def read_table(tree, section, number=0):
    table = read_all(find_section(tree, section), "h:table")[number]
    return [[read_text(cell) for cell in row] for row in read_all(table, "h:tr")]


def test_the_page_is_offline_safe_and_readable_with_a_screen_reader(ward):
    _, page = render(ward)
    check_page(page)
    assert page.count("<img ") == 3 and page == render(ward)[1]


def test_its_tables_say_what_was_counted(ward):
    tree = parse(render(ward)[1])
    assert read_table(tree, "studies")[1:] == [
        ["Film and report", "1"], ["Film alone", "1"], ["Report alone", "3"], ["Neither", "0"],
    ]  # fmt: skip
    assert read_table(tree, "classes")[1:] == [["mass", "2", "2", "1", "50.0 %"]]
    assert read_table(tree, "words")[3] == ["findings", "4", "2", f"{2 + 0.97 * 5:.1f}", "7"]
    assert read_table(tree, "words", 1)[1][2:] == ["4", "2", "7.8", "8", "140", "0", "0.0 %"]
    assert read_table(tree, "terms")[1:] == [
        ["clear", "2", "50.0 %"],
        ["lungs", "2", "50.0 %"],
        ["mass", "2", "50.0 %"],
    ]
    assert [row[0] for row in read_table(tree, "labels")[1:]] == ["columns"]
    assert read_table(tree, "views")[1:] == [["view column", "2", "1", "1", "0"], ["All", "2", "1", "1", "0"]]
    assert read_table(tree, "copies")[1:] == [
        ["Reports with the same findings and impression", "1", "2", "2", "2", "1"],
        ["Film files with the same bytes", "2", "4", "3", "2", "1"],
        ["Frontal films with the same pixels", "0", "0", "0", "0", "0"],
    ]
    assert "1 group of identical reports, with 2 studies, has contradicting labels (scheme columns)" in read_text(
        find_section(tree, "copies")
    )
    assert read_table(tree, "copies", 1)[1:] == [["1", "3"], ["2", "1"]]


def test_no_name_no_id_and_no_rare_word_is_on_it(ward):
    _, page = render(ward)
    page = page.lower()
    assert not [word for word in ("smith", "quaxley", "a.png", str(ward).lower(), "there") if word in page]
    assert "quaxley" in render(ward, min_patients=1)[1].lower()
    assert "in the reports of at least 2 patients are shown" in page


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ((0, 1, 2, 3, 6), {"words": "No study has a report with words.", "terms": "No study has a report with words."}),
        ((0, 1, 2, 3, 4, 5), {"classes": "The studies have no labels.", "labels": "No label scheme gives a label."}),
        ((0, 1, 4, 5, 6), {"views": "No study has a film."}),
    ],
)
def test_what_is_absent_is_said_to_be(tmp_path, columns, said):
    rows = [row for number, row in enumerate(ROWS) if number != 1]
    page = render(write(tmp_path, rows, columns))[1]
    check_page(page)
    tree = parse(page)
    for section, text in said.items():
        assert text.lower() in f" {read_text(find_section(tree, section)).lower()} ", section
        assert not read_all(find_section(tree, section), "h:table")


def test_studies_without_anything_have_a_page(tmp_path):
    page = render(write(tmp_path, [["1", "smith", "", "", "", "", ""]], (0, 1, 4)))[1]
    check_page(page)
    for section in ("classes", "words", "terms", "labels", "views"):
        assert not read_all(find_section(parse(page), section), "h:table")
    assert "No study has a film." in page and page.count("No study has a report with words.") == 2


def test_films_that_were_not_read_are_said_to_be(ward):
    audit, page = render(ward, films=False)
    assert audit["copies"]["films"] is None
    assert "Films were not read" in page and "same bytes" not in page


def test_a_page_beside_the_studies_is_no_part_of_them(ward):
    collection = read_collection(ward)
    audit, terms = audit_collection(collection), find_terms(collection.studies)
    for _ in range(2):  # it may be written again
        write_page(ward / "summary.html", collection, audit, terms)
    again = read_collection(ward)
    assert again.studies == collection.studies and audit_collection(again) == audit
    checks = {check.name: check.found for check in verify_collection(ward, read_image).checks}
    assert checks["orphaned images"] == 0 and checks["images"] == 4
    assert checks["groups of equal report bodies"] == audit["copies"]["reports"]["groups"] == 1


def test_elsewhere_a_page_leaves_no_mark(ward, tmp_path_factory):
    place, collection = tmp_path_factory.mktemp("out"), read_collection(ward)
    write_page(place / "summary.htm", collection, audit_collection(collection), find_terms(collection.studies))
    assert [file.name for file in place.iterdir()] == ["summary.htm"]


def test_a_page_that_cannot_be_made_leaves_the_one_before(ward, monkeypatch):
    collection = read_collection(ward)
    audit, page = audit_collection(collection), ward / "summary.html"
    page.write_text("before")
    with pytest.raises(KeyError):
        write_page(page, collection, {**audit, "copies": {}}, find_terms(collection.studies))
    assert page.read_text() == "before" and not list(ward.glob(".*summary*"))


@pytest.mark.parametrize("name", ["manifest.csv", "a.png", "summary", "x.html.csv"])
def test_a_name_that_is_not_that_of_a_page_is_refused(name):
    with pytest.raises(InputError, match=r"\.html"):
        check_name(name)


def test_hostile_names_of_labels_are_text(tmp_path):
    rows = [[str(i), "p", "", "", "Mass.", "", i % 2] for i in range(6)]
    write(tmp_path, rows)
    table = tmp_path / "manifest.csv"
    table.write_text(table.read_text().replace("label:mass", '"label:<script>alert(1)</script> $x^2$ {{ 7 * 7 }}"'))
    page = render(tmp_path)[1]
    check_page(page)
    assert "&lt;script&gt;" in page and "<script" not in page and "49" not in read_text(parse(page))


def test_many_labels_get_a_figure_of_the_most_frequent():
    counts = {
        f"label {i:02}": {"positive": i, "negative": 9, "unknown": 1, "prevalence": i / (i + 9)} for i in range(50)
    }
    assert choose_labels(counts) == [f"label {i:02}" for i in reversed(range(20, 50))]
    (drawing,) = list_figures({"scheme": "columns", "counts": counts}, [], Terms({}, 0, 0, 0, 2)).values()
    assert f"{MOST_LABELS} labels of 50" in drawing.caption
    figure = drawing.draw()
    bars = figure.axes[0].containers
    assert [bars[0].patches[0].get_width(), len(bars[0].patches)] == [49, MOST_LABELS]
    assert figure.axes[0].texts[0].get_text() == "49 (84.5 %)"
