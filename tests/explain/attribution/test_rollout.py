"""Attention rollout: closed forms, a plain implementation in NumPy, gradients by hand with TensorFlow's tape."""

import dataclasses

import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.explain.attribution.attention_rules import (
    RULES,
    attend_to_each_other,
    attend_to_itself,
    start_relevance,
)
from kmm.explain.attribution.cam import NO_FILM
from kmm.explain.attribution.methods import METHODS, Case
from kmm.explain.attribution.rollout import NO_REPORT, NOT_FOLLOWED, Rollout, follow_attention
from kmm.explain.attribution.split_model import OpenModel, SplitModel, call_view, choose_chunk, cut_model, open_model
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.models.build import ModelSpec, build_model
from kmm.models.cross.network import GATE
from kmm.models.cross.shape import CrossShape
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.networks.vision_layers import HIDDEN
from kmm.models.views.attention_view import WINDOWS, open_attention
from kmm.models.views.parts import fusion_of, image_encoder_of, text_encoder_of
from tests.checks import SMALL_SHAPE
from tests.factories.tiny_networks import TINY_ENTRIES
from tests.model_checks import core_inputs, to_numpy

CROSS = {"fusion": "cross-attention", "fusion_shape": {"layers": 2, "heads": 2, "width": 8}}
BERT, SHAPE = "transformer-small", {"text_shape": SMALL_SHAPE}
SIDES = ("image", "text")
ATTENTION = [name for name, method in METHODS.items() if method.at_attention]
RANDOM = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def tiny_entries(monkeypatch):
    for name, entry in TINY_ENTRIES.items():
        monkeypatch.setitem(IMAGE_ENCODERS, name, entry)


@pytest.fixture
def build(build_classifier):
    """A function that builds a classifier whose attention differs from place to place, with an open gate."""

    def build(image=None, text=None, *, crossed=False):
        network = {**(SHAPE if text == BERT else {}), **(CROSS if crossed else {})}
        classifier = build_classifier(image, text, network=network, pieces=True, cleaning="bert-uncased")
        (model,) = classifier.models.values()
        for weight in model.weights:
            if weight.path.endswith("kernel"):
                weight.assign(1.5 * weight)
        if crossed:
            fusion_of(model).get_layer(GATE).set_weights([np.linspace(-1, 1, 16)])
        return classifier

    return build


def make_cases(inputs, target=0):
    """The rows of `core_inputs` as cases; the second has no film, the third no report."""
    names, absent = [name for name in ("image", "rows") if name in inputs], {1: "image", 2: "rows"}
    return [
        Case(
            study=str(row),
            inputs={name: inputs[name][row] for name in names},
            absent=frozenset({absent.get(row)} & set(names)),
            fixed={name: value[row] for name, value in inputs.items() if name not in names},
            target=target,
        )
        for row in range(len(inputs["present"]))
    ]


def explain(classifier, method, target=0, **settings):
    """The attributions of the rows of `core_inputs`, and these."""
    (model,) = classifier.models.values()
    inputs, settings = core_inputs(model), ExplainSettings(method=method, **settings)
    view = cut_model(classifier)
    opened = open_model(classifier, output=settings.output)
    split = SplitModel(*call_view(view, classifier, settings.output), choose_chunk(view.rest, 3.0), opened=opened)
    found = dict(METHODS[method].for_model(split, settings)(make_cases(inputs, target)))
    return [found[row] for row in range(len(inputs["present"]))], inputs, opened


def look(opened, inputs):
    """The weights of attention, averaged over the heads, and the rows that the fusion reads."""
    n = len(inputs["present"])
    nudges = {name: np.zeros((n, *shape), np.float32) for name, shape in opened.view.weights.items()}
    read = {name: value for name, value in inputs.items() if name in ("image", "rows")}
    fixed = {name: value for name, value in inputs.items() if name not in read}
    _, found = opened.look(read, fixed, nudges)
    found = to_numpy(found)
    weights = {name: found[name].astype(np.float64).mean(axis=1) for name in nudges}
    return weights, {side: found.get(f"{side}_read") for side in SIDES}


# By NumPy: the tokens of both sides are one list, and each layer one matrix.


