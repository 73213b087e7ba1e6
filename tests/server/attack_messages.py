"""Requests that are small and become large, or that are not what they say."""

import struct
import zlib

import numpy as np

from tests.factories.saved_model import make_spec, make_tensor, stubs

PREDICT = "/tensorflow.serving.PredictionService/Predict"
CLASSIFY = "/tensorflow.serving.PredictionService/Classify"
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
BOMB_BYTES = 1_000_000_000  # what a compressed bomb becomes


def make_gzip_bomb(size):
    """A gzip stream of zeros: about a thousandth of what it becomes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    head = packer.compress(bytes(10**6)) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(10**6)) + packer.flush(zlib.Z_FULL_FLUSH)  # each stands for itself
    return head + block * (size // 10**6 - 1)


def make_png(pixels):
    """A PNG of `pixels` x `pixels` pixels of four channels, half of them white: about a thousandth of their bytes."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" + b"\xff\xff\xff\xff" * (pixels // 2) + b"\0\0\0\xff" * (pixels - pixels // 2)
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(row) for _ in range(pixels))
    header = struct.pack(">IIBBBBB", pixels, pixels, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data + packer.flush()) + chunk(b"IEND", b"")


def make_jpeg():
    """A JPEG whose header says 65500 x 65500 pixels of three colours."""
    import cv2

    data = bytearray(cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes())
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 65500, 65500)
    return bytes(data)


def make_films(make, count=1):
    """A request of the classifier of films."""
    request = stubs.predict_pb2.PredictRequest(model_spec=make_spec("film", signature="serving_bytes"))
    request.inputs["image_bytes"].CopyFrom(make_tensor(np.array([make()] * count, object)))
    return request.SerializeToString()


def make_film_examples(make, count):
    """A request of classification with films in tf.Examples."""
    request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec("film", signature="classify"))
    film = make()
    for _ in range(count):
        feature = request.input.example_list.examples.add().features.feature
        feature["image_bytes"].bytes_list.value.append(film)
    return request.SerializeToString()


def make_shared_context():
    """Many empty examples that share a context of a megabyte."""
    request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec(signature="classify"))
    held = request.input.example_list_with_context
    held.context.features.feature["image_bytes"].bytes_list.value.append(bytes(10**6))
    for _ in range(100_000):
        held.examples.add()
    return request.SerializeToString()


def make_many_features():
    """An example of 300,000 features that nobody asked for."""
    request = stubs.classification_pb2.ClassificationRequest(model_spec=make_spec(signature="classify"))
    features = request.input.example_list.examples.add().features.feature
    for number in range(300_000):
        features[f"feature{number}"].int64_list.value.append(number)
    return request.SerializeToString()


def make_declared(dimensions, **values):
    """A tensor that says it is of this shape, with few values."""
    request = stubs.predict_pb2.PredictRequest(model_spec=make_spec(signature="double"))
    tensor = request.inputs["values"]
    tensor.dtype = 7 if "string_val" in values else 1
    for size in dimensions:
        tensor.tensor_shape.dim.add(size=size)
    for name, held in values.items():
        getattr(tensor, name).extend(held)
    return request.SerializeToString()


def make_repeated_string(count, size):
    """One string of bytes that stands for `count`."""
    request = stubs.predict_pb2.PredictRequest(model_spec=make_spec(signature="many"))
    request.inputs["inputs"].dtype = 7
    request.inputs["inputs"].tensor_shape.dim.add(size=count)
    request.inputs["inputs"].string_val.append(bytes(size))
    return request.SerializeToString()


def make_reload():
    request = stubs.model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="tiny", base_path="/", model_platform="tensorflow")
    return request.SerializeToString()


def make_doubled(values):
    request = stubs.predict_pb2.PredictRequest(model_spec=make_spec(signature="double"))
    request.inputs["values"].CopyFrom(make_tensor(values))
    return request.SerializeToString()


def wrap_values(values):
    return b'{"signature_name": "double", "instances": [' + values + b"]}"
