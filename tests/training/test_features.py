"""Features of encoders by side and part."""

import dataclasses
import hashlib
from contextlib import contextmanager
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.image.prepare import ImagePreparation
from kmm.models.build import ModelSpec, build_model
from kmm.models.fusion import FUSIONS, Fusion
from kmm.models.views.parts import copy_encoder_weights, embed_of, image_encoder_of, parts_read, text_encoder_of
from kmm.models.weights.checkpoints import architecture_digest
from kmm.progress import Progress
from kmm.training import features as room
from kmm.training.cache.array_store import ArrayStore
from kmm.training.features import Features, Source, choose_batch, digest_encoder, fill_stores, read_ahead

COUNT = 11
SPEC = ModelSpec("small-cnn", "text-cnn", pixels=32, length=6, embedding_size=4, text_filters=3, fusion_units=8)


@pytest.fixture
def context(tmp_path):
    """What features need of a run: films of 11 studies, two of them equal and one missing, and reports."""
    generator = np.random.default_rng(0)
    films = generator.uniform(0, 255, (COUNT, 32, 32, 1)).astype("float32")
    films[4], films[5] = films[2], 0
    digests = [hashlib.sha256(film.tobytes()).hexdigest() for film in films]
    digests[5] = ""
    ids = generator.integers(2, 9, (COUNT, 6)).astype("int32")
    ids[7] = ids[3]
    return SimpleNamespace(
        settings=SimpleNamespace(image_encoder="small-cnn", text_encoder="text-cnn", precision="float32", length=6),
        prepared=SimpleNamespace(films=films, film_digests=digests),
        maker=SimpleNamespace(image=ImagePreparation(32)),
        token_ids=ids,
        work=tmp_path / "work",
        cache=tmp_path / "cache",
        progress=Progress(),
    )


def build(seed=0):
    return build_model(SPEC, label_count=1, vocabulary_size=9, seed=seed)


def encode(model, context):
    """The encodings of all films and reports, each by one call of its encoder."""
    rows = embed_of(model)(context.token_ids)
    mask = keras.ops.convert_to_tensor((context.token_ids != 0).astype("float32"))
    made = {
        "image": image_encoder_of(model)(context.prepared.films, training=False),
        "text": text_encoder_of(model)({"rows": rows, "padding_mask": mask}, training=False),
    }
    arrays = {
        f"{side}_{part}": np.array(keras.ops.convert_to_numpy(array))
        for side, encoding in made.items()
        for part, array in encoding.items()
    }
    for name in arrays:
        if name.startswith("image"):
            arrays[name][5] = 0
    return arrays


@pytest.fixture
def calls(monkeypatch):
    """Numbers of films and reports that are encoded from now on, by name of the encoder's input."""
    counts, read = {}, room.read_ahead

    def count(column, rows, size):
        name = "image" if np.ndim(column) == 4 else "token_ids"
        counts[name] = counts.get(name, 0) + len(rows)
        return read(column, rows, size)

    monkeypatch.setattr(room, "read_ahead", count)
    return counts


def test_features_are_those_of_the_encoders_and_zero_without_a_film(context, calls):
    model = build()
    found, expected = Features(context).compute(model, ("image", "text")), encode(model, context)
    assert set(found) == {"image_vector", "text_vector"}
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], atol=1e-4)
    assert calls == {"image": COUNT - 2, "token_ids": COUNT - 1}  # equal ones once


def all_parts(features, present):
    """A fusion that reads every part of an encoding."""
    flat = [
        keras.layers.Flatten()(part if part.shape[2:] else keras.ops.expand_dims(part, -1))
        for parts in features.values()
        for part in parts.values()
    ]
    return {"parts": keras.layers.Concatenate()(flat)}


def test_a_fusion_gets_the_parts_that_it_needs_in_one_pass(context, calls, monkeypatch):
    needs = ("vector", "sequence", "mask")
    monkeypatch.setitem(FUSIONS, "concat", Fusion(all_parts, needs, FUSIONS["concat"].join, ""))
    model = build()
    assert parts_read(model, "image") == parts_read(model, "text") == needs
    found, expected = Features(context).compute(model, ("image", "text")), encode(model, context)
    assert set(found) == set(expected)
    for name, values in found.items():
        half = 2**-10 if name.endswith("sequence") else 0  # the precision of half floats
        np.testing.assert_allclose(values, expected[name], atol=1e-4, rtol=half)
        assert values.dtype == np.float32
    assert calls == {"image": COUNT - 2, "token_ids": COUNT - 1}


def test_what_the_joint_model_will_read_of_a_frozen_encoder_is_computed_in_the_same_pass(context, calls):
    image = build_model(ModelSpec("small-cnn", pixels=32, fusion="cross-attention"), label_count=1)
    joint = build_model(dataclasses.replace(SPEC, fusion="cross-attention"), label_count=1, vocabulary_size=9)
    copy_encoder_weights(image, joint)
    needs = FUSIONS["cross-attention"].needs
    features = Features(context, {"image": needs})
    alone = features.compute(image, ("image",))
    assert calls == {"image": COUNT - 2}
    assert set(features.compute(joint, ("image",))) == {f"image_{part}" for part in needs} == set(alone)
    assert calls == {"image": COUNT - 2}
    later = Features(context)
    later._known["image"] = digest_encoder(image, "image"), {"image_vector": alone["image_vector"]}
    found = later.compute(joint, ("image",))  # parts that are not known yet are added
    assert all(np.array_equal(found[name], alone[name]) for name in alone)


