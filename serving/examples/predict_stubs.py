"""Predict one study, a film and its report, with TensorFlow Serving's stock stubs only.

pip install tensorflow-serving-api
python predict_stubs.py localhost:8500 openi film.png report.txt
"""

import sys
from pathlib import Path

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def main(address: str, model: str, film: str, report: str | None = None) -> None:
    """Sends a PNG or JPEG file and a text file to the signature `serving_bytes`; prints one line per label."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = "serving_bytes"
    image_bytes = Path(film).read_bytes()
    text = Path(report).read_bytes() if report else b""  # empty: no report
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto([image_bytes], shape=[1]))
    request.inputs["report"].CopyFrom(tf.make_tensor_proto([text], shape=[1]))

    options = [("grpc.max_receive_message_length", -1)]  # gRPC's own limit is 4 MiB
    with grpc.insecure_channel(address, options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        reply = stub.Predict(request, timeout=30)

    found = {name: tf.make_ndarray(tensor)[0] for name, tensor in reply.outputs.items()}
    print(f"{reply.model_spec.name} version {reply.model_spec.version.value}")
    for label, probability, decided in zip(found["label_names"], found["probabilities"], found["decisions"]):
        print(f"{label.decode()}\t{probability:.4f}\t{'yes' if decided else 'no'}")


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit("usage: predict_stubs.py HOST:PORT MODEL FILM [REPORT]")
    try:
        main(*sys.argv[1:])
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
