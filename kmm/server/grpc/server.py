"""Run the gRPC server: an event loop receives and sends messages, and threads compute the answers.

    client -> Relay -> C-core (HTTP/2, TLS) -> _Methods, in the event loop: token, message -> threads: `Inference`

Every method is registered as one that takes a stream, so that it starts at the headers of a request. A request without
a valid token is refused before its message is sent, and no thread ever waits for a client.
"""

import asyncio
import contextlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection, reflection_pb2

from kmm.errors import InputError, describe_error
from kmm.server import listeners
from kmm.server.connections import Connections, logger
from kmm.server.grpc import relay, services
from kmm.server.grpc.probes import Probes
from kmm.server.requests.admission import Caller
from kmm.server.requests.inference import Inference
from kmm.server.status import ServingError, refuse, truncate

OPEN_METHODS = {f"/{health.SERVICE_NAME}/Check"}
RELOAD = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
QUICK = ("/tensorflow.serving.ModelService/GetModelStatus", "/tensorflow.serving.PredictionService/GetModelMetadata")
SPARE_THREADS = 16  # threads in which the gate refuses requests while all other threads wait
BACKLOG = 64  # requests that wait for a thread
UNFINISHED = 8  # memory for messages that are still arriving, in messages of the largest size
HELD = 16  # memory for messages that are being answered, in messages of the largest size
STREAMS = 64  # most streams of `Watch` and of reflection; a further one ends the oldest
UNIX = os.name == "posix"  # asyncio has no Unix sockets on Windows
MINUTE = 60_000  # milliseconds
_BUSY = ("UNAVAILABLE", "The server is busy: too many messages are arriving.")
_STOPPING = ("UNAVAILABLE", "The server is stopping.")


