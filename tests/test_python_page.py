"""docs/python.md: it has a section for every public name, and its examples run in their order on the phantom set."""

import contextlib
import re
from pathlib import Path

import pytest

import kmm

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_every_public_name_has_a_section_with_an_example():
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    found = {section.split("\n")[0].replace("\\", "").removeprefix("kmm."): section for section in sections}
    assert set(found) == {*kmm.__all__, "sklearn"}
    assert all("```python" in section for section in found.values())
    for name in kmm.__all__:
        assert f"| [`kmm.{name}`](#kmm{name.lower()})" in PAGE.read_text(encoding="utf-8")


def test_the_examples_are_python():
    assert len(BLOCKS) >= len(kmm.__all__)
    for block in BLOCKS:
        compile(block, "docs/python.md", "exec")


def test_a_model_that_returns_logits_is_trained_on_logits():
    losses = re.findall(r"loss=(.*)\)", PAGE.read_text(encoding="utf-8"))
    assert losses and all("from_logits=True" in loss for loss in losses)


@contextlib.contextmanager
def serving(folder):
    """Serves a folder of versions; yields the server's address."""
    from kmm.server.settings import ModelSettings
    from tests.factories.servers import running

    with running(ModelSettings(folder.name, folder)) as (server, _):
        yield f"localhost:{server.port}"


@pytest.mark.large
def test_the_examples_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pandas")
    from kmm.data.phantom.dataset import make_phantom

    monkeypatch.chdir(tmp_path)
    make_phantom(tmp_path / "phantom", studies=120, pixels=64)
    names = {}
    with contextlib.ExitStack() as stack:
        for number, block in enumerate(BLOCKS, 1):
            if "localhost:8500" in block:
                address = stack.enter_context(serving(tmp_path / "models" / "tuned"))
                block = block.replace("localhost:8500", address)
            exec(compile(block, f"docs/python.md, example {number}", "exec"), names)
    shown = capsys.readouterr().out
    assert "<Collection of 120 studies" in shown and "Did you mean film?" in shown
    assert {"roc.svg", "precision_recall.pdf", "calibration.png", "results.json", "explained"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert not any(text and text in shown for text in names["frame"]["text"].dropna())
