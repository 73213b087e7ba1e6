"""`kmm predict`: films, reports, DICOM, manifests and folders."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tests.factories.commands import read_one_document, run
from tests.factories.dicom import encode, make_dataset


def test_predict_a_report_alone(model, loaded, tmp_path):
    from kmm.data.study import Report, Study

    (tmp_path / "note.txt").write_text("There is a mass.")
    (row,) = read_predictions(run("predict", model, "--report", tmp_path / "note.txt", "--json", "-"))["predictions"]
    study = Study("note", "note", report=Report(findings="There is a mass."))
    expected = loaded.probabilities(loaded.predict([study]).logits["joint"], [[0, 1]])[0, 0]
    assert (row["study"], row["image_present"], row["text_present"]) == ("note", False, True)
    assert row["probabilities"]["abnormal"] == pytest.approx(expected, abs=1e-6)
    result = run("predict", model)
    assert result.exit_code == 2 and "Expected FILES, or --report" in result.stderr


def test_it_is_said_where_a_report_is_put_that_is_not_read_as_findings(build_classifier, tmp_path, monkeypatch):
    from kmm.classifier import Classifier

    classifier = build_classifier(sections=("indication", "comparison"))
    monkeypatch.setattr(Classifier, "load", lambda folder, main_only=False: classifier)
    (tmp_path / "note.txt").write_text("A small mass.")
    result = run("predict", tmp_path, "--report", tmp_path / "note.txt", "--json", "-")
    assert read_predictions(result)["predictions"][0]["text_present"]
    assert "taken as INDICATION: this classifier reads INDICATION, COMPARISON alone" in result.stderr


def read_predictions(result):
    assert result.exit_code == 0, result.stderr
    return read_one_document(result.stdout)


def test_predict_an_image_with_and_without_its_report(model, loaded, tiny_folder, tmp_path):
    from kmm.data.study import ImageFile, Report, Study

    film, report = tiny_folder / "images" / "1.png", tmp_path / "report.txt"
    report.write_text("There is a mass.")
    probabilities = []
    for text, options in ((None, []), (Report(findings="There is a mass."), ["--report", report])):
        answer = read_predictions(run("predict", model, film, *options, "--json", "-"))
        (row,) = answer["predictions"]
        study = Study("1", "1", (ImageFile(film, view="frontal"),), text)
        present = [[1, text is not None]]
        expected = loaded.probabilities(loaded.predict([study]).logits["joint"], present)[0, 0]
        assert row["probabilities"]["abnormal"] == pytest.approx(expected, abs=1e-6)
        assert (row["study"], row["image_present"], row["text_present"]) == ("1", True, text is not None)
        assert row["decisions"]["abnormal"] == (expected >= loaded.thresholds_for(present)[0, 0])
        assert answer["set_aside"] == [] and answer["model"] == str(model)
        probabilities.append(expected)
    assert probabilities[0] != probabilities[1]


def test_predict_from_a_fresh_load_shows_a_table(tiny_run, tiny_folder, tmp_path):
    films = [tiny_folder / "images" / f"{number}.png" for number in (1, 2)]
    result = run("predict", tiny_run[2], *films)
    assert result.exit_code == 0 and "abnormal" in result.stdout and "│ 2 " in result.stdout


def test_json_takes_the_place_of_the_table(model, tiny_folder, tmp_path):
    """Nothing is rendered, and the library that does it is not imported."""
    code = """
import json, sys
from kmm.cli import main
try:
    main(json.loads(sys.argv[1]), prog_name="kmm")
finally:
    print(json.dumps([name for name in ("rich.table", "kmm.evaluate.output.card", "keras") if name in sys.modules]))
