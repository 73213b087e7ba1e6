"""One call per entry of a table of models: everything that the rest of kmm expects of it.

    check_image_encoder("densenet121", folder)     an entry of `IMAGE_ENCODERS`
    check_text_encoder("text-cnn", folder)         an entry of `TEXT_ENCODERS`
    check_fusion("concat", "mlp", folder)          an entry of `FUSIONS` with one of `HEADS`

Each builds tiny models on the backend that Keras runs on, and raises `AssertionError` where one of them does not keep a
promise of `kmm.models`: outputs, training, saving, the cut behind the stem, features computed apart, the memory of a
path point, the export. An entry that is added to its table at run time is checked in the same way.
"""

import contextlib
import dataclasses
from unittest import mock

import keras
import numpy as np
from keras import layers, ops

from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS, SCALINGS, list_starts
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.fusion import FUSIONS, SIDES, Fusion, build_fusion
from kmm.models.heads import HEADS
from kmm.models.image_vector import arrange
from kmm.models.stand_in import StandIn
from kmm.models.transformer.shape import TransformerShape
from kmm.models.views.parts import encoders_of, fusion_of, image_encoder_of, set_trainable, text_encoder_of
from kmm.models.views.path_view import view_path
from tests.export_roads import check_export
from tests.model_checks import (
    VOCABULARY_SIZE,
    check_encoding,
    check_feature_view,
    check_learns,
    check_mask_is_read,
    check_path_memory,
    check_path_view,
    check_same_after_save_and_load,
    compile_quickly,
    core_inputs,
    model_inputs,
    read_text,
    run_halves,
    stir,
    to_numpy,
)

SIZES = {"length": 12, "embedding_size": 6, "text_filters": 4, "fusion_units": 16}
SMALL_SHAPE = TransformerShape(layers=2, heads=2, width=8, hidden=12, epsilon=1e-6)
NO_DROPOUT = {"text_dropout": 0, "fusion_dropout": 0}  # a mask may hide a weight from the gradients


def check_image_encoder(name, folder, *, pixels=32, structure_only=False):
    """Checks an entry of `kmm.models.encoders_image.IMAGE_ENCODERS`.

    Args:
        name: str. Key of the table.
        folder: Path of an empty folder for the files of the check.
        pixels: int. Side of the films; the smallest that the network takes makes the check fast.
        structure_only: bool. Check outputs, the cut and features alone: training, saving, memory and the export of a
            deep network take a minute.

    Raises:
        AssertionError: if the entry breaks a promise of `ImageEncoder`.
    """
    entry, spec = IMAGE_ENCODERS[name], ModelSpec(image_encoder=name, pixels=pixels, **SIZES, **NO_DROPOUT)
    model = _build(spec)
    encoder = image_encoder_of(model)
    _check_named_layers(entry, encoder)
    check_encoding(encoder, model_inputs(model)["image"])
    with other_fusions() as names:
        for fusion in names:
            pair = {"text_encoder": "text-cnn"} if FUSIONS[fusion].alone else {}  # alone it is as the default
            kind = dataclasses.replace(spec, fusion=fusion, **pair)
            other = _build(kind)
            again = [layer.name for layer in image_encoder_of(other).layers]
            assert again == [layer.name for layer in encoder.layers], "a second build has other names of layers"
            _check_views(other, **{**find_descriptions(kind), "image_encoder": entry})
    if structure_only:
        _check_views(model, image_encoder=entry)
        return
    _check_model(model, folder, image_encoder=entry)
    _check_top(model, spec, "image", entry)
    check_export(model, spec, folder, entry.network)


def check_text_encoder(name, folder):
    """Checks an entry of `kmm.models.encoders_text.TEXT_ENCODERS`, alone and beside the films of `small-cnn`.

    Args, Raises: as for `check_image_encoder`.
    """
    entry = TEXT_ENCODERS[name]
    spec = ModelSpec(text_encoder=name, **SIZES, **NO_DROPOUT, text_shape=entry.shape and SMALL_SHAPE)
    both = dataclasses.replace(spec, image_encoder="small-cnn", pixels=32)
    model = _build(spec)
    check_encoding(text_encoder_of(model), read_text(model, model_inputs(model)))
    with other_fusions() as names:
        for fusion in names:
            for kind in (spec, both):
                other = _build(dataclasses.replace(kind, fusion=fusion))
                _check_views(other, **find_descriptions(kind))
    _check_views(_build(both), **find_descriptions(both))
    _check_model(model, folder, text_encoder=entry)
    _check_top(model, spec, "text", entry)
    check_export(model, spec, folder, entry.network)


