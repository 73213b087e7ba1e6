"""HTTP and JSON, as TensorFlow Serving's REST interface speaks them."""

import json
import re
from collections import deque

import anyio
import numpy as np
from google.protobuf import json_format
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from kmm.server import metrics
from kmm.server.models.signature_checks import name_signature
from kmm.server.requests.gate import Call, Gate
from kmm.server.requests.inference import SIGNATURE_DEF, make_states
from kmm.server.rest import json_answer, json_document, json_tensors
from kmm.server.status import HTTP_STATUS, ServingError, truncate
from kmm.stubs import load_stubs
from kmm.wire import encode_tensor

HEALTH_PATH = "/healthz"
PARSED_AT_ONCE = 2  # bodies; more would only take room, since Python parses one at a time
CHUNK_BYTES = 2**16  # of an answer, sent as the client takes them
_MODEL = r"/v1/models/(?P<name>[^/:]+)(?:/versions/(?P<version>[0-9]{1,18})|/labels/(?P<label>[^/:]+))?"
_INFER = re.compile(_MODEL + ":(?P<method>classify|regress|predict)")
_LOOK = re.compile(_MODEL + "(?P<metadata>/metadata)?")
_APIS = {"predict": "Predict", "classify": "Classify", "regress": "Regress"}


def make_app(inference, is_serving, check_token, *, threads):
    """The application for a server of HTTP.

    Args:
        inference: `Inference`.
        is_serving: function without arguments: whether the server takes requests.
        check_token: function that takes the header `authorization` and raises ServingError, see `Tokens.check`.
        threads: int. Requests that are read, run or wait at once.

    Returns:
        `Starlette`.
    """
    face = _Face(inference, is_serving, check_token, threads)
    return Starlette(
        routes=[
            Route(HEALTH_PATH, face.tell_health),
            Route(metrics.PATH, face.tell_metrics),
            Route("/v1/{rest:path}", face.answer, methods=["GET", "POST"]),
        ]
    )


