"""The network of BERT, by its definition in double precision, and the loading of its weights."""

import dataclasses
import math

import keras
import numpy as np
import pytest
from keras import ops

from kmm.errors import InputError
from kmm.explain.attribution.gradients import compile_function, differentiate
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_text import TEXT_ENCODERS, build_text_encoder
from kmm.models.transformer.attention import Attention
from kmm.models.transformer.frame import Frame, FrameMask
from kmm.models.transformer.shape import TransformerShape
from kmm.models.views.parts import set_trainable, text_encoder_of
from kmm.models.views.path_view import view_path
from kmm.models.weights.bert_folder import open_bert
from kmm.models.weights.bert_weights import check_tensors, load_text_weights
from tests.factories.bert import write_bert
from tests.model_checks import VOCABULARY_SIZE, check_path_memory, core_inputs, to_numpy

LENGTH, WORDS, MARKS = 9, 6, (3, 4)


def norm(x, weight, bias, epsilon):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt(np.square(x).mean(-1, keepdims=True) + epsilon) * weight + bias


ACTIVATIONS = {
    "gelu": lambda x: x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "gelu_new": lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def run_by_definition(tensors, ids, *, heads, activation="gelu", epsilon=1e-12, prefix=""):
    """The last rows of a BERT for the ids of one text, with its marks and without padding, in float64."""
    values = {
        name.removeprefix(prefix).replace("gamma", "weight").replace("beta", "bias"): value.astype(np.float64)
        for name, value in tensors.items()
    }

    def dense(name, x):
        return x @ values[f"{name}.weight"].T + values[f"{name}.bias"]

    def normalise(name, x):
        return norm(x, values[f"{name}.weight"], values[f"{name}.bias"], epsilon)

    x = values["embeddings.word_embeddings.weight"][ids]
    x = x + values["embeddings.position_embeddings.weight"][: len(ids)]
    x = normalise("embeddings.LayerNorm", x + values["embeddings.token_type_embeddings.weight"][0])
    for layer in range(sum(name.endswith("self.query.bias") for name in values)):
        start, size = f"encoder.layer.{layer}", x.shape[1] // heads
        parts = [dense(f"{start}.attention.self.{name}", x) for name in ("query", "key", "value")]
        mixed = []
        for place in range(heads):
            query, key, value = (part[:, place * size : (place + 1) * size] for part in parts)
            scores = query @ key.T / math.sqrt(size)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            mixed.append(weights / weights.sum(-1, keepdims=True) @ value)
        mixed = dense(f"{start}.attention.output.dense", np.concatenate(mixed, -1))
        x = normalise(f"{start}.attention.output.LayerNorm", x + mixed)
        hidden = ACTIVATIONS[activation](dense(f"{start}.intermediate.dense", x))
        x = normalise(f"{start}.output.LayerNorm", x + dense(f"{start}.output.dense", hidden))
    return x


def load(path, length=LENGTH, dropout=0.1):
    """The text encoder of a folder, with its weights, and its rows of words."""
    folder = open_bert(path)
    check_tensors(folder, folder.words)
    encoder = build_text_encoder(
        TEXT_ENCODERS["bert"],
        length=length,
        embedding_size=folder.shape.width,
        filters=1,
        dropout=dropout,
        shape=folder.shape,
    )
    return encoder, folder.read("embeddings.word_embeddings.weight"), load_text_weights(encoder, folder, MARKS)


def make_inputs(words, counts=(WORDS, 1, 0, LENGTH), length=LENGTH):
    random = np.random.default_rng(1)
    ids = [random.integers(6, len(words), count) for count in counts]
    rows, mask = np.zeros((len(ids), length, words.shape[1]), np.float32), np.zeros((len(ids), length), np.float32)
    for place, found in enumerate(ids):
        rows[place, : len(found)], mask[place, : len(found)] = words[found], 1
    return ids, {"rows": rows, "padding_mask": mask}


CASES = {
    "exact": {},
    "tanh and other sizes": {"activation": "gelu_new", "layers": 3, "heads": 3, "width": 12, "hidden": 20},
    "old names": {"old_names": True, "prefix": "bert.", "pooler": False, "epsilon": 1e-5, "activation": "relu"},
}


@pytest.mark.parametrize("case", CASES)
def test_the_encoder_is_a_bert_by_its_definition(case, tmp_path):
    options = CASES[case]
    folder, tensors = write_bert(tmp_path / "bert", **options)
    encoder, words, report = load(folder)
    ids, inputs = make_inputs(words)
    found = to_numpy(encoder(inputs, training=False))
    known = {name: options[name] for name in ("activation", "epsilon", "prefix") if name in options}
    for place, own in enumerate(ids):
        expected = run_by_definition(tensors, [3, *own, 4], heads=options.get("heads", 2), **known)
        got = found["sequence"][place, : len(own) + 2]
        assert np.abs(got - expected).max() <= 5e-6 * np.abs(expected).max()
        np.testing.assert_array_equal(found["vector"][place], got[0])
        assert found["mask"][place].tolist() == [1.0] * (len(own) + 2) + [0.0] * (LENGTH - len(own))
    pooled = {name for name in tensors if "pooler" in name}
    assert set(report.extra) == pooled and report.tensors == len(tensors) - len(pooled)
    assert report.parameters == sum(value.size for name, value in tensors.items() if name not in pooled)
    assert report.source == "bert" and len(report.sha256) == 64


def test_padding_changes_nothing_and_has_no_gradient(tmp_path):
    encoder, words, _ = load(write_bert(tmp_path / "bert")[0])
    _, inputs = make_inputs(words)
    spoiled = {**inputs, "rows": np.where(inputs["padding_mask"][..., None] > 0, inputs["rows"], np.float32(np.nan))}
    one, other = (to_numpy(encoder(given, training=False)) for given in (inputs, spoiled))
    read = one["mask"] > 0
    np.testing.assert_array_equal(one["vector"], other["vector"])
    np.testing.assert_array_equal(one["sequence"][read], other["sequence"][read])

    def score(given, mask):
        return ops.sum(encoder({"rows": given["rows"], "padding_mask": mask}, training=False)["vector"] ** 2, axis=-1)

    wanted = {"rows": inputs["rows"]}, inputs["padding_mask"]
    _, gradients = compile_function(differentiate(score))(*keras.tree.map_structure(ops.convert_to_tensor, wanted))
    gradient = to_numpy(gradients["rows"])
    assert np.abs(gradient[inputs["padding_mask"] > 0]).min() > 0
    assert not gradient[inputs["padding_mask"] == 0].any()


def test_the_length_of_the_padding_does_not_matter(tmp_path):
    folder, _ = write_bert(tmp_path / "bert")
    vectors = []
    for length in (LENGTH, 20):
        encoder, words, _ = load(folder, length)
        vectors.append(to_numpy(encoder(make_inputs(words, length=length)[1], training=False)["vector"]))
    np.testing.assert_allclose(*vectors, rtol=1e-5, atol=1e-5)


def test_a_frame_holds_words_between_its_marks():
    frame, rows = Frame(), ops.convert_to_tensor(np.arange(12, dtype="float32").reshape(2, 3, 2))
    mask = ops.convert_to_tensor(np.float32([[1, 1, 0], [1, 1, 1]]))
    frame.build(rows.shape, mask.shape)
    marks, places, segment = [[100, 100], [200, 200]], np.arange(5.0)[:, None] * [1000, 1000], [0.5, 0.25]
    frame.set_weights([np.float32(marks), np.float32(places), np.float32(segment)])
    found = to_numpy(frame(rows, mask))
    np.testing.assert_array_equal(found[0, :, 0], [100.5, 1000.5, 2002.5, 3200.5, 0])
    np.testing.assert_array_equal(found[1, :, 1], [100.25, 1007.25, 2009.25, 3011.25, 4200.25])
    assert to_numpy(FrameMask()(mask)).tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_attention_without_a_mask_reads_all():
    random = np.random.default_rng(0)
    query, key, value = (ops.convert_to_tensor(random.normal(size=(2, 5, 6)).astype("float32")) for _ in range(3))
    layer = Attention(heads=3)
    alone, masked = layer(query, key, value), layer(query, key, value, ops.ones((2, 5)))
    np.testing.assert_array_equal(to_numpy(alone), to_numpy(masked))
    assert layer.get_config()["heads"] == 3


def test_upper_blocks_are_trained_by_their_fraction():
    shape = TransformerShape(layers=4, heads=2, width=8, hidden=8)
    spec = ModelSpec(text_encoder="bert", length=6, embedding_size=8, text_shape=shape)
    assert ModelSpec(**dataclasses.asdict(spec)) == spec
    model = build_model(spec, label_count=1, vocabulary_size=9)
    encoder = text_encoder_of(model)
    for part, expected in {0.25: {"block4"}, 0.5: {"block3", "block4"}, "top": {"block4"}, False: set()}.items():
        set_trainable(model, spec, text=part)
        named = {weight.path.split("/")[-2].partition("_")[0] for weight in encoder.trainable_weights}
        assert named == expected and not model.get_layer("embed").trainable
    set_trainable(model, spec, text=True)
    assert len(encoder.trainable_weights) == len(encoder.weights) and model.get_layer("embed").trainable


@pytest.mark.large
@pytest.mark.parametrize("activation", ["gelu", "gelu-tanh", "relu"])
def test_the_memory_of_a_path_point_is_counted_with_attention(activation):
    shape = TransformerShape(layers=2, heads=4, width=16, hidden=64, activation=activation)
    sizes = {"length": 94, "embedding_size": 16, "text_dropout": 0, "fusion_dropout": 0}
    model = build_model(
        ModelSpec(text_encoder="bert", text_shape=shape, **sizes), label_count=2, vocabulary_size=VOCABULARY_SIZE
    )
    # TensorFlow holds more than half of what is counted, PyTorch's kernels two fifths.
    check_path_memory(view_path(model, text_encoder=TEXT_ENCODERS["bert"]), core_inputs(model), least=0.3)


def test_half_precision_hides_padding_too(tmp_path):
    folder, _ = write_bert(tmp_path / "bert")
    found = {}
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            encoder, words, _ = load(folder)
        finally:
            keras.config.set_dtype_policy("float32")
        inputs = make_inputs(words)[1]
        spoiled = {**inputs, "rows": inputs["rows"] + 9 * (1 - inputs["padding_mask"][..., None])}
        found[policy], other = (to_numpy(encoder(given, training=False)["vector"]) for given in (inputs, spoiled))
        np.testing.assert_array_equal(found[policy], other)
    np.testing.assert_allclose(found["mixed_float16"], found["float32"], atol=0.05)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"length": 63}, "reports of at most 62 words. Lower `length`. Received: 63."),
        ({"text_encoder": "text-cnn"}, "The text encoder 'text-cnn' has no shape. Leave out `text_shape`."),
    ],
)
def test_a_shape_that_does_not_fit(changes, said):
    shape = TransformerShape(layers=1, heads=1, width=4, hidden=4, positions=64)
    with pytest.raises(InputError, match=said):
        ModelSpec(**{"text_encoder": "bert", "text_shape": shape, **changes})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"layers": 0}, "1 to 100 layers. Received: 0"),
        ({"width": 10**9}, "1 to 16384 width. Received: 1000000000"),
        ({"heads": True}, "1 to 256 heads. Received: True"),
        ({"heads": 5}, "multiple of its heads. Received: 768 and 5 heads"),
        ({"activation": "silu"}, "Unknown activation of a transformer 'silu'. Known: gelu, gelu-tanh, relu"),
        ({"epsilon": 0}, r"in \(0, 1\). Received: 0"),
    ],
)
def test_no_shape(values, said):
    with pytest.raises(InputError, match=said):
        TransformerShape(**values)