def check_fusion(name, head, folder):
    """Checks an entry of `kmm.models.fusion.FUSIONS` with one of `kmm.models.heads.HEADS`: of films, of reports and of
    both.

    Args, Raises: as for `check_image_encoder`.
    """
    entry = FUSIONS[name]
    kinds = {"image": {"image_encoder": "small-cnn"}, "text": {"text_encoder": "text-cnn"}}
    kinds["both"] = kinds["image"] | kinds["text"]
    for kind, sides in kinds.items():
        fusion = build_tiny_fusion(name, tuple(SIDES) if kind == "both" else (kind,), head=head)
        inputs = fusion_inputs(fusion)
        _check_absent_sides(fusion, inputs)
        check_learns(fusion, inputs)
        check_same_after_save_and_load(fusion, inputs, folder)
        assert len(fusion.get_layer("joint").output.shape) == 2
        spec = ModelSpec(fusion=name, head=head, pixels=32, **sides, **SIZES, **NO_DROPOUT)
        model = _build(spec)
        if kind != "both":
            _check_views(model, **find_descriptions(spec))
    _check_model(model, folder, **find_descriptions(spec))
    _check_join(entry, name, head)
    check_export(model, spec, folder, entry.network)


@contextlib.contextmanager
def other_fusions():
    """Adds a fusion that reads sequences and masks to the table; yields the names of all but the default fusion."""
    probe = Fusion(_average_rows, needs=("sequence", "mask"), join=lambda *args: None, source="made for this check")
    with mock.patch.dict(FUSIONS, {"average-rows": probe}):
        yield [name for name in FUSIONS if name != ModelSpec.fusion]


def _average_rows(features, present):
    """Averages the rows of each side that its mask does not hide."""
    means = []
    for side, parts in features.items():
        mask = ops.expand_dims(parts["mask"], -1)
        mean = ops.sum(parts["sequence"] * mask, axis=1) / (ops.sum(mask, axis=1) + 1e-3)
        means.append(StandIn(SIDES.index(side), name=f"{side}_stand_in")(mean, present))
    return {"rows": layers.Concatenate(name="means")(means) if len(means) > 1 else means[0]}


def build_tiny_fusion(name, sides=SIDES, head="decoder", *, dropout=0.0, shape=None):
    """Builds a fusion alone, of stand-ins for encoders: a fusion asks only for the shapes of their outputs."""
    sizes = {"image": 4, "text": 3}
    encoders = {}
    for side in sides:
        rows = keras.Input((5, sizes[side]))
        mask = ops.max(rows, axis=-1)
        encoders[side] = keras.Model(rows, {"vector": ops.max(rows, axis=1), "sequence": rows, "mask": mask})
    keras.utils.set_random_seed(0)
    return build_fusion(FUSIONS[name], encoders, label_count=2, units=8, dropout=dropout, head=head, shape=shape)


def fusion_inputs(fusion, n=6):
    """Makes features of a fusion; the film of one study and the report of another are absent."""
    random = np.random.default_rng(0)
    inputs = {
        name: random.normal(size=(n, *tensor.shape[1:])).astype("float32") for name, tensor in fusion.input.items()
    }
    inputs["present"] = np.ones((n, 2), "float32")
    inputs["present"][1] = 0, 1
    inputs["present"][2] = 1, 0
    return inputs


def find_descriptions(spec):
    """Returns the arguments of `view_path` for a model of a specification: the entries of its encoders."""
    tables = {"image_encoder": IMAGE_ENCODERS, "text_encoder": TEXT_ENCODERS}
    names = {side: getattr(spec, side) for side in tables}
    return {side: tables[side][name] for side, name in names.items() if name}


def _build(spec):
    model = build_model(spec, label_count=2, vocabulary_size=VOCABULARY_SIZE)
    stir(model)
    return model


def _check_named_layers(entry, encoder):
    """The layers that an entry names are there, in the order of the network, and give what the entry says."""
    assert entry.scaling in SCALINGS, f"no scaling {entry.scaling}"
    order = [layer.name for layer in encoder.layers]
    assert entry.top in order, f"no layer {entry.top}"
    feature_map = encoder.get_layer(entry.feature_map).output
    assert feature_map is encoder.get_layer("places").input, f"{entry.feature_map} is not the last feature map"
    last = encoder.get_layer(entry.feature_map)
    maps = [arrange(encoder.get_layer(block).output, last).shape for block in entry.blocks]
    assert all(len(shape) == 4 for shape in maps), f"blocks give {maps}"
    sides = [shape[1] for shape in maps]
    assert sides == sorted(sides, reverse=True), f"the sides of the blocks grow: {sides}"
    assert sides[-1] == feature_map.shape[1], f"the last block has the side {sides[-1]}, the map {feature_map.shape[1]}"
    places = [order.index(name) for name in (entry.stem, entry.blocks[0], entry.blocks[-1])]
    assert places[0] < places[1] <= places[2], "stem and blocks are not in the order of the network"
    starts = [order.index(name) for name in list_starts(entry, encoder)]
    assert starts == sorted(set(starts), reverse=True), "the blocks of gradual unfreezing are not from the top down"
    weighted = [number for number, layer in enumerate(encoder.layers) if layer.weights]
    assert starts[-1] <= weighted[0], "the blocks of gradual unfreezing leave out layers"


