"""Fixtures for all tests. The backend is chosen by KERAS_BACKEND, TensorFlow when it says nothing."""

import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from kmm.cli import main

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def run(*arguments, **options):
    """Runs a command in this process, as a user types it."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="kmm", **options)


@pytest.fixture(scope="session")
def openi_folder():
    """The folder with real Open-i files that KMM_OPENI names; the test is skipped where there is none."""
    folder = os.environ.get("KMM_OPENI")
    if not folder:
        pytest.skip("KMM_OPENI names no folder with Open-i files")
    return Path(folder)


def write_studies(folder, count=60, *, pixels=48, seed=0):
    """Writes tiny studies in the Kaggle layout: a bright disk in the film and a word in the report decide the label.

    The last two studies lack a side: one has no image, one no report.
    """
    import csv

    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows, films = [], []
    y, x = np.mgrid[:pixels, :pixels]
    for uid in range(1, count + 1):
        abnormal = uid % 2
        film = generator.normal(90, 12, (pixels, pixels))
        if abnormal:
            row, column = generator.uniform(12, pixels - 12, 2)
            film[(x - column) ** 2 + (y - row) ** 2 < 36] += 120
        finding = "There is a mass" if abnormal else "There is no mass"
        report = f"{finding} in case {generator.integers(10**6)}."
        mesh = "Mass/lung" if abnormal else "normal"
        rows.append([uid, mesh, mesh, "PA", "Cough.", "None.", "" if uid == count else report, ""])
        if uid != count - 1:
            Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{uid}.png")
            films.append([uid, f"{uid}.png", "Frontal"])
    rows[-1][4:] = [""] * 4
    header = ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"]
    for name, head, lines in (
        ("indiana_reports.csv", header, rows),
        ("indiana_projections.csv", ["uid", "filename", "projection"], films),
    ):
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *lines])
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """60 tiny studies in the Kaggle layout."""
    return write_studies(tmp_path_factory.mktemp("studies") / "tiny")


TINY = {
    "pixels": 32,
    "length": 12,
    "embedding_size": 8,
    "word_vector_epochs": 2,
    "text_filters": 8,
    "fusion_units": 16,
    "text_epochs": 3,
    "image_epochs": 3,
    "joint_epochs": 3,
    "tune_epochs": 1,
    "batch_size": 16,
    "bootstrap_repeats": 20,
}


@pytest.fixture(scope="session")
def tiny_run(tiny_folder, tmp_path_factory):
    """A classifier trained on the tiny studies and saved: (classifier, run, folder)."""
    from kmm.data.collection import read_collection
    from kmm.presets import make_settings
    from kmm.train import fit_classifier, save_run

    out = tmp_path_factory.mktemp("saved_models")
    settings = make_settings("small", TINY)
    classifier, run = fit_classifier(read_collection(tiny_folder), settings, work=out / "work", cache=out / ".cache")
    save_run(classifier, run, out / "tiny")
    return classifier, run, out / "tiny"


@pytest.fixture(scope="session")
def loaded(tiny_run):
    from kmm.classifier import Classifier

    return Classifier.load(tiny_run[2])


@pytest.fixture
def model(tiny_run, loaded, monkeypatch):
    """The folder of the tiny classifier, which is loaded once for all tests."""
    from kmm.classifier import Classifier

    monkeypatch.setattr(Classifier, "load", lambda folder, main_only=False: loaded)
    return tiny_run[2]


@pytest.fixture
def fits(tiny_run, monkeypatch):
    """Calls of `fit_classifier`, which here trains nothing and answers with the tiny classifier."""
    import kmm.train

    calls = []

    def fit_classifier(collection, settings, *, work, **options):
        calls.append({"collection": collection, "settings": settings, "work": work, **options})
        work.mkdir(parents=True, exist_ok=True)
        return tiny_run[:2]

    def save_run(classifier, run, folder, *, overwrite=False):
        shutil.copytree(tiny_run[2], folder, dirs_exist_ok=overwrite)
        shutil.rmtree(calls[-1]["work"])

    monkeypatch.setattr(kmm.train, "fit_classifier", fit_classifier)
    monkeypatch.setattr(kmm.train, "save_run", save_run)
    return calls
