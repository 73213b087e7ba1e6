"""What both clients are made of."""

import math

from kmm.client.channel import (
    Tls,
    explain_error,
    list_options,
    make_credentials,
    make_metadata,
    may_be_outdated,
    parse_address,
)
from kmm.client.flows import Flows
from kmm.errors import InputError
from kmm.stubs import DEFAULT_MODEL, load_stubs


class BaseClient:
    """The connection and the settings of a client; arguments as `kmm.client.sync.Client`."""

    def __init__(self, address, model=None, *, version=None, label=None, timeout=30.0, tls=None, token=None, retries=3):
        self._address = parse_address(address)
        if model and self._address.model and model != self._address.model:
            raise InputError(f"The address names the model {self._address.model!r}. `model` says: {model!r}.")
        model = model or self._address.model or DEFAULT_MODEL
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < math.inf:
            raise InputError(f"`timeout` must be a number of seconds above 0. Received: {timeout!r}.")
        tls = Tls() if tls is True else tls or None
        if tls is not None and not isinstance(tls, Tls):
            raise InputError(f"`tls` must be a Tls, True or None. Received: {type(tls).__name__}.")
        self._flows = Flows(model, version, label)
        self._timeout = timeout
        self._metadata = make_metadata(self._address, token=token, tls=tls)
        options = list_options(self._address, retries=retries, tls=tls)
        self._channel = self._open_channel(str(self._address), tls and make_credentials(tls), options)
        stubs = load_stubs()
        prediction = stubs.prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._methods = {name: getattr(prediction, name) for name in ("Predict", "Classify", "GetModelMetadata")}
        models = stubs.model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._methods["GetModelStatus"] = models.GetModelStatus

    def _explain_error(self, error):
        """gRPC's error as kmm's; what was learned of the model is dropped where that may be the cause."""
        failed = explain_error(error, self._address)
        if may_be_outdated(failed):
            self._flows.forget()
        return failed

    def __repr__(self):
        return f"{type(self).__name__}('{self._address}/{self._flows.model}')"


def advance_flow(flow, reply=None):
    """Takes a flow to its next call.

    Args:
        flow: generator of `kmm.client.flows`.
        reply: of the last call; None at the start.

    Returns:
        `(call, None)`, or `(None, result)` at the end.
    """
    try:
        return flow.send(reply), None
    except StopIteration as end:
        return None, end.value