"""
    words = ["data", "verify", str(tiny_folder), "--json", str(tmp_path / "checks.json")]
    done = subprocess.run([sys.executable, "-c", code, json.dumps(words)], capture_output=True, text=True)
    assert done.stdout == "[]\n" and "checks" in json.loads((tmp_path / "checks.json").read_text()), done.stderr
    films = [tiny_folder / "images" / f"{number}.png" for number in (1, 2)]
    result = run("predict", model, *films, "--json", tmp_path / "answers.json")
    assert result.exit_code == 0 and result.stdout == ""
    assert len(json.loads((tmp_path / "answers.json").read_text())["predictions"]) == 2


def test_predict_a_dicom_film_as_the_same_png(model, tiny_folder, tmp_path):
    film = tiny_folder / "images" / "1.png"
    data = make_dataset(np.asarray(Image.open(film)), WindowCenter=128, WindowWidth=256)  # each value as itself
    (tmp_path / "film.dcm").write_bytes(encode(data))
    answer = read_predictions(run("predict", model, film, tmp_path / "film.dcm", "--json", "-"))
    png, dicom = (row["probabilities"]["abnormal"] for row in answer["predictions"])
    assert dicom == pytest.approx(png, abs=1e-6)


def test_predict_manifests_and_folders(model, tiny_folder, tmp_path):
    manifest = tmp_path / "list.jsonl"
    rows = [{"id": "a", "report": "There is a mass."}, {"id": "b", "report": "There is no mass."}]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = read_predictions(run("predict", model, manifest, "--json", "-"))
    assert [(row["study"], row["image"], row["text_present"]) for row in answer["predictions"]] == [
        ("a", None, True),
        ("b", None, True),
    ]
    bare = read_predictions(run("predict", model, tiny_folder / "images", "--json", "-"))
    assert len(bare["predictions"]) == 59 and not any(row["text_present"] for row in bare["predictions"])
    layout = read_predictions(run("predict", model, tiny_folder, "--json", "-"))
    assert len(layout["predictions"]) == 60 and sum(row["text_present"] for row in layout["predictions"]) == 59
    assert "│ 60 " in run("predict", model, tiny_folder).stdout


def test_undecided_studies_are_stated_in_the_json_and_in_the_table(tiny_run, tiny_folder, loaded, monkeypatch):
    from kmm.classifier import Classifier
    from kmm.evaluate.decisions.conformal import BINS

    films = [tiny_folder / "images" / f"{number}.png" for number in range(1, 7)]
    counts = np.zeros((3, 1, 2, BINS), int)
    counts[..., 0, -1] = counts[..., 1, 0] = 100  # every study was predicted wrongly: no probability rules out a class
    monkeypatch.setattr(Classifier, "load", lambda folder, main_only=False: replace(loaded, conformal=counts))
    answer = read_predictions(run("predict", tiny_run[2], *films, "--abstain", "0.1", "--json", "-"))
    plain = read_predictions(run("predict", tiny_run[2], *films, "--json", "-"))
    assert (answer["abstain"], plain["abstain"]) == (0.1, None)
    for row, other in zip(answer["predictions"], plain["predictions"], strict=True):
        assert row["sets"] == {"abnormal": [0, 1]} and row["decisions"] == {"abnormal": "abstain"}
        assert row["probabilities"] == other["probabilities"] and other["decisions"]["abnormal"] in (True, False)
    shown = run("predict", tiny_run[2], *films, "--abstain", "0.1").stdout
    assert " ?" in shown and "? undecided" in shown
    shown = run("predict", tiny_run[2], *films, "--abstain", "0.001")
    assert "Fewer than the 999 validation studies" in shown.stderr
    assert run("predict", tiny_run[2], *films, "--abstain", "1.5").exit_code == 2


def test_a_fresh_classifier_can_abstain(tiny_run, tiny_folder):
    found = read_predictions(
        run("predict", tiny_run[2], tiny_folder / "images" / "1.png", "--abstain", "0.3", "--json", "-")
    )
    assert set(found["predictions"][0]["sets"]) == {"abnormal"}


def test_a_classifier_with_changed_weights_says_so_when_it_abstains(tiny_run, tiny_folder, loaded, monkeypatch):
    from kmm.classifier import Classifier
    from kmm.evaluate.changed_weights import KEY, STALE

    stale = replace(loaded, provenance={**loaded.provenance, KEY: STALE})
    monkeypatch.setattr(Classifier, "load", lambda folder, main_only=False: stale)
    film = tiny_folder / "images" / "1.png"
    assert "The weights were changed after the fit" in run("predict", tiny_run[2], film, "--abstain", "0.1").stderr
    assert "The weights were changed" not in run("predict", tiny_run[2], film).stderr


def test_a_classifier_without_validation_scores_refuses_to_abstain(tiny_run, tiny_folder, loaded, monkeypatch):
    from kmm.classifier import Classifier

    monkeypatch.setattr(Classifier, "load", lambda folder, main_only=False: replace(loaded, conformal=None))
    result = run("predict", tiny_run[2], tiny_folder / "images" / "1.png", "--abstain", "0.1", "--json", "-")
    assert result.exit_code == 2 and result.stdout == "" and "cannot abstain" in result.stderr
