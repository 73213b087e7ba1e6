"""A model in another runtime's format says what the classifier says, or it is not written."""

import json
from dataclasses import replace

import pytest

from kmm.errors import ArtefactError, InputError
from kmm.export import formats
from kmm.export.formats import EXPORT_FORMATS, export_format
from tests.factories.commands import run

pytestmark = [
    pytest.mark.filterwarnings("ignore:In the future `np.object`:FutureWarning"),  # Keras's copy of tf2onnx
]


@pytest.mark.large
@pytest.mark.parametrize("kind", EXPORT_FORMATS)
def test_a_file_runs_in_its_own_runtime(saved, tmp_path, kind):
    for package in EXPORT_FORMATS[kind].packages:
        pytest.importorskip(package)
    place = tmp_path / f"model{EXPORT_FORMATS[kind].suffix}"
    result = run("export", saved, "--format", kind, "--out", place, "--json", "-")  # it compares before it writes
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["file"] == str(place) and place.stat().st_size > 1000
    assert told["privacy"]["words"] is None and told["privacy"]["findings"] == []


@pytest.mark.large
def test_a_file_that_says_something_else_is_not_written(saved, tmp_path, monkeypatch):
    pytest.importorskip("ai_edge_litert")
    monkeypatch.setattr(formats, "LOGIT_TOLERANCE", -1.0)
    with pytest.raises(ArtefactError, match="differ from the classifier"):
        export_format(saved, "litert", tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


def test_what_a_converter_cannot_do_is_one_line(saved, tmp_path, monkeypatch):
    def fail(*given, **options):
        raise ValueError("an operation\nthat it does not know")

    monkeypatch.setitem(EXPORT_FORMATS, "litert", replace(EXPORT_FORMATS["litert"], packages=()))
    monkeypatch.setattr("keras.Model.export", fail)
    result = run("export", saved, "--format", "litert", "--out", tmp_path / "model.tflite")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert "cannot be written as litert. ValueError: an operation that it does not know" in result.stderr
    assert not list(tmp_path.iterdir())


def test_an_unknown_format(saved):
    with pytest.raises(InputError, match=r"Unknown format .pmml.\. Known: onnx, litert"):
        export_format(saved, "pmml")
