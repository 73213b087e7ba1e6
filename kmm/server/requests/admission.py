"""How many requests run at once and how many wait; the next one is refused at once."""

import contextlib
import threading
import time
from collections import deque

from kmm.server.status import ServingError


class AdmissionGate:
    """Lets some requests through at once and keeps some waiting, first come first served.

    Args:
        running: int. Requests inside at once.
        waiting: int. Requests before the gate.

    Example:
        >>> gate = AdmissionGate(running=1, waiting=0)
        >>> with gate.enter(Caller()):
        ...     gate.running, gate.waiting
        (1, 0)
    """

    def __init__(self, *, running, waiting):
        self._free = self._places = running
        self._most = waiting
        self._closed = False
        self._line = deque()
        self._lock = threading.Lock()

    @property
    def running(self):
        return self._places - self._free

    @property
    def waiting(self):
        return len(self._line)

    def close(self):
        """Lets nobody else come; who runs or waits goes on."""
        self._closed = True

    @contextlib.contextmanager
    def enter(self, call):
        """Waits for a place and holds it for the length of the block.

        Args:
            call: has `time_remaining()`, seconds or None; `is_active()`; and `add_callback(function)`, which calls it
                when the client is gone, and returns False if it is gone already. As gRPC's contexts have.

        Raises:
            ServingError: UNAVAILABLE if the gate is closed or too many wait; DEADLINE_EXCEEDED or
                CANCELLED if the client's time was over, or the client gone, before its turn.
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
            if len(self._line) >= self._most:
                raise ServingError("UNAVAILABLE", f"The server is busy: {self._most} requests are waiting.")
            turn = threading.Event()
            self._line.append(turn)
        if call.add_callback(turn.set):
            remaining = call.time_remaining()
            turn.wait(None if remaining is None else min(remaining, threading.TIMEOUT_MAX))
        with self._lock:
            had_its_turn = turn not in self._line
            if not had_its_turn:  # woken by the clock, or by the end of the client
                self._line.remove(turn)
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
            if self._line:
                self._line.popleft().set()
            else:
                self._free += 1


class Caller:
    """What is known of a client that waits: how long it will, and whether it still does; as gRPC's contexts tell it.

    Args:
        seconds: float or None. How long from now.
        limits_run: bool. Whether that is the time until the answer, as a deadline of gRPC is; else it is the time until
            the request's turn.
    """

    def __init__(self, seconds=None, *, limits_run=False):
        self._end = None if seconds is None else time.monotonic() + seconds
        self.limits_run = limits_run
        self._gone, self._callbacks, self._lock = False, [], threading.Lock()

    def time_remaining(self):
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def is_active(self):
        return not self._gone

    def add_callback(self, function):
        with self._lock:
            if not self._gone:
                self._callbacks.append(function)
            return not self._gone

    def cancel(self):
        """Says that the client is gone, or has its answer."""
        with self._lock:
            self._gone = True
            callbacks, self._callbacks = self._callbacks, []
        for function in callbacks:
            function()


_LATE = ("DEADLINE_EXCEEDED", "The deadline passed while the request was waiting.")
_TOO_LONG = ("DEADLINE_EXCEEDED", "The deadline passed while the request was running.")
_GONE = ("CANCELLED", "The client is gone.")


def check_client(call):
    """Checks that a client still waits.

    Args:
        call: as of `Gate.enter`.

    Raises:
        ServingError: CANCELLED.

    Example:
        >>> check_client(Caller())
    """
    if not call.is_active():
        raise ServingError(*_GONE)


def check_running(call):
    """Checks, between the parts of a request's work, that its client still waits and its deadline has not passed.

    Args:
        call: as of `Gate.enter`. Of a `Caller` the time counts only if it limits the run.

    Raises:
        ServingError: CANCELLED or DEADLINE_EXCEEDED.

    Example:
        >>> check_running(Caller(0))
        >>> check_running(Caller(0, limits_run=True))
        Traceback (most recent call last):
        kmm.server.status.ServingError: The deadline passed while the request was running.
    """
    check_client(call)
    if (not isinstance(call, Caller) or call.limits_run) and _is_late(call):
        raise ServingError(*_TOO_LONG)


def _check(call):
    check_client(call)
    if _is_late(call):
        raise ServingError(*_LATE)


def _is_late(call):
    remaining = call.time_remaining()
    return remaining is not None and remaining <= 0
