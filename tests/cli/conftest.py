"""Data for commands."""

import pytest

from kmm.data.phantom.dataset import make_phantom


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """12 phantom studies."""
    folder = tmp_path_factory.mktemp("phantom") / "set"
    make_phantom(folder, studies=12, pixels=64)
    return folder


@pytest.fixture
def good(tiny_folder):
    return tiny_folder / "images" / "1.png"
