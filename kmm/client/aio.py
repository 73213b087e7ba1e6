"""The client for asyncio programs."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, Self, overload

import grpc
import numpy as np

from kmm.client.base import BaseClient, advance_flow
from kmm.client.folder import Row, Sources, check_alone, check_concurrency, fail_row, gather_predictions, list_rows
from kmm.client.results import ServedExplanation
from kmm.client.studies import AnyImage, AnyReport, Images, Reports, Targets
from kmm.data.study import Collection, Problem
from kmm.errors import InputError, KmmError
from kmm.protocol.predictions import Prediction, Predictions


class AsyncClient(BaseClient):
    """The counterpart of `kmm.client.sync.Client` for asyncio: same arguments, methods, results and errors.

    Create and use it inside one running event loop; anywhere else it raises `InputError`. Files are read and decoded
    in threads, so they do not block the loop.

    Example:
        >>> async def ask():
        ...     async with AsyncClient("localhost:8500/openi") as client:
        ...         return repr(client)
        >>> asyncio.run(ask())
        "AsyncClient('localhost:8500/openi')"
    """

    @overload
    async def predict(self, image: AnyImage = None, report: AnyReport = None) -> Prediction: ...
    @overload
    async def predict(self, image: Collection) -> Predictions: ...
    @overload
    async def predict(self, image: Images = None, report: Reports = None) -> Prediction | Predictions: ...
    async def predict(self, image: Images = None, report: Reports = None) -> Prediction | Predictions:
        """Same as `Client.predict`."""
        if isinstance(image, Collection):
            check_alone(report)
            return gather_predictions(image, [row async for row in self.predict_folder(image)])
        return await self._run(self._flows.predict(image, report))

    @overload
    async def explain(
        self, image: AnyImage = None, report: AnyReport = None, target: Targets = None
    ) -> ServedExplanation: ...
    @overload
    async def explain(
        self, image: Images = None, report: Reports = None, target: Targets = None
    ) -> ServedExplanation | list[ServedExplanation]: ...
    async def explain(
        self, image: Images = None, report: Reports = None, target: Targets = None
    ) -> ServedExplanation | list[ServedExplanation]:
        """Same as `Client.explain`."""
        return await self._run(self._flows.explain(image, report, target))

    async def embed(self, image: Images = None, report: Reports = None) -> np.ndarray:
        """Same as `Client.embed`."""
        return await self._run(self._flows.embed(image, report))

    @overload
    async def classify(self, image: AnyImage = None, report: AnyReport = None) -> dict[str, float]: ...
    @overload
    async def classify(
        self, image: Images = None, report: Reports = None
    ) -> dict[str, float] | list[dict[str, float]]: ...
    async def classify(self, image: Images = None, report: Reports = None) -> dict[str, float] | list[dict[str, float]]:
        """Same as `Client.classify`."""
        return await self._run(self._flows.classify(image, report))

    async def status(self) -> list[dict[str, Any]]:
        """Same as `Client.status`."""
        return await self._run(self._flows.status())

    async def metadata(self) -> dict[str, Any]:
        """Same as `Client.metadata`."""
        return await self._run(self._flows.metadata())

    async def describe(self) -> dict[str, Any]:
        """Same as `Client.describe`."""
        return await self._run(self._flows.describe())

    def predict_folder(self, sources: Sources, *, concurrency: int = 8) -> AsyncIterator[Row]:
        """Same as `Client.predict_folder`, for use with `async for`."""
        self._check_open()
        return self._stream(list_rows(sources), check_concurrency(concurrency))

    async def close(self) -> None:
        """Closes the connection and cancels requests in flight."""
        self._closed = True
        await self._channel.close()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(self, *_: object) -> None:
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
            raise InputError("An AsyncClient works only in the event loop that created it. Create another one here.")
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
            except asyncio.CancelledError:  # either this task was cancelled, or `close` cancelled the call
                task = asyncio.current_task()
                if self._closed and not (task and task.cancelling()):
                    raise self._make_closed_error() from None
                raise
            except grpc.aio.UsageError:  # the channel was closed meanwhile
                self._check_open()
                raise
            call, result = await asyncio.to_thread(advance_flow, flow, reply)
        return result

    def _open_channel(self, target, credentials, options):
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            raise InputError("No event loop is running. Create an AsyncClient inside a running event loop.") from None
        if credentials is None:
            return grpc.aio.insecure_channel(target, options)
        return grpc.aio.secure_channel(target, credentials, options)
