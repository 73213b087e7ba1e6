"""Common base of the two clients: settings, connection, and explanation of errors."""

import abc
import re
import ssl
import time
from collections.abc import Generator
from typing import Any, TypeVar

import grpc

from kmm.client.address import parse_address
from kmm.client.arguments import take_name, take_seconds
from kmm.client.channel import check_privacy, explain_error, list_options, make_metadata, may_be_outdated
from kmm.client.flows import Call, Flows
from kmm.client.tls import Tls, find_fault, read_files
from kmm.errors import InputError, ServerError
from kmm.protocol.messages import DEFAULT_MODEL, load_stubs

HANDSHAKE_SECONDS = 2.0  # longest search for the cause of a failed connection
_NO_CONNECTION = re.compile("connect|socket|handshak|reset|closed|broken pipe|preface|http|tls|ssl", re.IGNORECASE)


_Result = TypeVar("_Result")


class BaseClient(abc.ABC):
    """Connection and settings of a client; arguments as for `kmm.client.sync.Client`."""

    def __init__(
        self,
        address: str,
        model: str | None = None,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float = 30.0,
        tls: Tls | bool | None = None,
        token: str | None = None,
        retries: int = 3,
        allow_plaintext: bool = False,
    ):
        self._address, model = parse_address(address), take_name("model", model)
        if model and self._address.model and model != self._address.model:
            raise InputError(
                f"The address names the model {self._address.model!r}, but `model` is {model!r}. Give one."
            )
        self._timeout = take_seconds("timeout", timeout)
        tls = Tls() if tls is True else None if tls is False else tls
        if tls is not None and not isinstance(tls, Tls):
            raise InputError(f"`tls` must be a Tls, True or None. Received: {type(tls).__name__}.")
        self._flows = Flows(model or self._address.model or DEFAULT_MODEL, version, label)
        self._metadata = make_metadata(self._address, token=token, tls=tls)
        check_privacy(self._address, tls=tls, allow_plaintext=allow_plaintext)
        options = list_options(self._address, retries=retries, tls=tls)
        self._tls, self._closed, self._is_tried = tls, False, tls is None
        credentials: grpc.ChannelCredentials | None = None
        self._context: ssl.SSLContext | None = None
        if tls:
            credentials, self._context = read_files(tls)
        self._channel = self._open_channel(self._address.target, credentials, options)
        stubs = load_stubs()
        prediction = stubs.prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._methods = {name: getattr(prediction, name) for name in ("Predict", "Classify", "GetModelMetadata")}
        models = stubs.model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._methods["GetModelStatus"] = models.GetModelStatus

    def _check_open(self):
        if self._closed:
            raise InputError("The client is closed. Create a new one.")

    def _try_handshake(self):
        """Tries TLS before the first request, to fail at once with the cause; gRPC would retry and say less."""
        self._is_tried = True
        self._raise_fault(self._timeout / 2)

    def _explain_error(self, error, deadline):
        """Converts gRPC's error to kmm's. Forgets the model's description where an outdated one may be the cause.

        Args:
            error: `grpc.RpcError`.
            deadline: float. Value of `time.monotonic()` at which the search for the cause must end.
        """
        if self._closed:
            return self._make_closed_error()
        failed = explain_error(error, self._address)
        if may_be_outdated(failed):
            self._flows.forget()
        if failed.code == "UNAVAILABLE" and _NO_CONNECTION.search(failed.details):
            try:
                self._raise_fault(deadline - time.monotonic())
            except ServerError as found:
                return found
        return failed

    def _raise_fault(self, seconds):
        fault = find_fault(self._address, self._tls, self._context, min(HANDSHAKE_SECONDS, seconds))
        if fault:
            raise ServerError(f"{self._address}: UNAVAILABLE: {fault}", "UNAVAILABLE")

    def _make_closed_error(self):
        return ServerError(f"{self._address}: CANCELLED: the client was closed.", "CANCELLED")

    @abc.abstractmethod
    def _open_channel(self, target, credentials, options):
        """Opens a gRPC channel of the client's kind."""

    def __repr__(self):
        return f"{type(self).__name__}('{self._address}{':' if self._address.socket else '/'}{self._flows.model}')"


def advance_flow(flow: Generator[Call, Any, _Result], reply: Any = None) -> tuple[Call, None] | tuple[None, _Result]:
    """Runs a flow to its next call.

    Args:
        flow: generator of `kmm.client.flows`.
        reply: reply to the last call; None at the start.

    Returns:
        `(call, None)`, or `(None, result)` at the end.
    """
    try:
        return flow.send(reply), None
    except StopIteration as end:
        return None, end.value
