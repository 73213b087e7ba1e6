"""Handle one request over HTTP and its answer, on a connection of Tornado."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from http.client import responses
from typing import TYPE_CHECKING

from tornado.httputil import HTTPConnection, HTTPHeaders, HTTPMessageDelegate, RequestStartLine, ResponseStartLine
from tornado.iostream import IOStream, StreamClosedError

from kmm.errors import describe_error
from kmm.server.connections import Connection
from kmm.server.requests.admission import Caller
from kmm.server.rest.answer import HttpAnswer, answer_error, answer_text
from kmm.server.rest.body import Body, Refused
from kmm.server.status import ServingError

if TYPE_CHECKING:
    from kmm.server.rest.http_server import RestServer

LINGER_SECONDS = 2  # the body of a refused request is read for this time, so that the client reads the refusal
LEAST_RATE = 2**16  # slowest client, in bytes of an answer per second, after the time limit of a request
logger = logging.getLogger("kmm.server.rest")


class Exchange(HTTPMessageDelegate):
    """Reads a request, has it answered and sends the answer, each within a time limit.

    Args:
        server: `kmm.server.rest.http_server.RestServer`, whose app, memory budget and threads are shared.
        wire: `tornado.httputil.HTTPConnection` of this request.
        stream: `tornado.iostream.IOStream` of the connection.
        connection: `kmm.server.connections.Connection`.
    """

    def __init__(self, server: "RestServer", wire: HTTPConnection, stream: IOStream, connection: Connection) -> None:
        self._server, self._wire, self._stream, self._connection = server, wire, stream, connection
        self._seconds = server.settings.rest_timeout_seconds
        self._line: RequestStartLine | ResponseStartLine  # this and `_work` are set by `headers_received`
        self._work: Callable[[list[bytes], Caller], HttpAnswer]
        self._headers: dict[str, str] = {}
        self._body: Body | None = None
        self._late: asyncio.TimerHandle | None = None
        self._answered = False
        self._arrived = asyncio.Event()  # set at the end of the request or of its connection

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        """Routes the request, and answers it if its body is not needed."""
        self._line = start_line
        answer = self._open(headers)
        if answer is None:
            return None
        if "Expect" in headers:  # the client sends its body only after Tornado's answer 100 Continue
            return self._answer(answer, linger=0)  # Tornado awaits this task, and then sends no 100 Continue
        self._answer(answer)
        return None

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        """Adds bytes to the body."""
        if self._answered or self._body is None:
            return None
        try:
            unpacking = self._body.add(chunk)
        except Refused as refused:
            self._answer(refused.answer)
            return None
        return None if unpacking is None else self._wait(unpacking)

    def finish(self) -> None:
        """Starts the work on the whole request."""
        self._connection.touch()
        self._arrived.set()
        if self._answered or self._body is None:
            return
        if self._late is not None:
            self._late.cancel()
        try:
            body = self._body.take()
        except Refused as refused:
            self._answer(refused.answer)
            return
        if not self._server.has_place():
            self._answer(answer_text(503, "The server is busy: too many requests are running or waiting."))
            return
        self._answered = True
        self._server.keep(self._run(body))

    def on_connection_close(self) -> None:
        """Drops the body when the client closes the connection."""
        self._arrived.set()
        self._drop()

    def _open(self, headers):
        """Returns an answer that does not need the body, or None if the body is to be read."""
        try:
            if self._line.version == "HTTP/1.1" and len(headers.get_list("Host")) != 1:
                return answer_text(400, "Expected one header Host.")
            self._headers = self._server.app.list_headers(self._line.path, headers)
            found = self._server.app.open(self._line.method, self._line.path, headers)
            if not callable(found):
                return found
            self._body = Body(headers, self._server.settings.max_message_mb << 20, self._server.room)
        except ServingError as error:
            return answer_error(error)
        except Refused as refused:
            return refused.answer
        except Exception as error:  # noqa: BLE001  its text may quote the request
            return _answer_failure(error)
        self._work = found
        self._late = asyncio.get_running_loop().call_later(self._seconds, self._give_up)
        return None

    async def _wait(self, unpacking):
        try:
            await unpacking
        except Refused as refused:
            self._answer(refused.answer)

    def _give_up(self):
        if not self._answered:
            late = ServingError("DEADLINE_EXCEEDED", "The body of the request did not arrive in time.")
            self._answer(answer_error(late), linger=0)

    def _answer(self, answer, *, linger=LINGER_SECONDS):
        """Sends an answer without any work; the rest of the body is read for a while, and dropped.

        Returns:
            task that ends when the answer has been sent.
        """
        self._answered = True
        self._drop()
        if not (linger or self._arrived.is_set()):
            answer.headers["Connection"] = "close"
        return self._server.keep(self._send(answer, linger=linger))

    def _drop(self):
        if self._late is not None:
            self._late.cancel()
        if self._body is not None:
            self._body.drop()

    async def _run(self, body):
        """Does the work in a thread; a client that disconnects meanwhile loses its place in the queue."""
        call, bodies = Caller(self._seconds), [body]
        del body
        self._wire.set_close_callback(call.cancel)
        self._connection.working = True
        try:
            if self._stream.closed():
                call.cancel()
            answer = await self._server.work(lambda: self._work(bodies, call))
        except Exception as error:  # noqa: BLE001  its text may quote the request
            answer = _answer_failure(error)
        finally:
            self._connection.working = False
            self._body.drop()
        try:
            await self._send(answer)
        finally:
            call.cancel()

    async def _send(self, answer, *, linger=LINGER_SECONDS):
        """Sends an answer in chunks, each when the client has read those before it."""
        size = answer.size
        self._server.room.fill(size)
        try:
            async with asyncio.timeout(self._seconds + size / LEAST_RATE):
                await self._write(answer)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger):
                    await self._arrived.wait()
            self._wire.finish()
        except (StreamClosedError, TimeoutError):
            self._stream.close()
        except Exception as error:  # noqa: BLE001  its text may quote the request
            logger.error("HTTP: %s", describe_error(error))
            self._stream.close()
        finally:
            self._server.room.give(size)

    async def _write(self, answer):
        headers = HTTPHeaders({**answer.headers, **self._headers, "Date": formatdate(usegmt=True)})
        if answer.media_type is not None:
            headers["Content-Type"] = answer.media_type
            headers["Content-Length"] = str(answer.size)
        chunks, answer.chunks = deque(answer.chunks), []  # each chunk is freed after it has been sent
        if self._line.method == "HEAD":
            chunks.clear()
        status = ResponseStartLine("HTTP/1.1", answer.status, responses.get(answer.status, "Unknown"))
        await self._wire.write_headers(status, headers, chunks.popleft() if chunks else None)
        while chunks:
            self._connection.touch()
            await self._wire.write(chunks.popleft())
        self._connection.touch()


def _answer_failure(error):
    logger.error("HTTP: %s", describe_error(error))
    return answer_text(500, f"The server failed with {type(error).__name__}.")