def test_sequences_are_stored_as_half_floats_and_everything_else_as_computed(context, calls, monkeypatch):
    monkeypatch.setitem(
        FUSIONS, "concat", Fusion(all_parts, ("vector", "sequence", "mask"), FUSIONS["concat"].join, "")
    )
    model = build()
    cold = Features(context).compute(model, ("image", "text"))
    calls.clear()
    warm = Features(context).compute(model, ("image", "text"))
    assert not calls
    stored = {}
    for folder in context.cache.iterdir():
        like = ArrayStore(folder).like
        stored[folder.name.rpartition("-")[0].removeprefix("features-")] = (like.dtype, like.shape)
    sequences = {name: array.shape[1:] for name, array in cold.items() if name.endswith("sequence")}
    assert stored["small-cnn-sequence"] == ("<f2", sequences["image_sequence"])
    assert stored["text-cnn-sequence"] == ("<f2", sequences["text_sequence"])
    assert {stored[f"{name}-{part}"][0] for name in ("small-cnn", "text-cnn") for part in ("vector", "mask")} == {"<f4"}
    for name, array in cold.items():
        np.testing.assert_array_equal(array, warm[name])
        if name in sequences:
            np.testing.assert_array_equal(array, array.astype(np.float16))


@pytest.mark.large
def test_vectors_do_not_change_because_a_fusion_reads_sequences_too(context, monkeypatch):
    model = build()
    alone = Features(context).compute(model, ("image", "text"))
    places = {path.name for path in context.cache.iterdir()}
    monkeypatch.setitem(FUSIONS, "concat", Fusion(all_parts, ("vector", "sequence"), FUSIONS["concat"].join, ""))
    both = Features(context).compute(build(), ("image", "text"))
    for name, array in alone.items():
        np.testing.assert_array_equal(both[name], array)
    assert places <= {path.name for path in context.cache.iterdir()}  # vectors that are in a cache stay of use


def test_numbers_beyond_half_floats_are_cut_and_counted(tmp_path):
    film = keras.Input((2, 3), name="image")
    encoder = keras.Model({"image": film}, {"sequence": film * 2.0, "vector": keras.ops.sum(film * 2.0, axis=1)})
    films = np.float32([[[1, -2, 3], [4e4, -4e4, 0]], [[np.nan, 1e-9, 0.1], [0, 0, 0]]])
    notes, progress = [], Progress()
    progress.note = notes.append
    stores = {part: ArrayStore(tmp_path / part) for part in ("sequence", "vector")}
    fill_stores(encoder, Source("image", "twice", films, ["a", "b"], {}, "Features of films"), stores, progress)
    found = stores["sequence"].column(["a", "b"], np.float32)[[0, 1]]
    np.testing.assert_array_equal(found[0], [[2, -4, 6], [65504, -65504, 0]])
    np.testing.assert_array_equal(found[1], [[np.nan, 0, np.float16(0.2)], [0, 0, 0]])
    assert stores["vector"].column(["a"])[[0]].tolist() == [[80002, -80004, 6]]
    assert notes == ["Features of films: 2 numbers are outside the range of half floats and were set to its limits."]


@pytest.mark.large
def test_another_run_computes_what_the_cache_lacks_and_what_something_else_decides(context, calls):
    def compute(seed=0):
        calls.clear()
        return Features(context).compute(build(seed), ("image", "text"))

    first = compute()
    again = compute()
    assert not calls
    for name in first:
        np.testing.assert_array_equal(first[name], again[name])
    context.prepared.film_digests[5] = "5" * 64  # a film that is new
    compute()
    assert calls == {"image": 1}
    compute(seed=1)
    assert calls == {"image": COUNT - 1, "token_ids": COUNT - 1}
    context.maker.image = ImagePreparation(32, "stretch")
    compute()
    assert calls == {"image": COUNT - 1}
    context.settings.precision = "mixed_float16"
    compute()
    assert calls == {"image": COUNT - 1, "token_ids": COUNT - 1}


def test_vectors_of_any_precision_are_stored_as_float32(context):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build()
        found, expected = Features(context).compute(model, ("image", "text")), encode(model, context)
    finally:
        keras.config.set_dtype_policy(before)
    for name, values in found.items():
        assert np.asarray(values).dtype == np.float32
        np.testing.assert_array_equal(values, expected[name].astype(np.float32))


def test_features_of_an_encoder_that_the_run_trains_are_not_in_the_cache(context):
    features = Features(context)
    features.mark_trained("text")
    features.compute(build(), ("image", "text"))
    assert [path.name.rpartition("-")[0] for path in context.cache.iterdir()] == ["features-small-cnn-vector"]


