"""`kmm weights pretrain`: weights that a fit takes, that know which studies they saw, and nothing of the test part."""

import csv
import json
import math
import shutil

import pytest

from kmm.models.weights.training_record import read_record
from tests.factories.commands import run
from tests.factories.studies import write_studies

OBJECTIVES = ("contrastive", "multi-label", "distill")
SMALL = ["--pixels", 32, "--epochs", 2, "--batch-size", 16, "--set", "label_min_count=5", "--set", "length=12"]


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """A folder of studies and its split."""
    folder = write_studies(tmp_path_factory.mktemp("pretrain") / "studies", 240)
    result = run("data", "split", folder, "--out", folder.parent / "split.csv")
    assert result.exit_code == 0, result.output
    return folder, folder.parent / "split.csv"


def pretrain(folder, objective, out, *options):
    result = run("weights", "pretrain", folder, "--objective", objective, "--out", out, "--json", "-", *SMALL, *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout), result


def fit(folder, weights, out, *options):
    more = ["--text-encoder", "none", "--set", "bootstrap_repeats=2", "--image-weights", weights, *options]
    result = run("fit", folder, "--name", "next", "--out", out, *SMALL, *more)
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--out", "x.h5"], "x.h5: expected a name that ends in .weights.h5"),
        (["--image-encoder", "none"], "Name one with --image-encoder"),
        (["--text-encoder", "none"], "The objective distill reads reports. Leave out --text-encoder none"),
        (["--image-weights", "random", "--set", "tune_image=none"], "there is nothing to pretrain"),
    ],
)
def test_what_cannot_be_pretrained_is_refused_in_one_line(studies, tmp_path, options, says):
    out = ["--out", tmp_path / "film.weights.h5"]
    result = run("weights", "pretrain", studies[0], "--objective", "distill", *out, *options)
    assert result.exit_code == 2 and says in result.stderr.splitlines()[-1], result.output
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept(studies, tmp_path):
    path = tmp_path / "film.weights.h5"
    path.write_bytes(b"mine")
    result = run("weights", "pretrain", studies[0], "--objective", "distill", "--out", path)
    assert result.exit_code == 2 and "already exists" in result.stderr and path.read_bytes() == b"mine"


@pytest.mark.large
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_a_fit_takes_the_weights(studies, tmp_path, objective):
    folder, split = studies
    path = tmp_path / "film.weights.h5"
    found, _ = pretrain(folder, objective, path, "--split", split, "--epochs", 8)
    losses = found["history"]["pretraining"]["val_loss"]
    assert found["changed"] and min(losses) < {"contrastive": math.log(16) - 0.6}.get(objective, 0.4)  # chance: log 16
    assert sum(found["films"].values()) >= 190
    assert {path.name for path in tmp_path.iterdir()} == {".cache", "film.weights.h5"}
    record = read_record(path)
    assert record.facts["objective"] == objective and record.facts["films"] == found["films"]
    checked = run("weights", "check", path, "--encoder", "small-cnn", "--json", "-")
    assert json.loads(checked.stdout)["weights_sha256"] == found["weights_sha256"]
    result = fit(folder, path, tmp_path / "models", "--split", split)
    assert "LEAK" not in result.stderr
    provenance = json.loads((tmp_path / "models/next/classifier.json").read_text())["provenance"]
    assert provenance["weights_saw"] == {"test": 0, "validation": 0}


@pytest.mark.large
def test_a_fit_says_so_when_the_weights_saw_its_test_studies(studies, tmp_path):
    folder, split = studies
    path = tmp_path / "film.weights.h5"
    pretrain(folder, "multi-label", path, "--split", split, "--epochs", 1)
    result = fit(folder, path, tmp_path / "models", "--seed", 5)
    lines = [line for line in result.stderr.splitlines() if line.startswith("LEAK")]
    assert len(lines) == 1 and "film.weights.h5 was pretrained on " in lines[0] and " test studies" in lines[0]