def list_places(view):
    places, start = {}, 0
    for side, trail in view.trails.items():
        places[side] = slice(start, start + trail.tokens)
        start += trail.tokens
    return places, start


def list_readers(view, places, present, read, row):
    """The vectors that the head reads, as pairs: shares of tokens, and whether they are read before the crossing."""
    for column, (side, trail) in enumerate((side, view.trails.get(side)) for side in SIDES):
        if trail and trail.names and present[row, column]:
            shares = np.zeros(max(place.stop for place in places.values()))
            own = places[side]
            if side == "text":
                shares[own.start] = 1  # [CLS]
            else:
                shares[own.start + trail.first : own.stop] = 1 / (trail.tokens - trail.first)
            yield side, shares, True
    for side in SIDES if view.crossings else ():
        shares = np.zeros(max(place.stop for place in places.values()))
        start = places[side].start + view.trails[side].row
        mask = read[side][row]
        shares[start : start + len(mask)] = mask / mask.sum()
        yield side, shares, False


def roll_out_by_hand(view, weights, present, read, row):
    """The relevance of all tokens of one study by rollout: a product of matrices `(I + A) / 2`."""
    places, count = list_places(view)
    whole = np.eye(count)

    def step(blocks):
        matrix = np.zeros((count, count))
        for (side, other), attention, shift in blocks:
            rows, columns = (places[name].start + at for name, at in zip((side, other), shift))
            matrix[rows : rows + attention.shape[0], columns : columns + attention.shape[1]] = attention
        matrix += np.eye(count)
        return matrix / matrix.sum(axis=1, keepdims=True) @ whole

    for side, trail in view.trails.items():
        for name in trail.names:
            whole = step([((side, side), weights[name][row], (0, 0))])
    before, at = whole, {side: trail.row for side, trail in view.trails.items()}
    if view.crossings:
        for side in SIDES:
            whole = step([((side, side), weights[f"{side}_self_attention"][row], (at[side],) * 2)])
        for number in range(1, view.crossings + 1):
            pairs = (("image", "text"), ("text", "image"))
            crossed = [weights[f"cross{number}_{side}_attention"][row] for side in SIDES]
            whole = step([(pair, own, (at[pair[0]], at[pair[1]])) for pair, own in zip(pairs, crossed)])
    readers = list(list_readers(view, places, present, read, row))
    total = sum((shares @ (before if early else whole) for _, shares, early in readers), np.zeros(count))
    return {side: total[place] / max(len(readers), 1) for side, place in places.items()}


def add_up_by_hand(view, weights, present, read, row):
    """The relevance of all tokens of one study by the rules of Chefer et al., with weights times gradients."""
    relevance = {(a, b): np.zeros((s.tokens, t.tokens)) for a, s in view.trails.items() for b, t in view.trails.items()}
    identity = {side: np.eye(trail.tokens) for side, trail in view.trails.items()}
    for side in view.trails:
        relevance[side, side] = identity[side].copy()

    def pad(attention, side, other):
        padded = np.zeros((view.trails[side].tokens, view.trails[other].tokens))
        rows, columns = view.trails[side].row, view.trails[other].row
        padded[rows : rows + attention.shape[0], columns : columns + attention.shape[1]] = attention
        return padded

    def normal(side):
        added = relevance[side, side] - identity[side]
        total = added.sum(axis=1, keepdims=True)
        return np.divide(added, total, out=np.zeros_like(added), where=total != 0) + identity[side]

    for side, trail in view.trails.items():
        for name in trail.names:
            relevance[side, side] = relevance[side, side] + weights[name][row] @ relevance[side, side]
    before = {key: value.copy() for key, value in relevance.items()}
    if view.crossings:
        for side in SIDES:
            own = pad(weights[f"{side}_self_attention"][row], side, side)
            for other in SIDES:
                relevance[side, other] = relevance[side, other] + own @ relevance[side, other]
        for number in range(1, view.crossings + 1):
            made = {}
            for side, other in (SIDES, SIDES[::-1]):
                own = pad(weights[f"cross{number}_{side}_attention"][row], side, other)
                made[side, other] = relevance[side, other] + normal(side).T @ own @ normal(other)
                made[side, side] = relevance[side, side] + own @ relevance[other, side]
            relevance = made
    places, _ = list_places(view)
    sums, count = {side: np.zeros(trail.tokens) for side, trail in view.trails.items()}, 0
    for side, shares, early in list_readers(view, places, present, read, row):
        count += 1
        for other in view.trails:
            value = (before if early else relevance)[side, other] - (identity[side] if side == other else 0)
            sums[other] += shares[places[side]] @ value
    return {side: value / max(count, 1) for side, value in sums.items()}


