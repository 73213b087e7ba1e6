"""Fixtures for all tests. The backend is chosen by KERAS_BACKEND, TensorFlow when it says nothing."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def openi_folder():
    """The folder with real Open-i files that KMM_OPENI names; the test is skipped where there is none."""
    folder = os.environ.get("KMM_OPENI")
    if not folder:
        pytest.skip("KMM_OPENI names no folder with Open-i files")
    return Path(folder)
