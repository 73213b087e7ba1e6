"""The moving average of the weights of a stage: its mathematics, what uses it, and that it is resumed."""

import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.models.loss import MaskedCrossentropy
from kmm.settings import FitSettings
from kmm.training.stages.checkpoint import Checkpoint
from kmm.training.stages.fit_stage import compile_stage
from kmm.training.stages.optimizers import OPTIMIZERS
from kmm.training.stages.recipe import Stage
from kmm.training.stages.weight_average import AveragedWeights, start_averages, use_averages
from tests.factories.small_stages import dataset, read_state, small_model, stop_before, train

GRADIENTS = np.float32([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.2], [0.2, 0.2]])


def test_the_average_of_known_weights():
    """Descent along known gradients: after t steps the average is the sum of (1 - m) m^(t - k) w_k, with m^(t - 1) for
    the first weight."""
    weight = keras.Variable(np.ones(2, "float32"), name="kernel")
    stage = Stage("x", 1, 0.1, weight_average=0.9)
    optimizer = OPTIMIZERS["adam"](stage)
    assert optimizer.use_ema and optimizer.ema_momentum == 0.9 and not OPTIMIZERS["adam"](Stage("x", 1, 0.1)).use_ema
    optimizer = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
    optimizer.build([weight])
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    weights = 1 - 0.1 * GRADIENTS.cumsum(axis=0)
    shares = np.array([0.9**3, 0.1 * 0.9**2, 0.1 * 0.9, 0.1])
    (average,) = [variable for variable in optimizer.variables if variable.path.endswith("_average")]
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(average), shares @ weights, rtol=1e-6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), weights[-1], rtol=1e-6)


class Follow(keras.callbacks.Callback):
    """Averages the weights of every step in NumPy, and keeps what the model holds in validation and afterwards."""

    def __init__(self, momentum):
        super().__init__()
        self.momentum, self.average, self.validated, self.after = momentum, None, [], []

    def on_train_batch_end(self, batch, logs=None):
        weights = [np.array(weight) for weight in self.model.get_weights()]
        if self.average is None:
            self.average = weights
        m = self.momentum
        self.average = [m * old + (1 - m) * new for old, new in zip(self.average, weights, strict=True)]

    def on_test_batch_begin(self, batch, logs=None):
        if batch == 0:
            self.validated.append([np.array(weight) for weight in self.model.get_weights()])

    def on_epoch_end(self, epoch, logs=None):
        self.after.append(([np.array(weight) for weight in self.model.get_weights()], self.average))


@pytest.mark.large
@pytest.mark.skipif(keras.backend.backend() == "jax", reason="JAX gives a callback no weights between two steps")
def test_validation_uses_the_averages_and_training_goes_on_with_the_weights(tmp_path, monkeypatch):
    monkeypatch.setattr("kmm.training.stages.fit_stage.choose_steps", lambda *args: 1)
    follow = Follow(0.8)
    train(tmp_path, 3, callbacks=[follow], weight_average=0.8)
    for validated, (weights, average) in zip(follow.validated, follow.after, strict=True):
        for one, other in zip(validated, average, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert any(np.abs(one - other).max() > 1e-4 for one, other in zip(weights, validated, strict=True))


def measure(model):
    data = dataset()
    return float(MaskedCrossentropy()(data.labels, model.predict_on_batch({"x": data.columns["x"]})))


@pytest.mark.large
def test_a_stage_ends_with_the_averages_of_its_best_epoch(tmp_path):
    model, history = train(tmp_path, 12, weight_average=0.9, learning_rate=0.05)
    _, other = train(tmp_path / "plain", 12, learning_rate=0.05)
    assert measure(model) == pytest.approx(min(history["val_loss"]), abs=1e-6)
    assert read_state(tmp_path)["best"] == pytest.approx(measure(model), abs=1e-6)
    assert history["loss"] == other["loss"] and history["val_loss"] != other["val_loss"]  # the same path of the weights


@pytest.mark.large
@pytest.mark.parametrize("precision", ["float32", pytest.param("mixed_float16", marks=pytest.mark.large)])
def test_a_stage_that_was_stopped_goes_on_to_the_same_bits(tmp_path, precision):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        whole, history = train(tmp_path / "whole", 6, weight_average=0.9)
        stop_before(3, tmp_path / "cut", epochs=6, weight_average=0.9)
        resumed, again = train(tmp_path / "cut", 6, weight_average=0.9)
        done, same = train(tmp_path / "cut", 6, weight_average=0.9)
    finally:
        keras.config.set_dtype_policy(before)
    assert again == history == same
    for one, two, three in zip(whole.get_weights(), resumed.get_weights(), done.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)


@pytest.mark.large
def test_a_stage_that_no_epoch_improved_ends_with_the_weights_it_began_with(tmp_path):
    model = small_model()
    before = model.get_weights()
    data = dataset()
    reached = measure(model)
    train(tmp_path, 2, model=model, learning_rate=50.0, weight_average=0.5)
    assert read_state(tmp_path)["best_epoch"] == 0 and read_state(tmp_path)["best"] == pytest.approx(reached, abs=1e-6)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(data) == 8


@pytest.mark.large
def test_a_stage_killed_before_its_end_was_saved_ends_with_the_averages(tmp_path, monkeypatch):
    whole, _ = train(tmp_path / "whole", 3, weight_average=0.9)

    def stop(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "finish", stop)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "cut", 3, weight_average=0.9)
    resumed, _ = train(tmp_path / "cut", 3, weight_average=0.9)
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_are_put_back_bit_by_bit_and_a_plain_optimizer_has_no_averages():
    model = small_model()
    compile_stage(model, Stage("toy", 1, 0.1, weight_average=0.9), batch_size=8)
    model.optimizer.build(model.trainable_variables)
    start_averages(model)
    before = model.get_weights()
    for weight in model.trainable_variables:
        weight.assign(keras.ops.convert_to_numpy(weight) * np.float32(1 / 3))
    thirds, averages = model.get_weights(), AveragedWeights()
    averages.set_model(model)
    averages.on_test_begin()
    assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), before, strict=True))
    averages.on_test_end()
    assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), thirds, strict=True))
    compile_stage(model, Stage("toy", 1, 0.1), batch_size=8)
    model.optimizer.build(model.trainable_variables)
    use_averages(model)
    assert all(np.array_equal(one, other) for one, other in zip(model.get_weights(), thirds, strict=True))


@pytest.mark.parametrize("value", (-0.1, 1.0, float("nan")))
def test_a_momentum_out_of_range_is_refused(value):
    with pytest.raises(InputError, match=r"^Setting `weight_average` must be in \[0, 1\)"):
        FitSettings(weight_average=value)
