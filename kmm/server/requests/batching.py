"""Batch requests that arrive while a model is busy, and run them as one call.

An idle server runs a request immediately. While a batch runs, requests queue up; when it ends, those with the same
model version, signature, outputs and shapes run together. No request waits for others longer than `wait_seconds`.
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping

import numpy as np

from kmm.protocol.signatures import DESCRIBE, EXPLAIN
from kmm.server.models.servable import Servable, run_signature
from kmm.server.requests.admission import Caller, check_client
from kmm.server.status import ServingError


class Batcher:
    """Runs requests, in batches if possible.

    Only signatures of kmm's exports whose inputs and outputs all have the batch as their first axis are batched. Other
    requests, explanations, and exports that batch in their own graph run alone and immediately.

    Args:
        max_batch: int. Most rows per batch; 1 turns batching off.
        wait_seconds: float. Longest time that a partial batch, which could already run, waits for more requests.
        running: int. Batches that run in parallel.

    Example:
        >>> Batcher(max_batch=8).waiting
        0
    """

    def __init__(self, max_batch: int = 32, *, wait_seconds: float = 0.0, running: int = 1) -> None:
        self.max_batch, self.wait_seconds = max_batch, wait_seconds
        self._free = running
        self._queue: deque[_Item] = deque()
        self._changed = threading.Condition()  # guards both, and is notified of each arrival

    @property
    def waiting(self) -> int:
        """int: requests that wait now."""
        return len(self._queue)

    def run(
        self,
        servable: Servable,
        key: str,
        arrays: Mapping[str, np.ndarray],
        wanted: Iterable[str],
        call: Caller | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs a signature as `run_signature` does, possibly together with other requests.

        Args:
            servable: `Servable`.
            key: str, a name in `servable.functions`.
            arrays: dict of name to NumPy array, of the types in the signature.
            wanted: names of the outputs to return.
            call: `Caller` of the request; None waits without a limit.

        Returns:
            dict of name to NumPy array, with the rows of this request only.

        Raises:
            ServingError: as for `run_signature`, for this request only: an invalid row of another request has no
                effect. DEADLINE_EXCEEDED or CANCELLED if the client's deadline passes, or the client disconnects,
                before its batch runs.
        """
        rows = count_batchable(servable, key, arrays)
        if self.max_batch == 1 or rows is None:
            return run_signature(servable, key, arrays, wanted)
        item = _Item(servable, key, arrays, wanted, rows, call or Caller())
        with self._changed:
            if self._free:
                self._free -= 1
                item.leads = True
            else:
                self._queue.append(item)
                self._changed.notify_all()
        if not item.leads:
            self._wait(item)
        if item.leads:
            try:
                self._run_batch([item, *self._gather(item)])
            finally:
                self._hand_over()
        if item.error is not None:
            raise item.error
        return item.outputs

    def _wait(self, item):
        """Waits until another thread has run the item, or the item leads the next batch."""
        remaining = item.call.time_remaining()
        here = item.call.add_callback(lambda: self._take_out(item) and item.turn.set())
        if here and item.turn.wait(None if remaining is None else min(remaining, threading.TIMEOUT_MAX)):
            waited = item.leads or item.was_run
        else:
            waited = not self._take_out(item)
            if waited:
                item.turn.wait()
        if not waited:
            check_client(item.call)
            raise ServingError("DEADLINE_EXCEEDED", "The deadline passed while the request was waiting.")

    def _take_out(self, item):
        """Removes a request from the queue, and returns whether it was in it."""
        with self._changed:
            if item in self._queue:
                self._queue.remove(item)
                return True
            return False

    def _gather(self, first):
        """Removes the requests from the queue that can run with the first one; the caller holds a place to run."""
        found, rows, end = [], first.rows, time.monotonic() + self.wait_seconds
        with self._changed:
            while True:
                for item in list(self._queue):
                    if item.group == first.group and rows + item.rows <= self.max_batch:
                        self._queue.remove(item)
                        found.append(item)
                        rows += item.rows
                remaining = end - time.monotonic()
                if first.at_once or rows >= self.max_batch or remaining <= 0:
                    return found
                self._changed.wait(remaining)

    def _run_batch(self, items):
        try:
            if len(items) > 1:
                try:
                    _run_together(items)
                    return
                except Exception:  # noqa: BLE001  running each alone shows which one fails
                    pass
            for item in items:
                item.run_alone()
        finally:
            for item in items[1:]:
                item.was_run = True
                item.turn.set()

    def _hand_over(self):
        """Passes the place to run to the request that has waited longest."""
        with self._changed:
            if self._queue:
                item = self._queue.popleft()
                item.leads, item.at_once = True, False
                item.turn.set()
            else:
                self._free += 1


class _Item:
    """A request in the batcher.

    Attributes:
        group: key that requests must share to run together.
        leads: bool. Whether its thread runs the batch.
        at_once: bool. Whether the model was idle on its arrival; then it waits for no other request.
        was_run: bool. Whether another thread has run it.
        turn: event that is set when it leads, has been run, or has left the queue because its client disconnected.
    """

    def __init__(self, servable, key, arrays, wanted, rows, call):
        self.servable, self.key, self.arrays, self.wanted = servable, key, arrays, wanted
        self.rows, self.call = rows, call
        shapes = ((name, array.dtype.str, array.shape[1:]) for name, array in arrays.items())
        self.group = (id(servable), key, tuple(wanted), tuple(sorted(shapes)))
        self.leads, self.at_once, self.was_run = False, True, False
        self.turn = threading.Event()
        self.outputs = self.error = None

    def run_alone(self):
        try:
            self.outputs = run_signature(self.servable, self.key, self.arrays, self.wanted)
        except Exception as error:  # noqa: BLE001  raised in the thread of its request
            self.error = error


def count_batchable(servable: Servable, key: str, arrays: Mapping[str, np.ndarray]) -> int | None:
    """Counts the rows of a request that may be batched.

    Args:
        servable: `Servable`.
        key: str, name of the signature.
        arrays: dict of name to NumPy array.

    Returns:
        int, or None if the request must run alone.
    """
    if DESCRIBE not in servable.signatures or servable.batches_itself or key == DESCRIBE or key.startswith(EXPLAIN):
        return None
    signature = servable.signatures[key]
    infos = [*signature.inputs.values(), *signature.outputs.values()]
    if not all(_is_batch_major(info.tensor_shape) for info in infos):
        return None
    counts = set()
    for name, array in arrays.items():
        dims = signature.inputs[name].tensor_shape.dim
        if array.ndim != len(dims) or any(dim.size not in (-1, size) for dim, size in zip(dims, array.shape)):
            return None  # the graph refuses it
        counts.add(len(array))
    return counts.pop() if len(counts) == 1 and counts != {0} else None


def _is_batch_major(shape):
    return not shape.unknown_rank and len(shape.dim) > 0 and shape.dim[0].size == -1


def _run_together(items):
    first = items[0]
    arrays = {name: np.concatenate([item.arrays[name] for item in items]) for name in first.arrays}
    outputs = run_signature(first.servable, first.key, arrays, first.wanted)
    rows = sum(item.rows for item in items)
    if any(len(array) != rows for array in outputs.values()):
        raise ValueError(f"Each output of the signature {first.key} must have {rows} rows.")
    start = 0
    for item in items:
        item.outputs = {name: array[start : start + item.rows] for name, array in outputs.items()}
        start += item.rows
