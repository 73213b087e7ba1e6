"""Every signature by four roads, with one answer: Keras, TensorFlow's loader, C++'s loader, the gRPC server."""

import grpc
import numpy as np
import pytest
import tensorflow as tf

from kmm.classifier import run_model
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.export.explanation import ExplainSignature
from kmm.export.samples import make_samples
from kmm.export.served import ServedClassifier
from kmm.export.write import export_classifier
from kmm.models.views.feature_view import view_joint
from kmm.protocol import signatures as names
from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import decode_tensor
from kmm.server.server import Server
from kmm.server.settings import ModelSettings, ServeSettings
from kmm.storage.classifier_folder import digest_file
from tests.export.cpp_loader import CppError, CppModel, open_library
from tests.factories import jpegs

TOLERANCE = 1e-5
stubs = load_stubs()


@pytest.fixture(scope="module")
def cpp(exported):
    if open_library() is None:
        pytest.skip("this TensorFlow carries no C++ library with the loader")
    return CppModel(exported)


@pytest.fixture(scope="module")
def channel(exported):
    settings = ServeSettings(port=0, rest_port=None, poll_seconds=0)
    with Server([ModelSettings("tiny", exported.parent)], settings) as server:
        options = [("grpc.max_receive_message_length", -1)]
        with grpc.insecure_channel(f"localhost:{server.port}", options) as channel:
            yield channel


def ask(channel, signature, inputs):
    """By the stock stubs, as any client does."""
    request = stubs.predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "tiny", signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    service = stubs.prediction_service_pb2_grpc.PredictionServiceStub(channel)
    return {name: decode_tensor(proto) for name, proto in service.Predict(request, timeout=60).outputs.items()}


def answer_in_keras(classifier, samples, found, description):
    """What Keras and `kmm.explain` say, of those outputs of the export that they have."""
    ids, count = samples["token_ids"], len(samples["token_ids"])
    sides = [samples[side].reshape(count, -1).any(axis=1) for side in ("image", "token_ids")]
    inputs = {"image": samples["image"], "token_ids": ids, "present": np.stack(sides, 1).astype(np.float32)}
    logits = run_model(classifier.models["joint"], inputs)
    scores = classifier.probabilities(logits, inputs["present"])
    said = {
        names.LOGITS: logits,
        names.PROBABILITIES: scores,
        names.SCORES: scores,
        names.DECISIONS: scores >= classifier.thresholds_for(inputs["present"]),
        names.THRESHOLDS: classifier.thresholds_for(inputs["present"]),
        names.FEATURES: np.asarray(view_joint(classifier.models["joint"])(inputs)["features"]),
        names.DESCRIPTION: np.full(count, description, object),
    }
    return {name: value for name, value in said.items() if name in found}


def describe(classifier, exported):
    """The JSON that the classifier itself gives."""
    explanation = ExplainSignature(steps=15, baseline="mean")
    source = {"name": "tiny", "digest": digest_file(exported.parent / "classifier.json")}
    served = ServedClassifier(classifier, exported.parent / "vocabulary.txt", explanation=explanation, source=source)
    return served.description.encode()


def assert_equal(found, expected):
    for name, value in expected.items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(found[name], value, atol=TOLERANCE * max(1, np.abs(value).max()), err_msg=name)
        else:
            assert (found[name] == value).all(), name


@pytest.mark.large
@pytest.mark.parametrize("name", names.list_signatures(pixels=32, length=12, label_count=3, feature_size=16))
def test_four_roads(name, hand_made, exported, signatures, cpp, channel, samples):
    inputs = {key: samples[key] for key in signatures[name].structured_input_signature[1]}
    by_loader = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
    by_loader = {key: value.numpy() for key, value in by_loader.items()}
    expected = answer_in_keras(hand_made, samples, by_loader, describe(hand_made, exported))
    assert expected
    assert_equal(by_loader, expected)
    for road in (cpp.run(name, inputs), ask(channel, name, inputs)):
        assert set(road) == set(by_loader)
        assert_equal(road, by_loader)