def check_places(found, expected, inputs, opened, row):
    """Values of pixels and words are those of their tokens; the map of the film is enlarged as feature maps are."""
    for side, name in (("image", "image"), ("text", "rows")):
        if name not in found.values:
            continue
        trail = opened.view.trails[side]
        length = int(np.prod(trail.shape))
        tokens = expected[side][trail.first : trail.first + length] * inputs["present"][row, SIDES.index(side)]
        if side == "image":
            resized = keras.ops.image.resize(tokens.reshape(1, *trail.shape, 1).astype(np.float32), (32, 32))
            np.testing.assert_allclose(found.values["image"], to_numpy(resized)[0], rtol=2e-4, atol=1e-6)
        else:
            tokens = tokens * inputs["padding_mask"][row]
            np.testing.assert_allclose(found.values["rows"].sum(axis=1), tokens, rtol=2e-4, atol=1e-6)
            assert np.ptp(found.values["rows"], axis=1).max() == 0


KINDS = {
    "vit": ("tiny-vit", None, False),
    "bert": (None, BERT, False),
    "cnn-cnn-crossed": ("small-cnn", "text-cnn", True),
    "vit-bert-crossed": ("tiny-vit", BERT, True),
}
LARGE = [kind for kind in KINDS if kind != "bert"]


@pytest.mark.parametrize("kind", ["bert", *(pytest.param(kind, marks=pytest.mark.large) for kind in LARGE)])
def test_rollout_is_the_product_of_matrices_of_numpy(build, kind):
    image, text, crossed = KINDS[kind]
    classifier = build(image, text, crossed=crossed)
    found, inputs, opened = explain(classifier, "rollout")
    weights, read = look(opened, inputs)
    for row, one in enumerate(found):
        expected = roll_out_by_hand(opened.view, weights, inputs["present"], read, row)
        check_places(one, expected, inputs, opened, row)
        total = sum(value.sum() for value in expected.values())
        there = crossed or any(inputs["present"][row, SIDES.index(side)] for side in expected)
        assert total == pytest.approx(float(there))
        assert one.steps == 1 and np.isnan([one.completeness_gap, one.map_error, one.baseline_score]).all()
    assert {name for one in found for name in one.values} == {
        name for name, given in (("image", image), ("rows", text)) if given
    }


# Gradients by hand: the network written with TensorFlow from its layers, its weights of attention watched by a tape.


