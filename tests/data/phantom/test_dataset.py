import csv
import hashlib
from collections import Counter

import cv2
import numpy as np
import pytest

from kmm.data.layouts.kaggle import read_kaggle
from kmm.data.phantom.dataset import make_phantom
from kmm.errors import InputError


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digest_folder(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """(folder, summary) of 200 small studies."""
    folder = tmp_path_factory.mktemp("phantom") / "set"
    return folder, make_phantom(folder, studies=200, pixels=96)


def test_the_summary_counts_what_was_written(phantom):
    folder, summary = phantom
    truth = read_rows(folder / "phantom_truth.csv")
    reports = read_rows(folder / "indiana_reports.csv")
    projections = read_rows(folder / "indiana_projections.csv")
    assert summary["studies"] == len(truth) == len(reports) == 200
    assert summary["images"] == len(projections) == len(list((folder / "images").iterdir()))
    assert summary["abnormal"] == sum(row["MeSH"] != "normal" for row in reports) == 100
    assert summary["in_image"] == sum(row["in_image"] == "1" for row in truth)
    assert summary["in_text"] == sum(row["in_text"] == "1" for row in truth)
    assert summary["boxes"] == len(read_rows(folder / "boxes.csv"))
    assert summary["laterals"] == sum(row["projection"] == "Lateral" for row in projections) == 10
    assert summary["without_image"] == 200 - sum(row["projection"] == "Frontal" for row in projections) == 3
    empty = [row for row in reports if not any(row[name] for name in ("indication", "findings", "impression"))]
    assert summary["without_report"] == len(empty) == 3


def test_neither_side_alone_can_reach_the_joint_result(phantom):
    folder, _ = phantom
    truth = read_rows(folder / "phantom_truth.csv")
    kinds = Counter((row["finding"] != "", row["in_image"] == "1", row["in_text"] == "1") for row in truth)
    assert kinds[False, False, False] == 100
    assert kinds[True, False, False] == 0  # every lesion can be found on one side at least
    assert abs(kinds[True, True, True] - 40) <= 6
    assert abs(kinds[True, True, False] - 30) <= 6 and abs(kinds[True, False, True] - 30) <= 6


def test_most_abnormal_studies_have_one_lesion(phantom):
    folder, summary = phantom
    findings = [row["finding"].split("|") for row in read_rows(folder / "phantom_truth.csv") if row["finding"]]
    assert summary["one_lesion"] == sum(len(each) == 1 for each in findings) >= 80
    assert all(len(set(each)) == len(each) <= 2 for each in findings)
    assert len({each for some in findings for each in some}) == 5


def test_boxes_lie_in_their_films_and_belong_to_lesions_that_are_shown(phantom):
    folder, _ = phantom
    shown = {row["uid"]: row["finding"].split("|") for row in read_rows(folder / "phantom_truth.csv")
             if row["in_image"] == "1"}  # fmt: skip
    boxed = {}
    for row in read_rows(folder / "boxes.csv"):
        film = cv2.imread(str(folder / "images" / row["Image Index"]), cv2.IMREAD_UNCHANGED)
        x, y, w, h = (int(row[name]) for name in "xywh")
        assert min(x, y) >= 0 and x + w <= film.shape[1] and y + h <= film.shape[0] and min(w, h) >= 2
        boxed.setdefault(row["Image Index"].split("_")[0], []).append(row["Finding Label"])
    assert boxed == shown


def test_films_are_8_bit_gray_and_of_varied_shape(phantom):
    folder, _ = phantom
    films = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((folder / "images").iterdir())]
    assert all(film.dtype == np.uint8 and film.ndim == 2 and max(film.shape) == 96 for film in films)
    assert len({film.shape for film in films}) > 5
    assert len({film.tobytes() for film in films}) == len(films)


