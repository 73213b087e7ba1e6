"""A comparison of the tiny studies without models, for tests that give it a runner."""

from functools import partial

import pytest

from kmm.data.collection import read_collection
from kmm.experiments.run_comparison import compare_studies


@pytest.fixture(scope="module")
def collection(tiny_folder):
    return read_collection(tiny_folder)


@pytest.fixture
def compare_and_write(collection, tmp_path):
    return partial(compare_studies, collection, out=tmp_path / "out", cache=tmp_path / "cache")


@pytest.fixture
def compare(compare_and_write, monkeypatch):
    """Compares without the page, whose figures take seconds to draw."""
    monkeypatch.setattr("kmm.experiments.run_comparison.write_pages", lambda *given: None)
    return compare_and_write