@pytest.mark.large
def test_features_are_recalled_for_the_same_weights_only(context, calls):
    features, model = Features(context), build()
    assert features.recall(model) == {}
    found = features.compute(model, ("image", "text"))
    calls.clear()
    twin = build(seed=1)
    for part in (embed_of, image_encoder_of, text_encoder_of):
        part(twin).set_weights(part(model).get_weights())
    assert set(features.recall(twin)) == {"image_vector", "text_vector"}
    assert features.compute(twin, ("image",))["image_vector"] is found["image_vector"]
    kernel = text_encoder_of(twin).trainable_weights[0]
    kernel.assign(kernel * 2)
    assert set(features.recall(twin)) == {"image_vector"} and not calls
    features.compute(twin, ("image", "text"))
    assert calls == {"token_ids": COUNT - 1} and set(features.recall(model)) == {"image_vector"}


def test_large_features_stay_on_disk(context, monkeypatch):
    model = build()
    in_memory = Features(context).compute(model, ("image",))["image_vector"]
    monkeypatch.setattr(room, "MEMORY_BYTES", 100)
    on_disk = Features(context).compute(model, ("image",))["image_vector"]
    assert isinstance(in_memory, np.ndarray) and not isinstance(on_disk, np.ndarray)
    rows = np.array([5, 0, 4])
    np.testing.assert_array_equal(on_disk[rows], in_memory[rows])


def test_batches_are_bounded_by_the_largest_layer():
    def network(pixels, channels):
        film = keras.Input((pixels, pixels, 1))
        inner = keras.Model(film, keras.layers.Conv2D(channels, 3, padding="same")(film))
        outer = keras.Input((pixels, pixels, 1))
        return keras.Model(outer, keras.layers.GlobalAveragePooling2D()(inner(outer)))

    assert choose_batch(network(64, 16), 10_000) == 256
    assert choose_batch(network(512, 64), 10_000) == 4  # 64 MiB each
    assert choose_batch(network(2048, 64), 10_000) == 1
    assert [choose_batch(network(64, 16), count) for count in (1, 2, 3, 33, 256)] == [1, 2, 4, 64, 256]


def test_the_next_batch_is_read_while_one_is_used():
    class Column:
        asked = 0

        def __getitem__(self, rows):
            self.asked += 1
            return np.asarray(rows) * 10

    column, seen = Column(), []
    for start, batch in read_ahead(column, list(range(7)), 3):
        seen.append((start, batch.tolist()))
    assert seen == [(0, [0, 10, 20]), (3, [30, 40, 50]), (6, [60, 60, 60])] and column.asked == 3


class Films:
    """A column of films of 2 x 2 pixels, of which only so many can be read."""

    def __init__(self, most):
        self.most, self.films = most, np.random.default_rng(0).normal(size=(600, 2, 2, 1)).astype("float32")

    def __getitem__(self, rows):
        if max(rows) >= self.most:
            raise OSError(5, "the disk is gone")
        return self.films[rows]


def fill(folder, column, monkeypatch):
    """Fills a store with the sums of films; returns it and the number of films that were encoded."""
    film = keras.Input((2, 2, 1), name="image")
    encoder = keras.Model({"image": film}, {"vector": keras.ops.sum(film, axis=(1, 2))})
    monkeypatch.setattr(room, "choose_batch", lambda encoder, count: 50)
    progress, counts = Counting(), []
    progress.counts = counts
    keys = [f"{row:064d}" for row in range(600)]
    store = ArrayStore(folder)
    source = Source("image", "sum", column, keys, {}, "Features of films")
    try:
        fill_stores(encoder, source, {"vector": store}, progress)
    finally:
        filled = sum(counts)
    np.testing.assert_allclose(store.column(keys)[np.arange(600)][:, 0], column.films.sum(axis=(1, 2, 3)), rtol=1e-4)
    return filled


class Counting(Progress):
    @contextmanager
    def step(self, title, total, done=0):
        yield lambda count=1, text="": self.counts.append(count)


def test_a_computation_that_was_stopped_keeps_all_but_the_last_shard(tmp_path, monkeypatch):
    with pytest.raises(OSError, match="the disk is gone"):
        fill(tmp_path / "f", Films(most=500), monkeypatch)
    assert fill(tmp_path / "f", Films(most=600), monkeypatch) == 600 - 256
    assert fill(tmp_path / "f", Films(most=0), monkeypatch) == 0


def test_too_small_a_disk_is_said_before_features_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 100})())
    with pytest.raises(InputError, match="too little free disk space: features of films need"):
        fill(tmp_path / "f", Films(most=600), monkeypatch)
    assert not list(tmp_path.iterdir())


def test_an_architecture_is_known_whatever_its_layers_are_called():
    def network(activation):
        film = keras.Input((2, 2, 1))
        x = keras.ops.max(keras.layers.Dense(2, activation=activation)(film), axis=1)
        return keras.Model(film, keras.layers.Flatten()(x))

    relu, tanh, again = map(architecture_digest, map(network, ("relu", "tanh", "relu")))
    assert relu == again != tanh