class ByHand:
    def __init__(self, tf, tape):
        self.tf, self.tape, self.weights = tf, tape, {}

    def attend(self, name, query, key, value, heads, hidden=0.0):
        tf, size = self.tf, query.shape[-1] // heads
        query, key, value = (
            tf.transpose(tf.reshape(rows, (-1, rows.shape[1], heads, size)), (0, 2, 1, 3))
            for rows in (query, key, value)
        )
        weights = tf.nn.softmax(query @ tf.transpose(key, (0, 1, 3, 2)) / size**0.5 + hidden)
        self.tape.watch(weights)
        self.weights[name] = weights
        mixed = tf.transpose(weights @ value, (0, 2, 1, 3))
        return tf.reshape(mixed, (-1, mixed.shape[1], heads * size))

    def read_film(self, encoder, film, network):
        layer = encoder.get_layer
        x = keras.Model(encoder.input, layer("tokens").output)(film)
        for number in range(network.depth):
            name = f"block{number}"
            query, key, value = self.tf.split(layer(f"{name}_qkv")(layer(f"{name}_norm1")(x)), 3, axis=-1)
            mixed = self.attend(f"image_{name}_attention", query, key, value, network.heads)
            x = x + layer(f"{name}_projection")(mixed)
            y = layer(f"{name}_gelu")(layer(f"{name}_dense1")(layer(f"{name}_norm2")(x)))
            x = x + layer(f"{name}_dense2")(y)
        rows = layer("norm")(x)[:, network.prefix :]
        return self.tf.reduce_mean(rows, axis=1), rows, self.tf.ones(rows.shape[:2])

    def read_report(self, encoder, rows, mask, shape):
        layer = encoder.get_layer
        start = [layer("frame_norm").output, layer("frame_mask").output]
        x, read = keras.Model(encoder.input, start)({"rows": rows, "padding_mask": mask}, training=False)
        for number in range(1, shape.layers + 1):
            name = f"block{number}"
            query, key, value = (layer(f"{name}_{part}")(x) for part in ("query", "key", "value"))
            hidden = 1e9 * (read[:, None, None] - 1)
            mixed = self.attend(f"text_{name}_attention", query, key, value, shape.heads, hidden)
            x = layer(f"{name}_mixed_norm")(x + layer(f"{name}_mixed")(mixed))
            y = layer(f"{name}_result")(layer(f"{name}_active")(layer(f"{name}_hidden")(x)))
            x = layer(f"{name}_result_norm")(x + y)
        return x[:, 0], x, read

    def cross(self, fusion, sides, present, shape):
        """The means of both sides behind the crossings, times the gate."""
        layer, rows, read = fusion.get_layer, {}, {}

        def attend(name, x, other, mask):
            query = layer(f"{name}_norm")(x)
            key = query if other is None else layer(f"{name}_other_norm")(other)
            given = layer(f"{name}_query")(query), layer(f"{name}_key")(key), layer(f"{name}_value")(key)
            mixed = self.attend(f"{name}_attention", *given, shape.heads, 1e9 * (mask[:, None, None] - 1))
            return x + layer(f"{name}_scale")(layer(f"{name}_mixed")(mixed))

        for side, (_, sequence, mask) in sides.items():
            x, read[side] = layer(f"{side}_rows")(sequence, mask, present)
            x = layer(f"{side}_rows_places")(layer(f"{side}_rows_width")(layer(f"{side}_rows_norm")(x)))
            rows[side] = attend(f"{side}_self", x, None, read[side])
        for number in range(1, shape.layers + 1):
            before = dict(rows)
            for side, other in (SIDES, SIDES[::-1]):
                name = f"cross{number}_{side}"
                x = attend(name, before[side], before[other], read[other])
                y = layer(f"{name}_hidden")(layer(f"{name}_hidden_norm")(x))
                rows[side] = x + layer(f"{name}_hidden_scale")(layer(f"{name}_hidden_result")(y))
        means = []
        for side in SIDES:
            shares = read[side][..., None] / self.tf.reduce_sum(read[side], axis=1)[:, None, None]
            means.append(self.tf.reduce_sum(layer(f"cross_{side}_norm")(rows[side]) * shares, axis=1))
        return layer(GATE)(self.tf.concat(means, axis=1))


def differentiate_by_hand(classifier, inputs, target):
    """Logits, weights of attention and the gradient of one logit with respect to each, from the network by hand."""
    tf = pytest.importorskip("tensorflow")
    (model,) = classifier.models.values()
    given = {name: tf.constant(value) for name, value in inputs.items()}
    with tf.GradientTape() as tape:
        hand, sides = ByHand(tf, tape), {}
        if "image" in given:
            network = TINY_ENTRIES[classifier.settings.image_encoder].network
            sides["image"] = hand.read_film(image_encoder_of(model), given["image"], network)
        if "rows" in given:
            read = given["rows"], given["padding_mask"]
            sides["text"] = hand.read_report(text_encoder_of(model), *read, SMALL_SHAPE)
        fusion = fusion_of(model)
        vectors = {f"{side}_vector": found[0] for side, found in sides.items()}
        head = keras.Model(
            [tensor for name, tensor in fusion.input.items() if name in vectors or name == "present"],
            fusion.get_layer("joint").output,
        )
        features = head([{**vectors, **given}[tensor.name] for tensor in head.inputs], training=False)
        if "image_sequence" in fusion.input:
            added = hand.cross(fusion, sides, given["present"], CrossShape(**CROSS["fusion_shape"]))
            features = tf.concat([features, added], axis=1)
        logits = fusion.get_layer("logits")(features)
        chosen = tf.reduce_sum(logits[:, target])
    gradients = tape.gradient(chosen, hand.weights, unconnected_gradients="zero")
    return logits.numpy(), to_numpy(hand.weights), to_numpy(gradients)


