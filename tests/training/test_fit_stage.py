"""One stage of training on a model whose right answers are known."""

from contextlib import contextmanager
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from sklearn.metrics import f1_score

from kmm.errors import InputError
from kmm.models.loss import LOSSES, LossEntry, MaskedCrossentropy
from kmm.progress import Progress
from kmm.training.cache.compilation import keep_compilations
from kmm.training.stages.checkpoint import Checkpoint
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.fit_stage import balance_classes, choose_steps, compile_stage, fit_stage
from kmm.training.stages.optimizers import OPTIMIZERS
from kmm.training.stages.recipe import Stage
from kmm.training.train import log_to_tensorboard
from tests.factories.small_stages import Stop, dataset, read_state, small_model, stop_before, train


def test_balanced_weights_give_both_classes_half():
    labels = np.array([[1.0], [0.0], [0.0], [0.0], [np.nan]])
    weights = balance_classes(labels)[0]
    assert weights[0] * 3 == pytest.approx(weights[1] * 1) == pytest.approx(2.0)


@pytest.mark.large
def test_a_stage_learns_and_ends_with_its_best_weights(tmp_path):
    model, history = train(tmp_path, 12)
    assert min(history["val_loss"]) < 0.6 * history["val_loss"][0]
    data = dataset()
    loss = MaskedCrossentropy()
    logits = [(labels, model.predict_on_batch(inputs)) for inputs, labels, _ in (data[i] for i in range(len(data)))]
    reached = np.mean([float(keras.ops.mean(loss(labels, values))) for labels, values in logits])
    assert reached == pytest.approx(min(history["val_loss"]), abs=1e-5)


def penalised_model():
    """A model that fits the labels ever better while the penalty of its weights grows faster than the loss falls."""
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    layer = keras.layers.Dense(1, kernel_initializer="zeros", kernel_regularizer=keras.regularizers.L2(0.5))
    return keras.Model({"x": x}, layer(x))


@pytest.mark.large
def test_epochs_are_chosen_by_the_loss_without_the_penalties_of_weights(tmp_path):
    model, history = train(tmp_path, 6, model=penalised_model(), learning_rate=0.05)
    data, loss = dataset(), MaskedCrossentropy()
    reached = float(loss(data.labels, model.predict_on_batch({"x": data.columns["x"]})))
    penalty = float(keras.ops.convert_to_numpy(model.losses[0]))
    assert penalty > 0.01 and min(history["val_loss"]) == pytest.approx(reached, abs=1e-6)
    state = read_state(tmp_path)
    assert state["best"] == pytest.approx(reached, abs=1e-6)
    assert state["best_epoch"] == np.argmin(history["val_loss"]) + 1
    assert model.evaluate(data.as_input(), verbose=0, return_dict=True)["loss"] == pytest.approx(reached + penalty)


@pytest.mark.large
def test_epochs_can_be_chosen_by_f1_and_auc(tmp_path):
    model, history = train(tmp_path, 8, monitor="f1-auc", learning_rate=0.3)
    scores = (np.array(history["val_f1"]) + history["val_roc_auc"]) / 2
    state = read_state(tmp_path)
    assert state["best_epoch"] == np.argmax(scores > scores.max() - 1e-4) + 1
    assert state["best"] == pytest.approx(1 - scores.max(), abs=2e-4)
    data = dataset()
    logits = model.predict_on_batch({"x": data.columns["x"]})
    assert f1_score(data.labels, logits > 0) == pytest.approx(history["val_f1"][state["best_epoch"] - 1], abs=1e-6)


OTHERS = [pytest.param(name, "adam", marks=pytest.mark.large) for name in LOSSES if name != "bce"]


@pytest.mark.large
@pytest.mark.parametrize(("loss", "optimizer"), [("bce", "adam"), ("bce", "adamw"), *OTHERS])
def test_every_loss_and_optimizer_learns_and_goes_on_where_it_stopped(tmp_path, loss, optimizer):
    stage = {"loss": loss, "optimizer": optimizer, "weight_decay": 0.01, "learning_rate": 0.02}
    _, whole = train(tmp_path / "whole", 6, **stage)
    assert min(whole["val_loss"]) < 0.8 * whole["val_loss"][0]
    stop_before(3, tmp_path / "cut", epochs=6, **stage)
    _, resumed = train(tmp_path / "cut", 6, **stage)
    assert resumed["val_loss"] == pytest.approx(whole["val_loss"], abs=1e-6)


@pytest.mark.large
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
        self.total, self.counts, self.texts = total, [], []

        def advance(count=1, text=""):
            self.counts.append(count)
            self.texts += [text] if text else []

        yield advance


