"""One stage of training on a model whose right answers are known."""

import json
from contextlib import contextmanager

import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.models.loss import LOSSES, MaskedCrossentropy
from kmm.progress import Progress
from kmm.training.checkpoint import StagePlan
from kmm.training.dataset import StudyDataset
from kmm.training.fit_stage import balance_classes, choose_steps, compile_stage, fit_stage


def test_balanced_weights_give_both_classes_half():
    labels = np.array([[1.0], [0.0], [0.0], [0.0], [np.nan]])
    weights = balance_classes(labels)[0]
    assert weights[0] * 3 == pytest.approx(weights[1] * 1) == pytest.approx(2.0)


def dataset(seed=None):
    generator = np.random.default_rng(1)
    x = generator.normal(size=(64, 4)).astype("float32")
    labels = (x[:, :1] > 0).astype("float32")
    return StudyDataset({"x": x}, labels, rows=np.arange(64), batch_size=8, seed=seed)


def small_model():
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    hidden = keras.layers.Dropout(0.3)(keras.layers.Dense(8, activation="relu")(x))
    return keras.Model({"x": x}, keras.layers.Dense(1)(hidden))


def train(folder, epochs, model=None, **plan):
    model = model or small_model()
    plan = {"name": "toy", "epochs": epochs, "learning_rate": 0.01, "patience": 50} | plan
    history = fit_stage(model, dataset(3), dataset(), plan=StagePlan(**plan), folder=folder)
    return model, history


class Stop(Exception):
    """Ends a stage as a kill between two epochs would."""


class StoppingDataset(StudyDataset):
    stop_at = None

    def start_epoch(self, epoch):
        if epoch == self.stop_at:
            raise Stop
        super().start_epoch(epoch)


def stop_before(epoch, folder, **plan):
    """Trains as `train` until an epoch begins."""
    data = dataset(3)
    stopping = StoppingDataset(data.columns, data.labels, rows=data.rows, batch_size=8, seed=3)
    stopping.stop_at = epoch
    plan = {"name": "toy", "learning_rate": 0.01, "patience": 50} | plan
    with pytest.raises(Stop):
        fit_stage(small_model(), stopping, dataset(), plan=StagePlan(**plan), folder=folder)


def test_a_stage_learns_and_ends_with_its_best_weights(tmp_path):
    model, history = train(tmp_path, 12)
    assert min(history["val_loss"]) < 0.6 * history["val_loss"][0]
    data = dataset()
    loss = MaskedCrossentropy()
    logits = [(labels, model.predict_on_batch(inputs)) for inputs, labels in (data[i] for i in range(len(data)))]
    reached = np.mean([float(keras.ops.mean(loss(labels, values))) for labels, values in logits])
    assert reached == pytest.approx(min(history["val_loss"]), abs=1e-5)


