"""An export says what the classifier says, whatever it takes; it appears whole, or not at all."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from kmm.classifier import Classifier, run_model
from kmm.errors import ArtefactError, InputError
from kmm.export import write
from kmm.export.explanation import ExplainSignature
from kmm.export.graph.batching import Batching
from kmm.export.samples import make_samples
from kmm.export.write import check_export, choose_version, export_classifier
from kmm.protocol import signatures as names
from kmm.protocol.tensors import decode_tensor
from tests.export.calls import WITHOUT, call, trace_only
from tests.factories.commands import run

PREDICTING = ("serving_default", "serving_bytes", "tf_example", "classify")


PRESENT = np.float32([[1, 1], [1, 0], [0, 1], [1, 1]])


def expect(classifier, samples):
    """The classifier's own logits of samples: all, then a film alone, then a report alone, then all again."""
    inputs = {"image": samples["image"], "token_ids": samples["token_ids"], "present": PRESENT}
    return run_model(classifier.models[classifier.main], inputs)


@pytest.mark.large
@pytest.mark.parametrize("name", PREDICTING)
def test_probabilities_are_those_of_the_classifier(signatures, hand_made, samples, name):
    found = call(signatures, name, samples)
    logits = expect(hand_made, samples)
    expected, cuts = hand_made.probabilities(logits, PRESENT), hand_made.thresholds_for(PRESENT)
    assert len(set(cuts[:, 0])) == 3  # each pattern is decided by its own numbers
    np.testing.assert_allclose(found[names.SCORES if name == "classify" else names.PROBABILITIES], expected, atol=1e-5)
    labels = np.array([[label.encode() for label in hand_made.label_names]] * 4, object)
    assert (found[names.CLASSES if name == "classify" else names.LABEL_NAMES] == labels).all()
    if name != "classify":
        np.testing.assert_allclose(found[names.LOGITS], logits, atol=1e-4)
        assert (found[names.DECISIONS] == (expected >= cuts)).all()
        np.testing.assert_allclose(found[names.THRESHOLDS], cuts, atol=1e-6)


def test_signatures_are_those_of_the_contract(signatures, hand_made):
    contract = names.list_signatures(pixels=32, length=12, label_count=3, feature_size=16)
    assert set(signatures) == set(contract)
    for name, signature in contract.items():
        given, found = signatures[name].structured_input_signature[1], signatures[name].structured_outputs
        for fields, specs in ((signature.inputs, given), (signature.outputs, found)):
            assert {one.name: (tf.as_dtype(one.dtype), one.shape) for one in fields} == {
                key: (spec.dtype, tuple(spec.shape)) for key, spec in specs.items()
            }, name


def test_only_operations_that_every_server_has(exported):
    from tensorflow.core.protobuf import saved_model_pb2

    found = saved_model_pb2.SavedModel.FromString((exported / "saved_model.pb").read_bytes())
    graph = found.meta_graphs[0].graph_def
    operations = {node.op for node in graph.node} | {
        node.op for function in graph.library.function for node in function.node_def
    }
    assert not {name for name in operations if "PyFunc" in name or name.startswith("Xla")}


def test_files_of_a_version(exported, saved):
    kept = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    weights = {"variables/variables.data-00000-of-00001", "variables/variables.index"}
    graph = {"saved_model.pb", "fingerprint.pb", "assets/vocabulary.txt"}
    assert kept == weights | graph | {"assets.extra/tf_serving_warmup_requests"}  # no split, no hashes of studies
    assert exported.name == "1" and exported.stat().st_mode & 0o777 == 0o755
    assert not [path for path in saved.iterdir() if path.name.startswith(".tmp")]


@pytest.mark.usefixtures("one_signature")
def test_the_card_lies_beside_the_model(saved_reader, tmp_path):
    text = f'# Card\n\n    kmm predict {saved_reader} FILM.png\n    kmm.Classifier.load("/home/a b/reader")\n'
    text += "\n## Pictures\n\n![ROC curves](pictures/roc.png)\n\n## Limits\n"  # pictures are not exported
    (saved_reader / "model_card.md").write_text(text, encoding="utf-8")
    try:
        place = export_classifier(saved_reader, out=tmp_path, **WITHOUT)
    finally:
        (saved_reader / "model_card.md").unlink()
    assert (place / "assets.extra" / "model_card.md").read_text(encoding="utf-8") == (
        '# Card\n\n    kmm predict reader FILM.png\n    kmm.Classifier.load("reader")\n\n## Limits\n'
    )


