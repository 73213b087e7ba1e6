"""ChestX-ray14 and CheXpert through the commands: summary, checks, split, and a classifier of films."""

import csv
import json
import shutil

import pytest

from kmm.data.collection import read_collection
from tests.factories.commands import IMAGES_ONLY, run
from tests.factories.public_collections import write_chestxray14, write_chexpert

WRITE = {"chestxray14": write_chestxray14, "chexpert": write_chexpert}


@pytest.fixture(params=WRITE)
def folder(request, tmp_path):
    return WRITE[request.param](tmp_path / request.param)


def read_json(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def read_split(path):
    with open(path, encoding="utf-8") as file:
        return {row["study"]: row["part"] for row in csv.DictReader(file)}


def test_counts(folder):
    found = read_json(run("data", "summary", folder, "--labels", "columns", "--json", "-"))
    expected = {
        "chestxray14": (80, {"train": 60, "validation": 0, "test": 20, "none": 0}, "Mass"),
        "chexpert": (40, {"train": 30, "validation": 10, "test": 0, "none": 0}, "Edema"),
    }
    studies, parts, label = expected[folder.name]
    assert (found["studies"], found["patients"], found["parts"]) == (studies, 40, parts)
    counts = found["labels"]["counts"][label]
    assert counts["positive"] + counts["negative"] + counts["unknown"] == studies
    assert "published parts: train: " in run("data", "summary", folder).stdout


def test_films_are_checked(folder):
    found = read_json(run("data", "verify", folder, "--json", "-"))
    assert found["ok"] and found["counts"]["frontal"] == {"chestxray14": 80, "chexpert": 40}[folder.name]
    film = {"chestxray14": "00000001_000.png", "chexpert": "train/patient00001/study1/view1_frontal.jpg"}[folder.name]
    next(path for path in folder.rglob("*.*") if str(path).endswith(film)).unlink()
    result = run("data", "verify", folder, "--json", "-")
    checks = {check["name"]: check["examples"] for check in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 1 and checks["missing images"] == [film]


def test_a_split_keeps_the_published_parts(folder, tmp_path):
    published = read_collection(folder).parts
    out = tmp_path / "split.csv"
    assert run("data", "split", folder, "--labels", "columns", "--out", out).exit_code == 0
    parts = read_split(out)
    held = {"chestxray14": "test", "chexpert": "validation"}[folder.name]
    assert parts.keys() == published.keys() and set(parts.values()) == {"train", "validation", "test"}
    assert {study for study in parts if parts[study] == held} == {
        study for study in published if published[study] == held
    }
    if folder.name == "chestxray14":  # both films of a patient are in one part
        assert all(parts[study] == parts[f"{study[:-3]}001"] for study in parts)
    assert run("data", "split", folder, "--labels", "columns", "--out", out, "--folds", 4).exit_code == 0
    assert set(read_split(tmp_path / "split-1.csv")) == set(parts)


def test_a_copy_of_a_test_film_is_left_out_of_training(tmp_path):
    folder = write_chestxray14(tmp_path / "nih")
    shutil.copy(folder / "images/00000040_000.png", folder / "images/00000001_000.png")
    out = tmp_path / "split.csv"
    result = run("data", "split", folder, "--labels", "columns", "--out", out)
    assert "study 00000001_000: left out of train, because the same film is in test" in result.stderr
    assert "00000001_000" not in read_split(out) and len(read_split(out)) == 79


def test_the_labels_are_found_when_another_scheme_is_asked_for(folder):
    result = run("fit", folder, "--text-encoder", "none")
    assert result.exit_code == 2 and "--labels columns reads them" in result.stderr


@pytest.mark.large
def test_a_classifier_of_films_and_its_weights(folder, tmp_path):
    copy = {"chestxray14": "images/00000001_000.png", "chexpert": "train/patient00001/study1/view1_frontal.jpg"}
    held = {"chestxray14": "images/00000040_000.png", "chexpert": "valid/patient00039/study1/view1_frontal.jpg"}
    shutil.copy(folder / held[folder.name], folder / copy[folder.name])
    out = tmp_path / "models"
    options = ["--out", out, "--labels", "columns", *IMAGES_ONLY]
    result = run("fit", folder, "--name", "domain", *options)
    assert result.exit_code == 0, result.output
    assert "because the same film is in" in result.stderr
    parts, published = read_split(out / "domain/split.csv"), read_collection(folder).parts
    assert len(parts) == len(published) - 1
    assert all(parts[study] == part for study, part in published.items() if study in parts and part != "train")

    split = tmp_path / "split.csv"
    assert run("data", "split", folder, "--labels", "columns", "--out", split).exit_code == 0
    result = run("fit", folder, "--name", "again", "--split", split, *options)
    assert result.exit_code == 0 and read_split(out / "again/split.csv") == parts, result.output
    assert "Not used, because they have no part: 1 of " in result.stderr
