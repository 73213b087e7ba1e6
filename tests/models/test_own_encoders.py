"""Keras models of one's own as encoders: what is found in them, what they keep, what is refused."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from kmm.errors import InputError
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.encoders_text import TEXT_ENCODERS, build_text_encoder
from kmm.models.own.image import ImageOptions, is_affine, make_image_entry
from kmm.models.own.text import make_text_entry
from kmm.models.registration import (
    give_image_encoder,
    give_text_encoder,
    keep_given_models,
    register_image_encoder,
    register_text_encoder,
)
from kmm.models.views.parts import image_encoder_of
from kmm.models.weights.checkpoints import load_image_weights, model_digest
from kmm.settings import FitSettings
from tests.checks import check_image_encoder, check_text_encoder
from tests.factories.own_encoders import build_colour_cnn, build_vector_cnn, build_word_model
from tests.model_checks import to_numpy


@pytest.fixture(autouse=True)
def forget():
    """Removes what a test registers."""
    before = {id(table): set(table) for table in (IMAGE_ENCODERS, TEXT_ENCODERS)}
    yield
    for table in (IMAGE_ENCODERS, TEXT_ENCODERS):
        for name in set(table) - before[id(table)]:
            del table[name]


def rebuild(name, pixels):
    """The network of a table's entry as a Keras model of one's own, whose layers are numbered from the first."""
    keras.utils.clear_session()
    entry = IMAGE_ENCODERS[name]
    film = keras.Input((pixels, pixels, entry.channels))
    return keras.Model(film, entry.network(film, None)), entry


@pytest.mark.large
def test_what_is_found_in_a_network_is_what_its_entry_names():
    model, entry = rebuild("small-cnn", 64)
    found = make_image_entry(model, "mine", ImageOptions(scaling=entry.scaling, pooling=entry.pooling))
    names = ("stem", "blocks", "feature_map", "top", "channels")
    assert {name: getattr(found, name) for name in names} == {name: getattr(entry, name) for name in names}
    assert (found.pixels, found.fixed_pixels, found.given, found.imagenet) == (64, True, True, False)


@pytest.mark.large
@pytest.mark.parametrize("name", ["densenet121", "xception"])
def test_the_stem_and_the_map_of_a_deep_network_are_those_of_its_entry(name):
    model, entry = rebuild(name, 96)
    found = make_image_entry(model, "mine", ImageOptions(scaling=entry.scaling))
    assert (found.stem, found.feature_map) == (entry.stem, entry.feature_map)
    order = [layer.name for layer in model.layers]
    assert order.index(found.top) > order.index(found.blocks[-3]) and len(found.blocks) >= 4


def test_stem_map_blocks_and_top_of_a_model_with_nested_and_shared_layers():
    found = make_image_entry(build_colour_cnn(), "mine")
    assert (found.stem, found.blocks) == ("bn", ("max_pool_own2", "add", "own_map"))
    assert (found.feature_map, found.top, found.pooling) == ("own_map", "conv_own2", "average")


def test_a_model_that_ends_in_a_vector_pools_itself_and_takes_films_of_any_size():
    found = make_image_entry(build_vector_cnn(), "mine")
    assert (found.stem, found.blocks, found.top) == ("conv1", ("relu1", "relu2", "relu3"), "conv2")
    assert (found.pooling, found.feature_map, found.pixels, found.fixed_pixels) == ("network", "relu3", 224, False)
    told = make_image_entry(build_vector_cnn(), "mine", ImageOptions(feature_map="conv3", pixels=64, top="conv3"))
    assert (told.feature_map, told.top, told.pixels, told.blocks[-1]) == ("conv3", "conv3", 64, "conv3")


@pytest.mark.parametrize("build", [build_colour_cnn, build_vector_cnn])
def test_the_encoder_computes_what_the_model_computes(build):
    model = build()
    entry = make_image_entry(model, "mine")
    films = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype(np.float32)
    expected = to_numpy(model(np.repeat(films, entry.channels, axis=-1), training=False))
    encoding = to_numpy(build_image_encoder(entry, pixels=32, weights="given")(films, training=False))
    if expected.ndim == 2:
        np.testing.assert_allclose(encoding["vector"], expected, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_allclose(encoding["sequence"].reshape(expected.shape), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(encoding["vector"], expected.mean(axis=(1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.large
def test_its_weights_are_pretrained_weights_that_a_fit_loads():
    register_image_encoder("mine", build_colour_cnn())
    entry = IMAGE_ENCODERS["mine"]
    model = build_model(ModelSpec(image_encoder="mine", pixels=32), label_count=1)
    encoder, given = image_encoder_of(model), build_image_encoder(entry, pixels=32, weights="given")
    assert not np.array_equal(*(to_numpy(one.get_layer("conv").kernel) for one in (encoder, given)))
    report = load_image_weights(encoder, "mine", "given")
    assert all(np.array_equal(a, b) for a, b in zip(encoder.get_weights(), given.get_weights(), strict=True))
    assert (report.source, report.tensors) == ("given", len(given.weights))


@pytest.mark.parametrize(
    ("make", "affine"),
    [
        (lambda x: layers.Conv2D(3, 3)(x), True),
        (lambda x: layers.BatchNormalization()(layers.Conv2D(3, 3)(x)), True),
        (lambda x: layers.AveragePooling2D(2)(x) * 2 - 1, True),
        (lambda x: layers.Dropout(0.5)(x), True),
        (lambda x: layers.Conv2D(3, 3, activation="relu")(x), False),
        (lambda x: layers.LayerNormalization()(layers.Conv2D(3, 3)(x)), False),
        (lambda x: layers.MaxPooling2D()(x), False),
        (lambda x: layers.PReLU()(x), False),
        (lambda x: x + layers.BatchNormalization(gamma_initializer="zeros")(ops.relu(x)), False),
        (lambda x: ops.tanh(1e-3 * x), False),
    ],
    ids=["convolution", "normalised", "mean", "dropout", "relu", "layer norm", "maximum", "prelu", "hidden", "tanh"],
)
def test_an_affine_layer_is_told_from_others_whatever_its_weights(make, affine):
    film = keras.Input((16, 16, 1))
    model = keras.Model(film, layers.Identity(name="end")(make(film)))
    assert is_affine(model, "end") is affine


class Plain(layers.Layer):
    """A layer that is not registered."""

    def call(self, x):
        return x


class Subclassed(keras.Model):
    """A model whose layers cannot be read."""

    def call(self, x):
        return x


def image_model(*make, shape=(32, 32, 1)):
    image = keras.Input(shape)
    return keras.Model(image, [one(image) for one in make] if len(make) > 1 else make[0](image))


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (Subclassed, "is the subclassed model Subclassed, whose layers kmm cannot read. Build it with the functional"),
        (
            lambda: keras.Sequential([layers.Dense(1)]),
            "has no input shape. Begin the Sequential model with keras.Input",
        ),
        (
            lambda: image_model(layers.Lambda(lambda x: 2 * x, name="twice")),
            "has the Lambda layer 'twice', which cannot",
        ),
        (lambda: image_model(Plain(name="p")), "has the layer 'p' of the unregistered class Plain. Decorate the class"),
        (lambda: image_model(layers.ReLU(), layers.ReLU()), "must have 1 input and 1 output. Received: 1 and 2. Give"),
        (lambda: image_model(layers.ReLU(), shape=(32, 32, 2)), "with 1 or 3 channels. Received: (None, 32, 32, 2)."),
        (
            lambda: image_model(layers.ReLU(), shape=(32, 16, 1)),
            "must read square images. Received: (None, 32, 16, 1).",
        ),
        (
            lambda: image_model(layers.ReLU(), shape=(16, 16, 1)),
            "must read images of at least 32 pixels. Received: 16.",
        ),
        (lambda: image_model(layers.Reshape((-1, 4))), "must end in a map (n, rows, columns, channels) or a vector"),
        (lambda: image_model(layers.Flatten()), "has no layer that returns a map (n, rows, columns, channels)"),
    ],
)
def test_a_model_that_cannot_be_an_image_encoder_is_refused_in_one_line(build, said):
    model = build()
    with pytest.raises(InputError) as caught:
        register_image_encoder("mine", model)
    assert said in str(caught.value) and "\n" not in str(caught.value) and "'mine'" in str(caught.value)
    assert "mine" not in IMAGE_ENCODERS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stem": "max_pool"}, "The layer 'max_pool' of the encoder 'mine' is not an affine function of the film."),
        ({"stem": "shared"}, "The encoder 'mine' cannot be cut behind the layer 'shared': it is the feature map, or"),
        (
            {"top": "head"},
            "Unknown layer of the encoder 'mine' 'head'. Known: normalise, conv, bn, max_pool, inner/pool",
        ),
        ({"feature_map": "add"}, "ends in a map, so `feature_map` must be its last layer. Received: 'add'."),
        ({"scaling": "half"}, "Unknown scaling 'half'. Known: none, unit, symmetric, xrv, imagenet."),
        ({"pooling": "median"}, "Unknown pooling 'median'. Known: average, max-average, network."),
        ({"pooling": "network"}, "ends in a map. Give the `pooling` average or max-average."),
        ({"pixels": 64}, "reads images of 32 pixels. Leave out `pixels`. Received: 64."),
    ],
)
def test_an_option_that_does_not_fit_the_model_is_refused_in_one_line(options, said):
    with pytest.raises(InputError) as caught:
        register_image_encoder("mine", build_colour_cnn(), **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_options_name_layers_as_the_model_does():
    found = make_image_entry(
        build_colour_cnn(),
        "mine",
        ImageOptions(
            stem="conv", blocks=("max_pool", "inner/relu", "last_conv"), top="inner/conv", pooling="max-average"
        ),
    )
    assert (found.stem, found.blocks, found.top) == ("conv", ("max_pool_own2", "relu", "last_conv"), "conv_own2")


def test_another_size_of_film_is_refused_before_a_fit_begins():
    register_image_encoder("mine", build_colour_cnn)
    with pytest.raises(
        InputError, match=r"^The image encoder 'mine' takes films of 32 pixels only. Set `pixels` to 32."
    ):
        ModelSpec(image_encoder="mine", pixels=64)
    register_text_encoder("words", build_word_model)
    with pytest.raises(
        InputError, match=r"^The text encoder 'words' takes reports of 12 words only. Set `length` to 12."
    ):
        ModelSpec(text_encoder="words", length=20)
    with pytest.raises(
        InputError, match=r"takes rows of 6 numbers only. Set `embedding_size` to 6, or give word vectors"
    ):
        build_text_encoder(TEXT_ENCODERS["words"], length=12, embedding_size=8, filters=1, dropout=0)


def test_what_is_registered_is_made_when_it_is_used_and_must_be_a_model():
    register_image_encoder("wrong", lambda: "a string")
    with pytest.raises(InputError, match=r"^The model of the encoder 'wrong' must be a keras.Model. Received: str.$"):
        IMAGE_ENCODERS["wrong"]
    with pytest.raises(
        InputError, match=r"^The encoder 'none' must be a keras.Model, a function that returns one, or a I"
    ):
        register_image_encoder("none", 3)
    with pytest.raises(InputError, match=r"^The name 'small-cnn' is taken by another image encoder."):
        register_image_encoder("small-cnn", build_vector_cnn)
    with pytest.raises(InputError, match=r"^The entry 'other' describes itself. Leave out: scaling.$"):
        register_image_encoder("other", IMAGE_ENCODERS["small-cnn"], scaling="unit")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ("rows", "mask"),
            "must have the inputs rows (n, t, d) and padding_mask (n, t): keras.Input(..., name='rows')",
        ),
        (("rows",), "must have 2 inputs and 1 output. Received: 1 and 1."),
    ],
)
def test_a_model_that_cannot_be_a_text_encoder_is_refused_in_one_line(names, said):
    inputs = [keras.Input((12, 6) if name == "rows" else (12,), name=name) for name in names]
    with pytest.raises(InputError) as caught:
        register_text_encoder("mine", keras.Model(inputs, layers.Dense(3)(inputs[0])))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_text_encoder_computes_what_its_model_computes():
    random = np.random.default_rng(0)
    inputs = {"rows": random.normal(size=(3, 12, 6)).astype("float32"), "padding_mask": np.ones((3, 12), "float32")}
    inputs["padding_mask"][1, 5:] = 0
    inputs["padding_mask"][2] = 0
    for model in (build_word_model(), build_word_model(sequence=True)):
        entry = make_text_entry(model, "words")
        encoder = build_text_encoder(entry, length=12, embedding_size=6, filters=1, dropout=0.5)
        found = to_numpy(encoder(inputs, training=False))
        expected = to_numpy(model([inputs[tensor.name] for tensor in model.inputs], training=False))
        if expected.ndim == 2:
            np.testing.assert_allclose(found["vector"], expected, atol=1e-6)
            assert found["sequence"].shape == (3, 12, 7)
        else:
            np.testing.assert_allclose(found["sequence"], expected, atol=1e-6)
            np.testing.assert_allclose(found["vector"][1], expected[1, :5].mean(axis=0), atol=1e-6)
            assert not found["vector"][2].any()  # no words
        assert np.array_equal(found["mask"], inputs["padding_mask"])


def test_a_model_has_one_digest_in_every_process_that_builds_or_loads_it(tmp_path):
    model = build_colour_cnn()
    layers.Conv2D(1, 1), layers.Add(), keras.Input((3,))  # names are counted on
    again, other = build_colour_cnn(), build_colour_cnn(adapt=False)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert model_digest(model) == model_digest(again) == model_digest(loaded) != model_digest(other)
    again.get_layer("last_conv").bias.assign(np.ones(8))
    assert model_digest(model) != model_digest(again)


@pytest.mark.large
def test_a_given_model_gets_a_name_of_its_own_that_does_not_change():
    model = build_colour_cnn()
    settings = give_image_encoder(model)
    name = settings["image_encoder"]
    assert settings == {"image_encoder": name, "image_weights": "given", "pixels": 32}
    assert name.startswith("colour_cnn-") and len(name) == len("colour_cnn-") + 8
    assert give_image_encoder(build_colour_cnn()) == settings
    assert give_image_encoder(model, scaling="unit")["image_encoder"] != name
    assert give_image_encoder(build_vector_cnn())["image_encoder"].startswith("vector_cnn-")
    assert "pixels" not in give_image_encoder(build_vector_cnn())
    given = give_text_encoder(build_word_model())
    assert given == {"text_encoder": given["text_encoder"], "length": 12, "embedding_size": 6}
    with pytest.raises(InputError, match=r"^Expected the name of an encoder or a keras.Model. Received: int."):
        give_image_encoder(3)


@pytest.mark.large
def test_a_resumed_fit_gets_its_models_back_from_the_work_folder(tmp_path):
    chosen = {**give_image_encoder(build_vector_cnn(), scaling="unit"), **give_text_encoder(build_word_model())}
    settings = FitSettings.from_dict(chosen)
    keep_given_models(settings, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("image_encoder.json", "image_encoder.keras", "text_encoder.json", "text_encoder.keras")
    ]
    before = IMAGE_ENCODERS.pop(settings.image_encoder), TEXT_ENCODERS.pop(settings.text_encoder)
    keep_given_models(settings, tmp_path)  # as in a process that registered nothing
    after = IMAGE_ENCODERS[settings.image_encoder], TEXT_ENCODERS[settings.text_encoder]
    assert [entry.describe() for entry in before] == [entry.describe() for entry in after]
    encoders = [build_image_encoder(entry, pixels=32, weights="given") for entry in (before[0], after[0])]
    assert model_digest(encoders[0]) == model_digest(encoders[1])
    keep_given_models(settings, tmp_path)
    del IMAGE_ENCODERS[settings.image_encoder]
    register_image_encoder(settings.image_encoder, build_colour_cnn())
    with pytest.raises(InputError, match=r"cannot be resumed: the model of the encoder 'vector_cnn-.{8}' changed"):
        keep_given_models(settings, tmp_path)


def test_encoders_of_kmm_leave_nothing_in_the_work_folder(tmp_path):
    keep_given_models(FitSettings(), tmp_path / "work")
    keep_given_models(FitSettings(image_encoder="unknown", text_encoder=None), tmp_path / "work")
    assert not (tmp_path / "work").exists()


@pytest.mark.large
def test_a_model_of_one_s_own_keeps_the_promises_of_every_entry(tmp_path):
    register_image_encoder("mine", build_vector_cnn())
    check_image_encoder("mine", tmp_path)


@pytest.mark.large
def test_a_model_of_colour_images_keeps_the_promises_of_every_entry(tmp_path):
    register_image_encoder("mine", build_colour_cnn())
    check_image_encoder("mine", tmp_path)


@pytest.mark.large
@pytest.mark.parametrize("sequence", [False, True])
def test_a_text_model_of_one_s_own_keeps_the_promises_of_every_entry(sequence, tmp_path):
    register_text_encoder("words", build_word_model(sequence=sequence))
    check_text_encoder("words", tmp_path)