def test_words_stand_in_the_reports_that_tell_of_a_lesion(phantom):
    folder, _ = phantom
    reports = {
        row["uid"]: f"{row['findings']} {row['impression']}".lower()
        for row in read_rows(folder / "indiana_reports.csv")
    }
    for row in read_rows(folder / "phantom_truth.csv"):
        assert bool(row["words"]) == (row["in_text"] == "1")
        assert all(word in reports[row["uid"]] for word in row["words"].split())


def test_the_mesh_column_tells_normal_from_the_findings(phantom):
    folder, _ = phantom
    heads = {"Nodule": "Nodule", "Opacity": "Opacity", "Pleural Effusion": "Effusion", "Cardiomegaly": "Cardiomegaly",
             "Pulmonary Atelectasis": "Atelectasis"}  # fmt: skip
    truth = {row["uid"]: row["finding"] for row in read_rows(folder / "phantom_truth.csv")}
    for row in read_rows(folder / "indiana_reports.csv"):
        found = [] if row["MeSH"] == "normal" else [term.split("/")[0] for term in row["MeSH"].split(";")]
        assert "|".join(heads[head] for head in found) == truth[row["uid"]]
        assert row["Problems"] == (";".join(found) or "normal")


def test_the_kaggle_reader_reads_it_without_problems(phantom):
    folder, summary = phantom
    collection = read_kaggle(folder)
    assert not collection.problems
    assert len(collection.studies) == 200
    assert sum(study.report is None for study in collection.studies) == summary["without_report"]
    assert sum(len(study.images) for study in collection.studies) == summary["images"]


def test_one_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        make_phantom(tmp_path / name, studies=12, seed=seed, pixels=64)
    assert digest_folder(tmp_path / "a") == digest_folder(tmp_path / "b")
    first, other = digest_folder(tmp_path / "a"), digest_folder(tmp_path / "c")
    assert not set(first.values()) & set(other.values())


def test_letters_and_markers_do_not_depend_on_the_label(phantom, monkeypatch, tmp_path):
    """The letters come from random numbers of their own, drawn from the seed and the uid."""
    import kmm.data.phantom.dataset as module

    drawn = {}

    def draw_frontal(lesions, rng, *, pixels, letters_rng):
        drawn.setdefault(len(drawn) + 1, letters_rng.random())
        return np.zeros((32, 32), np.uint8), [(0, 0, 1, 1)] * len(lesions)

    monkeypatch.setattr(module, "draw_frontal", draw_frontal)
    monkeypatch.setattr(module, "NO_IMAGE_SHARE", 0)
    make_phantom(tmp_path / "normal", studies=10)
    normal = dict(drawn)
    drawn.clear()
    monkeypatch.setattr(module, "ABNORMAL_SHARE", 1.0)
    make_phantom(tmp_path / "abnormal", studies=10)
    assert drawn == normal and len(normal) == 10


@pytest.mark.parametrize("studies", [1, 2, 7])
def test_few_studies_work(tmp_path, studies):
    assert make_phantom(tmp_path / "set", studies=studies, pixels=32)["studies"] == studies


def test_a_folder_that_holds_something_is_refused_and_left_alone(tmp_path):
    (tmp_path / "note.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match="new or an empty folder"):
        make_phantom(tmp_path, studies=4, pixels=32)
    with pytest.raises(InputError, match=r"note\.txt"):
        make_phantom(tmp_path / "note.txt", studies=4, pixels=32)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


def test_nothing_is_left_of_a_run_that_fails(tmp_path, monkeypatch):
    import kmm.data.phantom.dataset as module

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_png", fail)
    with pytest.raises(OSError, match="No space"):
        make_phantom(tmp_path / "set", studies=4, pixels=32)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("values", [{"studies": 0}, {"studies": 10**6}, {"pixels": 8}, {"pixels": 5000}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(tmp_path, values):
    with pytest.raises(InputError, match=f"`{next(iter(values))}` must be"):
        make_phantom(tmp_path / "set", **values)
