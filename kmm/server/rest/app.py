"""Answer requests over HTTP, apart from connections: TensorFlow Serving's paths, JSON and status codes."""

import re
from collections.abc import Callable, Mapping
from urllib.parse import unquote

import numpy as np
from google.protobuf import json_format
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import encode_tensor
from kmm.server import metrics
from kmm.server.models.signature_checks import name_signature
from kmm.server.policy import parse_version
from kmm.server.requests.admission import AdmissionGate, Caller
from kmm.server.requests.inference import SIGNATURE_DEF, Inference, make_states
from kmm.server.rest import json_answer, json_document, json_limits, json_tensors
from kmm.server.rest.answer import HttpAnswer, answer_error, answer_json, answer_text, write_json_answer
from kmm.server.rest.cors import Cors
from kmm.server.status import ServingError, refuse

HEALTH_PATH = "/healthz"
PARSED_AT_ONCE = 2  # bodies parsed at a time; more would only take memory, since Python parses one after the other
CHUNK_BYTES = 2**16  # parts of an answer, each sent when the client has read those before it
_API = re.compile("/v1/.*", re.IGNORECASE | re.DOTALL)
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
_INFER = re.compile(_MODEL + ":(?P<method>classify|regress|predict)", re.IGNORECASE)
_LOOK = re.compile(_MODEL + "(?P<metadata>/metadata)?", re.IGNORECASE)
_ORIGIN = re.compile("https?://[^/]*", re.IGNORECASE)
_APIS = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}


