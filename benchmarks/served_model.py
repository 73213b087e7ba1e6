"""An exported classifier, a running `kmm serve` and a client of it, as the serving benchmarks share them."""

import re
import subprocess
import sys
from contextlib import contextmanager

BATCH = 16  # rows of a full batch, and the largest batch that an export with batching joins
STEPS = 25  # path points of an exported explanation


def save_and_export(folder, model, *, batching, explain=True):
    """Saves an untrained classifier, unless it is there already, and exports it.

    Args:
        folder: Path of the classifier.
        model: pair of str: names of an image encoder and of a preset.
        batching: bool. Whether the graph of the export batches requests.
        explain: bool. Whether the export can explain.

    Returns:
        Paths of the classifier and of the exported version.
    """
    from classifiers import save_untrained

    from kmm.export.explanation import ExplainSignature
    from kmm.export.graph.batching import Batching
    from kmm.export.write import export_classifier

    if not folder.exists():
        save_untrained(folder, *model)
    batches = Batching(max_batch=BATCH, timeout_ms=20) if batching else None
    explanation = ExplainSignature(steps=STEPS) if explain else None
    return folder, export_classifier(folder, explanation=explanation, batching=batches, warmup=(1,))


@contextmanager
def run_server(version):
    """Runs `kmm serve` on one version of a model, in a process of its own, until the block ends.

    Args:
        version: Path of an exported version.

    Yields:
        the server's process and its gRPC port.
    """
    command = [sys.executable, "-m", "kmm", "serve", f"model={version.parent}", "--versions", version.name]
    command += ["--port", "0", "--no-rest", "--poll-seconds", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, stderr=subprocess.DEVNULL)
    try:
        yield process, int(re.search(r"gRPC \S+:(\d+)", process.stdout.readline())[1])
    finally:
        process.terminate()
        process.wait(60)


def connect(port):
    """Connects to a server on this host.

    Args:
        port: int.

    Returns:
        TensorFlow Serving's `PredictionServiceStub`, and a function that makes a request from the name of a signature
        and a dict of its input arrays.
    """
    import grpc

    from kmm.protocol.messages import load_stubs
    from kmm.protocol.tensors import encode_tensor

    stubs = load_stubs()
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    service = stubs.prediction_service_pb2_grpc.PredictionServiceStub(
        grpc.insecure_channel(f"127.0.0.1:{port}", options)
    )

    def make(signature, inputs):
        request = stubs.predict_pb2.PredictRequest()
        request.model_spec.name, request.model_spec.signature_name = "model", signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(encode_tensor(value))
        return request

    return service, make
