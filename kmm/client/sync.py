"""The client for plain programs."""

import atexit
import threading
import time
from collections import deque
from concurrent.futures import Future

import grpc

from kmm.client.base import BaseClient, advance_flow
from kmm.client.folder import Row, check_concurrency, fail_row, list_rows
from kmm.data.study import Problem
from kmm.errors import KmmError


class Client(BaseClient):
    """A connection to one served model. Threads may share it.

    Args:
        address: str: `"host:port/model"`, or `"host:port"` with `model`; of a Unix socket `"unix:/path:model"`, or
            `"unix:/path"` with `model`.
        model: str. The name of the model; `default` where neither gives one, which is TensorFlow Serving's own default
            and `kmm serve`'s name of a model that is served alone.
        version: int. A version of it; None: the one that the server prefers.
        label: str. A label of a version, instead of its number.
        timeout: float in (0, 1,000,000]. Seconds that each request may take, its retries included.
        tls: `Tls` for an encrypted connection; True for one with the certificates that gRPC brings; None for none.
        token: str, sent with each request as `authorization: Bearer`; only over TLS or to this machine.
        retries: int in [0, 4]. Further attempts where the server is not available. Requests only read, so a second one
            does no harm.
        allow_plaintext: bool. Whether films and reports may go to another host without TLS: only where something else
            encrypts. This machine (`localhost`, 127.x.x.x, ::1, a Unix socket) needs neither.

    Raises:
        InputError: if an argument is out of range, a file of `tls` is not what it should be, or another host would be
            asked in plain text.

    Every method raises `InputError` for arguments that cannot be sent and after `close`, and `ServerError` where the
    server refuses, cannot be reached, or gives an answer that cannot be right.

    Example:
        >>> with Client("localhost:8500/openi", timeout=5) as client:
        ...     client
        Client('localhost:8500/openi')
    """

    def predict(self, image=None, report=None):
        """Predicts one study, or several in one request.

        Args:
            image: path of a PNG, JPEG, DICOM, TIFF or BMP film, its bytes, or a numpy array (see
                `kmm.client.films.encode_film`); a `kmm.data.study.Study`, which brings its report; None: no film; or a
                list of these.
            report: str, `Report` or `Study`; None: no report; or a list of these.

        Returns:
            `Prediction`, or a list of them where a list was given.
        """
        return self._run(self._flows.predict(image, report))

    def explain(self, image=None, report=None, target=None):
        """Explains one study, or several in one request.

        Args:
            image, report: as in `predict`.
            target: str. The label to explain, or a list of one a study; None: the one of the highest probability.

        Returns:
            `ServedExplanation`, or a list of them where a list was given.
        """
        return self._run(self._flows.explain(image, report, target))

    def embed(self, image=None, report=None):
        """The features from which the logits are made: float32 `(features,)`, or `(n, features)` of lists."""
        return self._run(self._flows.embed(image, report))

    def classify(self, image=None, report=None):
        """Predicts by the Classify call: dict of label name to probability, or a list of them."""
        return self._run(self._flows.classify(image, report))

    def status(self):
        """The versions of the model: list of dict with `version`, `state`, `error_code` and `error_message`."""
        return self._run(self._flows.status())

    def metadata(self):
        """What the model takes and gives: dict with `model`, `version` and `signatures`."""
        return self._run(self._flows.metadata())

    def describe(self):
        """What the export says of itself: dict with labels, thresholds, preparation, digest and more."""
        return self._run(self._flows.describe())

    def predict_folder(self, sources, *, concurrency=8):
        """Predicts many studies, several at the same time; memory does not grow with their number.

        Args:
            sources: a path or an iterable of paths and of `Study`: images, folders of them, manifests, folders in a
                layout that `kmm fit` reads.
            concurrency: int in [1, 1000]. Requests at the same time, and results that wait for their turn.

        Yields:
            `Row` for each study, in order. What could not be read or was refused has a problem instead of a prediction.
            Leaving the loop early, or closing what was returned, cancels the requests under way.

        Raises:
            InputError: at once, if an argument is of another kind or the client is closed.
            ServerError: before the first row, if the server cannot be asked what it takes; later, if the client is
                closed meanwhile.
        """
        self._check_open()
        return self._stream(list_rows(sources), check_concurrency(concurrency))

    def close(self):
        """Ends the connection; requests under way are cancelled."""
        self._closed = True
        self._channel.close()

    def __enter__(self):
        self._check_open()
        return self

    def __exit__(self, *_):
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
            send: function that makes a call, given the method, the request and options; None: the method itself.
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
            except ValueError:  # of a channel that another thread has closed
                self._check_open()
                raise
            call, result = advance_flow(flow, reply)
        return result

    def _open_channel(self, target, credentials, options):
        if credentials is None:
            return grpc.insecure_channel(target, options)
        return grpc.secure_channel(target, credentials, options)


class _Calls:
    """The calls of one run over many studies, to cancel them together, at the latest when the program ends."""

    def __init__(self):
        self._lock, self._running, self._is_cancelled = threading.Lock(), set(), False
        atexit.register(self.cancel)

    def send(self, method, request, **options):
        """Makes a call and waits for its reply.

        Raises:
            grpc.RpcError: as the method.
            grpc.FutureCancelledError: if it is cancelled, or was before it began.
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
        """Cancels the calls under way, and those that are still to come."""
        if self._is_cancelled:  # behind the end of the program, a thread that is gone may hold the lock
            return
        atexit.unregister(self.cancel)
        with self._lock:
            self._is_cancelled, running = True, list(self._running)
        for call in running:
            call.cancel()


def _start(work, *arguments):
    """Runs a function in a thread of its own, for which the end of the program does not wait; returns its `Future`."""
    future = Future()

    def run():
        try:
            future.set_result(work(*arguments))
        except BaseException as error:  # noqa: BLE001  it is raised where the result is taken
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