@pytest.mark.large
def test_four_roads_of_another_default(hand_made, saved, samples, tmp_path):
    if open_library() is None:
        pytest.skip("this TensorFlow carries no C++ library with the loader")
    place = export_classifier(saved, out=tmp_path / "tiny", default="bytes", explanation=None, warmup=())
    loaded = tf.saved_model.load(str(place)).signatures
    assert "explain" not in loaded
    default = {key: tf.constant(samples[key]) for key in loaded["serving_default"].structured_input_signature[1]}
    assert set(default) == {"image_bytes", "report"}
    inputs = {key: samples[key] for key in ("image", "token_ids")}
    with (
        Server([ModelSettings("tiny", place.parent)], ServeSettings(port=0, rest_port=None, poll_seconds=0)) as server,
        grpc.insecure_channel(f"localhost:{server.port}") as channel,
    ):
        by_loader = loaded["serving_tensors"](**{key: tf.constant(value) for key, value in inputs.items()})
        by_loader = {key: value.numpy() for key, value in by_loader.items()}
        assert_equal(by_loader, answer_in_keras(hand_made, samples, by_loader, b""))
        probabilities = loaded["serving_default"](**default)["probabilities"]
        np.testing.assert_allclose(probabilities, by_loader["probabilities"], atol=TOLERANCE)
        for road in (CppModel(place).run("serving_tensors", inputs), ask(channel, "serving_tensors", inputs)):
            assert set(road) == set(by_loader)
            assert_equal(road, by_loader)


BASELINE, PROGRESSIVE = (jpegs.cut_hole(jpegs.WHOLE[name]) for name in ("gray", "progressive"))


def make_example(film):
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[film]))
    return tf.train.Example(features=tf.train.Features(feature={"image_bytes": value})).SerializeToString()


@pytest.mark.large
def test_the_graph_refuses_a_jpeg_with_a_hole_on_every_road(signatures, cpp, channel):
    films = np.array([jpegs.WHOLE["gray"], BASELINE], object)
    inputs = {"image_bytes": films, "report": np.array([b"", b""], object)}
    said = "image 1: expected a (whole|complete) JPEG"
    with pytest.raises(tf.errors.InvalidArgumentError, match=said):
        signatures["serving_bytes"](**{key: tf.constant(value) for key, value in inputs.items()})
    with pytest.raises(CppError, match=said):
        cpp.run("serving_bytes", inputs)
    with pytest.raises(grpc.RpcError, match=said):
        ask(channel, "serving_bytes", inputs)


@pytest.mark.parametrize("name", ["serving_bytes", "embed_bytes", "explain_bytes", "tf_example", "classify"])
def test_the_server_refuses_what_the_graph_cannot_tell(name, signatures, channel):
    films = [jpegs.WHOLE["progressive"], PROGRESSIVE]
    examples = np.array([make_example(film) for film in films], object)
    given = {
        "image_bytes": np.array(films, object),
        "report": np.array([b"", b""], object),
        "target": np.array([-1, -1], np.int32),
        "examples": examples,
        "inputs": examples,
    }
    inputs = {key: given[key] for key in signatures[name].structured_input_signature[1]}
    with pytest.raises(grpc.RpcError, match="image 1: expected a complete JPEG image") as caught:
        ask(channel, name, inputs)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    whole = {key: value[:1] for key, value in inputs.items()}
    assert ask(channel, name, whole)


def test_the_classify_call_refuses_it_too(channel):
    request = stubs.classification_pb2.ClassificationRequest()
    request.model_spec.name, request.model_spec.signature_name = "tiny", "classify"
    request.input.example_list.examples.add().ParseFromString(make_example(PROGRESSIVE))
    service = stubs.prediction_service_pb2_grpc.PredictionServiceStub(channel)
    with pytest.raises(grpc.RpcError, match="image 0: expected a complete JPEG image"):
        service.Classify(request, timeout=60)


@pytest.mark.large
@pytest.mark.parametrize("name", ["explain", "explain_bytes"])
def test_explanations_of_kmm_are_the_fifth_road(name, hand_made, signatures, cpp, channel, studies):
    explainer = Explainer(hand_made, ExplainSettings(steps=15, baselines=("mean",)))
    for explanation in explainer.explain(studies):
        study = next(one for one in studies if one.id == explanation.study)
        prepared = hand_made.batches.batch([study])
        given = {
            "image_bytes": np.array([study.frontal.path.read_bytes() if study.frontal else b""], object),
            "report": np.array([hand_made.batches.text.text(study).encode()], object),
            "image": prepared.image,
            "token_ids": prepared.token_ids,
            "target": np.array([-1], np.int32),
        }
        inputs = {key: given[key] for key in signatures[name].structured_input_signature[1]}
        by_loader = signatures[name](**{key: tf.constant(value) for key, value in inputs.items()})
        expected = explanation.attribution
        for found in (by_loader, cpp.run(name, inputs), ask(channel, name, inputs)):
            numbers = {"score": expected.score, "baseline_score": expected.baseline_score}
            assert_equal(found, {key: np.float32([value]) for key, value in numbers.items()})
            for output, side in (("image_attribution", "image"), ("token_attribution", "rows")):
                value = expected.values[side].sum(axis=-1)[None]
                atol = min(TOLERANCE, 1e-4 * max(np.abs(value).max(), 1e-3))
                np.testing.assert_allclose(found[output], value, atol=atol)