@pytest.mark.parametrize(
    "kind", ["bert", *(pytest.param(kind, marks=pytest.mark.large) for kind in ("vit", "vit-bert-crossed"))]
)
def test_gradient_rollout_is_that_of_gradients_by_hand(build, kind):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("takes gradients with TensorFlow")
    image, text, crossed = KINDS[kind]
    classifier = build(image, text, crossed=crossed)
    found, inputs, opened = explain(classifier, "gradient-rollout", target=1)
    logits, weights, gradients = differentiate_by_hand(classifier, inputs, 1)
    assert set(weights) == set(opened.view.weights)
    added = {name: np.maximum(weights[name] * gradients[name], 0).astype(np.float64).mean(axis=1) for name in weights}
    _, read = look(opened, inputs)
    for row, one in enumerate(found):
        np.testing.assert_allclose(one.scores, logits[row], atol=1e-5)
        expected = add_up_by_hand(opened.view, added, inputs["present"], read, row)
        check_places(one, expected, inputs, opened, row)
        assert one.target == 1 and one.score == one.scores[1]
    assert max(value.max() for value in found[0].values.values()) > 1e-6


@pytest.mark.large
def test_gradient_rollout_of_another_label_or_of_the_probability_is_another_map(build):
    classifier = build(None, BERT)
    logit, other, probability = (
        explain(classifier, "gradient-rollout", **settings)[0][0]
        for settings in ({}, {"target": 2}, {"output": "probability"})
    )
    assert np.abs(logit.values["rows"] - other.values["rows"]).max() > 1e-6
    assert 0 < probability.score < 1
    temperature = classifier.temperatures["text"][0, 0]  # `present` says that there is a film too
    assert probability.score == pytest.approx(1 / (1 + np.exp(-logit.score / temperature)), rel=1e-4)
    same = [explain(classifier, "rollout", target=target)[0][0].values["rows"] for target in (0, 2)]
    np.testing.assert_array_equal(*same)  # rollout knows no label


# Closed forms.


def softmax(scores):
    scores = np.exp(scores)
    return (scores / scores.sum(axis=-1, keepdims=True)).astype(np.float32)


def test_one_layer_is_the_mean_of_its_weights_and_the_identity():
    weights = softmax(RANDOM.normal(size=(2, 5, 5)))
    found = attend_to_itself(RULES["rollout"], start_relevance("text", 5), "text", weights)["text", "text"]
    np.testing.assert_allclose(to_numpy(found), (np.eye(5) + weights) / 2, atol=1e-6)
    again = attend_to_itself(RULES["gradient-rollout"], start_relevance("text", 5), "text", weights)["text", "text"]
    np.testing.assert_allclose(to_numpy(again), np.eye(5) + weights, atol=1e-6)


def test_many_layers_are_a_product_whose_rows_sum_to_one():
    layers = softmax(RANDOM.normal(size=(30, 1, 6, 6)))
    found, expected = start_relevance("text", 6), np.eye(6)
    for weights in layers:
        found = attend_to_itself(RULES["rollout"], found, "text", weights)
        expected = (np.eye(6) + weights[0].astype(np.float64)) / 2 @ expected
    np.testing.assert_allclose(to_numpy(found["text", "text"])[0], expected, atol=1e-6)
    np.testing.assert_allclose(to_numpy(found["text", "text"]).sum(axis=-1), 1, atol=1e-5)


def list_values(relevance):
    return {sides: to_numpy(value)[0].tolist() for sides, value in relevance.items()}


