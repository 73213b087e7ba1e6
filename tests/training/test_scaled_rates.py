"""Learning rates by step and by depth: the update of each weight is that of plain Keras at its own rate."""

import dataclasses

import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.transformer.shape import TransformerShape
from kmm.models.views.depth import group_by_depth, scale_by_depth
from kmm.models.views.feature_view import view_features
from kmm.models.views.low_rank import add_factors
from kmm.models.views.parts import embed_of, image_encoder_of, set_trainable, text_encoder_of
from kmm.settings import FitSettings
from kmm.training.stages.fit_stage import compile_stage
from kmm.training.stages.optimizers import OPTIMIZERS, make_optimizer
from kmm.training.stages.recipe import Stage
from kmm.training.stages.scaled_rates import ScaledAdam, ScaledAdamW, ScaledRates
from kmm.training.stages.schedule import SCHEDULES, Course, make_course
from tests.factories.small_stages import stop_before, train


@keras.saving.register_keras_serializable(package="kmm.tests")
class ScaledSgd(ScaledRates, keras.optimizers.SGD):
    """Plain descent with scaled rates."""


KINDS = {
    "sgd": (ScaledSgd, keras.optimizers.SGD, {}),
    "momentum": (ScaledSgd, keras.optimizers.SGD, {"momentum": 0.9}),
    "adam": (ScaledAdam, keras.optimizers.Adam, {}),
    "adamw": (ScaledAdamW, keras.optimizers.AdamW, {"weight_decay": 0.3}),
}
GRADIENTS = [np.float32([[0.3, -0.2], [0.5, 0.1]]), np.float32([[0.1, 0.4], [-0.7, 0.2]])]


def descend(optimizer, number=2):
    """The weights after steps along given gradients, from 1; each of the weights has the same gradients."""
    weights = [keras.Variable(np.ones(2, "float32"), name=f"weight{at}") for at in range(number)]
    optimizer.build(weights)
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient[at % 2]) for at in range(number)], weights)
    return np.array([keras.ops.convert_to_numpy(weight) for weight in weights])


@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_moves_as_in_plain_keras_at_its_own_rate(kind):
    scaled, plain, options = KINDS[kind]
    moved = descend(scaled(0.1, factors=(0.25, 1.0), **options))
    for at, rate in enumerate((0.025, 0.1)):
        np.testing.assert_allclose(moved[at], descend(plain(rate, **options))[at], rtol=2e-7)


