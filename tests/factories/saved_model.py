"""A SavedModel of a few operations with every kind of signature, and stock stubs to call it."""

import base64

import cv2
import numpy as np

from kmm.protocol.messages import load_stubs

stubs = load_stubs()
IMAGE = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
TOKENS = np.array([[1, 2, 3, 0, 0]], np.int32)
PNG = cv2.imencode(".png", np.full((3, 2), 7, np.uint8))[1].tobytes()
PNG64 = {"b64": base64.b64encode(PNG).decode()}
ROW = {"image": IMAGE[0].tolist(), "tokens": TOKENS[0].tolist()}


def save_tiny(folder, version):
    """Saves a version; its outputs `version` tell which it is."""
    import tensorflow as tf

    class Tiny(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.ones([64, 2]) * version)
            self.version = tf.Variable(float(version))

        def _score(self, image, tokens):
            image = tf.debugging.assert_all_finite(tf.ensure_shape(image, [None, 8, 8, 1]), "image contains NaN or Inf")
            words = tf.gather(tf.range(22.0), tf.ensure_shape(tokens, [None, 5]))
            return tf.reshape(image, [-1, 64]) @ self.weights + tf.reduce_sum(words, 1, keepdims=True)

        def _decode(self, image_bytes):
            image = tf.map_fn(
                lambda data: tf.cast(tf.image.decode_image(data, channels=1, expand_animations=False), tf.float32),
                image_bytes,
                fn_output_signature=tf.TensorSpec([None, None, 1], tf.float32),
            )
            return tf.reduce_mean(image, [1, 2, 3])

        def _tell(self, count):
            return tf.fill([count], self.version)

        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None, 8, 8, 1], tf.float32, "image"),
                tf.TensorSpec([None, 5], tf.int32, "tokens"),
            ],
        )
        def default(self, image, tokens):
            return {"scores": self._score(image, tokens), "version": self._tell(tf.shape(image)[0])}

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.float32, "values")])
        def double(self, values):
            return {"doubled": values * 2}

        @tf.function(
            autograph=False,
            input_signature=[
                tf.TensorSpec([None], tf.string, "image_bytes"),
                tf.TensorSpec([None], tf.string, "report"),
            ],
        )
        def raw(self, image_bytes, report):
            return {"mean": self._decode(image_bytes), "words": tf.strings.lower(report), "film_bytes": image_bytes}

        def _parse(self, examples):
            found = tf.io.parse_example(examples, {"image_bytes": tf.io.FixedLenFeature([], tf.string)})
            return self._decode(found["image_bytes"])

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def classify(self, inputs):
            mean = self._parse(inputs)
            classes = tf.tile(tf.constant([["mass", "normal"]]), [tf.shape(mean)[0], 1])
            return {"classes": classes, "scores": tf.stack([mean, self._tell(tf.shape(mean)[0])], 1)}

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def regress(self, inputs):
            return {"outputs": self._parse(inputs) + 0.5}

        @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def many(self, inputs):
            return {name: tf.identity(inputs) for name in "abc"}

    model = Tiny()
    signatures = {
        "serving_default": model.default,
        "double": model.double,
        "explain": model.double,
        "raw": model.raw,
        "classify": model.classify,
        "regress": model.regress,
        "many": model.many,
    }
    tf.saved_model.save(model, str(folder), signatures=signatures)


def make_spec(name="tiny", *, version=None, label=None, signature=""):
    spec = stubs.model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    return spec


def make_tensor(array):
    """A tensor message, made by TensorFlow itself."""
    import tensorflow as tf

    return tf.make_tensor_proto(array)


def make_predict(inputs=None, *, output_filter=(), **spec):
    inputs = {"image": IMAGE, "tokens": TOKENS} if inputs is None else inputs
    return stubs.predict_pb2.PredictRequest(
        model_spec=make_spec(**spec),
        inputs={name: make_tensor(value) for name, value in inputs.items()},
        output_filter=output_filter,
    )


def make_examples(*images):
    """An `Input` of examples with these bytes of images."""
    stored = stubs.input_pb2.Input()
    for image in images:
        feature = stored.example_list.examples.add().features.feature
        feature["image_bytes"].bytes_list.value.append(image)
    return stored


class Stubs:
    """The stock stubs on a channel."""

    def __init__(self, channel):
        self.channel = channel
        self.predict = stubs.prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.models = stubs.model_service_pb2_grpc.ModelServiceStub(channel)
