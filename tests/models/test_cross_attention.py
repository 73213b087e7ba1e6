"""The fusion `cross-attention`: by its definition in double precision, padding, absent sides, the gate."""

import math

import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.explain.attribution.held_memory import count_point_bytes
from kmm.models.build import ModelSpec, build_model
from kmm.models.cross.network import GATE, add_cross_attention
from kmm.models.cross.rows import StandInRows
from kmm.models.cross.shape import CrossShape
from kmm.models.fusion import FUSIONS, build_fusion, find_features
from kmm.models.heads import HEADS
from kmm.models.views.feature_view import view_attention
from tests.checks import find_descriptions
from tests.model_checks import check_path_memory, check_path_view, core_inputs, model_inputs, stir, to_numpy

SHAPE = CrossShape(layers=2, heads=2, width=8, adapter=3, stochastic_depth=0.2)
SIZES = {"image": (5, 4), "text": (7, 3)}  # rows and numbers per row


def make_network(sizes=SHAPE):
    """The branch alone, with weights that hide nothing."""
    keras.utils.set_random_seed(1)
    inputs, features = {"present": keras.Input((2,), name="present")}, {}
    for side, size in SIZES.items():
        shapes = {"sequence": size, "mask": size[:1]}
        features[side] = {part: keras.Input(shape, name=f"{side}_{part}") for part, shape in shapes.items()}
        inputs |= {f"{side}_{part}": tensor for part, tensor in features[side].items()}
    model = keras.Model(inputs, add_cross_attention(features, inputs["present"], sizes))
    random = np.random.default_rng(0)
    model.set_weights([random.normal(size=weight.shape) for weight in model.get_weights()])
    return model


def make_inputs(n=4, seed=0):
    """Rows of noise; the first film and the second report have padding, the third has no film, the last no report."""
    random = np.random.default_rng(seed)
    inputs = {"present": np.ones((n, 2), np.float32)}
    for side, size in SIZES.items():
        inputs[f"{side}_sequence"] = random.normal(size=(n, *size)).astype(np.float32)
        inputs[f"{side}_mask"] = np.ones((n, size[0]), np.float32)
    inputs["image_mask"][0, 3:] = 0
    inputs["text_mask"][1, 4:] = 0
    inputs["present"][2], inputs["present"][3] = (0, 1), (1, 0)
    return inputs


def run(model, inputs):
    return to_numpy(model({name: inputs[name] for name in model.input}, training=False))


def run_by_definition(model, inputs, study, shape=SHAPE):
    """What the branch returns for one study, in float64, from the rows that are read alone; no row is padding."""

    def weights(name):
        return [np.asarray(value, np.float64) for value in model.get_layer(name).get_weights()]

    def dense(name, x):
        kernel, *bias = weights(name)
        return x @ kernel + (bias[0] if bias else 0)

    def norm(name, x):
        gamma, beta = weights(f"{name}_norm")
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-3) * gamma + beta

    def attend(name, x, other=None):
        query = norm(name, x)
        key = query if other is None else norm(f"{name}_other", other)
        q, k, v = dense(f"{name}_query", query), dense(f"{name}_key", key), dense(f"{name}_value", key)
        size, mixed = shape.width // shape.heads, []
        for start in range(0, shape.width, size):
            part = slice(start, start + size)
            scores = q[:, part] @ k[:, part].T / math.sqrt(size)
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(scores / scores.sum(-1, keepdims=True) @ v[:, part])
        return x + weights(f"{name}_scale")[0] * dense(f"{name}_mixed", np.concatenate(mixed, -1))

    def add(name, x):
        hidden = dense(name, norm(name, x))
        hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        return x + weights(f"{name}_scale")[0] * dense(f"{name}_result", hidden)

    rows = {}
    for column, side in enumerate(SIZES):
        found = np.flatnonzero(inputs[f"{side}_mask"][study])
        x = inputs[f"{side}_sequence"][study].astype(np.float64)[found]
        if not inputs["present"][study, column]:
            found, x = [0], weights(f"{side}_rows")[0][None]
        x = dense(f"{side}_rows_width", norm(f"{side}_rows", x)) + weights(f"{side}_rows_places")[0][found]
        rows[side] = attend(f"{side}_self", x)
    for number in range(1, shape.layers + 1):
        before = dict(rows)  # both directions read the layer before
        for side, other in (("image", "text"), ("text", "image")):
            x = attend(f"cross{number}_{side}", before[side], before[other])
            x = add(f"cross{number}_{side}_hidden", x)
            rows[side] = add(f"cross{number}_{side}_adapter", x) if shape.adapter else x
    means = [norm(f"cross_{side}", rows[side]).mean(axis=0) for side in SIZES]
    return np.concatenate(means) * weights(GATE)[0]