def _check_views(model, **encoders):
    """The cut and the features of a model, whatever its fusion reads."""
    view = check_path_view(model, **encoders)
    check_feature_view(model)
    if encoders.get("text_encoder") and "text_mask" in fusion_of(model).input:
        check_mask_is_read(model)
    return view


def _check_model(model, folder, **encoders):
    """Views, memory, training, saving and loading of a whole model."""
    view = _check_views(model, **encoders)
    check_path_memory(view, core_inputs(model))
    inputs = model_inputs(model)
    check_learns(model, inputs)
    loaded = check_same_after_save_and_load(model, inputs, folder)
    halves = [run_halves(view_path(one, **encoders), core_inputs(model)) for one in (model, loaded)]
    np.testing.assert_allclose(*halves, rtol=1e-5, atol=1e-6)


def _check_top(model, spec, side, entry):
    """Where the top of a side is trained, a step changes the layers from the named one on, but for normalisation, and
    none below it: of films the first layers, of reports the rows of words at least."""
    known = [layer for part in encoders_of(model, side) for layer in part.layers]
    constant = {id(weight) for layer in known for weight in layer.non_trainable_weights}  # whatever is trained
    set_trainable(model, spec, **{side: "top"}, batch_norm="inference")
    inputs = model_inputs(model)
    before = [(layer, weight, to_numpy(weight)) for layer in known for weight in layer.weights]
    compile_quickly(model)
    model.train_on_batch(inputs, np.resize([[0.0], [1.0]], (len(inputs["present"]), 2)))
    order = [layer.name for layer in known]
    first = entry.top or encoders_of(model, side)[-1].layers[0].name
    below, above = [], []
    for layer, weight, old in before:
        place = above if order.index(layer.name) >= order.index(first) else below
        fixed = place is below or isinstance(layer, layers.BatchNormalization) or id(weight) in constant
        assert np.array_equal(to_numpy(weight), old) == fixed, f"{weight.path} when the top is trained"
        place.append(layer)
    assert below and above, "the top is all of the network, or none of it"


def _check_absent_sides(fusion, inputs):
    """What a study does not have changes nothing, whatever stands in its place."""
    logits, spoiled = to_numpy(fusion(inputs, training=False)), {name: value.copy() for name, value in inputs.items()}
    for name, value in spoiled.items():
        if name.startswith("image_"):
            value[1] = np.nan
        elif name.startswith("text_"):
            value[2] = np.inf
    assert np.array_equal(to_numpy(fusion(spoiled, training=False)), logits)


def _check_join(entry, name, head):
    """A joined fusion starts as the weighted sum of the fusions of both sides."""
    shared = {"pixels": 32, "length": 6, "embedding_size": 4, "text_filters": 3, "fusion": name, "head": head}
    sides = {"image": {"image_encoder": "small-cnn"}, "text": {"text_encoder": "text-cnn"}}
    random, parts = np.random.default_rng(0), {}
    for number, (side, encoder) in enumerate(sides.items()):
        spec = ModelSpec(**shared, **encoder, fusion_units=5 + number)
        parts[side] = fusion_of(build_model(spec, label_count=2, vocabulary_size=9, seed=number))
        parts[side].set_weights([random.uniform(0.5, 1.5, w.shape) for w in parts[side].get_weights()])
    spec = ModelSpec(**shared, **sides["image"], **sides["text"], fusion_units=11)
    fusion = fusion_of(build_model(spec, label_count=2, vocabulary_size=9))
    weights, bias = {"image": np.array([0.5, 2.0]), "text": np.array([1.5, 0.0])}, np.array([0.25, -1.0])
    entry.join(fusion, parts, weights, bias, HEADS[head])
    features = fusion_inputs(fusion, n=8)
    features["present"] = np.array([[1, 1], [1, 0], [0, 1], [0, 0]] * 2, "float32")
    expected = bias
    for side, part in parts.items():
        logits = to_numpy(part({tensor: features[tensor] for tensor in part.input}, training=False))
        expected = expected + weights[side] * logits
    np.testing.assert_allclose(to_numpy(fusion(features, training=False)), expected, rtol=1e-3, atol=1e-3)
