"""`kmm.compare`: what it refuses before anything is computed, in the words of Python, and what it returns."""

import pytest

import kmm
from kmm.errors import InputError
from kmm.experiments.comparison import Comparison
from tests.factories.comparisons import FakeRunner
from tests.factories.studies import TINY


@pytest.fixture
def studies(tiny_folder):
    return kmm.read(tiny_folder)


@pytest.fixture
def runner(monkeypatch):
    """Replaces the engine with one that trains nothing, and writes no page, whose figures take seconds to draw."""
    fake = FakeRunner()
    monkeypatch.setattr("kmm.experiments.run_comparison.write_pages", lambda *given: None)
    monkeypatch.setattr("kmm.api.comparing.choose_runner", lambda *name, **how: fake)
    return fake


@pytest.mark.parametrize(
    "given, says",
    [
        ({"protocol": "fast"}, "Unknown protocol 'fast'. Known: high, low, quick"),
        ({"folds": 3, "splits": 2}, "either folds or splits"),
        ({"fusions": "concat"}, "Did you mean fusion"),
        ({"vary": {"fusions": [1, 2]}}, "Unknown setting 'fusions'"),
        ({"vary": {"seed": [1]}}, "two or more different values"),
        ({"vary": {"image_encoder": [object(), object()]}}, "text, numbers and lists"),
        ({"engine": "cloud"}, "Known: process, workers, ray"),
        ({"workers": 0}, "at least 1 worker"),
        ({"out": 7}, "`out` must be a path"),
    ],
)
def test_what_cannot_be_compared_is_refused_at_once(studies, tmp_path, given, says):
    with pytest.raises(InputError, match=says):
        kmm.compare(studies, **{"out": tmp_path / "out", "cache": tmp_path, **given})
    assert not (tmp_path / "out").exists()


def test_studies_must_be_a_collection(tmp_path):
    with pytest.raises(InputError, match=r"made by `kmm.read` or `kmm.studies`. Received: list"):
        kmm.compare([], out=tmp_path)


def test_a_call_returns_what_it_wrote_and_is_continued_by_the_same_call(studies, runner, tmp_path):
    settings = {**TINY, "cache": tmp_path, "progress": False}
    found = kmm.compare(studies, out=tmp_path / "out", splits=2, vary={"fusion_units": [8, 16]}, **settings)
    assert isinstance(found, Comparison) and len(runner.done) == 4 and "joint - text" in repr(found)
    assert {task.settings.fusion_units for task in runner.done} == {8, 16}
    kmm.compare(studies, out=tmp_path / "out", splits=2, vary={"fusion_units": [8, 16]}, **settings)
    assert len(runner.done) == 4
    with pytest.raises(InputError, match="Give another out="):
        kmm.compare(studies, out=tmp_path / "out", splits=3, **settings)


def test_settings_win_over_the_protocol(studies, runner, tmp_path):
    settings = {**TINY, "cache": tmp_path, "progress": False, "learning_rate": 0.5}
    kmm.compare(studies, out=tmp_path / "out", splits=1, protocol="high", **settings)
    (task,) = runner.done
    assert task.settings.learning_rate == 0.5 and task.settings.text_learning_rate == 0.01
    assert task.settings.text_epochs == TINY["text_epochs"]
