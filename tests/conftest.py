"""Fixtures for all tests. The backend is chosen by KERAS_BACKEND, TensorFlow when it says nothing."""

import os
import shutil
from pathlib import Path

import hypothesis
import pytest

pytest.register_assert_rewrite("tests.checks", "tests.export_roads", "tests.factories", "tests.model_checks")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
hypothesis.settings.register_profile("kmm", deadline=None)  # no test is about time
hypothesis.settings.load_profile("kmm")


@pytest.fixture
def stub():
    """A gRPC server with canned answers; a test may change them."""
    from tests.factories.stub_server import StubServer

    return StubServer()


@pytest.fixture
def address(stub):
    from tests.factories.stub_server import serve

    with serve(stub) as port:
        yield f"127.0.0.1:{port}/openi"


@pytest.fixture(scope="session")
def openi_folder():
    """The folder with real Open-i files that KMM_OPENI names; the test is skipped where there is none."""
    folder = os.environ.get("KMM_OPENI")
    if not folder:
        pytest.skip("KMM_OPENI names no folder with Open-i files")
    return Path(folder)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """60 tiny studies in the Kaggle layout."""
    from tests.factories.studies import write_studies

    return write_studies(tmp_path_factory.mktemp("studies") / "tiny")


@pytest.fixture(scope="session")
def tiny_run(tiny_folder, tmp_path_factory):
    """A classifier trained on the tiny studies and saved: (classifier, run, folder)."""
    from kmm.data.collection import read_collection
    from kmm.presets import make_settings
    from kmm.training.fit import fit_classifier
    from kmm.training.save_run import save_run
    from tests.factories.studies import TINY

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
    from tests.factories.classifiers import build_classifier

    return build_classifier


@pytest.fixture(scope="session")
def hand_made(build_classifier):
    """A classifier of films and reports with three labels."""
    return build_classifier()


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Films of noise with a bright disk, as PNG: dict of name to path; each name says `height`x`width`."""
    from tests.factories.studies import write_films

    return write_films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="session")
def studies(films):
    """One study per film, each with a report except the last; then a study of a report alone."""
    from tests.factories.studies import make_studies

    return make_studies(films)


@pytest.fixture(scope="session")
def bad_images(tmp_path_factory):
    """A folder of images that cannot be used; see `BAD_IMAGES`."""
    from tests.factories.bad_images import BAD_IMAGES

    folder = tmp_path_factory.mktemp("bad")
    for name, (make, _) in BAD_IMAGES.items():
        (folder / name).write_bytes(make())
    return folder


@pytest.fixture(scope="session")
def versions(tmp_path_factory):
    """A folder with the versions 1 and 2 of the tiny model that servers are tested with."""
    from tests.factories.saved_model import save_tiny

    folder = tmp_path_factory.mktemp("exports")
    for version in (1, 2):
        save_tiny(folder / str(version), version)
    return folder


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
    import kmm.training.save_run

    calls = []

    def fit_classifier(collection, settings, *, work, **options):
        calls.append({"collection": collection, "settings": settings, "work": work, **options})
        work.mkdir(parents=True, exist_ok=True)
        return tiny_run[:2]

    def save_run(classifier, run, folder, *, overwrite=False):
        shutil.copytree(tiny_run[2], folder, dirs_exist_ok=overwrite)
        shutil.rmtree(calls[-1]["work"])

    monkeypatch.setattr(kmm.training.fit, "fit_classifier", fit_classifier)
    monkeypatch.setattr(kmm.training.save_run, "save_run", save_run)
    return calls