@pytest.mark.large
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_nothing_of_the_test_part_is_seen(studies, tmp_path, objective):
    """Test studies lose their films, and get other reports and headings: the weights stay the same."""
    folder, split = studies
    with open(split, encoding="utf-8") as file:
        held = {row["study"] for row in csv.DictReader(file) if row["part"] == "test"}
    other = shutil.copytree(folder, tmp_path / "other")
    with open(other / "indiana_reports.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        if row["uid"] in held:
            row |= {"MeSH": "Scoliosis/mild", "findings": "Scoliosis scoliosis scoliosis.", "indication": "Back pain."}
            (other / f"images/{row['uid']}.png").write_bytes(b"no film")
    with open(other / "indiana_reports.csv", "w", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, rows[0]).writeheader()
        csv.DictWriter(file, rows[0]).writerows(rows)
    before, _ = pretrain(folder, objective, tmp_path / "before.weights.h5", "--split", split)
    after, result = pretrain(other, objective, tmp_path / "after.weights.h5", "--split", split)
    assert before["weights_sha256"] == after["weights_sha256"] and before["history"] == after["history"]
    assert before["studies_digest"] == after["studies_digest"] and "set aside" not in result.stderr


@pytest.mark.large
def test_an_encoder_with_weights_is_tuned_after_what_follows_it(studies, tmp_path):
    folder, split = studies
    options = ["--split", split, "--image-weights", "random", "--set", "tune_image=all", "--epochs", 6]
    more = ["--set", "tune_epochs=6", "--set", "tune_learning_rate=0.003"]
    found, _ = pretrain(folder, "multi-label", tmp_path / "one.weights.h5", *options, *more)
    head, tuned = (found["history"][name]["val_loss"] for name in ("pretraining head", "pretraining"))
    assert found["changed"] and min(tuned) < min(head) and found["start_weights"] == "random"
    options = ["--split", split, "--image-weights", tmp_path / "one.weights.h5", "--set", "tune_image=top"]
    second, _ = pretrain(folder, "contrastive", tmp_path / "two.weights.h5", *options)
    assert list(second["history"]) == ["pretraining head", "pretraining"]
    assert second["start_weights"] == "one.weights.h5"
    assert second["changed"] == (second["weights_sha256"] != found["weights_sha256"])


@pytest.mark.large
def test_a_stopped_run_goes_on_to_the_same_weights(studies, tmp_path, monkeypatch):
    folder, split = studies
    whole, _ = pretrain(folder, "contrastive", tmp_path / "whole.weights.h5", "--split", split, "--epochs", 3)
    monkeypatch.setattr("kmm.training.stages.checkpoint.Checkpoint.on_epoch_end", stop_after(2))
    options = ["--objective", "contrastive", "--out", tmp_path / "part.weights.h5", "--split", split, "--epochs", 3]
    assert run("weights", "pretrain", folder, *SMALL, *options).exit_code != 0
    monkeypatch.undo()
    assert not (tmp_path / "part.weights.h5").exists() and (tmp_path / ".work-part.weights.h5/stages").exists()
    refused = run("weights", "pretrain", folder, *SMALL, *options)
    assert refused.exit_code == 2 and "--resume" in refused.stderr
    other = ["multi-label" if word == "contrastive" else word for word in options]
    refused = run("weights", "pretrain", folder, *SMALL, *other, "--resume")
    assert refused.exit_code == 2 and "objective changed since this run started" in refused.stderr
    result = run("weights", "pretrain", folder, *SMALL, *options, "--resume", "--json", "-")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["weights_sha256"] == whole["weights_sha256"]


def stop_after(epochs):
    """Makes `on_epoch_end` fail after a number of epochs, as a kill between two epochs."""
    from kmm.training.stages.checkpoint import Checkpoint

    original = Checkpoint.on_epoch_end

    def end(self, epoch, logs=None):
        original(self, epoch, logs)
        if epoch + 1 == epochs:
            raise KeyboardInterrupt

    return end
