"""Requests that TensorFlow Serving runs when it loads a version, so that no caller waits for the first one."""

import tensorflow as tf

from kmm.export.samples import make_samples
from kmm.stubs import load_stubs
from kmm.wire import encode_tensor

PLACE = "assets.extra/tf_serving_warmup_requests"


def write_warmup(folder, classifier, served, *, name, sizes=(1, 8)):
    """Writes one request for each signature and batch size; explanations are slow: one study is enough.

    Args:
        folder: Path of the version.
        classifier: `Classifier`.
        served: `ServedClassifier`.
        name: str, the model's name.
        sizes: tuple of int, the usual numbers of rows.
    """
    stubs, samples = load_stubs(), make_samples(classifier, max(sizes))
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