FILM, WORDS = np.full((2, 32, 32, 1), 50, np.float32), np.ones((2, 12), np.int32)
GOOD, TARGETS = {"image": FILM, "token_ids": WORDS}, np.array([0, 1], np.int32)
NOT_FINITE = FILM * np.float32([1, np.nan])[:, None, None, None]
SQUARE = r"image: expected the shape \[batch,32,32,1\]. Received: "
WRONG = {
    "height": ("serving_default", {"image": FILM[:, :20]}, SQUARE + r"\[2,20,32,1\]"),
    "colour": ("serving_default", {"image": np.repeat(FILM, 3, -1)}, SQUARE + r"\[2,32,32,3\]"),
    "rank": ("serving_default", {"image": FILM[..., 0]}, SQUARE + r"\[2,32,32\]"),
    "words": ("serving_default", {"token_ids": WORDS[:, :3]}, r"token_ids: expected the shape \[batch,12\]"),
    "rows": ("serving_default", {"token_ids": WORDS[:1]}, "expected as many rows of token_ids as of image"),
    "nan": ("serving_default", {"image": NOT_FINITE}, "image 1: expected finite gray levels"),
    "id": ("serving_default", {"token_ids": WORDS * 10**6}, "token_ids 0: expected ids of words from 0 to"),
    "negative": ("serving_default", {"token_ids": -WORDS}, "token_ids 0: expected ids of words from 0 to"),
    "nothing": ("serving_default", {"image": 0 * FILM, "token_ids": 0 * WORDS}, "study 0: expected a film or a report"),
    "target": ("explain", {"target": TARGETS + 3}, "target 0: expected a label from 0 to 2"),
    "targets": ("explain", {"target": TARGETS[:1]}, "expected as many rows of target as of image"),
    "column": ("explain", {"target": TARGETS[:, None]}, r"target: expected the shape \[batch\]. Received: \[2,1\]"),
    "features": ("embed", {"image": FILM[:, :20]}, SQUARE + r"\[2,20,32,1\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_graph_checks_what_a_server_in_cpp_does_not(cpp, channel, case):
    signature, change, said = WRONG[case]
    inputs = {**GOOD, **({"target": TARGETS} if signature == "explain" else {}), **change}
    with pytest.raises(CppError, match=said) as error:
        cpp.run(signature, inputs)
    assert error.value.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    with pytest.raises(grpc.RpcError, match=said) as refused:
        ask(channel, signature, inputs)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.large
def test_an_example_may_hold_the_sections_of_a_report(cpp):
    def write(**features):
        return tf.train.Example(
            features=tf.train.Features(
                feature={
                    name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[text.encode()]))
                    for name, text in features.items()
                }
            )
        ).SerializeToString()

    examples = [
        write(report="Cough. Effusion. No mass."),
        write(findings="No mass.", indication="Cough.", impression="Effusion.", comparison="A cyst."),
    ]
    found = cpp.run("tf_example", {"examples": np.array(examples, object)})["logits"]
    np.testing.assert_allclose(found[0], found[1], atol=TOLERANCE)


@pytest.mark.large
def test_a_corrupt_example(cpp, samples):
    with pytest.raises(CppError, match="Could not parse example input"):
        cpp.run("tf_example", {"examples": np.array([b"\xff\xfe"], object)})
    with pytest.raises(CppError, match="study 0: expected a film or a report with words"):
        cpp.run("tf_example", {"examples": np.array([b""], object)})


def test_an_empty_batch(cpp):
    with pytest.raises(CppError, match=r"image: expected 1 to 1024 rows\. Received: 0"):
        cpp.run("serving_default", {name: value[:0] for name, value in GOOD.items()})


def test_samples_show_every_kind_of_study(hand_made):
    samples = make_samples(hand_made, 3)
    assert samples["image"].reshape(3, -1).any(axis=1).tolist() == [True, True, False]
    assert samples["token_ids"].any(axis=1).tolist() == [True, False, True]
