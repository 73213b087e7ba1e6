"""Films that the model changes are those that the feed would have changed, on every backend."""

import dataclasses
import json

import cv2
import keras
import numpy as np
import pytest

from kmm.data.collection import read_collection
from kmm.errors import InputError
from kmm.image.augment import CHANGE_COUNT, EXPOSURE, MIXTURE, NORMAL, PLACE, SEED, STRENGTHS, Augmentation
from kmm.presets import make_settings
from kmm.settings import FitSettings
from kmm.training.cache.array_store import ArrayStore
from kmm.training.fit import fit_classifier
from kmm.training.stages import film_changes
from kmm.training.stages.checkpoint import Checkpoint
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.film_changes import FilmChanges, change_on_device, choose_device, describe_device, resample
from kmm.training.stages.fit_stage import fit_stage
from kmm.training.stages.mixing import mix_studies
from kmm.training.stages.recipe import FEATURES, Stage
from tests.factories.small_stages import Stop, StoppingDataset
from tests.factories.studies import TINY

STILL = STRENGTHS["none"]
SIDE = 64


def make_films(seed=0, count=6):
    """Films as they are stored: coarse structures, one of white noise, one absent, one with black rows."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0, 255, (count, 9, 9)).astype(np.float32)
    films = np.stack([cv2.resize(film, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for film in coarse])
    films[1] = rng.uniform(0, 255, (SIDE, SIDE))
    films = np.maximum(films.round(), 1)
    films[2], films[3, :20] = 0, 0
    return films.astype(np.uint8)[..., None]


def change(films, changes, training=True):
    return np.array(keras.ops.convert_to_numpy(FilmChanges()(films, changes, training=training)))


def change_both(augmentation, seed=0, films=None):
    """The films as the feed changes them, and as the model does, for the same draws."""
    films = make_films() if films is None else films
    in_feed = augmentation.apply(films.astype(np.float32), np.random.default_rng(seed))
    return in_feed, change(films, augmentation.list_changes(films.shape, np.random.default_rng(seed)))


# OpenCV 5 and Keras differ by 0.01 gray levels where white noise moves, in the last digits of a place. OpenCV 4 rounded
# places to 1/32 pixel.
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("changed", [{"rotation_degrees": 15.0}, {"shift": 0.1}, {"zoom": 0.15}], ids=str)
def test_films_move_as_in_the_feed(changed, seed):
    in_feed, by_model = change_both(dataclasses.replace(STILL, **changed), seed)
    np.testing.assert_allclose(by_model, in_feed, atol=0.05)
    assert np.abs(by_model - make_films()).max() > 5


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "changed",
    [{"contrast": 0.3}, {"brightness": 0.15}, {"gamma": 0.3}, {"contrast": 0.3, "brightness": 0.15, "gamma": 0.3}],
    ids=str,
)
def test_gray_levels_change_as_in_the_feed(changed, seed):
    in_feed, by_model = change_both(dataclasses.replace(STILL, **changed), seed)
    np.testing.assert_allclose(by_model, in_feed, atol=1e-3)
    assert np.abs(by_model - make_films()).max() > 1


def test_half_of_the_films_are_mirrored_as_in_the_feed():
    in_feed, by_model = change_both(dataclasses.replace(STILL, horizontal_flip=True))
    np.testing.assert_allclose(by_model, in_feed, atol=1e-3)
    films = make_films()
    mirrored = [np.abs(one - film[:, ::-1]).max() < 1e-3 for one, film in zip(by_model, films)]
    kept = [np.abs(one - film).max() < 1e-3 for one, film in zip(by_model, films)]
    assert np.logical_or(mirrored, kept).all() and 0 < sum(mirrored) < len(films)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("strength", STRENGTHS)
def test_each_strength_is_that_of_the_feed(strength, seed):
    quiet = dataclasses.replace(STRENGTHS[strength], noise=0.0)
    in_feed, by_model = change_both(quiet, seed)
    np.testing.assert_allclose(by_model, in_feed, atol=0.05)
    assert by_model.dtype == np.float32 and by_model.min() >= 0 and by_model.max() <= 255
    if strength == "none":
        np.testing.assert_array_equal(by_model, make_films())


def test_films_of_other_heights_and_widths_move_about_their_centre():
    film = make_films()[:, :40]
    in_feed, by_model = change_both(dataclasses.replace(STRENGTHS["strong"], noise=0.0), 1, film)
    np.testing.assert_allclose(by_model, in_feed, atol=0.05)


def test_a_quarter_turn_and_a_place_beyond_the_border():
    film = np.arange(1, 10, dtype=np.float32).reshape(1, 3, 3)
    turn, away, edge = (np.float32([one]) for one in ([0, 1, 0, -1, 0, 2], [1, 0, 50, 0, 1, 0], [1, 0, 0, 0, 1, -0.25]))
    moved = [keras.ops.convert_to_numpy(resample(film, one)) for one in (turn, away, edge)]
    np.testing.assert_array_equal(moved[0][0], film[0, ::-1].T)
    assert not moved[1].any()
    np.testing.assert_allclose(moved[2][0, 0], 0.75 * film[0, 0])  # a quarter of the black border
    np.testing.assert_allclose(moved[2][0, 1], 0.75 * film[0, 1] + 0.25 * film[0, 0])


def test_noise_has_the_distribution_of_the_table():
    films = np.full((4, 128, 128, 1), 128, np.uint8)
    noisy = dataclasses.replace(STILL, noise=0.02)
    changes = noisy.list_changes(films.shape, np.random.default_rng(3))
    deviations = changes[:, EXPOSURE][:, 2]
    assert deviations.min() > 0 and deviations.max() <= 255 * 0.02
    grains = (change(films, changes)[..., 0] - 128) / deviations[:, None, None]
    places = np.abs(grains.reshape(-1, 1) - NORMAL[None]).argmin(axis=1)
    np.testing.assert_allclose(NORMAL[places], grains.ravel(), atol=1e-3)
    counts = np.bincount(places, minlength=256)  # 65,536 draws: mean 256, and chi-squared with 255 degrees of freedom
    assert abs(((counts - 256) ** 2 / 256).sum() - 255) < 5 * np.sqrt(2 * 255)
    assert abs(grains.mean()) < 5 / 256 and abs(grains.std() - 1) < 5 / 256 / np.sqrt(2)
    for one, other in (
        (grains[:, 1:], grains[:, :-1]),
        (grains[:, :, 1:], grains[:, :, :-1]),
        (grains[1:], grains[:-1]),
    ):
        assert abs((one * other).mean()) < 5 / np.sqrt(one.size)  # neighbours, and films, are independent


def test_noise_depends_on_the_seed_of_the_batch_alone():
    films, noisy = make_films(), dataclasses.replace(STILL, noise=0.02)
    changes = noisy.list_changes(films.shape, np.random.default_rng(3))
    other = changes.copy()
    other[:, SEED] += 1
    first, again, different = (change(films, one) for one in (changes, changes, other))
    np.testing.assert_array_equal(first, again)
    assert (first[:2] != different[:2]).mean() > 0.9
    assert len(np.unique(changes[:, SEED], axis=0)) == 1


@pytest.mark.parametrize("strength", STRENGTHS)
def test_black_stays_black(strength):
    films = make_films()
    changes = STRENGTHS[strength].list_changes(films.shape, np.random.default_rng(5))
    assert not change(films, changes)[2].any()
    changes[:, PLACE] = [1, 0, 0, 0, 1, 0]
    still = change(films, changes)
    assert not still[3, :20].any() and still[3, 20:].min() >= 0 and still[3, 20:].mean() > 10


def test_films_pass_unchanged_where_nothing_is_trained():
    films = make_films()
    passed = change(films, np.zeros((len(films), CHANGE_COUNT), np.float32), training=False)
    assert passed.dtype == np.float32
    np.testing.assert_array_equal(passed, films)


def test_films_are_mixed_as_studies_are():
    films = make_films()
    changes = STRENGTHS["strong"].list_changes(films.shape, np.random.default_rng(1))
    labels, present = np.float32([[1], [0], [1], [0], [1], [0]]), np.float32([[1, 1]] * 2 + [[0, 1]] + [[1, 1]] * 3)
    given = {"image": films, "film_changes": changes, "present": present}
    mixed, soft = mix_studies(given, labels, 5, 0.4, np.random.default_rng(2))
    changed = {"image": change(films, changes), "present": present}
    expected, expected_soft = mix_studies(changed, labels, 5, 0.4, np.random.default_rng(2))
    np.testing.assert_array_equal(mixed["image"], films)
    np.testing.assert_allclose(change(mixed["image"], mixed["film_changes"]), expected["image"], atol=1e-3)
    np.testing.assert_array_equal(soft, expected_soft)
    np.testing.assert_array_equal(changes[:, MIXTURE], [[row, 1] for row in range(6)])  # the given ones do not change
    assert (mixed["film_changes"][[0, 1, 3, 4], MIXTURE.start + 1] < 1).all()


def make_model():
    keras.utils.set_random_seed(0)
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = keras.layers.Conv2D(4, 5, strides=4, activation="relu")(x)
    x = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model({"image": image}, keras.layers.Dense(1, dtype="float32")(x))


def make_data(model, on_device=True, kind=StudyDataset, augmentation=STRENGTHS["strong"]):
    """The model, training and validation on 24 films, of which the bright ones are positive."""
    films = np.concatenate([make_films(seed) for seed in range(4)])
    labels = (films.mean(axis=(1, 2)) > 128).astype(np.float32)
    columns = {"image": films if on_device else films.astype(np.float32)}
    model, columns = change_on_device(model, columns) if on_device else (model, columns)
    train = kind(columns, labels, rows=np.arange(16), batch_size=6, seed=4, augmentation=augmentation)
    return model, train, StudyDataset(columns, labels, rows=np.arange(16, 24), batch_size=6)


def test_a_model_reads_what_the_feed_would_give_it():
    """Same seed, same epoch: the batches differ in the place where films are changed alone."""
    quiet = dataclasses.replace(STRENGTHS["strong"], noise=0.0)
    _, train, validation = make_data(make_model(), augmentation=quiet)
    _, in_feed, _ = make_data(make_model(), on_device=False, augmentation=quiet)
    for epoch in (0, 3):
        for data in (train, in_feed):
            data.start_epoch(epoch)
        for index in range(len(train)):
            (inputs, labels, weights), (changed, *others) = train[index], in_feed[index]
            assert inputs["image"].dtype == np.uint8 and inputs["film_changes"].shape == (6, CHANGE_COUNT)
            films = change(inputs["image"], inputs["film_changes"])
            np.testing.assert_allclose(films, changed["image"], atol=0.05)
            np.testing.assert_array_equal(labels, others[0])
            np.testing.assert_array_equal(weights, others[1])
    assert not validation[0][0]["film_changes"].any()


@pytest.mark.large
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_model_with_changes_in_front_answers_as_before(precision):
    keras.utils.clear_session()  # names are as in a new process
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        model = make_model()
        changed, train, validation = make_data(model)
        assert [id(one) for one in changed.variables] == [id(one) for one in model.variables]
        (inputs, *_), (trained, *_) = validation[0], train[0]
        films = inputs["image"].astype(np.float32)
        np.testing.assert_allclose(
            changed.predict_on_batch(inputs), model.predict_on_batch({"image": films}), rtol=1e-6
        )
        (layer,) = (layer for layer in changed.layers if isinstance(layer, FilmChanges))
        seen = keras.ops.convert_to_numpy(keras.Model(changed.input, layer.output)(trained, training=True))
        np.testing.assert_array_equal(seen, change(trained["image"], trained["film_changes"]))
    finally:
        keras.config.set_dtype_policy(policy)


def run_stage(folder, kind=StudyDataset, stop_at=None, epochs=4, on_device=True):
    model = make_model()
    changed, train, validation = make_data(model, kind=kind, on_device=on_device)
    train.stop_at = stop_at
    stage = Stage("toy", epochs=epochs, learning_rate=0.01, patience=9)
    return model, fit_stage(changed, train, validation, stage=stage, folder=folder)


@pytest.mark.large
def test_a_resumed_stage_ends_as_one_that_ran_through(tmp_path):
    model, history = run_stage(tmp_path / "whole")
    assert len(history["loss"]) == 4 and history["val_loss"][-1] < history["val_loss"][0]
    with pytest.raises(Stop):
        run_stage(tmp_path / "cut", kind=StoppingDataset, stop_at=2)
    again, resumed = run_stage(tmp_path / "cut")
    assert resumed["loss"][:2] == history["loss"][:2]
    np.testing.assert_allclose(resumed["loss"], history["loss"], rtol=1e-6)
    for one, other in zip(again.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


@pytest.mark.large
def test_a_stage_that_began_in_the_feed_goes_on_with_the_model(tmp_path):
    """A machine with an accelerator may take over: the state of a stage has nothing of the augmentation."""
    with pytest.raises(Stop):
        run_stage(tmp_path, kind=StoppingDataset, stop_at=2, on_device=False)
    _, history = run_stage(tmp_path)
    assert len(history["loss"]) == 4


def test_stored_films_are_read_as_they_are_stored(tmp_path):
    store = ArrayStore(tmp_path / "films")
    for number, film in enumerate(make_films()):
        store.add(str(number), film)
    store.flush()
    column = store.column(["4", "", "0"], np.float32)
    model, columns = change_on_device(make_model(), {"image": column})
    assert columns["image"].dtype == np.uint8 and column.dtype == np.float32
    np.testing.assert_array_equal(columns["image"][[0, 1, 2]], column[[0, 1, 2]])
    assert {tensor.name: tensor.dtype for tensor in model.inputs} == {"image": "uint8", "film_changes": "float32"}


STAGE = Stage("image", 3, 1e-3, side="image", augmentation=Augmentation())


def test_auto_is_the_accelerator_where_keras_has_one(monkeypatch):
    for there, device in ((False, "cpu"), (True, "accelerator")):
        monkeypatch.setattr(film_changes, "has_accelerator", lambda there=there: there)
        assert choose_device(STAGE) == device
        for wanted in ("cpu", "accelerator"):
            assert choose_device(dataclasses.replace(STAGE, augmentation_device=wanted)) == wanted
        for change in ({"augmentation": None}, {"image": FEATURES}, {"side": "text"}):
            assert choose_device(dataclasses.replace(STAGE, **change)) is None
    idle = dataclasses.replace(STAGE, epochs=0)
    assert describe_device([idle]) == describe_device([]) == {}
    assert describe_device([dataclasses.replace(STAGE, image=FEATURES), STAGE]) == {"augmentation_device": device}


def test_other_devices_are_refused():
    with pytest.raises(InputError, match="Setting `augmentation_device` must be one of auto, cpu, accelerator"):
        FitSettings(augmentation_device="gpu")


@pytest.mark.large
def test_a_fit_on_the_accelerator_is_recorded_and_resumed(tiny_folder, tmp_path, monkeypatch):
    def fit(name, **changed):
        settings = {**TINY, "text_encoder": None, "mixup": 0.3, "augmentation_device": "accelerator", **changed}
        collection = read_collection(tiny_folder)
        folders = {"work": tmp_path / name, "cache": tmp_path / "cache"}
        return fit_classifier(collection, make_settings("small", settings), **folders)

    read = []
    monkeypatch.setattr(FilmChanges, "call", _record(FilmChanges.call, read))
    whole, run = fit("whole")
    assert read and whole.provenance["augmentation_device"] == "accelerator"
    films = {tensor.name for tensor in run.models["image"].inputs}
    assert films == {"image", "present"}  # the changes are no part of the classifier
    save = Checkpoint.on_epoch_end

    def stop(self, epoch, logs=None):
        save(self, epoch, logs)
        if epoch == 0:
            raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(Checkpoint, "on_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            fit("cut")
    resumed, _ = fit("cut")
    assert json.dumps(resumed.metrics) == json.dumps(whole.metrics)
    read.clear()
    in_feed, _ = fit("feed", augmentation_device="auto")
    assert not read and in_feed.provenance["augmentation_device"] == "cpu"


def _record(call, read):
    def recorded(self, films, changes, training=None):
        read.append(training)
        return call(self, films, changes, training=training)

    return recorded
