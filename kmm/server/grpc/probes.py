"""Answer gRPC health checks."""

import asyncio
from collections.abc import Awaitable, Callable

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from kmm.server.status import ServingError, refuse

NAMES = ("", "PredictionService", "ModelService")  # the same as in TensorFlow Serving
MAX_BYTES = 4096  # per health check, since it needs no token
_STATES = health_pb2.HealthCheckResponse


class Probes:
    """Holds the state of the server for health checks, within one event loop."""

    def __init__(self) -> None:
        self._state, self._changed = _STATES.NOT_SERVING, asyncio.Event()

    def set(self, *, serving: bool) -> None:
        """Changes the state and informs all watchers."""
        self._state = _STATES.SERVING if serving else _STATES.NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    def check(self, data: bytes) -> bytes:
        """Answers `Check`.

        Args:
            data: bytes of a `HealthCheckRequest`.

        Returns:
            bytes of a `HealthCheckResponse`.

        Raises:
            ServingError: NOT_FOUND for an unknown name; INVALID_ARGUMENT for another message or one that is too large.
        """
        if _read_name(data) not in NAMES:
            raise ServingError("NOT_FOUND", "")
        return _STATES(status=self._state).SerializeToString()

    async def watch(self, data: bytes, write: Callable[[bytes], Awaitable[object]]) -> None:
        """Answers `Watch`: sends the state and each change of it, until it is cancelled.

        Args:
            data: as in `check`.
            write: async function that sends the bytes of a `HealthCheckResponse`.
        """
        known, sent = _read_name(data) in NAMES, None
        while True:
            changed, state = self._changed, self._state if known else _STATES.SERVICE_UNKNOWN
            if state != sent:
                await write(_STATES(status=state).SerializeToString())
                sent = state
            await changed.wait()


def _read_name(data):
    if len(data) > MAX_BYTES:
        raise refuse(f"A health check may have at most {MAX_BYTES} bytes.")
    try:
        return health_pb2.HealthCheckRequest.FromString(data).service
    except DecodeError:
        raise refuse("The request is not a grpc.health.v1.HealthCheckRequest.") from None
