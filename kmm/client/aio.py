"""The client for programs on asyncio."""

import asyncio
import time
from collections import deque

import grpc

from kmm.client.base import BaseClient, advance_flow
from kmm.client.folder import Row, check_concurrency, fail_row, list_rows
from kmm.data.study import Problem
from kmm.errors import InputError, KmmError


class AsyncClient(BaseClient):
    """`kmm.client.sync.Client` for asyncio: the same arguments, methods, results and errors.

    Make and use it inside one running event loop; elsewhere it raises `InputError`. Files are read and decoded in
    threads, so that the loop goes on.

    Example:
        >>> async def ask():
        ...     async with AsyncClient("localhost:8500/openi") as client:
        ...         return repr(client)
        >>> asyncio.run(ask())
        "AsyncClient('localhost:8500/openi')"
    """

    async def predict(self, image=None, report=None):
        """As `Client.predict`."""
        return await self._run(self._flows.predict(image, report))

    async def explain(self, image=None, report=None, target=None):
        """As `Client.explain`."""
        return await self._run(self._flows.explain(image, report, target))

    async def embed(self, image=None, report=None):
        """As `Client.embed`."""
        return await self._run(self._flows.embed(image, report))

    async def classify(self, image=None, report=None):
        """As `Client.classify`."""
        return await self._run(self._flows.classify(image, report))

    async def status(self):
        """As `Client.status`."""
        return await self._run(self._flows.status())

    async def metadata(self):
        """As `Client.metadata`."""
        return await self._run(self._flows.metadata())

    async def describe(self):
        """As `Client.describe`."""
        return await self._run(self._flows.describe())

    def predict_folder(self, sources, *, concurrency=8):
        """As `Client.predict_folder`, to be used with `async for`."""
        self._check_open()
        return self._stream(list_rows(sources), check_concurrency(concurrency))

    async def close(self):
        """Ends the connection; requests under way are cancelled."""
        self._closed = True
        await self._channel.close()

    async def __aenter__(self):
        self._check_open()
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def _stream(self, items, concurrency):
        await self._run(self._flows.learn())
        waiting = deque()
        try:
            while (item := await asyncio.to_thread(next, items, None)) is not None:
                waiting.append(asyncio.create_task(self._predict_row(item)))
                if len(waiting) >= concurrency:
                    yield await waiting.popleft()
            while waiting:
                yield await waiting.popleft()
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _predict_row(self, item):
        if isinstance(item, Problem):
            return Row(None, problem=item)
        try:
            return Row(item, await self.predict(item))
        except KmmError as error:
            if self._closed:
                raise
            return fail_row(item, error)

    async def _run(self, flow):
        self._check_open()
        if asyncio.get_running_loop() is not self._loop:
            raise InputError("An AsyncClient is used in the event loop in which it was made. Make another one here.")
        call, result = await asyncio.to_thread(advance_flow, flow)
        while call:
            deadline = time.monotonic() + self._timeout
            if not self._is_tried:
                await asyncio.to_thread(self._try_handshake)
            try:
                reply = await self._methods[call.method](
                    call.request, timeout=deadline - time.monotonic(), metadata=self._metadata
                )
            except grpc.aio.AioRpcError as error:
                raise await asyncio.to_thread(self._explain_error, error, deadline) from None
            except asyncio.CancelledError:  # of this task, or of the call by `close`
                if self._closed and not asyncio.current_task().cancelling():
                    raise self._say_closed() from None
                raise
            except grpc.aio.UsageError:  # of a channel that was closed meanwhile
                self._check_open()
                raise
            call, result = await asyncio.to_thread(advance_flow, flow, reply)
        return result

    def _open_channel(self, target, credentials, options):
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InputError("An AsyncClient is made inside a running event loop. Received: none.") from None
        if credentials is None:
            return grpc.aio.insecure_channel(target, options)
        return grpc.aio.secure_channel(target, credentials, options)