def test_the_first_step_of_descent_and_of_adam_by_hand():
    """Descent moves by rate times gradient; Adam's first step by the rate along the sign of the gradient."""
    gradient, weights = GRADIENTS[0], [keras.Variable(np.ones(2, "float32")) for _ in range(2)]
    for kind, step in ((ScaledSgd, gradient), (ScaledAdam, gradient / (np.abs(gradient) + 1e-7))):
        for weight in weights:
            weight.assign(np.ones(2))
        kind(0.1, factors=(0.5, 1.0)).apply([keras.ops.convert_to_tensor(one) for one in gradient], weights)
        moved = 1 - np.array([keras.ops.convert_to_numpy(weight) for weight in weights])
        np.testing.assert_allclose(moved, 0.1 * np.array([[0.5], [1.0]]) * step, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_course_sets_the_rate_of_each_step(kind):
    """Plain Keras with the rates of the two steps, set by hand."""
    scaled, plain, options = KINDS[kind]
    moved = descend(scaled(0.3, factors=(0.5, 1.0), course=Course("constant", warm_up=2, steps=5), **options))
    for at, factor in enumerate((0.5, 1.0)):
        optimizer, weight = plain(0.1 * factor, **options), keras.Variable(np.ones(2, "float32"))
        for rate, gradient in zip((0.1, 0.2), GRADIENTS):
            optimizer.learning_rate.assign(rate * factor)
            optimizer.apply([keras.ops.convert_to_tensor(gradient[at])], [weight])
        np.testing.assert_allclose(moved[at], keras.ops.convert_to_numpy(weight), rtol=3e-7)


def test_gradients_are_clipped_before_rates_are_scaled():
    moved = descend(ScaledSgd(1.0, factors=(0.5, 1.0), global_clipnorm=0.1), 2)
    expected = 1 - sum(0.1 * one / np.linalg.norm(one) * np.array([[0.5], [1.0]]) for one in GRADIENTS)
    np.testing.assert_allclose(moved, expected, rtol=1e-6)


def test_another_number_of_weights_is_refused():
    with pytest.raises(ValueError, match="There are 2 factors for 1 weights"):
        ScaledAdam(0.1, factors=(1, 2)).build([keras.Variable(1.0)])


def test_an_optimizer_is_saved_with_its_factors_and_its_course():
    optimizer = ScaledAdamW(0.1, factors=(0.5, 1.0), course=Course("cosine", warm_up=2, steps=9), weight_decay=0.2)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert again.get_config() == optimizer.get_config() and again.factors == (0.5, 1.0)
    np.testing.assert_array_equal(descend(again), descend(optimizer))


def test_decay_of_weights_spares_biases_at_scaled_rates():
    """Where a gradient is 0, AdamW multiplies a weight by 1 - rate x decay, with the rate of the weight."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, bias_initializer="ones")])
    before = [np.array(weight) for weight in model.get_weights()]
    optimizer = OPTIMIZERS["adamw"](Stage("head", 1, 0.1, weight_decay=0.5), factors=(0.5, 0.5))
    optimizer.apply([keras.ops.zeros(weight.shape) for weight in model.trainable_variables], model.trainable_variables)
    for old, new, factor in zip(before, model.get_weights(), (0.975, 1.0), strict=True):
        np.testing.assert_allclose(new, factor * old, rtol=1e-6)


# The course of a stage


def test_a_warm_up_rises_in_equal_steps_to_the_rate():
    course = make_course(Stage("head", 10, 0.1, warmup=0.1, schedule="plateau"), steps=40)
    assert (course.warm_up, course.steps) == (40, 400)
    rates = [float(course(step)) for step in range(60)]
    np.testing.assert_allclose(rates[:41], np.arange(1, 42) / 41, rtol=1e-6)
    assert set(rates[40:]) == {1.0}


def test_a_cosine_falls_in_each_step_after_the_warm_up():
    course = make_course(Stage("head", 5, 0.1, warmup=0.2, schedule="cosine"), steps=10)
    rates = np.array([float(course(step)) for step in range(50)])
    np.testing.assert_allclose(rates[10:], 0.5 * (1 + np.cos(np.pi * np.arange(40) / 40)), atol=1e-6)
    assert rates.argmax() == 10 and SCHEDULES["cosine"].at_start(7.0, Stage("x", 5, 0.1, warmup=0.2), 3) == 0.1


def test_no_warm_up_means_no_course_and_a_short_one_has_a_step():
    assert make_course(Stage("head", 5, 0.1), steps=10) is None
    assert make_course(Stage("head", 1, 0.1, warmup=0.01), steps=10).warm_up == 1


@pytest.mark.parametrize("name", ("warmup", "rate_decay"))
@pytest.mark.parametrize("value", (-0.1, 1.5, float("nan")))
def test_settings_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=f"^Setting `{name}` must be"):
        FitSettings(**{name: value})


def test_two_warm_ups_are_refused():
    with pytest.raises(InputError, match="has a warm-up of its own"):
        FitSettings(warmup=0.1, schedule="warmup-cosine")


WARM = {"warmup": 0.3, "schedule": "cosine", "learning_rate": 0.05}


@keras.saving.register_keras_serializable(package="kmm.tests")
class Slope(keras.regularizers.Regularizer):
    """A penalty whose gradient is 1 everywhere."""

    def __call__(self, weight):
        return keras.ops.sum(weight)

    def get_config(self):
        return {}


class Note(keras.callbacks.Callback):
    """Keeps the weights at the end of each epoch."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def on_epoch_end(self, epoch, logs=None):
        self.weights.append(self.model.get_weights()[0])


@pytest.mark.large
def test_the_steps_of_a_stage_have_the_rates_of_its_course(tmp_path, monkeypatch):
    """Descent along a gradient that is always 1: the weights move by the sum of the rates."""
    monkeypatch.setitem(OPTIMIZERS, "sgd", lambda stage, **scaled: ScaledSgd(stage.learning_rate, **scaled))
    x, note = keras.Input((4,), name="x"), Note()
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", kernel_regularizer=Slope())
    model = keras.Model({"x": x}, layer(keras.layers.Rescaling(0.0)(x)))
    _, history = train(tmp_path, 3, model=model, optimizer="sgd", callbacks=[note], **WARM)  # 8 batches an epoch
    course = make_course(Stage("toy", 3, **WARM), steps=8)
    rates = np.array([0.05 * float(course(step)) for step in range(24)]).reshape(3, 8)
    assert history["learning_rate"] == pytest.approx(rates.mean(axis=1), rel=1e-5)
    for weights, moved in zip(note.weights, rates.sum(axis=1).cumsum(), strict=True):
        np.testing.assert_allclose(weights, -moved, rtol=1e-5)


@pytest.mark.large
def test_a_stage_that_was_stopped_within_its_warm_up_goes_on_to_the_same_bits(tmp_path):
    options = {**WARM, "warmup": 0.6}
    whole, history = train(tmp_path / "whole", 5, **options)
    stop_before(2, tmp_path / "cut", epochs=5, **options)
    resumed, again = train(tmp_path / "cut", 5, **options)
    assert again == history
    for one, other in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


# Rates by depth


@pytest.mark.large
@pytest.mark.parametrize("name", ("small-cnn", "densenet121"))
def test_layers_are_divided_evenly_from_the_head_down(name):
    encoder = build_image_encoder(IMAGE_ENCODERS[name], pixels=64)
    groups = group_by_depth(encoder)
    order = [layer.name for layer in encoder.layers if layer.weights]
    assert [layer.name for group in reversed(groups) for layer in group] == order
    sizes = [len(group) for group in groups]
    assert len(sizes) == 8 and max(sizes) - min(sizes) <= 1


def test_a_nested_model_and_a_short_one_are_divided_too():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="a"), keras.layers.Dense(3, name="b")])
    x = keras.Input((4,))
    outer = keras.Model(x, keras.layers.Dense(2, name="c")(inner(x)))
    assert [[layer.name for layer in group] for group in group_by_depth(outer)] == [["c"], ["b"], ["a"]]
    assert group_by_depth(keras.Model(x, keras.layers.ReLU()(x))) == []