class _Face:
    def __init__(self, inference, is_serving, check_token, threads):
        self._inference, self._settings = inference, inference.settings
        self._is_serving, self._check_header = is_serving, check_token
        self._limiter, self._threads = None, threads  # made in the loop that uses it
        # JSON takes many times the room of the arrays it becomes: only so many bodies are parsed at once.
        self._parsing = Gate(running=PARSED_AT_ONCE, waiting=self._settings.threads + self._settings.max_queue)

    async def tell_health(self, request):
        serving = self._is_serving()
        return JSONResponse({"status": "SERVING" if serving else "NOT_SERVING"}, 200 if serving else 503)

    async def tell_metrics(self, request):
        try:
            self._check_token(request)
        except ServingError as error:
            return _tell_error(error)
        text = generate_latest(self._inference.metrics.registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

    async def answer(self, request):
        try:
            self._check_token(request)
            path = request.scope["path"]
            found = (_INFER if request.method == "POST" else _LOOK).fullmatch(path)
            if found is None:
                raise ServingError("INVALID_ARGUMENT", f"Malformed request: {request.method} {path}")
            spec = _make_spec(found)
            if request.method != "POST":  # GET, or HEAD, whose body the server drops
                return self._look(spec, metadata=bool(found["metadata"]))
            with anyio.fail_after(self._settings.rest_timeout_seconds):
                bodies = [await self._read_body(request)]  # taken out when it is parsed, so that it does not stay
        except TimeoutError:
            late = ServingError("DEADLINE_EXCEEDED", "The body of the request did not come in time.")
            return _tell_error(late, headers={"Connection": "close"})
        except ClientDisconnect:
            return _tell_error(ServingError("CANCELLED", "The client is gone."))
        except ServingError as error:
            return _tell_error(error)
        if bodies == [None]:
            most = self._settings.max_message_mb
            return JSONResponse({"error": f"A request may have at most {most} MiB."}, 413)
        call = Call(self._settings.rest_timeout_seconds)
        return await self._run(request, call, lambda: self._infer(found["method"], spec, bodies, call))

    def _check_token(self, request):
        try:
            self._check_header(request.headers.get("authorization", ""))
        except ServingError:
            self._inference.count_refusal()
            raise

    async def _read_body(self, request):
        """The body, or None if it is larger than it may be."""
        most, chunks, size = self._settings.max_message_mb << 20, [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                return None
            chunks.append(chunk)
        return b"".join(chunks)

    async def _run(self, request, call, work):
        """Works in a thread; a client that goes meanwhile loses its place in the line."""
        if self._limiter is None:
            self._limiter = anyio.CapacityLimiter(self._threads)

        async def watch():
            while (await request.receive())["type"] != "http.disconnect":
                pass
            call.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(watch)
            response = await anyio.to_thread.run_sync(work, limiter=self._limiter)
            group.cancel_scope.cancel()
        return response

    def _infer(self, method, spec, bodies, call):
        try:
            with self._inference.record(spec, _APIS[method], "REST") as entry:
                entry.request_bytes = len(bodies[0])
                read, run = {
                    "predict": (self._read_inputs, self._predict),
                    "classify": (_read_examples, self._classify),
                    "regress": (_read_examples, self._regress),
                }[method]
                with self._parsing.enter(call):
                    held = _read(spec, bodies, read)
                chunks = run(spec, held, call)
                entry.answer_bytes = sum(map(len, chunks))
                return _Answer(chunks, call)
        except ServingError as error:
            return _Answer([_write_error(error)], call, HTTP_STATUS[error.code])

    def _read_inputs(self, spec, document):
        _, signatures = self._inference.find_signatures(spec)
        key = name_signature(spec)
        if key not in signatures:
            raise ServingError("INVALID_ARGUMENT", f'Serving signature name: "{key}" not found in signature def')
        arrays, rows = json_tensors.read_inputs(document, signatures[key].inputs)
        return {name: encode_tensor(array) for name, array in arrays.items()}, rows

    def _predict(self, spec, held, call):
        inputs, rows = held

        def encode(answer):
            return _gather(json_answer.write_outputs(answer.outputs, rows=rows))

        return self._inference.predict(spec, inputs, (), call, encode=encode)

    def _classify(self, spec, stored, call):
        _, result = self._inference.classify(spec, stored, call)
        rows = result.classifications
        return [_write({"results": [[[found.label, _shorten(found.score)] for found in row.classes] for row in rows]})]

    def _regress(self, spec, stored, call):
        _, result = self._inference.regress(spec, stored, call)
        return [_write({"results": [_shorten(found.value) for found in result.regressions]})]

    def _look(self, spec, *, metadata):
        with self._inference.record(spec, "GetModelMetadata" if metadata else "GetModelStatus", "REST"):
            if not metadata:
                return _tell(_to_dict(make_states(self._inference.list_states(spec))))
            spec, signatures = self._inference.find_signatures(spec)
            stored = load_stubs().get_model_metadata_pb2.SignatureDefMap(signature_def=signatures)
            return _tell({"model_spec": _to_dict(spec), "metadata": {SIGNATURE_DEF: _to_dict(stored)}})


class _Answer(Response):
    """An answer that is sent a chunk at a time; its call ends once the last one is handed over."""

    def __init__(self, chunks, call, status_code=200):
        size = {"Content-Length": str(sum(map(len, chunks)))}
        super().__init__(status_code=status_code, headers=size, media_type="application/json")
        self._chunks, self._call = deque(chunks), call

    async def __call__(self, scope, receive, send):
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while self._chunks:
                chunk = self._chunks.popleft()
                await send({"type": "http.response.body", "body": chunk, "more_body": bool(self._chunks)})
        finally:
            self._call.cancel()


def _make_spec(found):
    spec = load_stubs().model_pb2.ModelSpec(name=found["name"])
    if found["version"]:
        spec.version.value = int(found["version"])
    if found["label"]:
        spec.version_label = found["label"]
    return spec


def _read(spec, bodies, read):
    """What a body holds, in the form in which it runs; neither it nor its JSON outlives this call."""
    document = json_document.read_document(bodies.pop())
    spec.signature_name = document.get("signature_name", "")
    return read(spec, document)


def _read_examples(spec, document):
    return json_document.read_examples(document)


def _to_dict(message):
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def _shorten(value):
    """A number of 32 bits with no more digits than it needs."""
    return float(str(np.float32(value)))


def _gather(pieces):
    """Pieces of text as bytes, in chunks."""
    chunks, chunk = [], bytearray()
    for piece in pieces:
        chunk += piece.encode("ascii")
        if len(chunk) >= CHUNK_BYTES:
            chunks.append(bytes(chunk))
            chunk.clear()
    return [*chunks, bytes(chunk)]


def _write(value):
    return json.dumps(value).encode("ascii")


def _write_error(error):
    return _write({"error": truncate(str(error))})


def _tell(value):
    return Response(_write(value), media_type="application/json")


def _tell_error(error, *, headers=None):
    return Response(_write_error(error), HTTP_STATUS[error.code], headers, "application/json")
