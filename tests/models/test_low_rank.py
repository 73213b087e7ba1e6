"""Low-rank factors: their formula, where they start, what is trained, and that merging them changes no result."""

import keras
import numpy as np
import pytest
from keras import layers

from kmm.errors import InputError
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.transformer.shape import TransformerShape
from kmm.models.views.feature_view import view_features
from kmm.models.views.low_rank import LowRankDense, add_factors, list_adapted, merge_factors
from kmm.models.views.parts import embed_of, fusion_of, image_encoder_of, set_trainable, text_encoder_of
from kmm.settings import FitSettings
from kmm.training.fit import check_names
from kmm.training.stages.recipe import LORA, make_recipe
from tests.factories.tiny_networks import PIXELS, TINY_ENTRIES
from tests.model_checks import compile_quickly, model_inputs, stir, to_numpy

SHAPE = TransformerShape(layers=2, heads=2, width=8, hidden=12, epsilon=1e-6)
SIZES = {"length": 9, "embedding_size": 8, "text_dropout": 0.0, "fusion_dropout": 0.0, "fusion_units": 8}
KINDS = {
    "bert": {"text_encoder": "bert", "text_shape": SHAPE},
    "tiny-vit": {"image_encoder": "tiny-vit", "pixels": PIXELS["tiny-vit"]},
    "tiny-swin": {"image_encoder": "tiny-swin", "pixels": PIXELS["tiny-swin"]},
}

PARAMETERS = [pytest.param(kind, marks=[pytest.mark.large] * (kind != "bert")) for kind in KINDS]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name, entry in TINY_ENTRIES.items():
        monkeypatch.setitem(IMAGE_ENCODERS, name, entry)


def build(kind):
    """A model with random weights whose encoder has factors: (model, side, encoder, encoder with factors)."""
    spec = ModelSpec(**SIZES, **KINDS[kind])
    model = build_model(spec, label_count=2, vocabulary_size=20)
    stir(model)
    side = "text" if spec.text_encoder else "image"
    set_trainable(model, spec, **{side: LORA}, batch_norm="inference")
    encoder = (text_encoder_of if side == "text" else image_encoder_of)(model)
    return model, side, encoder, add_factors(encoder, rank=2, alpha=3.0, seed=1)


def fill(adapted, seed=0):
    """Gives the factors values that change what the encoder says."""
    random = np.random.default_rng(seed)
    for layer in list_adapted(adapted):
        for pair in filter(None, layer.factors):
            for weight in pair:
                weight.assign(random.normal(scale=0.3, size=weight.shape))


def test_the_layer_is_a_dense_layer_with_another_kernel():
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 5, 4)).astype("float32")
    for parts in ((True,), (True, False, True)):
        dense = layers.Dense(6, bias_initializer="ones")
        dense.build(x.shape)
        layer = LowRankDense(dense, rank=3, alpha=1.5, parts=parts, seed=4)
        np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(dense(x)))
        kernel, size = to_numpy(dense.kernel).astype(np.float64), 6 // len(parts)
        for number, pair in enumerate(layer.factors):
            assert (pair is not None) == parts[number]
            if pair is not None:
                pair[1].assign(random.normal(size=pair[1].shape))
                down, up = (to_numpy(weight).astype(np.float64) for weight in pair)
                assert down.shape == (4, 3) and up.shape == (3, size)
                kernel[:, number * size : (number + 1) * size] += 0.5 * down @ up
        np.testing.assert_allclose(to_numpy(layer(x)), x @ kernel + 1, atol=1e-6)
        layer.merge()
        np.testing.assert_allclose(to_numpy(dense.kernel), kernel, atol=1e-6)
        np.testing.assert_array_equal(to_numpy(layer(x)), to_numpy(dense(x)))


def test_factors_follow_the_seed_and_differ_between_layers():
    encoder = build("bert")[2]
    downs = [
        [to_numpy(layer.factors[0][0]) for layer in list_adapted(add_factors(encoder, rank=2, alpha=1.0, seed=seed))]
        for seed in (0, 0, 50)
    ]
    for one, same, other in zip(*downs, strict=True):
        np.testing.assert_array_equal(one, same)
        assert not np.isclose(one, other).any()
    assert not any(np.isclose(downs[0][0], other).any() for other in downs[0][1:])


@pytest.mark.parametrize("kind", PARAMETERS)
def test_a_view_starts_as_the_model_and_ends_as_the_merged_one(kind):
    model, side, encoder, adapted = build(kind)
    view, inputs = view_features(model, (), {side: adapted}), model_inputs(model)
    start = to_numpy(model(inputs, training=False))
    np.testing.assert_array_equal(to_numpy(view(inputs, training=False)), start)
    count = encoder.count_params()
    fill(adapted)
    changed = to_numpy(view(inputs, training=False))
    assert np.abs(changed - start).max() > 1e-3
    np.testing.assert_array_equal(to_numpy(model(inputs, training=False)), start)
    merge_factors(adapted)
    merged = to_numpy(model(inputs, training=False))
    assert np.abs(merged - changed).max() <= 1e-6 * max(1, np.abs(changed).max())
    np.testing.assert_array_equal(to_numpy(view(inputs, training=False)), merged)
    assert encoder.count_params() == count and not any(isinstance(layer, LowRankDense) for layer in encoder.layers)


