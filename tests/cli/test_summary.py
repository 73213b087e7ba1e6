"""`kmm data summary`: counts that are known in advance, and no text."""

import csv
import json
import re

import pytest
from PIL import Image

from tests.factories.commands import run
from tests.factories.pages import check_page


@pytest.fixture
def ward(tmp_path):
    """Five studies of three patients: two frontal films, a lateral, an oblique, a report cut short."""
    header = ["id", "patient", "image", "view", "findings", "impression", "label:mass", "label:effusion"]
    rows = [
        ["1", "smith", "a.png", "PA", "There is a mass.", "Mass.", 1, 0],
        ["1", "smith", "b.png", "lateral", "There is a mass.", "Mass.", 1, 0],
        ["2", "smith", "c.png", "oblique", "No mass.", "", 0, 1],
        ["3", "jones", "", "", "A quiet chest without any mass at all", "", 0, ""],
        ["4", "brown", "d.png", "AP", "", "", 0, ""],
        ["5", "brown", "gone.png", "PA", "", "", "", ""],
    ]
    with open(tmp_path / "manifest.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    for name in "abcd":
        Image.new("L", (8, 8)).save(tmp_path / f"{name}.png")
    return tmp_path


def summarize(ward, *options):
    result = run("data", "summary", ward, "--json", "-", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_counts_are_those_of_the_studies(ward):
    found = summarize(ward)
    assert (found["studies"], found["patients"], found["most_studies_of_a_patient"]) == (5, 3, 2)
    assert found["studies_with"] == {"film_and_report": 1, "film": 1, "report": 2, "neither": 1}
    assert found["films"] == {"frontal": 2, "lateral": 1, "other": 1, "unknown": 0}
    assert found["sections"]["findings"] == {
        **{"reports": 3, "words": 14, "median_words": 4.0, "p99_words": 7.92, "most_words": 8}
    }
    assert list(found["sections"]["impression"].values()) == [1, 1, 1.0, 1.0, 1]
    assert list(found["sections"]["comparison"].values()) == [0, 0, 0.0, 0.0, 0]
    assert "labels" not in found and found["layout"].startswith("manifest")


def test_prevalence_is_the_share_of_known_values(ward):
    table = ward / "manifest.csv"
    table.write_text(table.read_text() + "6,lee,,,,,1,1\n7,lee,,,,,1,1\n8,lee,,,,,0,0\n9,lee,,,,,0,0\n")
    labels = summarize(ward, "--labels", "columns")["labels"]
    assert (labels["scheme"], labels["studies"]) == ("columns", 9)
    assert labels["counts"]["mass"] == {"positive": 3, "negative": 5, "unknown": 1, "prevalence": 3 / 8}
    assert labels["counts"]["effusion"] == {"positive": 3, "negative": 3, "unknown": 3, "prevalence": 0.5}


def test_findings_need_as_many_studies_as_asked(tiny_folder):
    labels = summarize(tiny_folder, "--labels", "findings", "--label-min-count", 30)["labels"]
    assert labels["counts"] == {"Mass": {"positive": 30, "negative": 30, "unknown": 0, "prevalence": 0.5}}
    result = run("data", "summary", tiny_folder, "--labels", "findings", "--label-min-count", 31)
    assert result.exit_code == 2 and "The most frequent has 30" in result.stderr
    result = run("data", "summary", tiny_folder, "--label-min-count", 31)
    assert result.exit_code == 2 and "--labels findings" in result.stderr


def test_tables_say_the_same_and_neither_holds_text_or_names(ward):
    shown = run("data", "summary", ward)
    assert shown.exit_code == 0 and "studies: 5, of 3 patients" in shown.stdout
    assert "films: 4, frontal: 2, lateral: 1, other: 1, unknown: 0" in shown.stdout
    for said in (shown.stdout, json.dumps(summarize(ward))):
        assert not [word for word in ("smith", "quiet", "gone", "a.png", str(ward)) if word in said]


def test_films_are_counted_under_views_that_a_file_says_better(ward):
    (ward / "views.csv").write_text("file,view\nc.png,frontal\n")
    assert summarize(ward, "--views", ward / "views.csv")["films"]["frontal"] == 3


def test_json_has_the_numbers_of_the_page_and_no_words(ward):
    found = summarize(ward, "--films")
    assert found["studies_of_a_patient"] == {"1": 1, "2": 2} and found["patients_known"] == 5
    assert [(way["presets"], way["reports"], way["most"], way["cut"]) for way in found["report_words"]] == [
        (["small", "paper"], 3, 8, 0),
        (["biobert-resnet18", "clinicalbert-swin"], 3, 8, 0),
    ]
    assert [row["scheme"] for row in found["label_schemes"] if "counts" in row] == ["columns"]
    assert found["view_sources"]["sources"]["view column"] == {"frontal": 2, "lateral": 1, "other": 1, "unknown": 0}
    films = found["copies"]["films"]  # four equal files, too small to be films
    assert (films["same_bytes"]["members"], films["unreadable"], films["same_pixels"]["groups"]) == (4, 2, 0)
    assert "mass" not in json.dumps({name: value for name, value in found.items() if name != "label_schemes"})
    assert summarize(ward)["copies"]["films"] is None  # films are read only when asked for


def test_a_page_is_written_with_words_that_patients_share(ward):
    page = ward / "summary.html"
    result = run("data", "summary", ward, "--out", page)
    assert result.exit_code == 0, result.output
    assert "Reading films: 2/2" in result.stderr and f"page: {page}" in result.stderr
    text = page.read_text(encoding="utf-8")
    check_page(text)
    assert ">mass<" in text and not [word for word in ("quiet", "smith", "a.png", "gone") if word in text]
    shown = run("data", "summary", ward, "--out", page, "--min-word-patients", 3, "--no-films")
    assert shown.exit_code == 0 and "Reading" not in shown.stderr and "frontal films" not in shown.stdout
    terms = re.search(r'id="terms".*?</section>', page.read_text(encoding="utf-8"), re.DOTALL)
    assert "mass" not in terms.group() and "of at least 3 patients" in terms.group()
    assert summarize(ward)["studies"] == 5  # the page is no study


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--out", "manifest.csv"), "must end with .html or .htm"),
        (("--out", "gone/summary.html"), "in a folder that exists"),
        (("--out", "summary.html", "--min-word-patients", 0), "--min-word-patients"),
    ],
)
def test_a_place_that_cannot_hold_a_page_is_refused_before_any_work(ward, options, said):
    before = {path.name: path.read_bytes() for path in ward.iterdir()}
    options = [str(ward / word) if str(word).endswith((".html", ".csv")) else str(word) for word in options]
    result = run("data", "summary", ward, *options)
    assert result.exit_code == 2 and said in result.stderr
    assert {path.name: path.read_bytes() for path in ward.iterdir()} == before
