"""Runners, which run jobs in this process, in worker processes, or in actors of a Ray cluster.

A runner is a function of four arguments:

    worker    a `Worker`; before it is loaded it can be sent to another process
    cut       function that returns the jobs for a number of workers
    begin     function that is called once before the first job, if possible after a worker has been loaded
    notify      function of a job and the amount of it that is done so far, called during a job if possible

It yields each job with its reply, in the order in which jobs are done: what the worker returned, or the reason (str)
why the job was given up. An error of a worker ends the run. The processes of a runner end with the run.
"""

import contextlib
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import wait
from typing import Any

from kmm.engines.processes import TRIES, describe_kills, end_with, limit_threads, make_portable
from kmm.engines.ray_runner import run_ray
from kmm.engines.worker import Begin, Cut, Job, Notify, Runner, Worker
from kmm.errors import InputError, look_up
from kmm.image.decoding import count_cores
from kmm.keras_backend import silence_libraries


def run_here(worker: Worker, cut: Cut, begin: Begin, notify: Notify) -> Iterator[tuple[Job, Any]]:
    """Runs the jobs in this process, one after the other; arguments as for every runner."""
    worker.load()
    begin()
    for job in cut(1):
        yield job, worker.run(job, partial(notify, job))


def run_workers(worker: Worker, cut: Cut, begin: Begin, notify: Notify, *, count: int) -> Iterator[tuple[Job, Any]]:
    """Runs the jobs in processes of this machine, which share its cores.

    A job whose process is killed is repeated by another process.

    Args:
        worker, cut, begin, notify: as for every runner.
        count: int >= 1. Number of processes.

    Yields:
        each job and its reply, as every runner.

    Raises:
        KmmError, OSError: the error of a worker.
        InputError: if processes are repeatedly killed before they are loaded.
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
                    if _give_up(process.job, waiting, tries, cause) and process.job is not None:
                        yield process.job, describe_kills(cause)
                    if waiting:
                        start()
                    continue
                if not begun:
                    begin()
                    begun = True
                if isinstance(reply, int):
                    notify(process.job, reply)
                    continue
                if process.job is not None:
                    yield process.job, reply
                if waiting:
                    process.send(waiting.popleft())
                else:
                    processes.pop(connection).stop()
    finally:
        for process in processes.values():
            process.stop()


def _give_up(job, waiting, tries, cause):
    """Returns whether the job of a killed process is given up; if not, puts it first in the queue again."""
    name = job and job.name
    tries[name] += 1
    if tries[name] < TRIES:
        waiting.extendleft([job] if job else [])
        return False
    if job is None:
        raise InputError(
            f"Workers were killed while they loaded the model ({cause}). Free memory or use fewer workers."
        )
    return True


class _WorkerProcess:
    """A process with a worker of its own, and the connection to it."""

    def __init__(self, worker: Worker, threads: int):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.job: Job | None = None
        given = (other, worker, limit_threads(threads), os.getpid())
        self.process = context.Process(target=_serve, args=given, daemon=True)
        self.process.start()
        other.close()

    def send(self, job):
        self.job = job
        with contextlib.suppress(ConnectionError):  # if the process was killed, `receive` will raise
            self.connection.send(job)

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
    """Runs in each process of `run_workers`: loads the worker, then runs each job that it receives.

    It sends None when it is ready, ints (the amount done so far) during a job, and the reply at the end. It ends with
    its parent.
    """
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    os.environ.update(environment)
    try:
        with silence_libraries():
            worker.load(parent)
        connection.send(None)
        while True:
            connection.send(worker.run(connection.recv(), connection.send))
    except EOFError:
        return  # the parent has closed the connection
    except Exception as error:
        with contextlib.suppress(ConnectionError):
            connection.send(make_portable(error))
        raise SystemExit(1) from error


def _name_exit(code):
    return f"signal {-code}" if code and code < 0 else f"exit code {code}"


# Name of a runner to a function of `count` and `address` that makes it.
RUNNERS: dict[str, Callable[[int, str | None], Runner]] = {
    "process": lambda count, address: run_here,
    "workers": lambda count, address: partial(run_workers, count=count),
    "ray": lambda count, address: partial(run_ray, count=count, address=address),
}


def choose_runner(name: str, *, count: int = 1, address: str | None = None) -> Runner:
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
