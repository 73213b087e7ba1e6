"""Runners, which explain the batches of a folder in this process, in worker processes, or in actors of a Ray cluster.

A runner is a function of four arguments:

    worker    `kmm.explain.folder.worker.FolderWorker`, with `load(parent)` and `explain_batch(batch, notify)`
    cut       function that returns the batches for a number of workers
    begin     function that is called once before the first batch, if possible after a worker has loaded the model
    notify    function of a batch and the number of its studies done so far, called during a batch if possible

It yields each batch with its reply, in the order in which batches are done: the lines of the batch, or the reason (str)
why it was given up. An error of a worker ends the run. The processes of a runner end with the run.
"""

import contextlib
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from kmm.errors import InputError, look_up
from kmm.explain.folder.processes import TRIES, end_with, limit_threads, make_portable
from kmm.explain.folder.ray_runner import run_ray
from kmm.image.decoding import count_cores
from kmm.keras_backend import silence_libraries

if TYPE_CHECKING:
    from kmm.explain.folder.worker import Begin, Cut, FolderWorker, Job, Notify, Reply, Runner


def run_here(worker: "FolderWorker", cut: "Cut", begin: "Begin", notify: "Notify") -> "Iterator[tuple[Job, Reply]]":
    """Explains the batches in this process, one after the other; arguments as for every runner."""
    worker.load()
    begin()
    for batch in cut(1):
        yield batch, worker.explain_batch(batch, partial(notify, batch))


def run_workers(
    worker: "FolderWorker", cut: "Cut", begin: "Begin", notify: "Notify", *, count: int
) -> "Iterator[tuple[Job, Reply]]":
    """Explains the batches in processes of this machine, which share its cores.

    A batch whose process is killed is repeated by another process.

    Args:
        worker, cut, begin, notify: as for every runner.
        count: int >= 1. Number of processes.

    Yields:
        each batch and its reply, as every runner.

    Raises:
        KmmError, OSError: the error of a worker.
        InputError: if processes are repeatedly killed before they have loaded the model.
    """
    waiting, begun = deque(cut(count)), False
    tries: Counter = Counter()
    threads = max(1, count_cores() // count)
    processes: dict[Any, _WorkerProcess] = {}  # by the connection to each

    def start():
        process = _WorkerProcess(worker, threads)
        processes[process.connection] = process

    try:
        for _ in range(min(count, len(waiting))):
            start()
        while processes:
            for connection in wait(list(processes)):
                process = processes[connection]
                try:
                    reply = process.receive()
                except (EOFError, ConnectionError):
                    del processes[connection]
                    cause = _name_exit(process.stop())
                    if _give_up(process.batch, waiting, tries, cause):
                        yield process.batch, f"the process that explained it was killed {TRIES} times ({cause})."
                    if waiting:
                        start()
                    continue
                if not begun:
                    begin()
                    begun = True
                if isinstance(reply, int):
                    notify(process.batch, reply)
                    continue
                if process.batch is not None:
                    yield process.batch, reply
                if waiting:
                    process.send(waiting.popleft())
                else:
                    processes.pop(connection).stop()
    finally:
        for process in processes.values():
            process.stop()


def _give_up(batch, waiting, tries, cause):
    """Returns whether the batch of a killed process is given up; if not, puts it first in the queue again."""
    name = batch and batch.name
    tries[name] += 1
    if tries[name] < TRIES:
        waiting.extendleft([batch] if batch else [])
        return False
    if batch is None:
        raise InputError(
            f"Workers were killed while they loaded the model ({cause}). Free memory or use fewer workers."
        )
    return True


class _WorkerProcess:
    """A process with a worker of its own, and the connection to it."""

    def __init__(self, worker: "FolderWorker", threads: int):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.batch: Any = None
        given = (other, worker, limit_threads(threads), os.getpid())
        self.process = context.Process(target=_serve, args=given, daemon=True)
        self.process.start()
        other.close()

    def send(self, batch):
        self.batch = batch
        with contextlib.suppress(ConnectionError):  # if the process was killed, `receive` will raise
            self.connection.send(batch)

    def receive(self):
        reply = self.connection.recv()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def stop(self):
        """Terminates the process and returns its exit code."""
        self.connection.close()
        self.process.terminate()
        self.process.join()
        return self.process.exitcode


def _serve(connection, worker, environment, parent):
    """Runs in each process of `run_workers`: loads the model, then explains each batch that it receives.

    It sends None when it is ready, ints (studies done so far) during a batch, and the batch's lines at the end. It ends
    with its parent.
    """
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    os.environ.update(environment)
    try:
        with silence_libraries():
            worker.load(parent)
        connection.send(None)
        while True:
            connection.send(worker.explain_batch(connection.recv(), connection.send))
    except EOFError:
        return  # the parent has closed the connection
    except Exception as error:
        with contextlib.suppress(ConnectionError):
            connection.send(make_portable(error))
        raise SystemExit(1) from error


def _name_exit(code):
    return f"signal {-code}" if code and code < 0 else f"exit code {code}"


# Name of a runner to a function of `count` and `address` that makes it.
RUNNERS: "dict[str, Callable[[int, str | None], Runner]]" = {
    "process": lambda count, address: run_here,
    "workers": lambda count, address: partial(run_workers, count=count),
    "ray": lambda count, address: partial(run_ray, count=count, address=address),
}


def choose_runner(name: str, *, count: int = 1, address: str | None = None) -> "Runner":
    """Makes a runner by name.

    Args:
        name: str in `RUNNERS`.
        count: int >= 1. Number of processes or actors.
        address: str or None. Address of a Ray cluster.

    Raises:
        InputError: if the name is unknown or `count` is below 1.
    """
    make = look_up(RUNNERS, name, "engine")
    if count < 1:
        raise InputError(f"There must be at least 1 worker. Received: {count}.")
    return make(count, address)