@pytest.mark.parametrize("shape", [SHAPE, CrossShape(layers=1, heads=1, width=6)])
def test_the_network_by_its_definition_with_and_without_padding_and_absent_sides(shape):
    model, inputs = make_network(shape), make_inputs()
    expected = [run_by_definition(model, inputs, study, shape) for study in range(4)]
    np.testing.assert_allclose(run(model, inputs), expected, rtol=2e-4, atol=2e-4)


def test_padding_and_absent_sides_have_exactly_no_influence():
    model, inputs = make_network(), make_inputs()
    expected, random = run(model, inputs), np.random.default_rng(5)
    others = {name: value.copy() for name, value in inputs.items()}
    others["image_sequence"][0, 3:] = others["image_sequence"][0, :2:-1]  # padding in another order
    others["text_sequence"][1, 4:] = 1e3 * random.normal(size=(3, 3))
    np.testing.assert_array_equal(run(model, others), expected)
    others["text_sequence"][1, 4:] = np.nan
    for column, side in enumerate(SIZES):
        others[f"{side}_sequence"][2 + column] = (np.nan, np.inf)[column]
        others[f"{side}_mask"][2 + column] = np.nan
    np.testing.assert_array_equal(run(model, others), expected)


def test_padding_and_absent_sides_get_exactly_no_gradient_and_give_none_that_is_not_finite():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes gradients with TensorFlow")
    model, inputs = make_network(), make_inputs()
    inputs["image_sequence"][2], inputs["text_sequence"][3] = np.nan, np.inf
    given = {name: tf.constant(value) for name, value in inputs.items()}
    weights = [weight.value for weight in model.trainable_weights]
    with tf.GradientTape() as tape:
        tape.watch(list(given.values()))
        total = tf.reduce_sum(tf.sin(model(given, training=False)))
    sequences = {side: given[f"{side}_sequence"] for side in SIZES}
    sequences, gradients = tape.gradient(total, (sequences, weights))
    found = {side: gradient.numpy() for side, gradient in sequences.items()}
    assert (found["image"][0, 3:] == 0).all() and (found["text"][1, 4:] == 0).all()
    assert (found["image"][2] == 0).all() and (found["text"][3] == 0).all()
    assert np.abs(found["image"][0, :3]).min() > 0 and np.abs(found["text"][1, :4]).min() > 0
    assert all(np.isfinite(gradient.numpy()).all() for gradient in gradients)


def test_a_side_without_a_row_to_read_counts_as_absent():
    model, inputs = make_network(), make_inputs()
    expected = run(model, inputs)[3]
    inputs["present"][3] = 1
    inputs["text_mask"][3] = 0
    np.testing.assert_array_equal(run(model, inputs)[3], expected)


def test_stand_in_rows_by_hand():
    layer = StandInRows(column=0)
    sequence, mask = np.ones((3, 2, 2), np.float32), np.float32([[1, 0], [1, 1], [0, 0]])
    present = np.float32([[1, 1], [0, 1], [1, 1]])
    layer.build(sequence.shape, mask.shape)
    layer.set_weights([np.float32([5, 6])])
    rows, read = (to_numpy(tensor) for tensor in layer(sequence, mask, present))
    assert rows.tolist() == [[[1, 1], [0, 0]], [[5, 6], [0, 0]], [[5, 6], [0, 0]]]
    assert read.tolist() == [[1, 0], [1, 0], [1, 0]]


