"""Metrics for Prometheus, under TensorFlow Serving's names."""

import contextlib
import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client import CollectorRegistry, Gauge, Histogram, ProcessCollector
from prometheus_client.core import UnknownMetricFamily

from kmm.errors import describe_error
from kmm.server.access_log import Entry, log_request
from kmm.server.status import ServingError

PATH = "/monitoring/prometheus/metrics"
_BUCKETS = [10 * 1.8**power for power in range(33)]  # microseconds, as TensorFlow Serving's
logger = logging.getLogger("kmm.server.requests")


class RequestGauge(Protocol):
    """Numbers of running and waiting requests, as `kmm.server.requests.admission.AdmissionGate` keeps them."""

    @property
    def running(self) -> int:
        """int: requests that run."""

    @property
    def waiting(self) -> int:
        """int: requests that wait."""


class Metrics:
    """Counts and durations of requests.

    Args:
        gates: dict of name to `RequestGauge`, from which the numbers of running and waiting requests are read.

    Example:
        >>> metrics = Metrics({})
        >>> with metrics.record("film", "Predict", "GRPC"):
        ...     pass
        >>> metrics.registry.get_sample_value(
        ...     ":tensorflow:serving:request_count", {"model_name": "film", "status": "OK"})
        1
    """

    def __init__(self, gates: Mapping[str, RequestGauge]) -> None:
        self.registry = CollectorRegistry()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()
        self._request_latency = Histogram(
            ":tensorflow:serving:request_latency",
            "Wall time of successful requests, in microseconds.",
            ("model_name", "API", "entrypoint"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._runtime_latency = Histogram(
            ":tensorflow:serving:runtime_latency",
            "Wall time of TensorFlow runs, in microseconds.",
            ("model_name", "API", "runtime"),
            buckets=_BUCKETS,
            registry=self.registry,
        )
        for state in ("running", "waiting"):
            gauge = Gauge(f"kmm_requests_{state}", f"Requests that are {state}.", ("lane",), registry=self.registry)
            for name, gate in gates.items():
                gauge.labels(name).set_function(functools.partial(getattr, gate, state))
        self.registry.register(_Counts(self._list_counts))
        ProcessCollector(registry=self.registry)

    @contextlib.contextmanager
    def record(self, model: str, api: str, entrypoint: str) -> Iterator[Entry]:
        """Times the block as a request, counts it by its status code, and writes its line of the access log.

        An INTERNAL error is also logged, with its place in the code.

        Args:
            model: str, a served model; "" for any other name, so that clients cannot fill the table of names.
            api: str, for example `"Predict"`.
            entrypoint: `"GRPC"` or `"REST"`.

        Yields:
            `Entry` of the access log, to which the block may add the sizes of the messages.

        Raises:
            ServingError: INTERNAL for an unexpected error; its text is dropped, since it may quote the request.
        """
        start = time.perf_counter()
        with log_request(entrypoint, api, model) as entry:
            try:
                yield entry
                entry.code = "OK"
            except ServingError as error:
                entry.code = error.code
                if error.code == "INTERNAL":
                    logger.error("%s: %s", api, describe_error(error.__cause__ or error))
                raise
            except Exception as error:
                logger.error("%s: %s", api, describe_error(error))
                raise ServingError("INTERNAL", f"The server failed with {type(error).__name__}.") from error
            finally:
                seconds = time.perf_counter() - start
                entry.milliseconds = round(seconds * 1e3, 1)
                self.count(model, entry.code)
                if entry.code == "OK":
                    self._request_latency.labels(model, api, entrypoint).observe(seconds * 1e6)

    def count(self, model: str, code: str) -> None:
        """Counts a request that ended with a status code; `model` is as in `record`."""
        with self._lock:
            self._counts[model, code] += 1

    @contextlib.contextmanager
    def time_run(self, model: str, api: str) -> Iterator[None]:
        """Times the block as a run of TensorFlow."""
        start = time.perf_counter()
        yield
        self._runtime_latency.labels(model, api, "TF2").observe((time.perf_counter() - start) * 1e6)

    def _list_counts(self):
        with self._lock:
            return dict(self._counts)


class _Counts:
    """Collects the request count as an untyped metric, since prometheus_client appends _total to names of counters."""

    def __init__(self, list_counts) -> None:
        self._list_counts = list_counts

    def collect(self):
        family = UnknownMetricFamily(
            ":tensorflow:serving:request_count", "The number of requests.", labels=("model_name", "status")
        )
        for labels, count in self._list_counts().items():
            family.add_metric(labels, count)
        yield family