@pytest.mark.large
def test_warmup_has_a_request_for_each_signature_and_size(exported, signatures):
    from tensorflow_serving.apis import prediction_log_pb2

    place = exported / "assets.extra" / "tf_serving_warmup_requests"
    logs = [prediction_log_pb2.PredictionLog.FromString(one.numpy()) for one in tf.data.TFRecordDataset(str(place))]
    requests = [log.predict_log.request for log in logs]
    sizes = {}
    for request in requests:
        inputs = {name: tf.constant(decode_tensor(proto)) for name, proto in request.inputs.items()}
        sizes.setdefault(request.model_spec.signature_name, []).append(len(next(iter(inputs.values()))))
        signatures[request.model_spec.signature_name](**inputs)
    expected = {name: [1] if name.startswith("explain") else [1, 8] for name in signatures}
    assert sizes == expected


def test_description_tells_what_a_client_needs(signatures, hand_made):
    (found,) = signatures["describe"](query=tf.constant([b""]))["description"].numpy()
    told = json.loads(found)
    assert told["labels"] == list(hand_made.label_names) and told["preparation"] == hand_made.batches.as_dict()
    assert list(told["calibration"]) == ["both", "image", "text"]
    for pattern, cut, row in (("both", 0.5, 0), ("image", 0.47, 1), ("text", 0.53, 2)):
        found = told["calibration"][pattern]
        assert found["thresholds"] == [cut] * 3 and found["prevalence"] == [0.5] * 3
        assert found["temperatures"] == hand_made.temperatures["joint"][row].tolist()
    assert told["thresholds"] == [0.5] * 3  # those of film and report, as before
    assert told["explain"]["steps"] == 15 and told["name"] == "tiny" and len(told["digest"]) == 64


def test_features_are_those_behind_the_logits(signatures, hand_made, samples):
    features = call(signatures, "embed", samples)["features"]
    np.testing.assert_allclose(features, call(signatures, "embed_bytes", samples)["features"], atol=1e-4)
    kernel, bias = hand_made.models["joint"].get_layer("core").get_layer("fusion").get_layer("logits").get_weights()
    np.testing.assert_allclose(features @ kernel + bias, expect(hand_made, samples), atol=1e-4)


@pytest.mark.large
def test_another_default(saved_reader, tmp_path):
    """Bytes as the default are in tests/export/test_roads.py."""
    place = export_classifier(saved_reader, out=tmp_path, default="tf_example", **WITHOUT)
    found, samples = tf.saved_model.load(str(place)).signatures, make_samples(Classifier.load(saved_reader), 4)
    assert set(found["serving_default"].structured_input_signature[1]) == {"examples"}
    expected = call(found, "serving_tensors", samples)["probabilities"]
    np.testing.assert_allclose(call(found, "serving_default", samples)["probabilities"], expected, atol=1e-5)
    assert "explain" not in found


@pytest.mark.large
@pytest.mark.parametrize("image, text", [("small-cnn", None), (None, "text-cnn")])
def test_a_model_of_one_side(build_classifier, tmp_path, image, text):
    classifier = build_classifier(image, text, labels=("mass",))
    classifier.save(tmp_path / "one")
    place = export_classifier(tmp_path / "one", explanation=ExplainSignature(steps=5), warmup=(1,))
    found = tf.saved_model.load(str(place)).signatures
    assert len(found["serving_bytes"].structured_input_signature[1]) == 1
    explained = call(found, "explain_bytes", make_samples(classifier, 2))
    assert ("image_attribution" in explained) == bool(image) and ("token_attribution" in explained) == bool(text)


