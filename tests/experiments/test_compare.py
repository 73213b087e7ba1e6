"""`kmm compare` with real models on tiny studies: rows, predictions, curves, engines agree; kills cost little."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import kmm
from kmm.evaluate.metrics import METRICS, score_labels
from kmm.experiments.comparison import Comparison
from kmm.experiments.run_comparison import MODELS, TASKS
from kmm.experiments.tables import find_rows
from kmm.experiments.tasks.task import RESULT
from tests.factories.commands import run
from tests.factories.studies import TINY

pytestmark = pytest.mark.large
SETTINGS = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
EVERY = {"joint", "image", "text", "tfidf", "image-linear", "linear-sum", "majority", "chance"}


def compare(folder, out, *words, **options):
    place = out.parent / "shared"
    return run("compare", folder, "--out", out, "--cache", place, *SETTINGS, "--epochs", 2, *words, **options)


@pytest.fixture(scope="module")
def compared(tiny_folder, tmp_path_factory):
    """A comparison of 2 splits, and what its command printed."""
    out = tmp_path_factory.mktemp("compare") / "out"
    result = compare(tiny_folder, out, "--splits", 2, "--keep-models")
    assert result.exit_code == 0, result.output
    return out, result


def test_every_model_has_every_metric_on_every_part(compared):
    found = Comparison.load(compared[0])
    for split in ("1", "2"):
        for part in ("train", "validation", "test"):
            rows = find_rows(found.rows, split=split, part=part, label="macro", metric="accuracy")
            models = set(found.rows["model"][rows])
            assert models == EVERY | ({"joint-image", "joint-text"} if part != "train" else set())
    assert set(found.rows["metric"]) == set(METRICS) and set(found.rows["label"]) == {"macro", "abnormal"}
    assert np.isfinite(found.rows["value"]).all() and (found.rows["n"] > 0).all()


def test_rows_can_be_computed_again_from_the_predictions(compared):
    found = Comparison.load(compared[0])
    table, checked = found.predictions, 0
    for model in EVERY - {"chance"}:
        chosen = find_rows(table, split="2", part="test", model=model)
        values = [table[name][chosen] for name in ("truth", "probability", "threshold")]
        scores = score_labels(*(value[:, None] for value in values))
        for metric in METRICS:
            rows = find_rows(found.rows, split="2", part="test", model=model, label="abnormal", metric=metric)
            if scores[metric] is not None:
                assert found.rows["value"][rows].tolist() == pytest.approx([scores[metric]], abs=1e-12)
                checked += 1
    assert checked > 60


def test_curves_have_accuracy_and_area_of_validation(compared):
    history = Comparison.load(compared[0]).history
    for model in ("image", "text", "joint"):
        for metric in ("val_loss", "val_accuracy", "val_roc_auc", "learning_rate"):
            assert find_rows(history, model=model, metric=metric, split="1").sum() >= 2, (model, metric)
    share = history["value"][find_rows(history, metric="val_accuracy")]
    assert ((share >= 0) & (share <= 1)).all()


def test_variants_differ_on_the_same_splits(tiny_folder, tmp_path):
    words = ("--splits", 1, "--image-encoder", "none", "--vary", "text_filters=8|12")
    assert compare(tiny_folder, tmp_path / "out", *words).exit_code == 0
    found = Comparison.load(tmp_path / "out").summary["models"]
    one, other = found["text_filters=8"], found["text_filters=12"]
    assert one["tfidf"]["log_loss"]["values"] == other["tfidf"]["log_loss"]["values"]
    assert one["text"]["log_loss"]["values"] != other["text"]["log_loss"]["values"]


def test_fewer_studies_are_what_the_models_of_a_size_learn_from(tiny_folder, tmp_path):
    words = ("--splits", 2, "--image-encoder", "none", "--sizes", "10,20", "--wanted", "0.9")
    result = compare(tiny_folder, tmp_path / "out", *words)
    assert result.exit_code == 0 and "ROC AUC by number of training studies" in result.stdout, result.output
    found = Comparison.load(tmp_path / "out")
    sizes = sorted(set(found.rows["size"].tolist()))
    assert sizes[:2] == [10, 20] and sizes[-1] > 30
    for model in ("text", "tfidf", "majority"):
        for split in ("1", "2"):
            counts = {}
            for part in ("train", "validation", "test"):
                rows = find_rows(found.rows, split=split, part=part, model=model, metric="brier", label="macro")
                order = np.argsort(found.rows["size"][rows])
                counts[part] = found.rows["n"][rows][order].tolist()
            assert len(counts["train"]) == 3 and counts["train"][0] < counts["train"][1] < counts["train"][2]
            assert counts["validation"][0] < counts["validation"][2] and len(set(counts["test"])) == 1
    points = found.summary["sizes"]["curves"][""]["tfidf"]["roc_auc"]["points"]
    assert [point["n"] for point in points] == [2, 2, 2] and found.summary["sizes"]["parts"][0]["train"] == 10
    tasks = list((tmp_path / "out" / TASKS).iterdir())
    assert len(tasks) == 6 and all((task / RESULT).is_file() for task in tasks)


def test_the_command_prints_claims_and_deviations(compared):
    out, result = compared
    for part in ("joint - text", "joint - image", "best-baseline", "note: The protocol quick"):
        assert part in result.stdout, part
    assert "Comparing 2 tasks" in result.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["schema"] == "kmm-comparison-1" and summary["minutes"] > 0 and summary["memory_gb"] > 0.1
    assert all(within["within"]["tests"]["text"]["roc_auc"] for within in summary["within"])


def test_kept_models_are_classifiers_and_no_state_is_left(compared, tiny_folder):
    out, _ = compared
    kept = sorted(path.name for path in (out / MODELS).iterdir() if not path.name.startswith("."))
    assert len(kept) == 2 and not list(out.glob(f"{TASKS}/stages-*"))
    classifier = kmm.load(out / MODELS / kept[0])
    found = Comparison.load(out)
    chosen = find_rows(found.predictions, split="1", part="test", model="joint")
    study = found.predictions["study"][chosen][0]
    studies = kmm.read(tiny_folder)
    (one,) = [known for known in studies if known.id == study]
    assert 0 <= classifier.predict(one).probabilities["abnormal"] <= 1


def test_the_same_command_computes_nothing_again(compared, tiny_folder):
    out, before = compared
    times = {path: path.stat().st_mtime_ns for path in out.glob(f"{TASKS}/*/{RESULT}")}
    again = compare(tiny_folder, out, "--splits", 2, "--keep-models")
    assert again.exit_code == 0 and again.stdout == before.stdout
    assert {path: path.stat().st_mtime_ns for path in out.glob(f"{TASKS}/*/{RESULT}")} == times


def test_other_settings_are_one_line(compared, tiny_folder):
    result = compare(tiny_folder, compared[0], "--splits", 2, "--set", "fusion_units=8")
    assert result.exit_code == 2 and "Changed: fusion_units" in result.stderr and "Traceback" not in result.output


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("engine", ["workers", "ray"])
def test_engines_give_the_same_rows(compared, tiny_folder, tmp_path, engine, monkeypatch):
    if engine == "ray":
        pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    words = ("--splits", 2, "--engine", engine, "--workers", 2)
    result = compare(tiny_folder, tmp_path / "out", *words)
    assert result.exit_code == 0, result.output
    here, there = Comparison.load(compared[0]), Comparison.load(tmp_path / "out")
    for name in ("split", "variant", "model", "part", "label", "metric", "n"):
        np.testing.assert_array_equal(here.rows[name], there.rows[name])
    np.testing.assert_allclose(here.rows["value"], there.rows["value"], atol=1e-4)  # threads sum in another order
    np.testing.assert_allclose(here.predictions["probability"], there.predictions["probability"], atol=1e-4)


def test_a_killed_comparison_repeats_at_most_one_task(compared, tiny_folder, tmp_path):
    out = tmp_path / "out"
    words = ["--splits", "2", "--cache", str(tmp_path / "shared"), *SETTINGS, "--epochs", "2"]
    command = [sys.executable, "-m", "kmm", "compare", str(tiny_folder), "--out", str(out), *words]
    root = Path(kmm.__file__).parent.parent
    process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not list(out.glob(f"{TASKS}/*/{RESULT}")) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)  # in the middle of the second task
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in out.glob(f"{TASKS}/*/{RESULT}")}
    assert len(done) == 1
    result = run("compare", tiny_folder, "--out", out, *words)
    assert result.exit_code == 0, result.output
    assert {path: path.stat().st_mtime_ns for path in done} == done
    here, there = Comparison.load(compared[0]), Comparison.load(out)
    np.testing.assert_allclose(here.rows["value"], there.rows["value"], atol=1e-4)


def test_folds_plain_splits_and_models_of_one_side(tiny_folder, tmp_path):
    result = compare(tiny_folder, tmp_path / "folds", "--folds", 2, "--image-encoder", "none", "--predictions", "csv")
    assert result.exit_code == 0, result.output
    found = Comparison.load(tmp_path / "folds")
    tested = found.predictions["study"][find_rows(found.predictions, part="test", model="text")]
    assert len(tested) == len(set(tested)) > 50
    assert set(found.rows["model"]) == {"text", "tfidf", "majority", "chance"} and found.summary["differences"] == []
    words = ("--splits", 1, "--plain-split", "--text-encoder", "none")
    plain = compare(tiny_folder, tmp_path / "plain", *words)
    assert plain.exit_code == 0 and "too optimistic" in plain.stdout
    found = Comparison.load(tmp_path / "plain")
    assert set(found.rows["model"]) == {"image", "image-linear", "majority", "chance"}
    assert found.summary["leaks"][0]["bodies"] >= 0 and found.summary["differences"] == []
