"""What a user names on the command line becomes studies."""

import csv

import numpy as np
import pytest
from PIL import Image

from kmm.data.inputs import MAX_REPORT_BYTES, MAX_REPORT_WORDS, read_inputs, read_report
from kmm.errors import InputError, ReportError


@pytest.fixture
def film(tmp_path):
    return write_film(tmp_path / "film.png")


def write_film(path):
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(path)
    return path


def write_manifest(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def test_an_image_is_a_study_without_report(film):
    collection = read_inputs([film])
    (study,) = collection.studies
    assert (study.id, study.frontal.path, study.report) == ("film", film, None)
    assert collection.layout == "images" and not collection.problems


def test_a_report_joins_its_one_image_as_findings(film, tmp_path):
    report = tmp_path / "report.txt"
    report.write_text("\ufeffNo mass, naïve reader.\n", encoding="utf-8")
    (study,) = read_inputs([film], report=report).studies
    assert study.report.findings == "No mass, naïve reader.\n"
    assert study.frontal.path == film


@pytest.mark.parametrize("count", [0, 2])
def test_a_report_belongs_to_one_image(film, tmp_path, count):
    (tmp_path / "report.txt").write_text("No mass.")
    folder = tmp_path / "films"
    for number in range(count):
        write_film(folder / f"{number}.png")
    folder.mkdir(exist_ok=True)
    with pytest.raises(InputError, match=r"one image|Found none"):
        read_inputs([folder], report=tmp_path / "report.txt")


def test_files_folders_and_manifests_in_one_call_keep_their_order(film, tmp_path):
    write_film(tmp_path / "films" / "2.png")
    write_film(tmp_path / "films" / "10.png")
    table = write_manifest(tmp_path / "more.csv", [["id", "image", "report"], ["7", "film.png", "Mass."]])
    collection = read_inputs([table, tmp_path / "films", film])
    assert [study.id for study in collection.studies] == ["7", "2", "10", "film"]
    assert collection.layout == "manifest (more.csv), images"


def test_a_folder_in_a_known_layout_is_read_as_that(film, tmp_path):
    write_manifest(tmp_path / "manifest.csv", [["id", "report"], ["a", "Mass."], ["b", "No mass."]])
    collection = read_inputs([tmp_path])
    assert [study.id for study in collection.studies] == ["a", "b"]
    assert collection.layout == "manifest (manifest.csv)"


def test_ids_stay_apart_even_where_a_number_is_taken(tmp_path):
    paths = [write_film(tmp_path / place / name) for place, name in (("a", "1.png"), ("b", "1.png"), ("c", "1-2.png"))]
    ids = [study.id for study in read_inputs([*paths, paths[0]]).studies]
    assert ids == ["1", "1-2", "1-2-2", "1-3"]


def test_a_list_of_views_means_one_of_two_films_of_a_name(tmp_path):
    films = [write_film(tmp_path / "films" / place / "film.png") for place in ("p1", "p2")]
    for paths in (films, [tmp_path], [tmp_path / "films" / "p1", tmp_path / "films" / "p2"]):
        one, two = read_inputs(paths, view_overrides={"p1/film": "lateral"}).studies
        assert (one.frontal, two.frontal.path) == (None, films[1])
        with pytest.raises(InputError, match="2 images are called 'film'"):
            read_inputs(paths, view_overrides={"film": "lateral"})


def test_what_a_reader_set_aside_is_passed_on(film, tmp_path):
    rows = [["id", "image"], ["a", "film.png"], ["../b", "film.png"], ["c", "../film.png"]]
    collection = read_inputs([write_manifest(tmp_path / "table.csv", rows)])
    assert [problem.source for problem in collection.problems] == ["table.csv line 3", "table.csv line 4"]


@pytest.mark.parametrize("name", ["nothing.png", "nothing.csv", "nowhere/"])
def test_a_path_that_is_not_there_is_said(tmp_path, name):
    with pytest.raises(InputError, match=name.strip("/")):
        read_inputs([tmp_path / name])


def test_words_of_a_report_are_counted_not_shown(tmp_path):
    path = tmp_path / "report.txt"
    path.write_text("secret " * MAX_REPORT_WORDS)
    assert len(read_report(path).split()) == MAX_REPORT_WORDS
    path.write_text("secret " * (MAX_REPORT_WORDS + 1))
    with pytest.raises(ReportError, match=rf"report\.txt: .*{MAX_REPORT_WORDS + 1}") as caught:
        read_report(path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "Received: 0"),
        (b" \n\t", "Received: 0"),
        (b"\xef\xbb\xbf", "Received: 0"),
        ("naïve".encode("latin-1"), "UTF-8"),
        ("mass".encode("utf-16"), "UTF-8"),
        (b"x" * (MAX_REPORT_BYTES + 1), "bytes"),
    ],
)
def test_a_file_that_is_not_a_report_is_refused(tmp_path, data, said):
    path = tmp_path / "report.txt"
    path.write_bytes(data)
    with pytest.raises(ReportError, match=rf"report\.txt: .*{said}"):
        read_report(path)


def test_a_report_that_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(ReportError, match=path.name):
            read_report(path)
