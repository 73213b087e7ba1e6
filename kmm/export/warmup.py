"""Requests that TensorFlow Serving runs when it loads a version, so that no caller waits for the first one."""

import tensorflow as tf

from kmm.export.samples import make_reports, make_samples
from kmm.protocol import signatures as names
from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import encode_tensor

PLACE = "assets.extra/tf_serving_warmup_requests"


def read_warmup_reports(folder):
    """Reads the reports in the warm-up requests of an export, to see that they are made up.

    Args:
        folder: Path of the version.

    Returns:
        int, the number of requests, and set of str, the reports in them that are not empty.
    """
    stubs, count, reports = load_stubs(), 0, set()
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


def write_warmup(folder, classifier, served, *, name, sizes=(1, 8)):
    """Writes one request for each signature and batch size; explanations are slow: one study is enough.

    Films are drawn at random and reports are those of the phantom set: nothing in them comes from a patient.

    Args:
        folder: Path of the version.
        classifier: `Classifier`.
        served: `ServedClassifier`.
        name: str, the model's name.
        sizes: tuple of int, the usual numbers of rows.
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
