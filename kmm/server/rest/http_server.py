"""Run Tornado's HTTP server in its own thread, with a time limit on every wait for a client."""

import asyncio
import errno
import itertools
import logging
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPInputError
from tornado.iostream import IOStream, SSLIOStream
from tornado.netutil import ssl_wrap_socket

from kmm.errors import InputError, describe_error
from kmm.server import listeners
from kmm.server.connections import Connections
from kmm.server.memory import MemoryReturn
from kmm.server.requests.inference import Inference
from kmm.server.rest.app import App
from kmm.server.rest.body import ROOM, Room
from kmm.server.rest.exchange import Exchange

HEAD_SECONDS = 10  # time limit for the TLS handshake and the headers of each request, with the silence before them
HEAD_BYTES, READ_AHEAD_BYTES = 2**16, 2**20  # of the headers; of data that a client sends while it is being answered
MOST_CHUNKS = 2**16  # per body: the smallest chunk costs as much work as one of some kilobytes
CHUNKS_AT_ONCE = 32  # chunks read before other connections have their turn
PAUSE_SECONDS = 0.1  # before the next connection is accepted, after the system ran out of resources
_NO_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_Result = TypeVar("_Result")
logger = logging.getLogger("kmm.server.rest")


class RestServer:
    """Serves HTTP on an address that is bound immediately; requests are answered from `start` on.

    Args:
        inference: `Inference`.
        connections: `kmm.server.connections.Connections`, empty and used by this server only.
        is_serving, check_token: as for `App`.
        ssl_context: `ssl.SSLContext`; None is plain text.

    Attributes:
        port: int, the bound port.
        settings, app, room: `ServeSettings`, `App` and `Room`, for each `Exchange`.

    Raises:
        InputError: if the address is in use.
    """

    def __init__(
        self,
        inference: Inference,
        connections: Connections,
        is_serving: Callable[[], bool],
        *,
        check_token: Callable[[str], None],
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        settings = self.settings = inference.settings
        self.app = App(inference, is_serving, check_token)
        self._memory: MemoryReturn  # this, `_loop` and `_stopping` are set when the event loop starts
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Future[float]
        self.room = Room(ROOM * settings.max_message_mb << 20, lambda size: self._memory.note(size))
        self._ssl = ssl_context
        self._connections = connections
        self._places = settings.places
        self._workers = ThreadPoolExecutor(self._places, thread_name_prefix="kmm-rest-worker")
        self._exchanges: set[asyncio.Future] = set()
        self._works = 0
        self._sockets = listeners.bind_tcp(settings.host, settings.rest_port or 0)
        self.port: int = self._sockets[0].getsockname()[1]
        self._ready, self._stopped = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="kmm-rest", daemon=True)
        for name in ("tornado.access", "tornado.general", "tornado.application"):
            logging.getLogger(name).addFilter(_log_without_text)

    def start(self) -> None:
        """Starts answering requests.

        Raises:
            InputError: if another process has started to listen on the address, or the thread stopped at its start.
        """
        listeners.listen(self._sockets)
        self._thread.start()
        while not self._ready.wait(0.05):
            if not self._thread.is_alive():
                raise InputError(
                    f"{self.settings.host}:{self.port}: the HTTP server stopped at its start. See the log."
                )

    def begin_stop(self, seconds: float) -> None:
        """Stops accepting connections, and gives running answers a time limit. A second call does nothing."""
        if self._stopped:
            return
        self._stopped = True
        if self._ready.is_set():
            self._loop.call_soon_threadsafe(self._stopping.set_result, seconds)
        else:
            listeners.close_all(self._sockets)

    def end_stop(self) -> None:
        """Waits until the stop that `begin_stop` began is complete."""
        if self._thread.is_alive():
            self._thread.join()
        self._workers.shutdown(wait=False, cancel_futures=True)

    def has_place(self) -> bool:
        """Returns whether one more request can run; half of the connections must stay free to be closed."""
        if self._connections.is_full and 2 * self._works >= len(self._connections):
            return False
        return self._works < self._places

    async def work(self, function: Callable[[], _Result]) -> _Result:
        """Runs a function in a thread; see `has_place`."""
        self._works += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, function)
        finally:
            self._works -= 1

    def keep(self, sending: Coroutine[Any, Any, None]) -> asyncio.Future:
        """Runs a coroutine that answers as a task; the server waits for it when it stops."""
        task = asyncio.ensure_future(sending)
        self._exchanges.add(task)
        task.add_done_callback(self._exchanges.discard)
        return task

    def _run(self):
        try:
            asyncio.run(self._serve())
        except Exception as error:  # noqa: BLE001  the thread ends here
            logger.error("HTTP: %s", describe_error(error))

    async def _serve(self):
        self._loop = asyncio.get_running_loop()
        self._memory = MemoryReturn(self._loop)
        self._loop.set_exception_handler(_log_exception)
        self._stopping = self._loop.create_future()
        listener = _Listener(
            self,
            self._connections,
            max_header_size=HEAD_BYTES,
            idle_connection_timeout=HEAD_SECONDS,
            max_body_size=2**63,  # `Body` refuses earlier, with an answer
        )
        accepting = [asyncio.ensure_future(self._accept(bound, listener)) for bound in self._sockets]
        self._ready.set()
        seconds = await self._stopping
        for task in accepting:
            task.cancel()
        listeners.close_all(self._sockets)
        if self._exchanges:
            await asyncio.wait(self._exchanges, timeout=seconds)
        await listener.close_all_connections()

    async def _accept(self, bound, listener):
        for number in itertools.count():
            if not number % self._connections.at_once:
                await asyncio.sleep(0)  # `sock_accept` does not yield to other tasks while connections wait
            try:
                connection, address = await self._loop.sock_accept(bound)
            except OSError as error:
                if error.errno in _NO_RESOURCES:
                    self._connections.close_silent()
                    await asyncio.sleep(PAUSE_SECONDS)
                continue
            try:
                listener.handle_stream(self._make_stream(connection), address)
            except (OSError, ValueError):  # the client has disconnected, or TLS cannot start
                connection.close()

    def _make_stream(self, connection):
        connection.setblocking(False)
        if self._ssl is None:
            return _PlainStream(connection, max_buffer_size=READ_AHEAD_BYTES)
        connection = ssl_wrap_socket(connection, self._ssl, server_side=True, do_handshake_on_connect=False)
        return _TlsStream(connection, max_buffer_size=READ_AHEAD_BYTES)