@pytest.mark.large
def test_batching_changes_no_answer_and_a_bad_image_fails_alone(build_classifier, tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    classifier = build_classifier("small-cnn", None)
    classifier.save(tmp_path / "films")
    samples = make_samples(classifier, 4)
    place = export_classifier(tmp_path / "films", explanation=None, warmup=(), batching=Batching(4, timeout_ms=20))
    found = tf.saved_model.load(str(place)).signatures
    expected = call(found, "serving_default", samples)["probabilities"]

    def ask(row):
        if row % 4 == 3:
            with pytest.raises(tf.errors.InvalidArgumentError, match="PNG or JPEG"):
                found["serving_bytes"](image_bytes=tf.constant([b"bad"]))
            return expected[row % 4][None]
        return call(found, "serving_bytes", samples, slice(row % 4, row % 4 + 1))["probabilities"]

    with ThreadPoolExecutor(8) as pool:
        answers = np.concatenate(list(pool.map(ask, range(24))))
    np.testing.assert_allclose(answers, np.tile(expected, (6, 1)), atol=1e-5)
    found_many = found["serving_default"](image=tf.constant(np.concatenate([samples["image"]] * 3)))
    np.testing.assert_allclose(found_many["probabilities"], np.tile(expected, (3, 1)), atol=1e-5)


def test_versions(tmp_path):
    for name in ("1", "7", "latest", ".tmp-x"):
        (tmp_path / name).mkdir()
    assert choose_version(tmp_path).name == "8" and choose_version(tmp_path, 3).name == "3"
    with pytest.raises(InputError, match="already exists"):
        choose_version(tmp_path, 7)
    for number in (0, 2**63):
        with pytest.raises(InputError, match="a number from 1 to 9223372036854775807"):
            choose_version(tmp_path, number)


def test_folders_that_no_server_takes_for_a_version(tmp_path):
    for name in ("2", "²", "٣", "9" * 19, "1" * 20):
        (tmp_path / name).mkdir()
    assert choose_version(tmp_path).name == "3"
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(InputError, match="a number from 1 to"):
        choose_version(tmp_path)


@pytest.mark.parametrize("wait", [-1, float("nan"), float("inf"), 60_001, True, "2"])
def test_an_invalid_timeout_is_refused(wait):
    with pytest.raises(InputError, match="`timeout_ms` must be a number from 0 to 60000"):
        Batching(timeout_ms=wait)


@pytest.mark.parametrize("name", ["max_batch", "threads", "max_enqueued"])
@pytest.mark.parametrize("value", [0, 2.5, True, 2**31])
def test_batching_counts_in_whole_numbers(name, value):
    with pytest.raises(InputError, match=f"`{name}` must be a whole number of at least 1"):
        Batching(**{name: value})


@pytest.mark.parametrize("steps", [1, 1001, 2.5, True])
def test_steps_are_whole_and_bounded(steps):
    with pytest.raises(InputError, match="steps"):
        ExplainSignature(steps=steps)


def test_a_baseline_that_the_graph_cannot_make():
    with pytest.raises(InputError, match="must be one of black, mean, grey"):
        ExplainSignature(baseline="blur")


@pytest.mark.large
@pytest.mark.usefixtures("one_signature")
def test_an_export_that_says_something_else_never_appears(saved_reader, tmp_path, monkeypatch):
    monkeypatch.setattr(write, "PROBABILITY_TOLERANCE", -1.0)
    with pytest.raises(ArtefactError, match="differs from the classifier"):
        export_classifier(saved_reader, out=tmp_path, **WITHOUT)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def reader(saved_reader):
    """A classifier of reports and its export, which reads tensors and text."""
    with pytest.MonkeyPatch.context() as patch:
        trace_only(patch, "serving_default", "serving_bytes")
        return Classifier.load(saved_reader), export_classifier(saved_reader, **WITHOUT)


@pytest.mark.large
def test_nan_is_no_small_difference(reader, monkeypatch):
    monkeypatch.setattr(write, "_predict", lambda classifier, samples: np.full((3, 3), np.nan, np.float32))
    with pytest.raises(ArtefactError, match="differs from the classifier's by nan"):
        check_export(reader[1], reader[0])


@pytest.mark.large
def test_an_export_that_cannot_be_called_is_one_line(reader, monkeypatch):
    samples = {**make_samples(reader[0], 3), "report": np.array([b"\xff"] * 3, object)}
    monkeypatch.setattr(write, "make_samples", lambda classifier, count: samples)
    with pytest.raises(ArtefactError, match=r"The signature .*bytes of the export cannot be called: ") as error:
        check_export(reader[1], reader[0])
    assert "\n" not in str(error.value)


FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    tf.errors.ResourceExhaustedError(None, None, "SaveV2: part-00000; No space left on device [Op:SaveV2]"),
]


