"""A server of the stock stubs with canned answers: two labels, films of 8 pixels, reports of 3 words.

The probability of the first label is the number of bytes of the film, of the second that of the report, both modulo
100, in hundredths: so a test sees what arrived.
"""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
import numpy as np

from kmm.protocol.messages import load_stubs
from kmm.protocol.signatures import list_signatures
from kmm.protocol.tensors import TENSOR_TYPES, decode_tensor, encode_tensor

LABELS = ["mass", "effusion"]
PIXELS, LENGTH = 8, 3
STUBS = load_stubs()


class StubServer(STUBS.prediction_service_pb2_grpc.PredictionServiceServicer,
                 STUBS.model_service_pb2_grpc.ModelServiceServicer):  # fmt: skip
    """Answers for the model "openi".

    Attributes:
        requests: list of what arrived, in order.
        metadata: list of dict: the headers of each request.
        contexts: list of `grpc.ServicerContext`, of each request.
        failures: list of `(code, text)`: the next requests fail with these.
        change: function of the outputs of a Predict reply, which may alter them.
        version: int. The version that answers.
        labels, sections: list of str, of that version.
        pixels, length: of the signatures; None: the model reads no films, no reports.
        as_content: bool. How numbers are written.
        hold: function of a Predict request, called before it is answered, or None.
        spec: function of the `ModelSpec` of a reply, which may alter it, or None.
        classes: function of the reply to a Classify request, which may alter it, or None.
    """

    def __init__(self, *, pixels=PIXELS, length=LENGTH):
        self.requests, self.metadata, self.contexts, self.failures = [], [], [], []
        self.change, self.version, self.as_content, self.hold = None, 3, False, None
        self.spec = self.classes = None
        self.labels, self.sections = LABELS, ["impression", "findings"]
        self.pixels, self.length = pixels, length
        self.running = self.most_running = 0
        self._lock = threading.Lock()

    def Predict(self, request, context):
        with self._lock:
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            self._arrive(request, context)
            if self.hold:
                self.hold(request)
            signature = request.model_spec.signature_name
            inputs = {name: decode_tensor(proto) for name, proto in request.inputs.items()}
            outputs = {"describe": self._describe}.get(signature, self._answer)(signature, inputs)
            if self.change:
                self.change(outputs)
            reply = STUBS.predict_pb2.PredictResponse(model_spec=self._spec(request))
            for name, array in outputs.items():
                is_array = isinstance(array, np.ndarray)
                proto = encode_tensor(array, as_content=self.as_content) if is_array else array
                reply.outputs[name].CopyFrom(proto)
            return reply
        finally:
            with self._lock:
                self.running -= 1

    def Classify(self, request, context):
        self._arrive(request, context)
        reply = STUBS.classification_pb2.ClassificationResponse(model_spec=self._spec(request))
        for example in request.input.example_list.examples:
            features = example.features.feature
            row = reply.result.classifications.add()
            for label, name in zip(self.labels, ("image_bytes", "report")):
                row.classes.add(label=label, score=len(features[name].bytes_list.value[0]) % 100 / 100)
        if self.classes:
            self.classes(reply)
        return reply

    def GetModelMetadata(self, request, context):
        self._arrive(request, context)
        signatures = list_signatures(pixels=self.pixels, length=self.length, label_count=2, feature_size=4)
        found = STUBS.get_model_metadata_pb2.SignatureDefMap()
        for name, signature in signatures.items():
            for side in ("inputs", "outputs"):
                for field in getattr(signature, side):
                    info = getattr(found.signature_def[name], side)[field.name]
                    info.dtype = TENSOR_TYPES[field.dtype].number
                    for size in field.shape:
                        info.tensor_shape.dim.add(size=-1 if size is None else size)
        found.signature_def["__saved_model_init_op"].outputs["x"].tensor_shape.unknown_rank = True
        reply = STUBS.get_model_metadata_pb2.GetModelMetadataResponse(model_spec=self._spec(request))
        reply.metadata["signature_def"].Pack(found)
        return reply

    def GetModelStatus(self, request, context):
        self._arrive(request, context)
        reply = STUBS.get_model_status_pb2.GetModelStatusResponse()
        reply.model_version_status.add(version=3, state=30)
        failed = reply.model_version_status.add(version=2, state=50)
        failed.status.error_code, failed.status.error_message = 5, "no such file"
        return reply

    def _arrive(self, request, context):
        with self._lock:
            self.requests.append(request)
            self.contexts.append(context)
            self.metadata.append(dict(context.invocation_metadata()))
            failure = self.failures.pop(0) if self.failures else None
        if failure:
            context.abort(*failure)

    def _spec(self, request):
        spec = STUBS.model_pb2.ModelSpec(name=request.model_spec.name)
        asked = request.model_spec
        spec.version.value = asked.version.value if asked.HasField("version") else self.version
        if self.spec:
            self.spec(spec)
        return spec

    def _describe(self, signature, inputs):
        preparation = {"text": {"sections": self.sections}}
        said = json.dumps({"kmm": "0", "labels": self.labels, "preparation": preparation})
        return {"description": np.array([said.encode()], object)}

    def _answer(self, signature, inputs):
        count = len(next(iter(inputs.values())))
        lengths = np.zeros((count, 2), np.float32)
        for column, name in enumerate(("image_bytes", "report")):
            if name in inputs:
                lengths[:, column] = [len(value) % 100 for value in inputs[name]]
        if signature == "embed_bytes":
            return {"features": np.repeat(lengths, 2, axis=1)}
        probabilities = lengths / np.float32(100)
        outputs = {
            "probabilities": probabilities,
            "logits": probabilities - np.float32(0.5),
            "label_names": np.array([[name.encode() for name in self.labels]] * count, object),
            "thresholds": np.full((count, 2), 0.5, np.float32),
            "decisions": probabilities >= 0.5,
        }
        return outputs if signature == "serving_bytes" else {**outputs, **self._explain(inputs, count)}

    def _explain(self, inputs, count):
        square = np.zeros((count, PIXELS, PIXELS), np.float32)
        square[:, 4, 5] = 1
        words = [[word.encode() for word in ("no", "mass", "")]] * count
        return {
            "target": np.maximum(inputs["target"], 0),
            "score": np.full(count, 2, np.float32),
            "baseline_score": np.full(count, 1, np.float32),
            "completeness_gap": np.full(count, 0.25, np.float32),
            "map_error": np.full(count, 0.125, np.float32),
            "image_attribution": square,
            "image_box": np.array([[2, 0, 4, 8]] * count, np.int32),
            "token_attribution": np.array([[-1, 2, 9]] * count, np.float32),
            "token_energy": np.array([[1, 3, 9]] * count, np.float32),
            "token_words": np.array(words, object),
        }


def serve(servicer, *, credentials=None, place="127.0.0.1:0"):
    """Runs a server of the stub on this machine, at an address as gRPC takes it; yields its port."""

    def add(server):
        STUBS.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
        STUBS.model_service_pb2_grpc.add_ModelServiceServicer_to_server(servicer, server)

    return run_server(add, credentials=credentials, place=place)


@contextmanager
def run_server(add, *, credentials=None, place="127.0.0.1:0"):
    """Runs a server, to which a function adds its services; yields its port."""
    server = grpc.server(ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", -1)])
    add(server)
    port = server.add_secure_port(place, credentials) if credentials else server.add_insecure_port(place)
    server.start()
    try:
        yield port
    finally:
        server.stop(0).wait()
