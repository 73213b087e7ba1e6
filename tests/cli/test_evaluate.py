"""`kmm evaluate`: the results of the fit once more, in tables and pictures."""

import shutil

import numpy as np
import pytest
from PIL import Image

from kmm.evaluate.breakdown.shift import NO_PROFILE
from kmm.evaluate.part_details import PROFILE
from tests.factories.commands import ROWS, read_one_document, run
from tests.factories.studies import write_studies


@pytest.mark.large
def test_evaluate_repeats_the_results_of_the_fit(tiny_run, tiny_folder, tmp_path):
    result = run("evaluate", tiny_run[2], tiny_folder, "--json", "-")
    assert result.exit_code == 0, result.stderr
    results = read_one_document(result.stdout)
    assert results["test"]["n"] == 12
    for part in ("test", "validation"):
        for row in ROWS:
            assert results[part][row]["accuracy"] == pytest.approx(tiny_run[0].metrics[part][row]["accuracy"])


@pytest.mark.large
def test_evaluate_shows_tables_and_draws_pictures(model, tiny_folder, tmp_path):
    place = tmp_path / "pictures"
    result = run("evaluate", model, tiny_folder, "--pictures", place)
    assert {path.relative_to(place).as_posix() for path in place.rglob("*.png")} == {
        f"{part}/{name}.png"
        for part in ("test", "validation")
        for name in ("roc", "precision_recall", "calibration", "confusion", "decision_curve")
    }
    assert "60 studies: 0 without a known label and" in result.stderr
    assert result.exit_code == 0 and "test: 12 studies" in result.stdout and "Joint" in result.stdout


def test_an_error_lists_the_studies_that_were_skipped_before_it(model, tiny_folder, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(tiny_folder, folder)
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    reports = folder / "indiana_reports.csv"
    head, *rows = reports.read_text().splitlines()
    reports.write_text("\n".join([head, *(",".join([*row.split(",")[:4], "", "", "", ""]) for row in rows)]) + "\n")
    for arguments in (["fit", folder, "--out", tmp_path / "out"], ["evaluate", model, folder]):
        result = run(*arguments)
        lines = [line for line in result.stderr.splitlines() if line.startswith("set aside: ")]
        assert result.exit_code == 2 and len(lines) == 6 and lines[-1] == "set aside: 55 more", result.stderr
        assert ".png: expected" in lines[0]
        assert result.stderr.splitlines()[-1].startswith("kmm: ") and "was not trained on" not in result.stderr


@pytest.mark.large
def test_subgroups_are_in_the_json_and_in_the_terminal_when_asked(model, tiny_folder):
    results = read_one_document(run("evaluate", model, tiny_folder, "--json", "-").stdout)
    rows = {(row["grouping"], row["value"]): row for row in results["test"]["subgroups"]}
    everything = rows["all", "all"]
    assert everything["n"] == 12 and everything["accuracy"] == results["test"]["joint"]["accuracy"]
    assert everything["roc_auc"] is None and "fewer than 10" in everything["note"]
    shown = run("evaluate", model, tiny_folder, "--subgroups").stdout
    assert "test: subgroups" in shown and "fewer than 10" in shown
    assert "subgroups" not in run("evaluate", model, tiny_folder).stdout


def test_the_test_part_of_the_training_folder_is_hardly_shifted(model, tiny_folder):
    results = read_one_document(run("evaluate", model, tiny_folder, "--json", "-").stdout)
    assert "shift" not in results["validation"] and "note" not in results["test"]["shift"]
    items = results["test"]["shift"]["items"]
    assert {"prevalence of abnormal", "unknown words", "gray levels", "film sizes", "film shapes"} <= set(items)
    assert not any(items[name]["shifted"] for name in ("gray levels", "film sizes", "film shapes"))


def test_another_hospital_is_said_to_be_one(model, tmp_path):
    folder = write_studies(tmp_path / "other", 40, pixels=300, seed=9)
    for path in sorted((folder / "images").iterdir())[:12]:
        path.unlink()
    for path in (folder / "images").iterdir():
        film = np.asarray(Image.open(path))
        Image.fromarray((film // 2 + 127).astype(np.uint8)).save(path)  # brighter
    reports = folder / "indiana_reports.csv"
    reports.write_text(reports.read_text().replace("There is", "Zonder").replace("mass", "tumor"), encoding="utf-8")
    result = run("evaluate", model, folder)
    assert result.exit_code == 0, result.output
    shown = " ".join(result.stdout.split())
    for words in (
        "Compared with the training studies,",
        "Gray levels: mean",
        "Film sizes: mostly 256-511 (100%) here, mostly under 256 (100%) in training",
        "Studies without a film: 0.3",
        "Unknown words: 0.",
    ):
        assert words in shown, shown


def test_a_classifier_without_a_profile_compares_what_it_knows(loaded, tiny_folder, model, monkeypatch):
    facts = {name: value for name, value in loaded.provenance.items() if name != PROFILE}
    monkeypatch.setattr(loaded, "provenance", facts)
    results = read_one_document(run("evaluate", model, tiny_folder, "--json", "-").stdout)
    shift = results["test"]["shift"]
    assert shift["note"] == NO_PROFILE and set(shift["items"]) == {"prevalence of abnormal", "unknown words"}
    assert NO_PROFILE in " ".join(run("evaluate", model, tiny_folder).stdout.split())


def test_other_label_schemes_are_in_the_json(model, tiny_folder):
    results = read_one_document(run("evaluate", model, tiny_folder, "--json", "-").stdout)
    schemes = results["test"]["label_schemes"]
    own = schemes["normal-abnormal"]
    assert next(iter(schemes)) == "normal-abnormal" and own["n"] == 12
    assert own["rows"]["joint"]["roc_auc"] == results["test"]["joint"]["roc_auc"]
    assert schemes["normal-abnormal-indexed-only"]["same_as"] == "normal-abnormal"
    curve = results["test"]["decision_curve"]["abnormal"]
    assert curve["n"] == 12 and len(curve["net_benefit"]) == len(curve["thresholds"]) == 19