@pytest.mark.usefixtures("one_signature")
@pytest.mark.parametrize("error", FULL, ids=["python", "tensorflow"])
def test_a_full_disk_leaves_nothing(saved_reader, tmp_path, monkeypatch, error):
    def full(*args, **options):
        raise error

    monkeypatch.setattr(write, "write_warmup", full)
    result = run("export", saved_reader, "--out", tmp_path, "--without", "explain")
    assert result.exit_code == 2 and "No space left on device" in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.large
@pytest.mark.usefixtures("one_signature")
def test_another_export_that_is_faster(saved_reader, tmp_path, monkeypatch):
    def check(folder, classifier):
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "saved_model.pb").touch()

    monkeypatch.setattr(write, "check_export", check)
    with pytest.raises(InputError, match="created by another export"):
        export_classifier(saved_reader, out=tmp_path, **WITHOUT)
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


def test_weights_that_were_lost_are_noticed(reader, tmp_path):
    import shutil

    shutil.copytree(reader[1], tmp_path / "1")
    data = next((tmp_path / "1" / "variables").glob("variables.data*"))
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    with pytest.raises(ArtefactError, match=r"cannot be loaded: .*Read less bytes than requested"):
        check_export(tmp_path / "1", reader[0])


@pytest.mark.large
def test_kill_during_an_export_leaves_no_version_and_the_next_one_works(saved_reader, tmp_path):
    environment = {
        **os.environ,
        "KERAS_BACKEND": "jax",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }  # export takes its own
    command = [sys.executable, "-m", "kmm", "export", str(saved_reader), "--out", str(tmp_path), "--without", "explain"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not [*tmp_path.glob(".tmp-*/saved_model.pb"), *tmp_path.glob("1")] and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "1").exists() and list(tmp_path.glob(".tmp-*"))
    done = run("export", saved_reader, "--out", tmp_path, "--without", "explain")
    assert done.exit_code == 0 and done.stdout.strip() == str(tmp_path / "1"), done.stderr


@pytest.mark.usefixtures("one_signature")
def test_the_command(saved_reader, tmp_path):
    result = run(
        "export", saved_reader, "--out", tmp_path, "--without", "explain", "--warmup", "2", "--json", "-", "--batching"
    )
    told = json.loads(result.stdout)
    assert result.exit_code == 0 and (told["version"], told["folder"]) == (1, str(tmp_path / "1"))
    assert {one["file"] for one in told["privacy"]["files"]} == {
        path.relative_to(tmp_path / "1").as_posix() for path in (tmp_path / "1").rglob("*") if path.is_file()
    }
    assert "privacy: words: 14; number of patients per word unknown" in result.stderr
    result = run("export", saved_reader, "--out", tmp_path, "--version", 1)
    assert result.exit_code == 2 and "already exists" in result.stderr
    assert run("export", saved_reader, "--warmup", "many").exit_code == 2
    assert run("export", tmp_path / "nothing").exit_code == 2


@pytest.mark.parametrize(
    "options, said",
    [
        (("--format", "onnx", "--version", 2), "`--version` does nothing for `--format onnx`"),
        (("--format", "litert", "--batching"), "`--batching` does nothing for `--format litert`"),
        (("--format", "litert", "--warmup", "1,8"), "`--warmup` does nothing"),
        (("--max-batch", 8), "`--max-batch` belongs to `--batching`"),
        (("--batch-threads", 2), "`--batch-threads` belongs to `--batching`"),
        (("--without", "explain", "--steps", 9), "`--steps` belongs to explanations"),
        (("--batching", "--batch-timeout-ms", "nan"), "`timeout_ms` must be a number from 0"),
        (("--version", 2**63), "--version"),
    ],
)
def test_options_that_would_do_nothing_are_refused(saved, tmp_path, options, said):
    result = run("export", saved, "--out", tmp_path, *options)
    assert result.exit_code == 2 and said in result.stderr and "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