on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow takes several steps at once"
)


@pytest.mark.large
@on_tensorflow
@pytest.mark.parametrize("steps", (1, 3, 8))
def test_steps_taken_at_once_change_nothing_and_are_all_told(tmp_path, monkeypatch, steps):
    one, history = train(tmp_path / "alone", 3)  # 8 batches an epoch
    monkeypatch.setattr("kmm.training.stages.fit_stage.choose_steps", lambda *args: steps)
    model, progress = small_model(), Counting()
    stage = Stage(name="toy", epochs=3, learning_rate=0.01, patience=50)
    same = fit_stage(model, dataset(3), dataset(), stage=stage, folder=tmp_path / "few", progress=progress)
    np.testing.assert_allclose(same["loss"], history["loss"], rtol=1e-6)
    for value, other in zip(model.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-7)
    assert sum(progress.counts) == progress.total == 24
    assert progress.texts[:3] == [
        "compiling",
        "training",
        f"loss {same['loss'][0]:.4f} validation {same['val_loss'][0]:.4f}",
    ]


class Noting(Counting):
    """Keeps the notes too, with the number of steps that were done before each."""

    def __init__(self):
        super().__init__()
        self.notes = []

    def note(self, text):
        self.notes.append((text, sum(self.counts)))


@pytest.mark.large
def test_a_stage_says_that_it_compiles_before_its_first_step(tmp_path):
    progress = Noting()
    stage = Stage(name="toy", epochs=1, learning_rate=0.01)
    fit_stage(small_model(), dataset(3), dataset(), stage=stage, folder=tmp_path, progress=progress)
    assert progress.texts[0] == "compiling" and progress.counts[0] == 0
    assert progress.notes == ([("toy: compiling", 0)] if keras.backend.backend() == "jax" else [])


@on_tensorflow
def test_only_many_small_steps_are_taken_at_once():
    film = keras.Input((64, 64, 1))
    model = keras.Model(film, keras.layers.Flatten()(film))
    assert choose_steps(model, 32, 500) == 8
    assert choose_steps(model, 32, 499) == 1
    assert choose_steps(model, 128, 500) == 1
    words = keras.Input((140,))
    assert choose_steps(keras.Model(words, keras.layers.Embedding(20_000, 300)(words)), 32, 500) == 1


