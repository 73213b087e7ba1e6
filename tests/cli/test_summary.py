"""`kmm data summary`: counts that are known in advance, and no text."""

import csv
import json

import pytest
from PIL import Image

from tests.factories.commands import run


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
    assert found["sections"]["findings"] == {"reports": 3, "words": 14, "median_words": 4.0, "most_words": 8}
    assert found["sections"]["impression"] == {"reports": 1, "words": 1, "median_words": 1.0, "most_words": 1}
    assert found["sections"]["comparison"] == {"reports": 0, "words": 0, "median_words": 0.0, "most_words": 0}
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
