"""The relational set: its label is whether film and report agree, and follows from neither of them."""

import csv
from collections import Counter

import cv2
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from kmm.data.layouts.kaggle import read_kaggle
from kmm.data.layouts.manifest import read_table
from kmm.data.phantom.dataset import make_phantom
from kmm.data.phantom.relational import PLACES, plan_relations


def read_rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def relational(tmp_path_factory):
    """(folder, summary) of 40 small studies."""
    folder = tmp_path_factory.mktemp("relational") / "set"
    return folder, make_phantom(folder, studies=40, pixels=64, relational=True)


def test_the_label_follows_from_both_sides_and_from_no_sum_of_them():
    plans = plan_relations(4000, np.random.default_rng(0))
    labels = np.array([plan.agrees for plan in plans])
    place = {name: number for number, name in enumerate(PLACES)}
    shown, named = np.zeros((4000, len(PLACES))), np.zeros((4000, len(PLACES)))
    for row, plan in enumerate(plans):
        named[row, place[plan.named.side, plan.named.zone]] = 1
        for one in plan.shown:
            shown[row, place[one.side, one.zone]] = 1
    assert labels.sum() == 2000
    np.testing.assert_array_equal((shown * named).sum(axis=1) == 1, labels)
    films = Counter(map(tuple, shown))
    assert len(films) == 20 and (shown.sum(axis=1) == 3).all()
    half = np.arange(4000) < 2000
    for columns in (shown, named, np.hstack([shown, named])):
        scores = LogisticRegression().fit(columns[half], labels[half]).decision_function(columns[~half])
        assert 0.45 < roc_auc_score(labels[~half], scores) < 0.55
    for column in (*shown.T, *named.T):  # each alone is as frequent in both classes: five standard errors
        assert abs(column[labels].mean() - column[~labels].mean()) < 5 * np.sqrt(0.25 * 2 / 2000)


def test_the_manifest_has_the_places_of_film_and_report(relational):
    folder, _ = relational
    truth = {row["uid"]: row for row in read_rows(folder / "phantom_truth.csv")}
    studies = read_table(folder / "relations.csv").studies
    assert [study.id for study in studies] == sorted(truth, key=int)
    for study in studies:
        labels = study.labels
        film = {place for place in PLACES if labels[f"film {' '.join(place)}"]}
        (named,) = (place for place in PLACES if labels[f"named {' '.join(place)}"])
        assert len(film) == 3 and labels["agrees"] == (named in film) == int(truth[study.id]["in_image"])
        side, zone = named
        words = truth[study.id]["words"]
        assert side in words and {"upper": "upper", "middle": "mid", "lower": "low"}[zone] in words
        assert study.report.findings and [film.path.is_file() for film in study.images] == [True]


def test_what_is_written_agrees_with_itself(relational):
    folder, summary = relational
    truth = read_rows(folder / "phantom_truth.csv")
    reports = {row["uid"]: row for row in read_rows(folder / "indiana_reports.csv")}
    boxes = Counter(row["Image Index"].split("_")[0] for row in read_rows(folder / "boxes.csv"))
    assert summary["studies"] == summary["images"] == summary["in_text"] == 40
    assert summary["abnormal"] == summary["in_image"] == summary["boxes"] == 20
    for row in truth:
        report = reports[row["uid"]]
        assert " ".join(row["words"].split()) in report["findings"].lower()
        assert (report["MeSH"] != "normal") == (row["in_image"] == "1") == (boxes[row["uid"]] == 1)
        if row["in_image"] == "1":
            side, zone = report["MeSH"].split("/")[3], report["MeSH"].split("/")[2].split()[0]
            assert row["words"].split()[:2] == [side, {"middle": "mid"}.get(zone, zone)]
    assert len(read_kaggle(folder).studies) == 40


def test_boxes_are_at_the_place_that_the_report_names(relational):
    folder, _ = relational
    truth = {row["uid"]: row["words"].split() for row in read_rows(folder / "phantom_truth.csv")}
    for row in read_rows(folder / "boxes.csv"):
        width = cv2.imread(str(folder / "images" / row["Image Index"]), cv2.IMREAD_GRAYSCALE).shape[1]
        middle = int(row["x"]) + int(row["w"]) / 2
        side = truth[row["Image Index"].split("_")[0]][0]
        assert (middle > width / 2) == (side == "left")  # the patient's left is at the right of the film


def test_a_seed_always_gives_the_same_relational_set_and_another_gives_another(relational, tmp_path):
    folder, _ = relational
    for name, seed in (("same", 0), ("other", 1)):
        make_phantom(tmp_path / name, studies=40, pixels=64, relational=True, seed=seed)
        equal = [
            (tmp_path / name / path.relative_to(folder)).read_bytes() == path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        ]
        assert all(equal) == (seed == 0)
