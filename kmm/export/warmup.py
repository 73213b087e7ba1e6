"""Warm-up requests: TensorFlow Serving runs them when it loads a version, so that no caller waits."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from kmm.classifier import Classifier
from kmm.export.samples import make_reports, make_samples
from kmm.export.served import ServedClassifier
from kmm.protocol import signatures as names
from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import encode_tensor

PLACE = "assets.extra/tf_serving_warmup_requests"


def read_warmup_reports(folder: Path) -> tuple[int, set[str]]:
    """Reads the reports in the warm-up requests of an export, to check that they are made up.

    Args:
        folder: Path of the version.

    Returns:
        int, the number of requests, and set of str, their non-empty reports.
    """
    stubs, count = load_stubs(), 0
    reports: set[bytes] = set()
    place = folder / PLACE
    for record in tf.data.TFRecordDataset(str(place)) if place.is_file() else ():
        inputs = stubs.prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request.inputs
        count += 1
        reports.update(inputs[names.REPORT].string_val if names.REPORT in inputs else ())
        for name in {names.EXAMPLES, names.CLASSIFY_INPUT} & set(inputs):
            for data in inputs[name].string_val:
                example = stubs.example_pb2.Example.FromString(data)
                reports.update(example.features.feature[names.REPORT].bytes_list.value)
    return count, {report.decode() for report in reports if report}


def write_warmup(
    folder: Path, classifier: Classifier, served: ServedClassifier, *, name: str, sizes: Sequence[int] = (1, 8)
) -> None:
    """Writes one request per signature and batch size; for explanations, which are slow, only the first size.

    Films are drawn at random and reports come from the phantom set, so that nothing comes from a patient.

    Args:
        folder: Path of the version.
        classifier: `Classifier`.
        served: `ServedClassifier`.
        name: str, the model's name.
        sizes: sequence of int, numbers of rows in ascending order.
    """
    stubs, count = load_stubs(), max(sizes)
    samples = make_samples(classifier, count, reports=make_reports(count))
    place = folder / PLACE
    place.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(place)) as writer:
        for signature in served.signatures.values():
            for size in sizes[:1] if signature.name.startswith("explain") else sizes:
                request = stubs.predict_pb2.PredictRequest()
                request.model_spec.name, request.model_spec.signature_name = name, signature.name
                for field in signature.inputs:
                    request.inputs[field.name].CopyFrom(encode_tensor(samples[field.name][:size]))
                log = stubs.prediction_log_pb2.PredictLog(request=request)
                writer.write(stubs.prediction_log_pb2.PredictionLog(predict_log=log).SerializeToString())
