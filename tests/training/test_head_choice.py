"""The choice between a linear start and what training makes of it: the rule, and whole runs that obey it."""

import json

import numpy as np
import pytest

import kmm.training.train
from kmm.data.collection import read_collection
from kmm.evaluate.linear_probe import fit_probe
from kmm.models.views.parts import fusion_of
from kmm.presets import make_settings
from kmm.progress import Progress
from kmm.training.fit import fit_classifier
from kmm.training.head_choice import compare_losses, describe_choice, is_better, measure_losses
from kmm.training.linear_start import choose_present
from kmm.training.stages.checkpoint import Checkpoint
from tests.factories.studies import TINY

FAST = {**TINY, "text_epochs": 1, "image_epochs": 2, "joint_epochs": 2, "tune_epochs": 1, "bootstrap_repeats": 2}
FROZEN = {"image_weights": "random", "tune_image": "none", "text_encoder": None}


class Notes(Progress):
    """Keeps the notes."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


def fit(folder, work, progress=None, cache=None, **settings):
    chosen = make_settings("small", {**FAST, **settings})
    return fit_classifier(read_collection(folder), chosen, work=work, cache=cache or work / "cache", progress=progress)


def test_losses_are_those_of_studies_and_pairs():
    logits = np.array([[0.0, 2.0], [1.0, -1.0], [3.0, 3.0]])
    labels = np.array([[1.0, np.nan], [0.0, 1.0], [np.nan, np.nan]])
    p = 1 / (1 + np.exp(-logits))
    expected = [-np.log(p[0, 0]), (-np.log(1 - p[1, 0]) - np.log(p[1, 1])) / 2]
    np.testing.assert_allclose(measure_losses(logits, labels), expected)
    weights = np.array([[1.0, 3.0], [1.0, 1.0]])
    np.testing.assert_allclose(measure_losses(logits, labels, weights)[0], 3 * expected[0])
    first, second = np.array([0.5, 0.7, 0.9, 1.0]), np.array([0.4, 0.7, 0.6, 0.9])
    difference, error = compare_losses(first, second)
    assert difference == pytest.approx(0.125)
    assert error == pytest.approx(np.std([0.1, 0.0, 0.3, 0.1], ddof=1) / 2)
    assert is_better(difference, error) and not is_better(error, error) and not is_better(-1.0, 0.1)
    assert compare_losses(first[:1], second[:1])[1] is None and not is_better(0.1, None)
    assert compare_losses(first[:0], second[:0]) == (None, None)


@pytest.mark.large
@pytest.mark.parametrize("head", [pytest.param("linear", marks=pytest.mark.large), "mlp"])
def test_a_frozen_encoder_starts_as_the_probe_of_its_features_and_stays_so_where_training_gains_nothing(
    tiny_folder, tmp_path, head
):
    notes = Notes()
    slow = {"image_epochs": 0, "tune_image": "all", "tune_learning_rate": 1e-7}
    classifier, run = fit(tiny_folder, tmp_path, notes, head=head, **{**FROZEN, **slow})
    choice = classifier.provenance["head_choice"]["image"]
    assert choice["kept"] == "linear" and set(choice["losses"]) == {"linear", "image tuning"}
    rows = {part: run.prepared.rows(part) for part in ("train", "validation")}
    rows = {part: found[run.prepared.present[found, 0] > 0] for part, found in rows.items()}
    features = run.features.compute(run.models["image"], ("image",))["image_vector"]
    probe = fit_probe(features, run.prepared.labels, **rows)
    logits = run.answers["image"](rows["validation"])
    np.testing.assert_allclose(logits, probe.logits(features[rows["validation"]]), atol=1e-4)
    loss = measure_losses(logits, run.prepared.labels[rows["validation"]]).mean()
    assert choice["losses"]["linear"]["loss"] == pytest.approx(loss, abs=1e-5)
    assert choice["strengths"] == list(probe.strengths) and choice["studies"] == len(rows["validation"])
    (line,) = [line for line in notes.lines if line.startswith("Head of ")]
    assert line == describe_choice("image", choice) and "linear is kept" in line


def worsen(monkeypatch, stages):
    """Lets stages end in other weights than they began with: they are much better or worse."""
    run_stage = kmm.training.train.run_stage

    def change(context, stage, model, features):
        history = run_stage(context, stage, model, features)
        if stage.name in stages:
            logits = fusion_of(model).get_layer("logits")
            kernel, bias = logits.get_weights()
            logits.set_weights([stages[stage.name] * kernel, bias])
        return history

    monkeypatch.setattr(kmm.training.train, "run_stage", change)


@pytest.mark.large
def test_a_stage_that_ends_worse_is_undone(tiny_folder, tmp_path, monkeypatch):
    _, first = fit(tiny_folder, tmp_path / "plain", **FROZEN, head="linear", image_epochs=1, learning_rate=1e-7)
    worsen(monkeypatch, {"image head": -5.0})
    again, run = fit(tiny_folder, tmp_path / "worse", **FROZEN, head="linear", image_epochs=1, learning_rate=1e-7)
    choice = again.provenance["head_choice"]["image"]
    assert choice["kept"] == "linear" and choice["losses"]["image head"]["difference"] < 0
    for one, other in zip(run.models["image"].get_weights(), first.models["image"].get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.large
def test_a_stage_that_is_better_beyond_chance_is_kept(tiny_folder, tmp_path, monkeypatch):
    """The linear start is spoilt, so that what follows is better."""
    import kmm.training.head_choice as module

    write_probe = module.write_probe

    def spoil(context, side, model, features, class_weights=None):
        found = write_probe(context, side, model, features, class_weights)
        logits = fusion_of(model).get_layer("logits")
        kernel, bias = logits.get_weights()
        logits.set_weights([-kernel, bias])
        return found

    monkeypatch.setattr(module, "write_probe", spoil)
    classifier, _ = fit(tiny_folder, tmp_path, **FROZEN, head="linear", image_epochs=30, learning_rate=0.05)
    choice = classifier.provenance["head_choice"]["image"]
    found = choice["losses"]["image head"]
    assert choice["kept"] == "image head" and found["difference"] > found["standard_error"] > 0
    assert found["loss"] == pytest.approx(choice["losses"]["linear"]["loss"] - found["difference"])


@pytest.mark.large
def test_sides_from_their_start_get_a_linear_rival_and_the_joint_model_starts_as_their_sum(tiny_folder, tmp_path):
    classifier, run = fit(tiny_folder, tmp_path)
    choices = classifier.provenance["head_choice"]
    assert set(choices) == {"text", "image", "joint"}
    assert set(choices["text"]["losses"]) == {"text", "linear"} and set(choices["image"]["losses"]) == {
        "image",
        "linear",
    }
    assert (
        set(choices["joint"]["losses"]) == {"sum", "joint head", "joint tuning"} and not choices["joint"]["strengths"]
    )
    rows = run.rows("validation")
    weights = {side: np.array(value) for side, value in classifier.provenance["start_weights"].items()}
    for side in ("text", "image"):
        found = choices[side]
        trained, linear = found["losses"][side], found["losses"]["linear"]
        assert found["kept"] == (side if trained["difference"] > trained["standard_error"] else "linear")
        present = rows[run.prepared.present[rows, int(side == "text")] > 0]
        loss = measure_losses(run.answers[side](present), run.prepared.labels[present]).mean()
        assert loss == pytest.approx(found["losses"][found["kept"]]["loss"], abs=1e-4)
        assert trained["difference"] == pytest.approx(linear["loss"] - trained["loss"])
    if choices["joint"]["kept"] == "sum":
        total = sum(weights[side] * run.answers[side](rows) for side in weights)
        shift = run.answers["joint"](rows) - total
        np.testing.assert_allclose(shift, np.broadcast_to(shift[:1], shift.shape), atol=1e-3)  # the bias


@pytest.mark.large
def test_a_decoder_has_no_choice(tiny_folder, tmp_path):
    classifier, _ = fit(tiny_folder, tmp_path, image_encoder=None, head="decoder")
    assert "head_choice" not in classifier.provenance


@pytest.mark.large
def test_a_run_that_was_stopped_chooses_the_same(tiny_folder, tmp_path, monkeypatch):
    settings = {**FROZEN, "tune_image": "top"}
    whole, _ = fit(tiny_folder, tmp_path / "whole", **settings)
    on_epoch_end = Checkpoint.on_epoch_end

    def stop(self, number, logs=None):
        on_epoch_end(self, number, logs)
        if (self.stage.name, number) == ("image head", 0):
            raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(Checkpoint, "on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            fit(tiny_folder, tmp_path / "parts", cache=tmp_path / "cache", **settings)
    resumed, _ = fit(tiny_folder, tmp_path / "parts", cache=tmp_path / "cache", **settings)
    assert json.dumps(resumed.metrics) == json.dumps(whole.metrics)
    assert resumed.provenance["head_choice"] == whole.provenance["head_choice"]


def test_rows_of_a_side_are_those_that_have_it(tiny_run):
    _, run, _ = tiny_run

    class Context:
        rows, prepared = staticmethod(run.rows), run.prepared

    for part in ("train", "validation", "test"):
        rows = run.rows(part)
        assert choose_present(Context, "joint", part).tolist() == rows.tolist()
        assert choose_present(Context, "text", part).tolist() == rows[run.prepared.present[rows, 1] > 0].tolist()