def test_a_crossing_of_known_weights():
    """Two places and one word: the first place reads the word, as the second does; the word reads the second place."""
    weights = {"image": np.float32([[[1], [1]]]), "text": np.float32([[[0, 1]]])}
    start = {**start_relevance("image", 2), **start_relevance("text", 1)}
    mixed = list_values(attend_to_each_other(RULES["rollout"], start, weights))
    assert mixed["image", "image"] == [[0.5, 0], [0, 0.5]] and mixed["image", "text"] == [[0.5], [0.5]]
    assert mixed["text", "text"] == [[0.5]] and mixed["text", "image"] == [[0, 0.5]]
    once = attend_to_each_other(RULES["gradient-rollout"], start, weights)
    twice = list_values(attend_to_each_other(RULES["gradient-rollout"], once, weights))
    # by hand: after one crossing R(i,t) = A_it and R(t,i) = A_ti; then R(i,i) = I + A_it A_ti, R(t,t) = 1 + A_ti A_it
    assert twice["image", "image"] == [[1, 1], [0, 2]] and twice["text", "text"] == [[2]]
    assert twice["image", "text"] == [[2], [2]] and twice["text", "image"] == [[0, 2]]


def test_a_token_that_reads_nothing_keeps_its_relevance():
    weights = np.float32([[[0, 1], [0, 0]]])
    found = attend_to_itself(RULES["rollout"], start_relevance("image", 2), "image", weights)["image", "image"]
    assert to_numpy(found)[0].tolist() == [[0.5, 0.5], [0, 1]]


@pytest.mark.large
@pytest.mark.parametrize("method", ATTENTION)
def test_padding_marks_and_absent_sides_get_exactly_nothing(build, method):
    found, inputs, opened = explain(build("tiny-vit", BERT, crossed=True), method)
    words = found[0].values["rows"].sum(axis=1)
    assert (words[6:] == 0).all() and (words[:6] > 0).all()  # [SEP] stands where the seventh word would
    assert not found[1].values["image"].any() and found[1].values["rows"].all()
    assert not found[2].values["rows"].any() and found[2].values["image"].any()
    weights, read = look(opened, inputs)
    relevance = follow_attention(opened.view, "rollout", {k: v.astype(np.float32) for k, v in weights.items()},
                                 inputs["present"], read)  # fmt: skip
    text = to_numpy(relevance["text"])[0]
    assert (text[8:] == 0).all() and (text[:8] > 0).all()  # [CLS], six words, [SEP]
    assert (to_numpy(relevance["image"])[0, :1] > 0).all()  # [CLS] of the film counts, and is not on the map
    total = sum(to_numpy(value).sum(axis=1) for value in relevance.values())
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize("method", ATTENTION)
def test_hidden_registers_get_exactly_nothing(build, method):
    model = build_model(ModelSpec("tiny-dinov2", pixels=42), label_count=1)
    encoder = image_encoder_of(model)
    for number in range(4):
        encoder.get_layer(f"block{number}_attention").hidden.assign(np.full(4, HIDDEN))
    view = open_attention(model)
    weights = {name: softmax(RANDOM.normal(size=(1, 41, 41))) for name in view.weights}
    shown = follow_attention(view, method, weights, np.ones((1, 2), np.float32), {})["image"]
    assert (to_numpy(shown)[0] > 0).all()
    inputs = core_inputs(model)
    nudges = {f"{name}_nudge": np.zeros((4, *shape), np.float32) for name, shape in view.weights.items()}
    found = to_numpy(view.model({**inputs, **nudges}, training=False))
    weights = {name: found[name].mean(axis=1) for name in view.weights}
    hidden = to_numpy(follow_attention(view, method, weights, inputs["present"], {})["image"])
    assert (hidden[0, 1:5] == 0).all() and (hidden[0, 5:] > 0).all() and hidden[0, 0] > 0


# Through the interface of all methods.


@pytest.mark.large
@pytest.mark.parametrize("method", ATTENTION)
def test_labels_of_a_study_share_a_pass_and_are_as_one_by_one(build, method):
    classifier, found = build(None, BERT), {}
    settings, opened = ExplainSettings(method=method), open_model(classifier)
    (first, second, *_) = make_cases(core_inputs(classifier.models["text"]))
    cases = [dataclasses.replace(first, target=target) for target in (2, 0, 1)] + [second]
    for labels in (1, 2):
        split = SplitModel(*call_view(cut_model(classifier), classifier), 4, opened=opened, labels=labels)
        found[labels] = dict(METHODS[method].for_model(split, settings)(iter(cases)))
    assert sorted(found[1]) == sorted(found[2]) == [0, 1, 2, 3]
    for number, one in found[1].items():
        other = found[2][number]
        assert other.target == one.target == cases[number].target
        assert other.score == pytest.approx(one.score, abs=1e-5)
        np.testing.assert_allclose(other.values["rows"], one.values["rows"], rtol=1e-4, atol=1e-7)
    apart = np.abs(found[2][0].values["rows"] - found[2][1].values["rows"]).max()
    assert (apart > 1e-6) == (method == "gradient-rollout")


