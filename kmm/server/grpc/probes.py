"""Tell probes of health over gRPC whether the server takes requests."""

import asyncio

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from kmm.server.status import ServingError, refuse

NAMES = ("", "PredictionService", "ModelService")  # as TensorFlow Serving's
MAX_BYTES = 4096  # of a probe, which needs no token
_STATES = health_pb2.HealthCheckResponse


class Probes:
    """The state of the server, by the names that probes ask for. Lives in one event loop."""

    def __init__(self):
        self._state, self._changed = _STATES.NOT_SERVING, asyncio.Event()

    def set(self, *, serving):
        """Changes the state, and tells all that watch it."""
        self._state = _STATES.SERVING if serving else _STATES.NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    def check(self, data):
        """Answers `Check`.

        Args:
            data: bytes of a `HealthCheckRequest`.

        Returns:
            bytes of a `HealthCheckResponse`.

        Raises:
            ServingError: NOT_FOUND for an unknown name; INVALID_ARGUMENT for another message.
        """
        if _read_name(data) not in NAMES:
            raise ServingError("NOT_FOUND", "")
        return _STATES(status=self._state).SerializeToString()

    async def watch(self, data, write):
        """Answers `Watch`: the state, and each change of it, until it is cancelled.

        Args:
            data: as of `check`.
            write: async function that sends the bytes of a `HealthCheckResponse`.
        """
        known, told = _read_name(data) in NAMES, None
        while True:
            changed, state = self._changed, self._state if known else _STATES.SERVICE_UNKNOWN
            if state != told:
                await write(_STATES(status=state).SerializeToString())
                told = state
            await changed.wait()


def _read_name(data):
    if len(data) > MAX_BYTES:
        raise refuse(f"A probe has at most {MAX_BYTES} bytes.")
    try:
        return health_pb2.HealthCheckRequest.FromString(data).service
    except DecodeError:
        raise refuse("The request is not a grpc.health.v1.HealthCheckRequest.") from None