def penalised_model():
    """A model that fits the labels ever better while the penalty of its weights grows faster than the loss falls."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    layer = keras.layers.Dense(1, kernel_initializer="zeros", kernel_regularizer=keras.regularizers.L2(0.5))
    return keras.Model({"x": x}, layer(x))


def test_epochs_are_chosen_by_the_loss_without_the_penalties_of_weights(tmp_path):
    model, history = train(tmp_path, 6, model=penalised_model(), learning_rate=0.05)
    data, loss = dataset(), MaskedCrossentropy()
    reached = float(loss(data.labels, model.predict_on_batch({"x": data.columns["x"]})))
    penalty = float(keras.ops.convert_to_numpy(model.losses[0]))
    assert penalty > 0.01 and min(history["val_loss"]) == pytest.approx(reached, abs=1e-6)
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["best"] == pytest.approx(reached, abs=1e-6)
    assert state["best_epoch"] == np.argmin(history["val_loss"]) + 1
    assert model.evaluate(data.as_input(), verbose=0, return_dict=True)["loss"] == pytest.approx(reached + penalty)


@pytest.mark.parametrize(("loss", "optimizer"), [(name, "adam") for name in LOSSES] + [("bce", "adamw")])
def test_every_loss_and_optimizer_learns_and_goes_on_where_it_stopped(tmp_path, loss, optimizer):
    plan = {"loss": loss, "optimizer": optimizer, "weight_decay": 0.01, "learning_rate": 0.02}
    _, whole = train(tmp_path / "whole", 6, **plan)
    assert min(whole["val_loss"]) < 0.8 * whole["val_loss"][0]
    stop_before(3, tmp_path / "cut", epochs=6, **plan)
    _, resumed = train(tmp_path / "cut", 6, **plan)
    assert resumed["val_loss"] == pytest.approx(whole["val_loss"], abs=1e-6)


def test_a_trained_model_opens_in_keras_with_its_loss(tmp_path):
    model, _ = train(tmp_path / "state", 1)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    data = dataset()
    assert loaded.evaluate(data.as_input(), verbose=0) == model.evaluate(data.as_input(), verbose=0)


class Counting(Progress):
    """Keeps what a stage tells of its steps."""

    @contextmanager
    def step(self, title, total, done=0):
        self.total, self.counts = total, []
        yield lambda count=1, text="": self.counts.append(count)


on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow takes several steps at once"
)


@on_tensorflow
@pytest.mark.parametrize("steps", (1, 3, 8))
def test_steps_taken_at_once_change_nothing_and_are_all_told(tmp_path, monkeypatch, steps):
    one, history = train(tmp_path / "alone", 3)  # 8 batches an epoch
    monkeypatch.setattr("kmm.training.fit_stage.choose_steps", lambda model, batch_size: steps)
    model, progress = small_model(), Counting()
    plan = StagePlan(name="toy", epochs=3, learning_rate=0.01, patience=50)
    same = fit_stage(model, dataset(3), dataset(), plan=plan, folder=tmp_path / "few", progress=progress)
    np.testing.assert_allclose(same["loss"], history["loss"], rtol=1e-6)
    for value, other in zip(model.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-7)
    assert sum(progress.counts) == progress.total == 24


@on_tensorflow
def test_only_small_steps_are_taken_at_once():
    film = keras.Input((64, 64, 1))
    assert choose_steps(keras.Model(film, keras.layers.Flatten()(film)), 32) == 8
    assert choose_steps(keras.Model(film, keras.layers.Flatten()(film)), 128) == 1
    words = keras.Input((140,))
    assert choose_steps(keras.Model(words, keras.layers.Embedding(20_000, 300)(words)), 32) == 1


@pytest.fixture(params=("float32", "mixed_float16"))
def precision(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


def test_a_stage_that_was_stopped_goes_on_to_the_same_result(tmp_path, precision):
    whole, history = train(tmp_path / "whole", 6)
    stop_before(3, tmp_path / "parts", epochs=6)
    assert json.loads((tmp_path / "parts" / "state.json").read_text())["epoch"] == 3
    resumed, resumed_history = train(tmp_path / "parts", 6)
    np.testing.assert_allclose(resumed_history["val_loss"], history["val_loss"], rtol=1e-5)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_gradients_are_clipped_as_the_plan_says():
    plan = StagePlan(name="toy", epochs=1, learning_rate=0.01, clip_norm=0.5)
    optimizer = compile_stage(small_model(), plan, batch_size=8).optimizer
    weights = [keras.Variable(np.zeros(2, "float32")), keras.Variable(np.zeros(1, "float32"))]
    optimizer.build(weights)
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in (np.float32([3, 0]), np.float32([4]))], weights)
    moments = [value for variable in optimizer.variables if "momentum" in variable.path for value in variable.numpy()]
    np.testing.assert_allclose(moments, np.array([3, 0, 4]) / 5 * 0.5 * 0.1, rtol=1e-5)  # length 5 becomes 0.5
    free = StagePlan(name="toy", epochs=1, learning_rate=0.01, clip_norm=0)
    assert compile_stage(small_model(), free, batch_size=8).optimizer.global_clipnorm is None


def test_a_finished_stage_is_not_trained_again(tmp_path):
    first, history = train(tmp_path, 3)
    again, same = train(tmp_path, 3)
    assert same == history
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_patience_ends_a_stage_early(tmp_path):
    _, history = train(tmp_path, 200, patience=3, learning_rate=0.5)
    assert len(history["val_loss"]) < 200


def test_cosine_lowers_the_rate_from_epoch_to_epoch(tmp_path):
    _, history = train(tmp_path, 4, schedule="cosine")
    rates = history["learning_rate"]
    assert rates[0] == pytest.approx(0.01) and rates == sorted(rates, reverse=True) and len(set(rates)) == 4


def test_tensorboard_logs_are_written_where_asked(tmp_path):
    pytest.importorskip("tensorboard")
    train(tmp_path / "state", 1, tensorboard=str(tmp_path / "logs"))
    assert list((tmp_path / "logs").rglob("events.out.tfevents.*"))


def test_a_stage_without_a_finite_loss_is_said(tmp_path):
    data = dataset(3)
    data.labels = np.full_like(data.labels, np.inf)
    plan = StagePlan(name="toy", epochs=2, learning_rate=0.01)
    with pytest.raises(InputError, match="toy: no epoch had a finite validation loss"):
        fit_stage(small_model(), data, data, plan=plan, folder=tmp_path)


def test_a_stage_never_ends_worse_than_it_began(tmp_path):
    model, _ = train(tmp_path / "good", 12)
    before = model.get_weights()
    train(tmp_path / "bad", 3, model=model, learning_rate=5.0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_stage_that_diverges_at_once_ends_with_the_weights_it_began_with(tmp_path):
    data = dataset(3)
    data.labels = np.full_like(data.labels, np.inf)  # the first epoch's loss is no number; that of the start is one
    model = small_model()
    before = model.get_weights()
    for _ in range(2):  # the second time it is done
        history = fit_stage(
            model, data, dataset(), plan=StagePlan("toy", epochs=3, learning_rate=0.01), folder=tmp_path
        )
        assert history == {}
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"epoch": 2}'])
def test_a_damaged_state_is_said_with_what_to_do(tmp_path, damage):
    train(tmp_path, 2)
    (tmp_path / "state.json").write_text(damage)
    with pytest.raises(
        InputError, match=rf"{tmp_path}/state\.json is missing or damaged\. Remove the folder {tmp_path} and resume"
    ):
        train(tmp_path, 2)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "other"])
def test_damaged_weights_are_said_with_what_to_do(tmp_path, damage):
    train(tmp_path, 2)
    (path,) = tmp_path.glob("*.npz")  # the best weights alone are left
    data = path.read_bytes()
    path.unlink()
    if damage == "other":
        np.savez(path, np.zeros(3))
    elif damage != "missing":
        middle = len(data) // 2
        flipped = data[:middle] + bytes(255 - value for value in data[middle : middle + 90]) + data[middle + 90 :]
        path.write_bytes({"empty": b"", "cut": data[:middle], "flipped": flipped}[damage])
    with pytest.raises(
        InputError, match=rf"epoch-\d\.npz is missing or damaged\. Remove the folder {tmp_path} and resume"
    ):
        train(tmp_path, 2)