@pytest.mark.large
@pytest.mark.parametrize("method", ATTENTION)
def test_studies_are_explained_from_files_to_words_and_regions(build, studies, method):
    classifier = build("tiny-vit", BERT)
    expected = classifier.predict(studies)
    explained = {one.study: one for one in Explainer(classifier, ExplainSettings(method=method)).explain(studies)}
    for study, logits in zip(studies, expected.logits["joint"]):
        one = explained[study.id]
        np.testing.assert_allclose(one.attribution.scores, logits, atol=1e-5)
        assert one.words_scored and one.modality_share == {"image": 0, "text": 0} and one.modality_sum["image"] is None
        assert not one.warnings or all("words were not read" in warning for warning in one.warnings)
    both = explained["48x48"]
    assert both.heat.shape == (32, 32) and both.heat.min() >= 0 and both.regions
    read = [word for word in both.words if word.read]
    assert sum(word.share for word in both.words) == pytest.approx(1) and min(word.signed for word in read) > 0
    whole = both.attribution.values["rows"].sum()
    assert sum(word.signed for word in read) == pytest.approx(whole, rel=1e-5)
    assert explained["words"].heat is None and explained["100x50"].words == []
    np.testing.assert_array_equal(classifier.predict(studies).logits["joint"], expected.logits["joint"])


@pytest.mark.large
def test_a_side_without_attention_is_named(build, studies, tmp_path):
    words = Explainer(build("small-cnn", BERT), ExplainSettings(method="rollout"))
    explained = {one.study: one for one in words.explain(studies)}
    assert explained["48x48"].heat is None and explained["48x48"].regions == [] and explained["48x48"].words[0].share
    assert NOT_FOLLOWED["image"] in explained["48x48"].warnings and explained["100x50"].warnings[:1] == (NO_REPORT,)
    assert not explained["words"].warnings
    assert len(explained["48x48"].save(tmp_path)) == 4
    film = Explainer(build("tiny-vit", "text-cnn"), ExplainSettings(method="rollout"))
    explained = {one.study: one for one in film.explain(studies)}
    assert explained["48x48"].heat.any() and not explained["48x48"].words_scored
    assert NOT_FOLLOWED["text"] in explained["48x48"].warnings and NO_FILM in explained["words"].warnings


@pytest.mark.parametrize("method", ATTENTION)
def test_shifted_windows_are_refused_in_one_line(swin, method):
    with pytest.raises(InputError) as caught:
        Explainer(swin, ExplainSettings(method=method))
    assert str(caught.value) == WINDOWS and "\n" not in WINDOWS


@pytest.fixture(scope="module")
def swin(build_classifier):
    """A classifier of films and reports with a Swin of films."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(IMAGE_ENCODERS, "tiny-swin", TINY_ENTRIES["tiny-swin"])
        return build_classifier("tiny-swin", BERT, network={"pixels": 48, **SHAPE})


@pytest.mark.large
def test_batches_are_filled_and_studies_do_not_depend_on_each_other(build):
    classifier = build(None, BERT)
    (model,) = classifier.models.values()
    opened = open_model(classifier)
    cases = make_cases(core_inputs(model))
    one = Rollout(OpenModel(opened.look, opened.view, 1), "gradient-rollout")
    several = Rollout(OpenModel(opened.look, opened.view, 3), "gradient-rollout")
    assert (one.batch, several.batch) == (1, 3)
    found, expected = dict(several.attribute(cases)), dict(one.attribute(cases))
    assert sorted(found) == sorted(expected) == [0, 1, 2, 3]
    for number, single in expected.items():
        np.testing.assert_allclose(found[number].values["rows"], single.values["rows"], rtol=1e-4, atol=1e-7)
