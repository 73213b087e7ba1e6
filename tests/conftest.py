"""Fixtures for all tests. The backend is chosen by KERAS_BACKEND, TensorFlow when it says nothing."""

import os
import shutil
from pathlib import Path

import hypothesis
import pytest
from click.testing import CliRunner

from kmm.cli import main

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
hypothesis.settings.register_profile("kmm", deadline=None)  # no test is about time
hypothesis.settings.load_profile("kmm")


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
        report = f"{finding} in case {7 * 10**9 + generator.integers(10**6)}."
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
    from kmm.training.fit import fit_classifier, save_run

    out = tmp_path_factory.mktemp("saved_models")
    settings = make_settings("small", TINY)
    classifier, run = fit_classifier(read_collection(tiny_folder), settings, work=out / "work", cache=out / ".cache")
    save_run(classifier, run, out / "tiny")
    return classifier, run, out / "tiny"


@pytest.fixture(scope="session")
def loaded(tiny_run):
    from kmm.classifier import Classifier

    return Classifier.load(tiny_run[2])


@pytest.fixture(scope="session")
def build_classifier():
    """A function that builds a classifier: of films, of reports or of both, with any labels."""
    import numpy as np

    from kmm.batches import BatchMaker, TextPreparation
    from kmm.classifier import Classifier
    from kmm.image.prepare import ImagePreparation
    from kmm.models.build import ModelSpec, build_model
    from kmm.settings import FitSettings
    from kmm.text.vocabulary import SPECIAL_WORDS, Vocabulary
    from kmm.text.word_pieces import WordPieces

    pieces = "no mass small of is a the eff ##us ##ion cy ##st c ##ou ##gh l ##un ##g norm ##al ##l ##i ##k ##e"

    def build(image="small-cnn", text="text-cnn", *, labels=("mass", "effusion", "cyst"), mean=True, **preparation):
        sizes = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 8, "fusion_units": 16}
        spec = ModelSpec(image_encoder=image, text_encoder=text, **sizes)
        vocabulary = Vocabulary.fit([f"no mass small effusion cyst word{number}".split() for number in range(9)])
        if preparation.get("pieces"):
            vocabulary = WordPieces((*SPECIAL_WORDS, *pieces.split()))
        model = build_model(spec, label_count=len(labels), vocabulary_size=len(vocabulary))
        random = np.random.default_rng(0)
        for weight in model.weights:
            if len(weight.shape) == 1:  # offsets and statistics of normalisation, which start at 0 and 1
                weight.assign(weight + random.uniform(0.1, 0.5, weight.shape))
        part = "joint" if image and text else "image" if image else "text"
        return Classifier(
            models={part: model},
            batches=BatchMaker(
                ImagePreparation(32) if image else None,
                TextPreparation(**{"length": 12, **preparation}) if text else None,
                vocabulary=vocabulary if text else None,
                label_names=labels,
            ),
            settings=FitSettings(image_encoder=image, text_encoder=text, pixels=32, length=12),
            # each pattern (both sides, a film alone, a report alone) has numbers of its own: none may take another's
            temperatures={part: np.outer([1.0, 1.8, 0.6], np.linspace(0.5, 1.5, len(labels)))},
            thresholds={part: np.tile([[0.5], [0.47], [0.53]], len(labels))},
            prevalence=np.full(len(labels), 0.5),
            mean_image=random.uniform(80, 120, (32, 32, 1)).astype(np.float32) if image and mean else None,
        )

    return build


@pytest.fixture(scope="session")
def hand_made(build_classifier):
    """A classifier of films and reports with three labels."""
    return build_classifier()


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Films of noise with a bright disk, as PNG: dict of name to path; each name says `height`x`width`."""
    import numpy as np
    from PIL import Image

    folder, random = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    paths = {}
    for height, width in ((48, 48), (40, 90), (100, 50)):
        y, x = np.mgrid[:height, :width]
        film = random.normal(60, 8, (height, width))
        film[(x - width * 0.7) ** 2 + (y - height * 0.3) ** 2 < 36] += 140
        paths[f"{height}x{width}"] = folder / f"{height}x{width}.png"
        Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(paths[f"{height}x{width}"])
    return paths


@pytest.fixture(scope="session")
def studies(films):
    """One study a film, all with a report but the last; then one of a report alone."""
    from kmm.data.study import ImageFile, Report, Study

    reports = [
        Report(indication="Cough.", findings="There is a small effusion. No mass.", impression="Effusion."),
        Report(findings="No effusion, and no cyst-like mass of the left lung. The heart is of normal size. Old clip."),
        None,
    ]
    made = [
        Study(name, name, (ImageFile(path, "frontal"),), report)
        for (name, path), report in zip(films.items(), reports, strict=True)
    ]
    return [*made, Study("words", "words", (), Report(findings="A small cyst."))]


@pytest.fixture
def model(tiny_run, loaded, monkeypatch):
    """The folder of the tiny classifier, which is loaded once for all tests."""
    from kmm.classifier import Classifier

    monkeypatch.setattr(Classifier, "load", lambda folder, main_only=False: loaded)
    return tiny_run[2]


@pytest.fixture
def fits(tiny_run, monkeypatch):
    """Calls of `fit_classifier`, which here trains nothing and answers with the tiny classifier."""
    import kmm.training.fit

    calls = []

    def fit_classifier(collection, settings, *, work, **options):
        calls.append({"collection": collection, "settings": settings, "work": work, **options})
        work.mkdir(parents=True, exist_ok=True)
        return tiny_run[:2]

    def save_run(classifier, run, folder, *, overwrite=False):
        shutil.copytree(tiny_run[2], folder, dirs_exist_ok=overwrite)
        shutil.rmtree(calls[-1]["work"])

    monkeypatch.setattr(kmm.training.fit, "fit_classifier", fit_classifier)
    monkeypatch.setattr(kmm.training.fit, "save_run", save_run)
    return calls
