"""Calls of `ovmsclient` against a server, as JSON: its protos and TensorFlow's cannot be in one process.

python ovms_calls.py GRPC_PORT REST_PORT
"""

import json
import sys

import numpy as np
import ovmsclient

grpc_port, rest_port = sys.argv[1:]
clients = {
    "grpc": ovmsclient.make_grpc_client(f"127.0.0.1:{grpc_port}"),
    "rest": ovmsclient.make_http_client(f"127.0.0.1:{rest_port}"),
}
image, tokens = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1), np.array([[1, 2, 3, 0, 0]], np.int32)
good = {"image": image, "tokens": tokens}
CALLS = {
    "predict": lambda client: client.predict(good, "tiny", model_version=2),
    "predict lists": lambda client: client.predict({"image": image.tolist(), "tokens": tokens}, "tiny", 2),
    "status": lambda client: client.get_model_status("tiny", model_version=1),
    "metadata": lambda client: client.get_model_metadata("tiny", model_version=1),
    "unknown model": lambda client: client.predict(good, "other", model_version=1),
    "unknown version": lambda client: client.predict(good, "tiny", model_version=9),
    "version 0": lambda client: client.predict(good, "tiny"),
    "unknown input": lambda client: client.predict({"pixels": image, "tokens": tokens}, "tiny", 1),
    "wrong shape": lambda client: client.predict({"image": image[:, :4], "tokens": tokens}, "tiny", 1),
    "status of unknown version": lambda client: client.get_model_status("tiny", model_version=9),
    "metadata of unknown model": lambda client: client.get_model_metadata("other", model_version=1),
}


def show(value):
    if isinstance(value, dict):
        return {str(name): show(held) for name, held in value.items()}
    return value.tolist() if isinstance(value, np.ndarray) else value


answers = {}
for protocol, client in clients.items():
    for name, call in CALLS.items():
        try:
            answers[f"{protocol} {name}"] = show(call(client))
        except (ovmsclient.tfs_compat.base.errors.ModelServerError, ConnectionError, TimeoutError) as error:
            answers[f"{protocol} {name}"] = f"{type(error).__name__}: {error}"
print(json.dumps(answers))