def uneven(seed=None, size=8, rows=21):
    """A data set whose last batch is filled up; one of its labels is unknown, one study has no known label."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=(rows, 4)).astype("float32")
    labels = np.stack([x[:, 0] > 0, x[:, 1] > 0], axis=1).astype("float32")
    labels[3], labels[5, 0] = np.nan, np.nan
    return StudyDataset({"x": x}, labels, rows=np.arange(rows), batch_size=size, seed=seed)


def linear_model():
    keras.utils.set_random_seed(0)
    x = keras.Input((4,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(2)(x))


def cross_entropy(model, x, labels):
    """The mean over studies of the mean over their known labels, and its gradient by kernel and bias, in float64."""
    kernel, bias = (weight.astype("float64") for weight in model.get_weights())
    logits = x @ kernel + bias
    known = np.isfinite(labels)
    weight = known / np.maximum(known.sum(axis=1, keepdims=True), 1) / len(x)
    labels = np.nan_to_num(labels)
    loss = (np.logaddexp(0, logits) - labels * logits) * weight
    by_logits = (1 / (1 + np.exp(-logits)) - labels) * weight
    return loss.sum(), x.T @ by_logits, by_logits.sum(axis=0)


@pytest.mark.large
@pytest.mark.parametrize("loss", LOSSES)
def test_a_step_on_a_filled_batch_is_that_on_its_studies_alone(loss, monkeypatch):
    """Plain descent at a rate of 1, so that the change of the weights is the gradient."""
    monkeypatch.setitem(OPTIMIZERS, "sgd", lambda stage: keras.optimizers.SGD(stage.learning_rate))

    def descend(*batch):
        model = compile_stage(linear_model(), Stage("toy", 1, 1.0, loss=loss, optimizer="sgd"), batch_size=8)
        before = model.get_weights()
        logs = model.train_on_batch(*batch, return_dict=True)
        return [old - new for old, new in zip(before, model.get_weights(), strict=True)], logs

    data = uneven(3)
    inputs, labels, weights = data[2]
    assert weights.sum() == 5
    filled, logs = descend(inputs, labels, weights)
    alone, expected = descend({"x": inputs["x"][:5]}, labels[:5])
    for one, other in zip(filled, alone, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)  # float32, summed in another order
    assert logs == pytest.approx(expected, rel=1e-6)
    if loss == "bce":
        value, kernel, bias = cross_entropy(linear_model(), inputs["x"][:5], labels[:5])
        np.testing.assert_allclose(filled[0], kernel, atol=1e-6)
        np.testing.assert_allclose(filled[1], bias, atol=1e-6)
        assert logs["crossentropy"] == pytest.approx(value, rel=1e-6)


@pytest.mark.large
@pytest.mark.skipif(keras.backend.backend() == "torch", reason="PyTorch traces nothing")
def test_a_step_is_compiled_once_however_many_studies_there_are(tmp_path, monkeypatch):
    """The cost is called once where a step is traced, and not when the compiled step runs."""
    traced = []

    class Traced(MaskedCrossentropy):
        def cost(self, labels, logits):
            traced.append(tuple(logits.shape))
            return super().cost(labels, logits)

    monkeypatch.setitem(LOSSES, "traced", LossEntry(Traced))
    counts = []
    for rows in (16, 21):
        traced.clear()
        stage = Stage("toy", 2, 0.1, loss="traced")
        fit_stage(linear_model(), uneven(3, rows=rows), uneven(rows=rows), stage=stage, folder=tmp_path / str(rows))
        counts.append(len(traced))
        assert set(traced) <= {(8, 2), (None, 2)}
    assert counts[0] == counts[1]


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="only JAX keeps what it compiles")
def test_jax_keeps_what_it_compiles_while_it_is_told_to(tmp_path):
    import jax

    def compile_one(number):
        jax.jit(lambda x: x * number + 1).lower(np.ones(3)).compile()

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    compile_one(2)
    with keep_compilations(tmp_path):
        compile_one(3)
    kept = sorted((tmp_path / "compiled").glob("*-cache"))
    assert kept and jax.config.jax_compilation_cache_dir is None
    compile_one(4)
    assert sorted((tmp_path / "compiled").glob("*-cache")) == kept


@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX has")
def test_other_backends_have_no_compilations_to_keep(tmp_path):
    with keep_compilations(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


class Watch(keras.callbacks.Callback):
    """Keeps the epochs that it sees, and their logs."""

    def __init__(self):
        super().__init__()
        self.begun, self.ended, self.logs, self.rates = [], [], [], []

    def on_epoch_begin(self, epoch, logs=None):
        self.begun.append(epoch)
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

    def on_epoch_end(self, epoch, logs=None):
        self.ended.append(epoch)
        self.logs.append(dict(logs))


@pytest.mark.large
def test_the_losses_of_an_epoch_are_means_over_its_studies(tmp_path):
    """The weights stay as they are: a rate of almost 0. Then all batches of an epoch see the same weights."""
    model, data, watch = linear_model(), uneven(3), Watch()
    stage = Stage("toy", 2, 1e-12)
    history = fit_stage(model, data, uneven(rows=13), stage=stage, folder=tmp_path, callbacks=[watch])
    value, *_ = cross_entropy(model, data.columns["x"], data.labels)
    held, *_ = cross_entropy(model, uneven(rows=13).columns["x"], uneven(rows=13).labels)
    assert history["loss"] == pytest.approx([value] * 2, rel=1e-6)
    assert history["val_loss"] == pytest.approx([held] * 2, rel=1e-6)
    for logs in watch.logs:
        assert (logs["loss"], logs["val_loss"]) == pytest.approx((value, held), rel=1e-6)


class Meddle(keras.callbacks.Callback):
    """Sets rates of its own, and changes the weights at the end of each epoch."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate.assign(0.01 / (epoch + 1))

    def on_epoch_end(self, epoch, logs=None):
        kernel = self.model.trainable_weights[0]
        kernel.assign(kernel * 0.9)


@pytest.mark.large
def test_callbacks_see_the_epochs_that_are_left_and_what_they_change_is_saved(tmp_path):
    before, after, again = Watch(), Watch(), Watch()
    whole, history = train(tmp_path / "whole", 5, callbacks=[Meddle()], schedule="cosine")
    assert history["learning_rate"] == pytest.approx([0.01 / number for number in range(1, 6)])
    stop_before(3, tmp_path / "cut", callbacks=[before, Meddle()], epochs=5, schedule="cosine")
    resumed, same = train(tmp_path / "cut", 5, callbacks=[after, Meddle()], schedule="cosine")
    assert (before.ended, after.begun, after.ended) == ([0, 1, 2], [3, 4], [3, 4])
    assert after.rates == pytest.approx([0.005 * (1 + np.cos(np.pi * epoch / 5)) for epoch in (3, 4)], rel=1e-6)
    for name in history:
        assert same[name] == pytest.approx(history[name], abs=1e-6)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    train(tmp_path / "cut", 5, callbacks=[again], schedule="cosine")
    assert again.begun == []  # the stage is done