class GrpcServer:
    """Serves all gRPC services from an event loop in its own thread.

    Args:
        inference: `Inference`.
        connections: `Connections`.
        check_token: function of the header `authorization` ("" if the request has none) that raises `ServingError` if
            the request must not be answered.
        credentials: gRPC server credentials; None is plain text.

    Attributes:
        port: int. The bound port; clients are refused until `start`.

    Raises:
        InputError: if an address is in use or cannot be used.
    """

    def __init__(
        self,
        inference: Inference,
        connections: Connections,
        *,
        check_token: Callable[[str], None],
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self._settings, self._connections, self._credentials = inference.settings, connections, credentials
        self._methods = _Methods(inference, check_token)
        self._public = listeners.bind_tcp(self._settings.host, self._settings.port)
        self.port: int = self._public[0].getsockname()[1]
        try:
            self._local = [listeners.bind_unix(self._settings.socket)] if self._settings.socket else []
        except InputError:
            listeners.close_all(self._public)
            raise
        self._loop: asyncio.AbstractEventLoop  # this and `_end` are set when the event loop starts
        self._end: asyncio.Future[float]
        self._started: Future[None] = Future()
        logging.getLogger("grpc._cython.cygrpc").addFilter(_is_fault)
        self._thread = threading.Thread(target=self._run_loop, name="kmm-grpc", daemon=True)

    def start(self) -> None:
        """Starts accepting requests.

        Raises:
            InputError: if another process has started to listen on an address.
        """
        self._thread.start()
        self._started.result()

    def set_serving(self, serving: bool) -> None:
        """Sets the answer to health checks."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(lambda: self._methods.probes.set(serving=serving))

    def stop(self, seconds: float) -> None:
        """Stops the server. A second call does nothing.

        Args:
            seconds: float. Time limit for answers that are being sent.
        """
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._begin_end, seconds)
            self._thread.join()
        self._methods.close()
        listeners.close_all(self._public + self._local)
        if self._local and self._settings.socket is not None:
            listeners.remove(self._settings.socket)
            self._local = []

    def _begin_end(self, seconds):
        if not self._end.done():
            self._end.set_result(seconds)

    def _run_loop(self):
        # Windows' default event loop has no `add_reader`
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._run())

    async def _run(self):
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_report)
        self._end = self._loop.create_future()
        with tempfile.TemporaryDirectory(prefix="kmm-") as folder:
            server = grpc.aio.server(handlers=[self._methods], options=_list_options(self._settings))
            carrier = self._methods.relay = relay.Relay(
                folder if UNIX else None, self._connections, UNFINISHED * self._settings.max_message_mb << 20
            )
            try:
                private = _bind_private(server, folder, self._credentials)
                plain = _bind_private(server, folder, None) if self._local and self._credentials else private
                await server.start()
                listeners.listen(self._public + self._local)
            except BaseException as error:  # noqa: BLE001  `start` raises it
                await server.stop(0)
                self._started.set_exception(error)
                return
            for listener in self._public:
                carrier.start(listener, private)
            for listener in self._local:
                carrier.start(listener, plain)
            self._started.set_result(None)
            seconds = await self._end
            self._methods.begin_stop()
            carrier.stop_accepting()
            await server.stop(seconds)
            await carrier.close(seconds)


class _Methods(grpc.GenericRpcHandler):
    """Handles each request from the arrival of its headers on."""

    def __init__(self, inference, check_token) -> None:
        settings = inference.settings
        self._count, self._count_refusal = inference.metrics.count, inference.count_refusal
        self._check_token, self._message_seconds = check_token, settings.message_seconds
        self._stopping = False
        self._held, self._most_held = 0, HELD * settings.max_message_mb << 20
        threads = settings.places + SPARE_THREADS
        self._arriving = Connections(threads + BACKLOG, noun="arriving messages")  # each takes memory of its size
        self._streams = Connections(STREAMS, noun="streams of health checks and reflection")
        busy = f"The server is busy: {settings.max_queue} requests are waiting."
        self._work = _Threads("kmm-work", threads, busy)
        self._quick = _Threads("kmm-quick", 2, busy)
        self._reload = _Threads("kmm-reload", 1, busy)
        self.probes = Probes()
        self.relay: relay.Relay  # set when the event loop starts
        self._behaviours = self._list_behaviours(inference)

    def service(self, details):
        if details.method not in OPEN_METHODS:
            headers = [value for key, value in details.invocation_metadata if key == "authorization"]
            try:
                self._check_token(headers[0] if len(headers) == 1 else "")
            except ServingError as error:
                self._count_refusal()
                return grpc.stream_stream_rpc_method_handler(_guard(_fail_with(error)))
        return self._behaviours.get(details.method)

    def begin_stop(self):
        """Drops messages that are still arriving, and ends all streams."""
        self._stopping = True
        self._arriving.close_all()
        self._streams.close_all()

    def close(self):
        for threads in (self._work, self._quick, self._reload):
            threads.close()

    def _list_behaviours(self, inference):
        own = {QUICK[0]: self._quick, QUICK[1]: self._quick, RELOAD: self._reload}
        unary = {
            path: self._compute(method, own.get(path, self._work))
            for path, method in services.list_methods(inference).items()
        }
        unary[f"/{health.SERVICE_NAME}/Check"] = self._check_health
        streams = {
            f"/{health.SERVICE_NAME}/Watch": self._watch_health,
            f"/{reflection.SERVICE_NAME}/ServerReflectionInfo": self._reflect,
        }
        return {path: grpc.stream_unary_rpc_method_handler(_guard(method)) for path, method in unary.items()} | {
            path: grpc.stream_stream_rpc_method_handler(_guard(method)) for path, method in streams.items()
        }

    def _compute(self, method, threads):
        async def compute(context):
            held = [await self._receive(context)]  # the method removes it when it parses it, to free the memory
            call = Caller(context.time_remaining(), limits_run=True)
            context.add_done_callback(lambda _: call.cancel())  # the client has its answer or has disconnected
            with self._take_room(len(held[0])), self.relay.hold(context.peer()):
                return await threads.run(method, held, call)

        return compute

    @contextlib.contextmanager
    def _take_room(self, size):
        """Counts the bytes of a message while it is being answered; refuses it if other messages fill the memory."""
        if self._held + size > self._most_held:
            raise ServingError(*_BUSY)
        self._held += size
        try:
            yield
        finally:
            self._held -= size
            self.relay.memory.note(size)

    async def _check_health(self, context):
        return self.probes.check(await self._receive(context))

    async def _watch_health(self, context):
        data = await self._receive(context)
        await self._limit(self._streams, None, self.probes.watch(data, context.write))

    async def _reflect(self, context):
        async def list_requests():
            while (data := await context.read()) is not grpc.aio.EOF:
                try:
                    yield reflection_pb2.ServerReflectionRequest.FromString(data)
                except DecodeError:
                    raise refuse("The request is not a ServerReflectionRequest.") from None

        async def answer():
            names = [service.full_name for service in services.SERVICES]
            servicer = reflection.aio.ReflectionServicer([*names, health.SERVICE_NAME, reflection.SERVICE_NAME])
            async for response in servicer.ServerReflectionInfo(list_requests(), context):
                await context.write(response.SerializeToString())

        await self._limit(self._streams, self._message_seconds, answer())

    async def _receive(self, context):
        """Receives the message of a request, as bytes."""
        message = self.relay.receive(context.peer(), context.read())
        data = await self._limit(self._arriving, self._message_seconds, message)
        if data is grpc.aio.EOF:
            raise ServingError("UNIMPLEMENTED", "The method takes one message. Received: none.")
        return data

    async def _limit(self, among, seconds, work):
        """Awaits work with a time limit, and counts it among others of its kind, which may displace it."""
        try:
            async with asyncio.timeout(seconds) as limit:
                if self._stopping:
                    limit.reschedule(0)
                place = among.add("", lambda: limit.expired() or limit.reschedule(0))
                try:
                    return await work
                finally:
                    place.remove()
        except TimeoutError:
            late = ("DEADLINE_EXCEEDED", f"The message did not arrive within {self._message_seconds:g} seconds.")
            code, text = late if limit.when() else _STOPPING if self._stopping else _BUSY
            self._count("", code)
            raise ServingError(code, text) from None


class _Threads:
    """A pool of threads with a limit on waiting requests; further requests are refused."""

    def __init__(self, name, count, busy) -> None:
        self._executor = ThreadPoolExecutor(count, thread_name_prefix=name)
        self._places, self._busy = threading.Semaphore(count + BACKLOG), busy

    async def run(self, function, *arguments):
        if not self._places.acquire(blocking=False):
            raise ServingError("UNAVAILABLE", self._busy)
        future = self._executor.submit(function, *arguments)
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self):
        self._executor.shutdown(wait=False, cancel_futures=True)


def _list_options(settings):
    return [
        ("grpc.max_receive_message_length", settings.max_message_mb << 20),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", max(100, settings.places + SPARE_THREADS)),  # per connection
        ("grpc.server_handshake_timeout_ms", int(relay.HANDSHAKE_SECONDS * 1000)),
        ("grpc.max_connection_idle_ms", 5 * MINUTE),
        ("grpc.max_connection_age_ms", 60 * MINUTE),
        ("grpc.max_connection_age_grace_ms", 60 * MINUTE),  # for running requests
        ("grpc.keepalive_time_ms", MINUTE),  # detects clients that vanished without closing the connection
        ("grpc.keepalive_timeout_ms", MINUTE // 3),
    ]


def _bind_private(server, folder, credentials):
    """Lets C-core listen on a private address, and returns the address for the relay."""
    path = os.path.join(folder, "tls" if credentials else "plain")
    address = f"unix:{path}" if UNIX else "127.0.0.1:0"
    try:
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    except RuntimeError:
        raise InputError(f"{folder}: cannot hold a Unix socket. Set TMPDIR to a folder with a short path.") from None
    return path if UNIX else ("127.0.0.1", port)


def _guard(behaviour):
    """Wraps a behaviour in a gRPC handler that answers its errors."""

    async def handle(_, context):
        try:
            return await behaviour(context)
        except ServingError as error:
            await context.abort(grpc.StatusCode[error.code], truncate(str(error)))

    return handle


def _fail_with(error):
    async def fail(context):
        raise error

    return fail


def _is_fault(record):
    """Returns whether a line of gRPC's log is about anything but a client that disconnected before its answer."""
    return not (record.exc_info and record.exc_info[0] and record.exc_info[0].__name__ == "ExecuteBatchError")


def _report(loop, context):
    """Logs an error in the event loop with its type and place in the code."""
    error = context.get("exception")
    if not isinstance(error, BlockingIOError):  # gRPC woke several loops: https://github.com/grpc/grpc/issues/25364
        logger.error("gRPC: %s", describe_error(error) if error else context["message"])
