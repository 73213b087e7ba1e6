"""`kmm fit`: settings, results and names, without training."""

import json
import os
import stat
from pathlib import Path

import pytest

from kmm.data.phantom.dataset import make_phantom
from kmm.presets import make_settings
from tests.factories.commands import ROWS, read_one_document, run


def test_settings_come_from_options_then_variables_then_set_then_file_then_preset(tiny_folder, tmp_path, fits):
    config = tmp_path / "settings.yaml"
    config.write_text("seed: 1\nfusion-units: 10\nlength: 20\nsections: [findings]\npixels: 40\ntext_epochs: 9\n")
    arguments = ["fit", tiny_folder, "--out", tmp_path, "--config", config, "--set", "fusion_units=12", "--pixels", 48]
    environment = {"KMM_FIT_SEED": "5", "KMM_FIT_PIXELS": "64", "KMM_FIT_SECTIONS": "pre-read", "KMM_FIT_EPOCHS": "4"}
    result = run(*arguments, env=environment)
    assert result.exit_code == 0, result.stderr
    settings = fits[-1]["settings"]
    assert (settings.seed, settings.fusion_units, settings.length, settings.pixels) == (5, 12, 20, 48)
    assert settings.sections == ("indication", "comparison")
    assert settings.text_epochs == 4 and settings.image_epochs <= 4
    assert settings.patience == make_settings("small").patience


def test_every_option_has_its_variable(tiny_folder, tmp_path, fits):
    environment = {
        "KMM_FIT_OUT": str(tmp_path),
        "KMM_FIT_NAME": "by-variables",
        "KMM_FIT_SET": "length=9 fusion_units=7",
        "KMM_FIT_STRICT": "1",
        "KMM_FIT_PRESET": "paper",
        "KMM_FIT_IMAGE_ENCODER": "none",
        "KMM_FIT_JSON": str(tmp_path / "results.json"),
    }
    result = run("fit", tiny_folder, env=environment)
    assert result.exit_code == 0, result.stderr
    settings = fits[-1]["settings"]
    assert (settings.length, settings.fusion_units, settings.strict, settings.preset) == (9, 7, True, "paper")
    assert settings.image_encoder is None
    assert (tmp_path / "by-variables" / "classifier.json").exists()
    assert "test" in json.loads((tmp_path / "results.json").read_text())


def test_other_options_of_fit_arrive(tiny_folder, tmp_path, fits):
    options = ["--split", tmp_path / "split.csv", "--tensorboard", tmp_path / "logs", "--word-vectors", "v.txt"]
    options += ["--word-pieces", "p.txt", "--labels", "findings", "--redact", "default"]
    result = run("fit", tiny_folder, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.stderr
    call = fits[-1]
    assert (call["split"], call["tensorboard"]) == (tmp_path / "split.csv", tmp_path / "logs")
    settings = call["settings"]
    assert (settings.word_vectors, settings.word_pieces, settings.labels) == ("v.txt", "p.txt", "findings")
    assert settings.redact == "default"
    assert call["cache"] == tmp_path / "out" / ".cache" and len(call["collection"].studies) == 60


def test_a_bare_fit_uses_the_phantom_set(tmp_path, monkeypatch, fits):
    import kmm.data.phantom.dataset

    made = []
    monkeypatch.setattr(
        kmm.data.phantom.dataset, "make_phantom", lambda out, **_: made.append(make_phantom(out, studies=9, pixels=32))
    )
    monkeypatch.chdir(tmp_path)
    for name in ("small", "small-2"):
        result = run("fit")
        assert result.exit_code == 0 and f"Saved: {Path('saved_models', name)}" in result.stderr
    assert len(made) == 1 and len(fits[-1]["collection"].studies) == 9


def test_fit_prints_one_json_document_and_progress_apart(tiny_folder, tmp_path, fits, tiny_run):
    result = run("fit", tiny_folder, "--out", tmp_path, "--json", "-")
    assert result.exit_code == 0
    results = read_one_document(result.stdout)
    for part in ("test", "validation"):
        assert results[part]["n"] == tiny_run[0].metrics[part]["n"]
        assert all({"accuracy", "roc_auc", "f1", "brier", "log_loss"} <= set(results[part][row]) for row in ROWS)
    assert "60 studies" in result.stderr and "Saved" in result.stderr


def test_fit_shows_tables_and_writes_json_beside(tiny_folder, tmp_path, fits):
    result = run("fit", tiny_folder, "--out", tmp_path)
    assert result.exit_code == 0
    for words in (
        "test: 12 studies",
        "│ Joint ",
        "Image only",
        "Text only",
        "TF-IDF",
        "Majority",
        "Chance",
    ):
        assert words in result.stdout, words
    result = run("fit", tiny_folder, "--out", tmp_path, "--json", tmp_path / "results.json")
    assert result.exit_code == 0 and result.stdout == ""
    assert set(json.loads((tmp_path / "results.json").read_text())) == {"schema", "test", "validation"}


def test_tables_show_intervals_and_tests_in_160_columns(tiny_folder, tmp_path, fits, tiny_run):
    result = run("fit", tiny_folder, "--out", tmp_path)
    test = tiny_run[0].metrics["test"]
    for metric in ("accuracy", "roc_auc"):
        low, high = test["joint"]["intervals"][metric]
        assert f"│ {test['joint'][metric]:.3f} [{low:.3f}, {high:.3f}] │" in result.stdout
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 160
    assert [line.split(",")[0] for line in lines if line.startswith("Joint minus")] == 2 * [
        "Joint minus Image only",
        "Joint minus Text only",
    ]
    # nothing is folded: for both parts a line for each of eight rows, and for the decisions of seven of them
    assert sum(line.startswith("│ ") for line in lines) == 2 * (8 + 7)


def test_json_goes_through_links_and_into_pipes_without_replacing_them(tiny_folder, tmp_path, fits):
    link, pipe = tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to(tmp_path / "target.json")
    assert run("fit", tiny_folder, "--out", tmp_path, "--json", link).exit_code == 0
    assert link.is_symlink() and "test" in json.loads((tmp_path / "target.json").read_text())
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run("fit", tiny_folder, "--out", tmp_path, "--json", pipe).exit_code == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode) and "test" in json.loads(os.read(reader, 1 << 20))
    os.close(reader)


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "", "12", "a b", "a\n"])
def test_a_name_that_is_no_folder_name_is_refused(tiny_folder, tmp_path, fits, name):
    result = run("fit", tiny_folder, "--out", tmp_path, "--name", name)
    assert result.exit_code == 2 and not fits and not list(tmp_path.iterdir())
    assert result.stderr.count("\n") == 1 and "Expected a name of letters" in result.stderr


def test_a_taken_name_is_refused_unless_overwritten(tiny_folder, tmp_path, fits):
    arguments = ["fit", tiny_folder, "--out", tmp_path, "--name", "mine"]
    assert run(*arguments).exit_code == 0
    for more in ([], ["--resume"]):
        result = run(*arguments, *more)
        assert result.exit_code == 2 and "--overwrite" in result.stderr and len(fits) == 1
    assert run(*arguments, "--overwrite").exit_code == 0 and len(fits) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_without_a_name_the_first_free_number_is_taken(tiny_folder, tmp_path, fits):
    for name in ("small", "small-2", "small-3"):
        assert run("fit", tiny_folder, "--out", tmp_path).exit_code == 0
        assert (tmp_path / name / "classifier.json").exists()
    assert run("fit", tiny_folder, "--out", tmp_path, "--overwrite").exit_code == 0
    assert not (tmp_path / "small-4").exists()