class Finish(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = epoch == 1


@pytest.mark.large
def test_a_callback_can_end_a_stage(tmp_path):
    _, history = train(tmp_path, 6, callbacks=[Finish()])
    assert len(history["loss"]) == 2 and read_state(tmp_path)["done"]
    assert train(tmp_path, 6)[1] == history


@pytest.fixture
def large(monkeypatch):
    """Lets every network count as large."""
    monkeypatch.setattr("kmm.training.stages.checkpoint.LARGE_BYTES", 0)


def list_saved(monkeypatch):
    """The epochs that are saved from now on, in order, those that are done as None."""
    saved, save = [], Checkpoint._save

    def note(self, variables):
        saved.append(None if self.state["done"] else self.state["epoch"])
        save(self, variables)

    monkeypatch.setattr(Checkpoint, "_save", note)
    return saved


@pytest.mark.large
def test_a_large_network_is_saved_when_it_improves_or_after_minutes_and_goes_on_from_there(
    tmp_path, large, monkeypatch
):
    saved = list_saved(monkeypatch)
    whole, history = train(tmp_path / "hours", 6, learning_rate=1.3)
    best, improved = read_start_loss(), [0]
    for epoch, value in enumerate(history["val_loss"], start=1):
        if value < best - 1e-4:
            best = value
            improved.append(epoch)
    assert saved == [*improved, None] and 1 < len(improved) < 7
    unsaved = max(epoch for epoch in range(1, 6) if epoch not in improved)
    stop_before(unsaved, tmp_path / "cut", epochs=6, learning_rate=1.3)
    last = read_state(tmp_path / "cut")["epoch"]
    saved.clear()
    monkeypatch.setattr("kmm.training.stages.checkpoint.SAVE_MINUTES", 0)
    resumed, again = train(tmp_path / "cut", 6, learning_rate=1.3)
    assert last < unsaved and saved == [*range(last + 1, 7), None]
    for name in history:
        assert again[name] == pytest.approx(history[name], abs=1e-6)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def read_start_loss():
    """The validation loss of the initial weights."""
    model, data = small_model(), dataset()
    compile_stage(model, Stage("toy", 1, 0.1), batch_size=8)
    return model.evaluate(data.as_input(), verbose=0, return_dict=True)["crossentropy"]


@pytest.mark.large
def test_a_stage_killed_after_its_last_epoch_trains_no_more(tmp_path, monkeypatch):
    def stop(self):
        raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "finish", stop)
        with pytest.raises(Stop):
            train(tmp_path, 8, patience=1, learning_rate=0.5)
    state = read_state(tmp_path)
    assert state["ended"] and not state["done"]
    watch = Watch()
    _, history = train(tmp_path, 8, patience=1, learning_rate=0.5, callbacks=[watch])
    assert watch.begun == [] and history == state["history"] and read_state(tmp_path)["done"]


@pytest.fixture(params=("float32", "mixed_float16"))
def precision(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.large
def test_a_stage_that_was_stopped_goes_on_to_the_same_result(tmp_path, precision):
    whole, history = train(tmp_path / "whole", 6)
    stop_before(3, tmp_path / "parts", epochs=6)
    assert read_state(tmp_path / "parts")["epoch"] == 3
    resumed, resumed_history = train(tmp_path / "parts", 6)
    np.testing.assert_allclose(resumed_history["val_loss"], history["val_loss"], rtol=1e-5)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_gradients_are_clipped_as_the_plan_says():
    stage = Stage(name="toy", epochs=1, learning_rate=0.01, clip_norm=0.5)
    optimizer = compile_stage(small_model(), stage, batch_size=8).optimizer
    weights = [keras.Variable(np.zeros(2, "float32")), keras.Variable(np.zeros(1, "float32"))]
    optimizer.build(weights)
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in (np.float32([3, 0]), np.float32([4]))], weights)
    moments = [value for variable in optimizer.variables if "momentum" in variable.path for value in variable.numpy()]
    np.testing.assert_allclose(moments, np.array([3, 0, 4]) / 5 * 0.5 * 0.1, rtol=1e-5)  # length 5 becomes 0.5
    free = Stage(name="toy", epochs=1, learning_rate=0.01, clip_norm=0)
    assert compile_stage(small_model(), free, batch_size=8).optimizer.global_clipnorm is None


@pytest.mark.large
def test_a_finished_stage_is_not_trained_again(tmp_path):
    first, history = train(tmp_path, 3)
    again, same = train(tmp_path, 3)
    assert same == history
    for one, other in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.large
