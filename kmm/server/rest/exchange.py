"""One request over HTTP and its answer, on a connection of Tornado."""

import asyncio
import contextlib
import logging
from collections import deque
from email.utils import formatdate
from http.client import responses

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate, ResponseStartLine
from tornado.iostream import StreamClosedError

from kmm.server.requests.admission import Caller
from kmm.server.rest.answer import tell_error, tell_text
from kmm.server.rest.body import Body, Refused
from kmm.server.status import ServingError
from kmm.tracebacks import describe_error

LINGER_SECONDS = 2  # for which the body of a refused request is read on, so that its client gets to read the refusal
LEAST_RATE = 2**16  # bytes a second that a client must take of an answer, after the time that each request has
logger = logging.getLogger("kmm.server.rest")


class Exchange(HTTPMessageDelegate):
    """Reads a request, has it answered and sends the answer, each in bounded time.

    Args:
        server: `kmm.server.rest.http_server.RestServer`, whose app, room and threads are shared.
        wire: `tornado.httputil.HTTPConnection` of this request.
        stream: `tornado.iostream.IOStream` under it.
        connection: `kmm.server.connections.Connection`.
    """

    def __init__(self, server, wire, stream, connection):
        self._server, self._wire, self._stream, self._connection = server, wire, stream, connection
        self._seconds = server.settings.rest_timeout_seconds
        self._line, self._headers = None, {}
        self._work, self._body, self._late = None, None, None
        self._answered = False
        self._arrived = asyncio.Event()  # the whole request, or the end of its connection

    def headers_received(self, start_line, headers):
        self._line = start_line
        answer = self._open(headers)
        if answer is None:
            return None
        if "Expect" in headers:  # such a client sends its body only once it is told to
            return self._answer(answer, linger=0)  # Tornado waits for it, so that it does not tell the client to
        self._answer(answer)
        return None

    def data_received(self, chunk):
        if self._answered:
            return None
        try:
            unpacking = self._body.add(chunk)
        except Refused as refused:
            self._answer(refused.answer)
            return None
        return None if unpacking is None else self._wait(unpacking)

    def finish(self):
        self._connection.touch()
        self._arrived.set()
        if self._answered:
            return
        self._late.cancel()
        try:
            body = self._body.take()
        except Refused as refused:
            self._answer(refused.answer)
            return
        if not self._server.has_place():
            self._answer(tell_text(503, "The server is busy: too many requests are read, run or wait."))
            return
        self._answered = True
        self._server.keep(self._run(body))

    def on_connection_close(self):
        self._arrived.set()
        self._drop()

    def _open(self, headers):
        """The answer that needs no body, or None where the body is to be read."""
        try:
            if self._line.version == "HTTP/1.1" and len(headers.get_list("Host")) != 1:
                return tell_text(400, "Expected one header Host.")
            self._headers = self._server.app.list_headers(self._line.path, headers)
            found = self._server.app.open(self._line.method, self._line.path, headers)
            if not callable(found):
                return found
            self._body = Body(headers, self._server.settings.max_message_mb << 20, self._server.room)
        except ServingError as error:
            return tell_error(error)
        except Refused as refused:
            return refused.answer
        except Exception as error:  # noqa: BLE001  its text may quote the request
            return _tell_failure(error)
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
            late = ServingError("DEADLINE_EXCEEDED", "The body of the request did not come in time.")
            self._answer(tell_error(late), linger=0)

    def _answer(self, answer, *, linger=LINGER_SECONDS):
        """Sends an answer to which no work leads; what is left of the body is read for a while, and dropped.

        Returns:
            task that ends when the answer is sent.
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
        """Works in a thread; a client that goes meanwhile loses its place in the line."""
        call, bodies = Caller(self._seconds), [body]
        del body
        self._wire.set_close_callback(call.cancel)
        self._connection.working = True
        try:
            if self._stream.closed():
                call.cancel()
            answer = await self._server.work(lambda: self._work(bodies, call))
        except Exception as error:  # noqa: BLE001  its text may quote the request
            answer = _tell_failure(error)
        finally:
            self._connection.working = False
            self._body.drop()
        try:
            await self._send(answer)
        finally:
            call.cancel()

    async def _send(self, answer, *, linger=LINGER_SECONDS):
        """Sends an answer a chunk at a time, as the client takes it."""
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
        chunks, answer.chunks = deque(answer.chunks), []  # each is dropped once it is sent
        if self._line.method == "HEAD":
            chunks.clear()
        status = ResponseStartLine("HTTP/1.1", answer.status, responses.get(answer.status, "Unknown"))
        await self._wire.write_headers(status, headers, chunks.popleft() if chunks else None)
        while chunks:
            self._connection.touch()
            await self._wire.write(chunks.popleft())
        self._connection.touch()


def _tell_failure(error):
    logger.error("HTTP: %s", describe_error(error))
    return tell_text(500, f"The server failed with {type(error).__name__}.")