class _Chunks:
    """Limits the chunks of a body on a stream of Tornado, which reads the size of each chunk with `read_until`."""

    chunks = 0

    def read_until(self, delimiter, max_bytes=None):
        self.chunks += 1
        if self.chunks > MOST_CHUNKS:
            raise HTTPInputError("too many chunks")
        if self.chunks % CHUNKS_AT_ONCE:
            return super().read_until(delimiter, max_bytes)
        return asyncio.ensure_future(self._read_later(delimiter, max_bytes))

    async def _read_later(self, delimiter, max_bytes):
        await asyncio.sleep(0)
        return await super().read_until(delimiter, max_bytes)


class _PlainStream(_Chunks, IOStream):
    pass


class _TlsStream(_Chunks, SSLIOStream):
    pass


class _Listener(HTTPServer):
    """Counts connections and passes each request to an `Exchange`."""

    def initialize(self, server, connections, **options):
        super().initialize(lambda request: None, **options)
        self._server, self._counted, self._open = server, connections, {}

    def handle_stream(self, stream, address):
        connection = self._counted.add(str(address[0]), stream.close)
        if connection is None:
            stream.close()
            return
        self._open[stream] = connection
        super().handle_stream(stream, address)

    def start_request(self, server_conn, request_conn):
        stream = server_conn.stream
        stream.chunks = 0
        return Exchange(self._server, request_conn, stream, self._open[stream])

    def on_close(self, server_conn):
        self._open.pop(server_conn.stream).remove()
        super().on_close(server_conn)


def _log_without_text(record):
    """Drops Tornado's own log lines, which may quote requests; an error is logged with its place in the code."""
    if record.exc_info and record.exc_info[1] is not None and record.levelno >= logging.ERROR:
        logger.error("HTTP: %s", describe_error(record.exc_info[1]))
    return False


def _log_exception(loop, context):
    error = context.get("exception")
    if error is not None and not isinstance(error, (OSError, ssl.SSLError)):
        logger.error("HTTP: %s", describe_error(error))
