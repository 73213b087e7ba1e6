"""The client for synchronous programs."""

import atexit
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any, Self, overload

import grpc
import numpy as np

from kmm.client.base import BaseClient, advance_flow
from kmm.client.folder import Row, Sources, check_alone, check_concurrency, fail_row, gather_predictions, list_rows
from kmm.client.results import ServedExplanation
from kmm.client.studies import AnyImage, AnyReport, Images, Reports, Targets
from kmm.data.study import Collection, Problem
from kmm.errors import KmmError
from kmm.protocol.predictions import Prediction, Predictions


class Client(BaseClient):
    """A connection to one served model. Threads may share it.

    Args:
        address: str: `"host:port/model"`, or `"host:port"` with `model`; for a Unix socket `"unix:/path:model"`, or
            `"unix:/path"` with `model`.
        model: str. The name of the model. Defaults to `default`, which is TensorFlow Serving's own default and
            `kmm serve`'s second name for the only model of a server.
        version: int. A version of the model; None for the one that the server chooses.
        label: str. A version label, instead of a number.
        timeout: float in (0, 1,000,000]. Time limit of each request in seconds, including its retries.
        tls: `Tls` for an encrypted connection; True for one that trusts gRPC's own certificates; None for none.
        token: str, sent with each request as `authorization: Bearer`; only over TLS or to this machine.
        retries: int in [0, 4]. Further attempts while the server is unavailable. Requests are read-only, so repeating
            one is safe.
        allow_plaintext: bool. Whether films and reports may be sent to another host without TLS. Set it only where
            another layer encrypts the connection. This machine (`localhost`, 127.x.x.x, ::1, a Unix socket) needs
            neither.

    Raises:
        InputError: if an argument is out of range, a file of `tls` is invalid, or the connection to another host would
            not be encrypted.

    Every method raises `InputError` for arguments that cannot be sent and after `close`, and `ServerError` if the
    server refuses the request, cannot be reached, or sends an invalid reply.

    Example:
        >>> with Client("localhost:8500/openi", timeout=5) as client:
        ...     client
        Client('localhost:8500/openi')
    """

    @overload
    def predict(self, image: AnyImage = None, report: AnyReport = None) -> Prediction: ...
    @overload
    def predict(self, image: Collection) -> Predictions: ...
    @overload
    def predict(self, image: Images = None, report: Reports = None) -> Prediction | Predictions: ...
    def predict(self, image: Images = None, report: Reports = None) -> Prediction | Predictions:
        """Predicts one study, several in one request, or a collection with a request for each study.

        Args:
            image: path of a PNG, JPEG, DICOM, TIFF or BMP film, its bytes, or a numpy array (see
                `kmm.client.films.encode_film`); a `kmm.data.study.Study`, which includes its report; None for no film;
                or a list of these. Or a `Collection` of `kmm.read` or `kmm.studies`, of any number of studies.
            report: str, `Report` or `Study`; None for no report; or a list of these.

        Returns:
            `Prediction`; or `kmm.protocol.predictions.Predictions`, a sequence of them, for a list or a collection.
            Studies of a collection that cannot be read, or that the server refuses, are left out of these, with a
            warning, and listed in `problems`.

        Warns:
            UserWarning: if studies of a collection have no prediction.
        """
        if isinstance(image, Collection):
            check_alone(report)
            return gather_predictions(image, self.predict_folder(image))
        return self._run(self._flows.predict(image, report))

    @overload
    def explain(
        self, image: AnyImage = None, report: AnyReport = None, target: Targets = None
    ) -> ServedExplanation: ...
    @overload
    def explain(
        self, image: Images = None, report: Reports = None, target: Targets = None
    ) -> ServedExplanation | list[ServedExplanation]: ...
    def explain(
        self, image: Images = None, report: Reports = None, target: Targets = None
    ) -> ServedExplanation | list[ServedExplanation]:
        """Explains one study, or several in one request.

        Args:
            image, report: as in `predict`.
            target: str. The label to explain, or a list with one per study; None for the most probable label.

        Returns:
            `ServedExplanation`, or a list of them where a list was given.
        """
        return self._run(self._flows.explain(image, report, target))

    def embed(self, image: Images = None, report: Reports = None) -> np.ndarray:
        """Returns the features from which the logits are computed: float32 `(features,)`; `(n, features)` for lists."""
        return self._run(self._flows.embed(image, report))

    @overload
    def classify(self, image: AnyImage = None, report: AnyReport = None) -> dict[str, float]: ...
    @overload
    def classify(self, image: Images = None, report: Reports = None) -> dict[str, float] | list[dict[str, float]]: ...
    def classify(self, image: Images = None, report: Reports = None) -> dict[str, float] | list[dict[str, float]]:
        """Predicts by the Classify call; returns dict of label name to probability, or a list of them."""
        return self._run(self._flows.classify(image, report))

    def status(self) -> list[dict[str, Any]]:
        """Returns the versions of the model: dicts with `version`, `state`, `error_code` and `error_message`."""
        return self._run(self._flows.status())

    def metadata(self) -> dict[str, Any]:
        """Returns the inputs and outputs of the model: dict with `model`, `version` and `signatures`."""
        return self._run(self._flows.metadata())

    def describe(self) -> dict[str, Any]:
        """Returns the export's description of itself: dict with labels, thresholds, preparation, digest and more."""
        return self._run(self._flows.describe())

    def predict_folder(self, sources: Sources, *, concurrency: int = 8) -> Iterator[Row]:
        """Predicts many studies concurrently; memory does not grow with their number.

        Args:
            sources: a path, a `Study`, or an iterable of these; paths of images, folders of images, manifests, or
                folders in a layout that `kmm fit` reads.
            concurrency: int in [1, 1000]. Most requests in flight, including finished ones that wait for their turn.

        Yields:
            `Row` for each study, in order. A study that could not be read or was refused has a problem instead of a
            prediction. Leaving the loop early, or closing the iterator, cancels the requests in flight.

        Raises:
            InputError: at once, if an argument has the wrong type or the client is closed.
            ServerError: before the first row, if the server cannot be asked for the model's inputs; later, if the
                client is closed meanwhile.
        """
        self._check_open()
        return self._stream(list_rows(sources), check_concurrency(concurrency))

    def close(self) -> None:
        """Closes the connection and cancels requests in flight."""
        self._closed = True
        self._channel.close()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _stream(self, items, concurrency):
        self._run(self._flows.learn())
        waiting, calls = deque(), _Calls()
        try:
            for item in items:
                waiting.append(_start(self._predict_row, item, calls))
                if len(waiting) >= concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            calls.cancel()

    def _predict_row(self, item, calls):
        if isinstance(item, Problem):
            return Row(None, problem=item)
        try:
            return Row(item, self._run(self._flows.predict(item, None), calls.send))
        except KmmError as error:
            if self._closed:
                raise
            return fail_row(item, error)

    def _run(self, flow, send=None):
        """Makes the calls of a flow; returns its result.

        Args:
            flow: generator of `kmm.client.flows`.
            send: function of the method, the request and options that makes a call; None to call the method directly.
        """
        self._check_open()
        call, result = advance_flow(flow)
        while call:
            method, deadline = self._methods[call.method], time.monotonic() + self._timeout
            if not self._is_tried:
                self._try_handshake()
            options = {"timeout": deadline - time.monotonic(), "metadata": self._metadata}
            try:
                reply = send(method, call.request, **options) if send else method(call.request, **options)
            except grpc.RpcError as error:
                raise self._explain_error(error, deadline) from None
            except ValueError:  # another thread closed the channel
                self._check_open()
                raise
            call, result = advance_flow(flow, reply)
        return result

    def _open_channel(self, target, credentials, options):
        if credentials is None:
            return grpc.insecure_channel(target, options)
        return grpc.secure_channel(target, credentials, options)


class _Calls:
    """Registers the calls of one run over many studies, to cancel them together, at the latest at program exit."""

    def __init__(self):
        self._lock, self._running, self._is_cancelled = threading.Lock(), set(), False
        atexit.register(self.cancel)

    def send(self, method, request, **options):
        """Makes a call and waits for its reply.

        Raises:
            grpc.RpcError: as raised by the method.
            grpc.FutureCancelledError: if the call is cancelled, also before it begins.
        """
        with self._lock:
            if self._is_cancelled:
                raise grpc.FutureCancelledError()
            call = method.future(request, **options)
            self._running.add(call)
        try:
            return call.result()
        finally:
            with self._lock:
                self._running.discard(call)

    def cancel(self):
        """Cancels the calls in flight and all later ones."""
        if self._is_cancelled:  # at interpreter exit, a thread that no longer runs may hold the lock
            return
        atexit.unregister(self.cancel)
        with self._lock:
            self._is_cancelled, running = True, list(self._running)
        for call in running:
            call.cancel()


def _start(work, *arguments):
    """Runs a function in a daemon thread, for which program exit does not wait; returns its `Future`."""
    future = Future()

    def run():
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # noqa: BLE001  `Future.result` raises it
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
