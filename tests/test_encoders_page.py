"""The page about encoders of one's own: its examples run, and its package is one that kmm finds."""

import doctest
import re
from pathlib import Path

import pytest

from kmm.models.encoders_image import IMAGE_ENCODERS, SCALINGS
from kmm.models.encoders_text import TEXT_ENCODERS
from tests.factories.own_encoders import write_package

PAGE = Path(__file__).parents[1] / "docs" / "encoders.md"


@pytest.fixture
def forget():
    yield
    for table, name in ((IMAGE_ENCODERS, "mine"), (TEXT_ENCODERS, "reader"), (IMAGE_ENCODERS, "own-cnn")):
        table.pop(name, None)


def test_the_examples_of_the_page_run(forget):
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0
    assert "mine" in IMAGE_ENCODERS and TEXT_ENCODERS["reader"].embedding_size == 32


def test_the_package_of_the_page_offers_its_encoder(forget, tmp_path, monkeypatch):
    text = PAGE.read_text(encoding="utf-8")
    module = re.search(r"```python\n# films.py\n(.*?)```", text, re.DOTALL)[1]
    (group, name, value) = re.search(r'entry-points."([\w.]+)"\]\n([\w-]+) = "(films:build)"', text).groups()
    write_package(tmp_path, "films", offers=f"{name} = {value}", group=group, module=module)
    monkeypatch.syspath_prepend(tmp_path)
    assert (IMAGE_ENCODERS[name].pixels, IMAGE_ENCODERS[name].stem) == (64, "conv")


def test_the_page_names_every_scaling():
    assert all(f"`{name}`" in PAGE.read_text(encoding="utf-8") for name in SCALINGS)