def make_fusion(head, sides=tuple(SIZES), units=8, seed=0, fusion="cross-attention", dropout=0.0):
    encoders = {}
    for side in sides:
        rows = keras.Input(SIZES[side])
        parts = {"vector": keras.ops.max(rows, axis=1), "sequence": rows, "mask": keras.ops.max(rows, axis=-1)}
        encoders[side] = keras.Model(rows, parts)
    keras.utils.set_random_seed(seed)
    made = {"label_count": 2, "units": units, "dropout": dropout, "head": head}
    return build_fusion(FUSIONS[fusion], encoders, shape=SHAPE if len(sides) > 1 else None, **made)


@pytest.mark.parametrize("head", sorted(HEADS))
def test_it_starts_as_the_weighted_sum_of_both_sides_until_the_gate_opens(head):
    parts = {side: make_fusion(head, (side,), units=4 + number) for number, side in enumerate(SIZES)}
    for part in parts.values():
        stir(part)
        part.get_layer("logits").set_weights([0.3 * w for w in part.get_layer("logits").get_weights()])
    fusion = make_fusion(head, units=9)
    weights, bias = {"image": np.array([0.5, 2.0]), "text": np.array([1.5, 0.25])}, np.array([0.25, -1.0])
    fusion.get_layer(GATE).set_weights([np.full(16, 3.0)])  # joining closes it
    FUSIONS["cross-attention"].join(fusion, parts, weights, bias, HEADS[head])
    inputs = make_inputs()
    inputs |= {f"{side}_vector": inputs[f"{side}_sequence"].max(axis=1) for side in SIZES}
    summed = bias + sum(weights[side] * run(part, inputs) for side, part in parts.items())
    np.testing.assert_allclose(run(fusion, inputs), summed, atol=1e-5)
    assert np.ptp(summed, axis=0).min() > 0.01
    fusion.get_layer(GATE).set_weights([np.full(16, 0.5)])
    assert np.abs(run(fusion, inputs) - summed).max() > 0.01, "the open gate adds nothing"


@pytest.mark.parametrize(
    "head", [name if name == "mlp" else pytest.param(name, marks=pytest.mark.large) for name in sorted(HEADS)]
)
def test_the_logits_are_a_linear_function_of_the_features(head):
    fusion = make_fusion(head)
    stir(fusion)
    inputs = make_inputs()
    inputs |= {f"{side}_vector": inputs[f"{side}_sequence"].max(axis=1) for side in SIZES}
    features = run(keras.Model(fusion.input, find_features(fusion)), inputs)
    kernel, bias = fusion.get_layer("logits").get_weights()
    np.testing.assert_allclose(features @ kernel + bias, run(fusion, inputs), atol=1e-5)
    assert features.shape[1] == fusion.get_layer("joint").output.shape[-1] + 2 * SHAPE.width


def test_stochastic_depth_skips_layers_of_whole_studies_in_training_alone():
    model = make_network(CrossShape(layers=1, heads=2, width=8, stochastic_depth=0.5))
    part, result = model.get_layer("cross1_image_depth"), np.ones((400, 5, 8), np.float32)
    keras.utils.set_random_seed(0)
    made = to_numpy(part(result, training=True)).reshape(400, -1)
    assert set(np.unique(made)) == {0.0, 2.0} and (np.ptp(made, axis=1) == 0).all()
    assert 140 < (made[:, 0] == 0).sum() < 260
    np.testing.assert_array_equal(to_numpy(part(result, training=False)), result)