def test_patience_ends_a_stage_early(tmp_path):
    _, history = train(tmp_path, 200, patience=3, learning_rate=0.5)
    assert len(history["val_loss"]) < 200


@pytest.mark.large
def test_cosine_lowers_the_rate_from_epoch_to_epoch(tmp_path):
    _, history = train(tmp_path, 4, schedule="cosine")
    rates = history["learning_rate"]
    assert rates[0] == pytest.approx(0.01) and rates == sorted(rates, reverse=True) and len(set(rates)) == 4


@pytest.mark.large
def test_tensorboard_logs_are_written_where_asked(tmp_path):
    pytest.importorskip("tensorboard")
    context = SimpleNamespace(tensorboard=tmp_path / "logs")
    callbacks = log_to_tensorboard(context, Stage("image head", 1, 0.1))
    train(tmp_path / "state", 1, callbacks=callbacks)
    assert list((tmp_path / "logs" / "image-head").rglob("events.out.tfevents.*"))
    assert log_to_tensorboard(SimpleNamespace(tensorboard=None), Stage("head", 1, 0.1)) == []


@pytest.mark.large
def test_a_stage_without_a_finite_loss_is_said(tmp_path):
    data = dataset(3)
    data.labels = np.full_like(data.labels, np.inf)
    stage = Stage(name="toy", epochs=2, learning_rate=0.01)
    with pytest.raises(InputError, match="toy: no epoch had a finite validation loss"):
        fit_stage(small_model(), data, data, stage=stage, folder=tmp_path)


@pytest.mark.large
def test_a_stage_never_ends_worse_than_it_began(tmp_path):
    model, _ = train(tmp_path / "good", 12)
    before = model.get_weights()
    train(tmp_path / "bad", 3, model=model, learning_rate=5.0)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.large
def test_a_stage_that_diverges_at_once_ends_with_the_weights_it_began_with(tmp_path):
    data = dataset(3)
    data.labels = np.full_like(data.labels, np.inf)  # the first epoch's loss is no number; that of the start is one
    model = small_model()
    before = model.get_weights()
    for _ in range(2):  # the second time it is done
        history = fit_stage(model, data, dataset(), stage=Stage("toy", epochs=3, learning_rate=0.01), folder=tmp_path)
        assert history == {}
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)


def write_checkpoint(path, **replaced):
    """Writes a file of a stage with other arrays."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files} | replaced
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})


@pytest.mark.large
@pytest.mark.parametrize("damage", [None, b"", b"{", b"[]", b"{}", b'{"epoch": 2}', b"\xff"])
def test_a_damaged_state_is_said_with_what_to_do(tmp_path, damage):
    train(tmp_path, 2)
    (path,) = tmp_path.glob("*.npz")
    write_checkpoint(path, state=None if damage is None else np.frombuffer(damage, np.uint8))
    with pytest.raises(InputError, match=rf"{path} is missing or damaged\. Remove the folder {tmp_path} and resume"):
        train(tmp_path, 2)


@pytest.mark.large
@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "short", "long"])
def test_damaged_weights_are_said_with_what_to_do(tmp_path, damage):
    train(tmp_path, 2)
    (path,) = tmp_path.glob("*.npz")  # the best weights alone are left
    data = path.read_bytes()
    with np.load(path) as stored:
        weights = stored["float32"]
    if damage in ("short", "long"):
        write_checkpoint(path, float32=np.resize(weights, weights.size + (1 if damage == "long" else -1)))
    else:
        middle = data.index(weights.tobytes())
        flipped = data[:middle] + bytes(255 - value for value in data[middle : middle + 90]) + data[middle + 90 :]
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "flipped": flipped}[damage])
    with pytest.raises(
        InputError, match=rf"epoch-\d\.npz is missing or damaged\. Remove the folder {tmp_path} and resume"
    ):
        train(tmp_path, 2)


@pytest.mark.large
def test_the_best_weights_must_be_there_at_the_end(tmp_path):
    """A stage whose best epoch is not its last one keeps two files."""
    stop_before(2, tmp_path, epochs=3, learning_rate=10.0)
    state = read_state(tmp_path)
    assert state["best_epoch"] < state["epoch"] == 2
    names = {f"epoch-{state[key]}.npz" for key in ("best_epoch", "epoch")}
    assert {path.name for path in tmp_path.iterdir()} == names
    best = tmp_path / f"epoch-{state['best_epoch']}.npz"
    best.unlink()
    with pytest.raises(InputError, match=rf"{best} is missing or damaged"):
        train(tmp_path, 3, learning_rate=10.0)
