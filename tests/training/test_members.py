"""Members of the image side in whole runs: folds, means, and what is said of studies that a member has not seen."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest

from kmm.classifier import Classifier
from kmm.data.collection import read_collection
from kmm.data.groups import find_keys
from kmm.errors import InputError
from kmm.evaluate.decisions.calibration import fit_temperature
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.joined.joined_encoder import count_views, list_members, list_order
from kmm.models.linear_probe import IMAGE_LINEAR
from kmm.models.views.parts import image_encoder_of
from kmm.presets import make_settings
from kmm.progress import Progress
from kmm.settings import FitSettings
from kmm.training import members as room
from kmm.training import train as training
from kmm.training.fit import fit_classifier
from kmm.training.save_run import save_run
from kmm.training.stages.recipe import make_recipe
from tests.factories.notes import Notes
from tests.factories.studies import TINY

pytestmark = pytest.mark.large  # its fixtures train whole classifiers

COUNT = 3


def fit(folder, work, progress=None, **settings):
    chosen = make_settings("small", {**TINY, "members": COUNT, **settings})
    shown = progress or Progress()
    return fit_classifier(read_collection(folder), chosen, work=work, cache=work.parent / ".cache", progress=shown)


@pytest.fixture(scope="module")
def recorded(tiny_folder, tmp_path_factory):
    """A run of trained members with views: (classifier, run, folder, its members, notes)."""
    out, members, notes = tmp_path_factory.mktemp("members"), [], Notes()
    average = training.average_members

    def record(context, found):
        members.extend(found)
        return average(context, found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "average_members", record)
        classifier, run = fit(tiny_folder, out / "work", notes, tta=2, head="decoder")
    save_run(classifier, run, out / "saved")
    return classifier, run, out / "saved", members, notes.lines


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    keras.utils.set_random_seed(7)
    path = tmp_path_factory.mktemp("weights") / "film.weights.h5"
    build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=TINY["pixels"]).save_weights(path)
    return path


@pytest.fixture(scope="module")
def frozen(tiny_folder, weights, tmp_path_factory):
    work = tmp_path_factory.mktemp("frozen") / "work"
    return fit(tiny_folder, work, image_weights=str(weights), tune_image="none", head="linear")


def test_each_member_leaves_out_a_fold_of_train_and_validation(recorded):
    _, run, _, members, _ = recorded
    known = np.sort(np.concatenate([run.rows("train"), run.rows("validation")]))
    folds = [member.context.rows("validation") for member in members]
    np.testing.assert_array_equal(np.sort(np.concatenate(folds)), known)
    assert len(members) == COUNT and [member.context.settings.seed for member in members] == [0, 1, 2]
    for member, fold in zip(members, folds, strict=True):
        rest = member.context.rows("train")
        np.testing.assert_array_equal(np.sort(np.concatenate([rest, fold])), known)
        np.testing.assert_array_equal(member.context.rows("test"), run.rows("test"))
        keys = [{key for row in rows for key in find_keys(run.prepared.studies[row])} for rows in (rest, fold)]
        assert not keys[0] & keys[1]


def test_the_logit_of_a_film_is_the_mean_of_those_of_the_members(recorded):
    classifier, run, _, members, _ = recorded
    rows = run.rows("test")
    inputs = {"image": run.prepared.films[rows], "present": run.prepared.present[rows]}
    model = classifier.models["image"]
    encoder = image_encoder_of(model)
    assert (len(list_members(encoder)), list_order(encoder), count_views(encoder)) == (3, (0, 1, 2), 2)
    averaged = []
    for member in members:
        single = member.context.build("image", tta=2)
        single.set_weights(member.model.get_weights())
        averaged.append(single.predict_on_batch(inputs))
    np.testing.assert_allclose(model.predict_on_batch(inputs), np.mean(averaged, axis=0), atol=1e-5)
    np.testing.assert_allclose(run.predictions["test"].logits["image"], np.mean(averaged, axis=0), atol=1e-5)


def test_what_is_said_of_validation_comes_from_the_member_that_left_it_out(recorded):
    classifier, run, _, members, _ = recorded
    found, rows = run.predictions["validation"], run.rows("validation")
    has_film = found.present[:, 0] > 0
    for member in members:
        chosen = np.isin(rows, member.context.rows("validation")) & has_film
        assert not set(rows[chosen]) & set(member.context.rows("train"))
        single = member.context.build("image", tta=2)
        single.set_weights(member.model.get_weights())
        films = {"image": run.prepared.films[rows[chosen]], "present": run.prepared.present[rows[chosen]]}
        np.testing.assert_allclose(found.logits["image"][chosen], single.predict_on_batch(films), atol=1e-5)
    expected = fit_temperature(found.logits["image"][has_film], found.labels[has_film])
    np.testing.assert_allclose(classifier.temperatures["image"][1], expected, rtol=1e-6)


def test_the_joint_model_is_the_weighted_sum_on_validation_too(recorded):
    classifier, run, _, _, _ = recorded
    weight = classifier.provenance["start_weights"]
    offsets = []
    for part in ("validation", "test"):
        logits, present = run.predictions[part].logits, run.predictions[part].present
        total = sum(np.array(weight[side]) * logits[side] for side in ("image", "text"))
        offsets.append((logits["joint"] - total)[present.all(axis=1)])
    offsets = np.concatenate(offsets)
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[:1], offsets.shape), atol=1e-4)
    assert set(run.history) == {"text", *(f"member {number} image" for number in (1, 2, 3))}


def test_a_saved_classifier_of_members_answers_and_explains_as_the_run_did(recorded):
    _, run, folder, _, notes = recorded
    loaded = Classifier.load(folder)
    test = run.predictions["test"]
    again = loaded.predict(test.studies, parts=loaded.models)
    for part in loaded.models:
        np.testing.assert_allclose(again.logits[part], test.logits[part], atol=1e-4)
    assert loaded.linear is None and IMAGE_LINEAR not in test.logits
    studies = [study for study in test.studies if study.frontal and study.report][:2]
    for explanation in Explainer(loaded, ExplainSettings(steps=800)).explain(studies):
        assert explanation.attribution.completeness_gap < 0.01
    assert sum("3 times the training" in line for line in notes) == 1
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert "- views of a film: 2\n- members: 3\n" in card


def test_members_of_a_frozen_encoder_share_it_and_have_one_linear_head(frozen):
    classifier, run = frozen
    encoder = image_encoder_of(classifier.models["image"])
    assert list_members(encoder) == [encoder]
    assert classifier.models["image"].count_params() == run.models["image"].count_params()
    assert classifier.linear is not None and IMAGE_LINEAR in run.predictions["test"].logits
    test = run.predictions["test"]
    again = classifier.predict(test.studies, parts=classifier.models)
    for part in classifier.models:
        np.testing.assert_allclose(again.logits[part], test.logits[part], atol=1e-4)
    assert {f"image_member_{number}" for number in (1, 2, 3)} < set(classifier.provenance["head_choice"])


def test_a_stopped_run_of_members_goes_on_to_the_same_numbers(recorded, tiny_folder, tmp_path, monkeypatch):
    train = training.run_stage

    def stop(context, stage, model, features):
        if stage.name == "member 2 image":
            raise KeyboardInterrupt
        return train(context, stage, model, features)

    monkeypatch.setattr(training, "run_stage", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_folder, tmp_path / "work", tta=2, head="decoder")
    monkeypatch.undo()
    resumed, _ = fit(tiny_folder, tmp_path / "work", tta=2, head="decoder")
    assert json.dumps(resumed.metrics) == json.dumps(recorded[0].metrics)


def test_a_teacher_of_the_image_side_reads_what_its_member_is_trained_on(tiny_folder, tmp_path, monkeypatch):
    seen = []
    make = room.make_targets

    def record(prepared, settings, progress):
        targets, facts = make(prepared, settings, progress)
        rows = prepared.rows("validation")
        np.testing.assert_array_equal(targets["image"][rows], prepared.labels[rows])
        seen.append(rows)
        return targets, facts

    monkeypatch.setattr(room, "make_targets", record)
    fit(tiny_folder, tmp_path / "work", image_teacher=0.5, image_epochs=1, text_encoder=None)
    assert len(seen) == COUNT


def test_the_recipe_has_the_stages_of_each_member_and_leaves_the_sum_as_it_is():
    recipe = make_recipe(FitSettings(members=2, image_weights="w.h5", tune_image="top"))
    assert [stage.name for stage in recipe["image"]] == [
        *("member 1 image head", "member 1 image tuning"),
        *("member 2 image head", "member 2 image tuning"),
    ]
    assert recipe["joint"] == ()
    plain = make_recipe(FitSettings(image_weights="w.h5", tune_image="top"))["image"]
    assert [replace(stage, name="") for stage in recipe["image"][2:]] == [replace(stage, name="") for stage in plain]


@pytest.mark.parametrize("value", [0, 21])
def test_a_number_of_members_out_of_range_is_refused(value):
    with pytest.raises(InputError, match=r"^Setting `members` must be from 1 to 20. Received: "):
        FitSettings(members=value)
