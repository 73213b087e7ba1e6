"""Limit the requests that run and wait; further requests are refused immediately."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator

from kmm.server.status import ServingError


class AdmissionGate:
    """Limits the requests that run in parallel; others wait in a queue, first come, first served.

    Args:
        running: int. Most requests that run in parallel.
        waiting: int. Most requests that wait.

    Example:
        >>> gate = AdmissionGate(running=1, waiting=0)
        >>> with gate.enter(Caller()):
        ...     gate.running, gate.waiting
        (1, 0)
    """

    def __init__(self, *, running: int, waiting: int) -> None:
        self._free = self._places = running
        self._most = waiting
        self._closed = False
        self._queue: deque[threading.Event] = deque()
        self._lock = threading.Lock()

    @property
    def running(self) -> int:
        """int: requests that run now."""
        return self._places - self._free

    @property
    def waiting(self) -> int:
        """int: requests that wait now."""
        return len(self._queue)

    def close(self) -> None:
        """Refuses further requests; those that run or wait are not affected."""
        self._closed = True

    @contextlib.contextmanager
    def enter(self, call: "Caller") -> Iterator[None]:
        """Waits for a place and holds it for the length of the block.

        Args:
            call: `Caller` of the request.

        Raises:
            ServingError: UNAVAILABLE if the gate is closed or the queue is full; DEADLINE_EXCEEDED or CANCELLED if the
                client's deadline passed, or the client disconnected, before its turn.
        """
        self._wait(call)
        try:
            yield
        finally:
            self._leave()

    def _wait(self, call):
        _check(call)
        with self._lock:
            if self._closed:
                raise ServingError("UNAVAILABLE", "The server is stopping.")
            if self._free:
                self._free -= 1
                return
            if len(self._queue) >= self._most:
                raise ServingError("UNAVAILABLE", f"The server is busy: {self._most} requests are waiting.")
            turn = threading.Event()
            self._queue.append(turn)
        if call.add_callback(turn.set):
            remaining = call.time_remaining()
            turn.wait(None if remaining is None else min(remaining, threading.TIMEOUT_MAX))
        with self._lock:
            had_its_turn = turn not in self._queue
            if not had_its_turn:  # woken by the timeout, or because the client disconnected
                self._queue.remove(turn)
        try:
            _check(call)
            if not had_its_turn:
                raise ServingError(*_LATE)
        except ServingError:
            if had_its_turn:
                self._leave()
            raise

    def _leave(self):
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
            else:
                self._free += 1


class Caller:
    """A client that waits for an answer: its deadline, and whether it is still connected. Thread-safe.

    Args:
        seconds: float, the time from now until the deadline; None for no deadline.
        limits_run: bool. Whether the deadline is for the answer, as in gRPC; otherwise it is for the request's turn.
    """

    def __init__(self, seconds: float | None = None, *, limits_run: bool = False) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds
        self.limits_run = limits_run
        self._active, self._lock = True, threading.Lock()
        self._callbacks: list[Callable[[], object]] = []

    def time_remaining(self) -> float | None:
        """Returns the seconds until the deadline, at least 0; None without a deadline."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def is_active(self) -> bool:
        """Returns whether the client still waits."""
        return self._active

    def add_callback(self, function: Callable[[], object]) -> bool:
        """Has a function called when the client no longer waits.

        Returns:
            bool. False if the client no longer waits; then the function is never called.
        """
        with self._lock:
            if self._active:
                self._callbacks.append(function)
            return self._active

    def cancel(self) -> None:
        """Notes that the client has disconnected or has its answer."""
        with self._lock:
            self._active = False
            callbacks, self._callbacks = self._callbacks, []
        for function in callbacks:
            function()


_LATE = ("DEADLINE_EXCEEDED", "The deadline passed while the request was waiting.")
_TOO_LONG = ("DEADLINE_EXCEEDED", "The deadline passed while the request was running.")
_DISCONNECTED = ("CANCELLED", "The client has disconnected.")


def check_client(call: Caller) -> None:
    """Checks that a client still waits.

    Args:
        call: `Caller`.

    Raises:
        ServingError: CANCELLED if it does not.

    Example:
        >>> check_client(Caller())
    """
    if not call.is_active():
        raise ServingError(*_DISCONNECTED)


def check_running(call: Caller) -> None:
    """Checks, between the parts of a request's work, that its client still waits and its deadline has not passed.

    Args:
        call: `Caller`. Its deadline is checked only if `limits_run` is set.

    Raises:
        ServingError: CANCELLED or DEADLINE_EXCEEDED.

    Example:
        >>> check_running(Caller(0))
        >>> check_running(Caller(0, limits_run=True))
        Traceback (most recent call last):
        kmm.server.status.ServingError: The deadline passed while the request was running.
    """
    check_client(call)
    if call.limits_run and _is_late(call):
        raise ServingError(*_TOO_LONG)


def _check(call):
    check_client(call)
    if _is_late(call):
        raise ServingError(*_LATE)


def _is_late(call):
    remaining = call.time_remaining()
    return remaining is not None and remaining <= 0