class App:
    """Routes requests by their paths.

    Args:
        inference: `Inference`.
        is_serving: function without arguments that returns whether the server accepts requests.
        check_token: function of the header `Authorization` ("" if the request has none) that raises ServingError
            UNAUTHENTICATED if the request must not be answered.
    """

    def __init__(
        self, inference: Inference, is_serving: Callable[[], bool], check_token: Callable[[str], None]
    ) -> None:
        self._inference, self._settings = inference, inference.settings
        self._is_serving, self._check_token = is_serving, check_token
        self._cors = Cors(self._settings.cors_origins)
        # JSON takes much more memory than the arrays that it becomes, so only a few bodies are parsed at a time.
        self._parsing = AdmissionGate(running=PARSED_AT_ONCE, waiting=self._settings.threads + self._settings.max_queue)

    def open(
        self, method: str, target: str, headers: Mapping[str, str]
    ) -> HttpAnswer | Callable[[list[bytes], Caller], HttpAnswer]:
        """Routes a request before its body is read.

        Args:
            method: str, such as `"GET"`.
            target: str from the request line: a path, with or without a query, or a URL.
            headers: mapping of str to str with case-insensitive keys.

        Returns:
            `HttpAnswer`; or a function of a body and a `Caller` that returns an `HttpAnswer`, to run in a thread that
            may wait. The body is the only element of a list; the function removes it when it parses it, to free the
            memory.

        Raises:
            ServingError: if the request is refused.
        """
        path = _ORIGIN.sub("", target, count=1).partition("?")[0]
        if path == HEALTH_PATH:
            return _check_method(method, ("GET", "HEAD")) or self._answer_health()
        if path == metrics.PATH:
            return _check_method(method, ("GET", "HEAD")) or self._answer_metrics(headers)
        if not _API.fullmatch(path):
            return answer_text(404, f"Malformed request: {method} {path}")
        if method == "OPTIONS":
            preflight = self._cors.answer_preflight(headers.get("Origin", ""))
            if preflight is not None:
                return preflight
        return _check_method(method, ("GET", "HEAD", "POST")) or self._open_model(method, path, headers)

    def list_headers(self, target: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Lists the headers that let a web page of another origin read an answer, also an error.

        Health and metrics have none: they are for monitors, not for web pages.
        """
        path = _ORIGIN.sub("", target, count=1)
        return self._cors.list_headers(headers.get("Origin", "")) if _API.match(path) else {}

    def _answer_health(self):
        serving = self._is_serving()
        return answer_json({"status": "SERVING" if serving else "NOT_SERVING"}, 200 if serving else 503)

    def _answer_metrics(self, headers):
        self._authenticate(headers)
        return HttpAnswer(200, [generate_latest(self._inference.metrics.registry)], media_type=CONTENT_TYPE_PLAIN_0_0_4)

    def _open_model(self, method, path, headers):
        self._authenticate(headers)
        found = (_INFER if method == "POST" else _LOOK).fullmatch(path)
        if found is None:
            raise refuse(f"Malformed request: {method} {path}")
        spec = _make_spec(found)
        if method != "POST":
            return self._look(spec, metadata=bool(found["metadata"]))
        name = found["method"].lower()
        return lambda bodies, call: self._infer(name, spec, bodies, call)

    def _authenticate(self, headers):
        try:
            self._check_token(headers.get("Authorization", ""))
        except ServingError:
            self._inference.count_refusal()
            raise

    def _infer(self, method, spec, bodies, call):
        try:
            with self._inference.record(spec, _APIS[method], "REST") as entry:
                entry.request_bytes = len(bodies[0])
                read, run = {
                    "predict": (_read_inputs, self._predict),
                    "classify": (_read_examples, self._classify),
                    "regress": (_read_examples, self._regress),
                }[method]
                _, signatures = self._inference.find_signatures(spec)
                with self._parsing.enter(call):
                    held = _read(spec, signatures, bodies, read)
                answer = HttpAnswer(200, run(spec, held, call))
                entry.answer_bytes = answer.size
                return answer
        except ServingError as error:
            return answer_error(error)

    def _predict(self, spec, held, call):
        inputs, rows = held

        def encode(answer):
            return _gather(json_answer.format_outputs(answer.outputs, rows=rows))

        return self._inference.predict(spec, inputs, (), call, encode=encode)

    def _classify(self, spec, stored, call):
        _, result = self._inference.classify(spec, stored, call)
        rows = result.classifications
        found = [[[one.label, _shorten(one.score)] for one in row.classes] for row in rows]
        return [write_json_answer({"results": found})]

    def _regress(self, spec, stored, call):
        _, result = self._inference.regress(spec, stored, call)
        return [write_json_answer({"results": [_shorten(found.value) for found in result.regressions]})]

    def _look(self, spec, *, metadata):
        with self._inference.record(spec, "GetModelMetadata" if metadata else "GetModelStatus", "REST"):
            if not metadata:
                return answer_json(_to_dict(make_states(self._inference.list_states(spec))))
            spec, signatures = self._inference.find_signatures(spec)
            stored = load_stubs().get_model_metadata_pb2.SignatureDefMap(signature_def=signatures)
            return answer_json({"model_spec": _to_dict(spec), "metadata": {SIGNATURE_DEF: _to_dict(stored)}})


def _check_method(method, known):
    """Returns the error for a method that a path does not support, or None if it does."""
    if method in known:
        return None
    return answer_text(405, f"Expected the method {' or '.join(known)}.", Allow=", ".join(known))


def _make_spec(found):
    """Returns the model, version and label of a path; names may be percent-encoded."""
    spec = load_stubs().model_pb2.ModelSpec(name=unquote(found["name"]))
    if found["version"]:
        version = parse_version(found["version"])
        if version is None:
            raise refuse(f"Failed to convert version: {found['version']} to numeric.")
        spec.version.value = version
    if found["label"]:
        spec.version_label = unquote(found["label"])
    return spec


def _read(spec, signatures, bodies, read):
    """Parses a body into inputs for a run; the body and its JSON are freed when this function returns."""
    json_limits.check_body_size(bodies[0], spec, signatures if read is _read_inputs else None)
    document = json_document.read_document(bodies.pop())
    spec.signature_name = document.get("signature_name", "")
    return read(spec, signatures, document)


def _read_inputs(spec, signatures, document):
    key = name_signature(spec)
    if key not in signatures:
        raise refuse(f'Serving signature name: "{key}" not found in signature def')
    arrays, rows = json_tensors.parse_inputs(document, signatures[key].inputs)
    return {name: encode_tensor(array) for name, array in arrays.items()}, rows


def _read_examples(spec, signatures, document):
    return json_document.read_examples(document)


def _to_dict(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _shorten(value):
    """Returns a 32-bit number with the fewest digits that identify it."""
    return float(str(np.float32(value)))


def _gather(pieces):
    """Joins pieces of text into chunks of bytes."""
    chunks, chunk = [], bytearray()
    for piece in pieces:
        chunk += piece.encode("ascii")
        if len(chunk) >= CHUNK_BYTES:
            chunks.append(bytes(chunk))
            chunk.clear()
    return [*chunks, bytes(chunk)]
