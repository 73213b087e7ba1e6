"""The client for plain programs."""

from collections import deque
from concurrent.futures import ThreadPoolExecutor

import grpc

from kmm.client.base import BaseClient, advance_flow
from kmm.client.folder import Row, check_concurrency, fail_row, list_rows
from kmm.data.study import Problem
from kmm.errors import KmmError


class Client(BaseClient):
    """A connection to one served model. Threads may share it.

    Args:
        address: str: `"host:port/model"`, or `"host:port"` with `model`.
        model: str. The name of the model; `default` where neither gives one, which is TensorFlow Serving's own default
            and `kmm serve`'s name of a model that is served alone.
        version: int. A version of it; None: the one that the server prefers.
        label: str. A label of a version, instead of its number.
        timeout: float > 0. Seconds that each request may take, its retries included.
        tls: `Tls` for an encrypted connection; True for one with the certificates that gRPC brings; None for none.
        token: str, sent with each request as `authorization: Bearer`; only over TLS or to this machine.
        retries: int in [0, 4]. Further attempts where the server is not available. Requests only read, so a second one
            does no harm.

    Raises:
        InputError: if an argument is out of range.

    Every method raises `InputError` for arguments that cannot be sent and `ServerError` where the server refuses.

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

        Raises:
            ServerError: before the first row, if the server cannot be asked what it takes.
        """
        check_concurrency(concurrency)
        self._run(self._flows.learn())
        waiting = deque()
        with ThreadPoolExecutor(concurrency) as pool:
            try:
                for item in list_rows(sources):
                    waiting.append(pool.submit(self._predict_row, item))
                    if len(waiting) >= concurrency:
                        yield waiting.popleft().result()
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def close(self):
        """Ends the connection; requests under way are cancelled."""
        self._channel.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _predict_row(self, item):
        if isinstance(item, Problem):
            return Row(None, problem=item)
        try:
            return Row(item, self.predict(item))
        except KmmError as error:
            return fail_row(item, error)

    def _run(self, flow):
        call, result = advance_flow(flow)
        while call:
            try:
                reply = self._methods[call.method](call.request, timeout=self._timeout, metadata=self._metadata)
            except grpc.RpcError as error:
                raise self._explain_error(error) from None
            call, result = advance_flow(flow, reply)
        return result

    def _open_channel(self, target, credentials, options):
        if credentials is None:
            return grpc.insecure_channel(target, options)
        return grpc.secure_channel(target, credentials, options)