SPEC = ModelSpec(
    image_encoder="small-cnn", text_encoder="text-cnn", pixels=32, length=6, embedding_size=4, text_filters=3
)


def test_rates_fall_with_depth_in_the_image_encoder_alone():
    model = build_model(SPEC, label_count=1, vocabulary_size=9)
    names = {id(weight): layer.name for layer in image_encoder_of(model).layers for weight in layer.weights}
    factors = {}
    for weight, factor in zip(model.trainable_variables, scale_by_depth(model, 0.5), strict=True):
        factors.setdefault(names.get(id(weight), "elsewhere"), set()).add(factor)
    depths = [8, 8, 7, 6, 5, 4, 4, 3, 2, 1]  # ten layers in eight groups
    layers = [f"block{number}_{kind}" for number in range(1, 6) for kind in ("conv", "bn")]
    assert factors == {"elsewhere": {1.0}} | {name: {0.5**depth} for name, depth in zip(layers, depths, strict=True)}
    assert scale_by_depth(model, 1.0) == () == scale_by_depth(view_features(model, ("image",)), 0.5)


BERT = ModelSpec(
    text_encoder="bert",
    length=6,
    embedding_size=8,
    text_shape=TransformerShape(layers=3, heads=2, width=8, hidden=12),
)


def find_text_factors(model, view, decay):
    """The factors of the trained weights of a view of a model of reports, by block, and of other parts by name."""
    encoder, names = text_encoder_of(view), {}
    for layer in encoder.layers:
        names |= {id(weight): layer.name.partition("_")[0] for weight in layer.weights}
    names |= {id(weight): "words" for weight in embed_of(model).weights}
    factors = {}
    for weight, factor in zip(view.trainable_variables, scale_by_depth(view, decay), strict=True):
        factors.setdefault(names.get(id(weight), "head"), set()).add(factor)
    return factors


def test_rates_fall_with_each_block_of_a_transformer_of_reports():
    model = build_model(BERT, label_count=1, vocabulary_size=9)
    blocks = {"block3": {0.5}, "block2": {0.25}, "block1": {0.125}}
    below = {"frame": {0.0625}, "words": {0.0625}}
    assert find_text_factors(model, model, 0.5) == {"head": {1.0}, **blocks, **below}
    set_trainable(model, BERT, text=0.5)
    assert find_text_factors(model, model, 0.5) == {"head": {1.0}, "block3": {0.5}, "block2": {0.25}}
    set_trainable(model, BERT, text="lora")
    adapted = add_factors(text_encoder_of(model), rank=2, alpha=1.0)
    view = view_features(model, (), {"text": adapted})
    assert find_text_factors(model, view, 0.5) == {"head": {1.0}, **blocks}
    assert scale_by_depth(model, 1.0) == scale_by_depth(view_features(model, ("text",)), 0.5) == ()


def test_both_sides_have_rates_of_their_own_depths():
    both = dataclasses.replace(BERT, image_encoder="small-cnn", pixels=32)
    model = build_model(both, label_count=1, vocabulary_size=9)
    alone = build_model(dataclasses.replace(BERT), label_count=1, vocabulary_size=9)
    found = dict(zip(map(id, model.trainable_variables), scale_by_depth(model, 0.5), strict=True))
    text = [found[id(weight)] for weight in text_encoder_of(model).trainable_variables]
    image = [found[id(weight)] for weight in image_encoder_of(model).trainable_variables]
    own = dict(zip(map(id, alone.trainable_variables), scale_by_depth(alone, 0.5), strict=True))
    assert text == [own[id(weight)] for weight in text_encoder_of(alone).trainable_variables]
    assert min(image) == 0.5**8 and min(text) == 0.5**4 and max(found.values()) == 1.0


def test_a_tuning_stage_has_an_optimizer_with_these_rates_and_others_have_a_plain_one():
    model = build_model(SPEC, label_count=1, vocabulary_size=9)
    set_trainable(model, SPEC, image="top")
    stage = Stage("tuning", 2, 0.1, image="top", rate_decay=0.5)
    assert make_optimizer(stage, model).factors == scale_by_depth(model, 0.5)
    assert len(scale_by_depth(model, 0.5)) == len(model.trainable_variables)
    assert type(make_optimizer(Stage("tuning", 2, 0.1), model)) is type(keras.optimizers.Adam())
    compile_stage(model, stage, batch_size=8, steps=3)
    assert isinstance(model.optimizer, ScaledAdam) and model.optimizer.course is None
    compile_stage(model, Stage("tuning", 2, 0.1, warmup=0.5), batch_size=8, steps=3)
    assert model.optimizer.factors == () and model.optimizer.course.warm_up == 3
