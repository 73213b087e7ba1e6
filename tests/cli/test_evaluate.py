"""`kmm evaluate`: the results of the fit once more, in tables and pictures."""

import shutil

import pytest

from tests.factories.commands import ROWS, read_one_document, run


def test_evaluate_repeats_the_results_of_the_fit(tiny_run, tiny_folder, tmp_path):
    result = run("evaluate", tiny_run[2], tiny_folder, "--json", "-")
    assert result.exit_code == 0, result.stderr
    results = read_one_document(result.stdout)
    assert results["test"]["n"] == 12
    for part in ("test", "validation"):
        for row in ROWS:
            assert results[part][row]["accuracy"] == pytest.approx(tiny_run[0].metrics[part][row]["accuracy"])


def test_evaluate_shows_tables_and_draws_pictures(model, tiny_folder, tmp_path):
    place = tmp_path / "pictures"
    result = run("evaluate", model, tiny_folder, "--pictures", place)
    assert {path.relative_to(place).as_posix() for path in place.rglob("*.png")} == {
        f"{part}/{name}.png"
        for part in ("test", "validation")
        for name in ("roc", "precision_recall", "calibration", "confusion")
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