@pytest.mark.parametrize("kind", PARAMETERS)
def test_only_factors_and_the_head_are_trained(kind):
    model, side, encoder, adapted = build(kind)
    view, inputs = view_features(model, (), {side: adapted}), model_inputs(model)
    factors = [weight for layer in list_adapted(adapted) for pair in filter(None, layer.factors) for weight in pair]
    expected = {id(weight) for weight in (*factors, *fusion_of(model).trainable_weights)}
    assert {id(weight) for weight in view.trainable_variables} == expected
    known = [*encoder.weights, *(embed_of(model).weights if side == "text" else [])]
    before, starts = ([to_numpy(weight) for weight in weights] for weights in (known, factors))
    compile_quickly(view)
    for _ in range(3):
        view.train_on_batch(inputs, np.resize([[0.0], [1.0]], (len(inputs["present"]), 2)))
    for old, weight in zip(before, known, strict=True):
        np.testing.assert_array_equal(to_numpy(weight), old)
    for old, weight in zip(starts, factors, strict=True):
        assert np.abs(to_numpy(weight) - old).max() > 0
    names = {layer.name.rpartition("_")[2] for layer in list_adapted(adapted)}
    assert names == ({"query", "value"} if side == "text" else {"qkv"})


@pytest.mark.large
def test_half_precision_computes_and_merges_alike():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model, side, encoder, adapted = build("bert")
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(layer.compute_dtype == "bfloat16" for layer in list_adapted(adapted))
    fill(adapted)
    view, inputs = view_features(model, (), {side: adapted}), model_inputs(model)
    changed = to_numpy(view(inputs, training=False))
    merge_factors(adapted)
    assert encoder.get_layer("block1_query").kernel.dtype == "float32"
    np.testing.assert_allclose(to_numpy(model(inputs, training=False)), changed, atol=0.05)


def test_the_first_step_moves_only_what_starts_at_zero():
    dense = layers.Dense(2)
    dense.build((None, 3))
    dense.trainable = False
    layer = LowRankDense(dense, rank=2, alpha=2.0)
    model = keras.Sequential([keras.Input((3,)), layer])
    model.compile(keras.optimizers.SGD(0.5), "mse", jit_compile=False)
    down, up = layer.factors[0]
    start = to_numpy(down).copy()
    x, y = np.float32([[1.0, 2.0, 3.0]]), np.float32([[4.0, 5.0]])
    residual = to_numpy(dense(x)) - y
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(to_numpy(down), start)  # its gradient is a product with `up`, which is 0
    np.testing.assert_allclose(to_numpy(up), -0.5 * (x @ start).T @ residual, rtol=1e-5)


def test_layers_without_attention_take_none():
    spec = ModelSpec(text_encoder="text-cnn", length=6, embedding_size=4, text_filters=3)
    encoder = text_encoder_of(build_model(spec, label_count=1, vocabulary_size=9))
    with pytest.raises(InputError, match="The text_encoder has no layers of attention"):
        add_factors(encoder, rank=2, alpha=1.0)
    x = keras.Input((4,))
    named = keras.Model(x, layers.Activation("relu", name="relu_query")(x))
    with pytest.raises(InputError, match="no layers of attention"):
        add_factors(named, rank=2, alpha=1.0)


def test_every_entry_says_whether_it_takes_factors():
    taking = {name for table in (IMAGE_ENCODERS, TEXT_ENCODERS) for name in table if table[name].low_rank}
    assert {"bert", "vit-small", "dinov2-base", "siglip-base", "swin-tiny", "tiny-vit", "tiny-swin"} <= taking
    assert not taking & {"text-cnn", "text-cnn-paper", "resnet18", "xception", "small-cnn", "tiny-resnet"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"image_encoder": "resnet18", "tune_image": LORA},
            "image encoder 'resnet18' has no attention .* Set `tune_image`",
        ),
        ({"text_encoder": "text-cnn", "tune_text": LORA}, "The text encoder 'text-cnn' has no attention .*: bert"),
        ({"lora_rank": 0}, "`lora_rank` must be at least 1"),
        ({"lora_alpha": 0.0}, "`lora_alpha` must be a number above 0"),
    ],
)
def test_settings_that_do_not_fit(settings, said):
    with pytest.raises(InputError, match=said):
        check_names(FitSettings(**settings))


def test_the_stages_of_a_side_with_factors():
    settings = FitSettings(text_encoder="bert", text_weights="bert", tune_text=LORA, lora_rank=3, image_encoder=None)
    head, tuning = make_recipe(settings)["text"]
    assert (head.adapted, head.trained) == ((), ()) and (tuning.adapted, tuning.trained) == (("text",), ("text",))
    assert (tuning.lora_rank, tuning.lora_alpha) == (3, 16.0)
    both = FitSettings(text_encoder="bert", text_weights="b", tune_text=LORA, image_weights="w", tune_image="top")
    assert [(stage.image, stage.text) for stage in make_recipe(both)["joint"]] == [
        ("features", "features"),
        ("top", LORA),
    ]