def test_one_side_alone_is_concat():
    spec = {"pixels": 32, "image_encoder": "small-cnn"}
    models = [build_model(ModelSpec(fusion=name, **spec), label_count=1) for name in FUSIONS]
    names = [[weight.path for weight in model.weights] for model in models]
    assert len(names[0]) == len(names[1])
    film = {"image": np.random.default_rng(0).uniform(0, 255, (3, 32, 32, 1)), "present": np.ones((3, 2))}
    np.testing.assert_array_equal(*(to_numpy(model(film, training=False)) for model in models))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"heads": 3}, "`fusion_width` must be a multiple of `fusion_heads`. Received: 128 and 3."),
        ({"layers": 0}, "`fusion_layers` must be from 1 to 24. Received: 0."),
        ({"width": True}, "`fusion_width` must be from 1 to 8192. Received: True."),
        ({"adapter": -1}, "`fusion_adapter` must be from 0 to 8192. Received: -1."),
        ({"stochastic_depth": 1}, r"`stochastic_depth` must be in [0, 1). Received: 1."),
    ],
)
def test_a_wrong_shape_is_refused(values, message):
    with pytest.raises(InputError) as caught:
        CrossShape(**values)
    assert str(caught.value) == message


def test_a_specification_keeps_the_shape_and_one_without_it_has_none():
    spec = ModelSpec(image_encoder="small-cnn", fusion="cross-attention", fusion_shape={"layers": 3})
    assert spec.fusion_shape == CrossShape(layers=3)
    assert ModelSpec(image_encoder="small-cnn", fusion="cross-attention").fusion_shape == CrossShape()
    assert ModelSpec(image_encoder="small-cnn").fusion_shape is None
    with pytest.raises(InputError, match="The fusion 'concat' has no shape"):
        ModelSpec(image_encoder="small-cnn", fusion_shape=CrossShape())


def test_the_weights_of_attention_come_with_the_logits_from_one_pass():
    spec = ModelSpec("small-cnn", "text-cnn", "cross-attention", pixels=32, length=9, embedding_size=4, text_filters=3)
    model = build_model(spec, label_count=2, vocabulary_size=20)
    stir(model)
    inputs, view = model_inputs(model), view_attention(model)
    found = run(view, inputs)
    np.testing.assert_allclose(found.pop("logits"), run(model, inputs), atol=1e-6)
    sizes, heads = {"image": 4, "text": 9}, spec.fusion_shape.heads
    shapes = {f"{side}_self_attention": (heads, size, size) for side, size in sizes.items()}
    for number in (1, 2):
        shapes[f"cross{number}_image_attention"] = (heads, 4, 9)
        shapes[f"cross{number}_text_attention"] = (heads, 9, 4)
    assert {name: weights.shape[1:] for name, weights in found.items()} == shapes
    for name, weights in found.items():
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
        if weights.shape[-1] == 9:
            assert (weights[0, ..., 4:] == 0).all() and weights[0, ..., :4].min() > 0, name  # padding
            assert (weights[2, ..., 1:] == 0).all(), name  # no report: the learned row alone
        else:
            assert (weights[1, ..., 1:] == 0).all(), name  # no film
    assert set(view_attention(build_model(ModelSpec("small-cnn", pixels=32), label_count=1)).output) == {"logits"}


@pytest.mark.large
def test_the_memory_of_a_path_point_counts_what_attention_holds():
    spec = ModelSpec("small-cnn", "text-cnn", "cross-attention", pixels=64, length=40, embedding_size=4, text_filters=3)
    model = build_model(spec, label_count=2, vocabulary_size=20)
    stir(model)
    view = check_path_view(model, **find_descriptions(spec))
    check_path_memory(view, core_inputs(model), least=0.4)
    one, two = (count_point_bytes(make_network(CrossShape(layers=n, heads=2, width=8))) for n in (1, 2))
    scores = 2 * 4 * 2 * 2 * 5 * 7  # bytes of weights, twice: 2 directions, 2 heads, 5 places and 7 words
    assert two - one > scores
