"""The client for programs on asyncio."""

import asyncio
from collections import deque

import grpc

from kmm.client.base import BaseClient, advance_flow
from kmm.client.folder import Row, check_concurrency, fail_row, list_rows
from kmm.data.study import Problem
from kmm.errors import KmmError


class AsyncClient(BaseClient):
    """`kmm.client.sync.Client` for asyncio: the same arguments, methods, results and errors.

    Make and use it inside one running event loop. Files are read and decoded in threads, so that the loop goes on.

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

    async def predict_folder(self, sources, *, concurrency=8):
        """As `Client.predict_folder`, to be used with `async for`."""
        check_concurrency(concurrency)
        await self._run(self._flows.learn())
        waiting, items = deque(), list_rows(sources)
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

    async def close(self):
        """Ends the connection; requests under way are cancelled."""
        await self._channel.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()

    async def _predict_row(self, item):
        if isinstance(item, Problem):
            return Row(None, problem=item)
        try:
            return Row(item, await self.predict(item))
        except KmmError as error:
            return fail_row(item, error)

    async def _run(self, flow):
        call, result = await asyncio.to_thread(advance_flow, flow)
        while call:
            try:
                reply = await self._methods[call.method](call.request, timeout=self._timeout, metadata=self._metadata)
            except grpc.aio.AioRpcError as error:
                raise self._explain_error(error) from None
            call, result = await asyncio.to_thread(advance_flow, flow, reply)
        return result

    def _open_channel(self, target, credentials, options):
        if credentials is None:
            return grpc.aio.insecure_channel(target, options)
        return grpc.aio.secure_channel(target, credentials, options)
