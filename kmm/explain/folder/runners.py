"""Who does the batches of a folder: this process, processes beside it, or actors of a Ray cluster.

A runner is a function of a worker (with `load(parent)` and `explain_batch`), of `cut`, which gives the batches for a
number of workers, of `begin`, which is called once before the first batch, where it can be when a worker has loaded the
model, and of `tell`, which is told on the way of a batch, where it can be, how many of its studies are done. It yields
each batch with its lines, in the order in which they are done; or with a str, why it was given up. Errors of a worker
end the run. A process of a runner ends with the run.
"""

import contextlib
import multiprocessing
import os
import signal
from collections import Counter, deque
from functools import partial
from multiprocessing.connection import wait

from kmm.errors import InputError, look_up
from kmm.explain.folder.processes import TRIES, count_cores, end_with, limit_threads, make_portable, silence_libraries
from kmm.explain.folder.ray_runner import run_ray


def run_here(worker, cut, begin, tell):
    """Does the batches in this process, one after the other."""
    worker.load()
    begin()
    for batch in cut(1):
        yield batch, worker.explain_batch(batch, partial(tell, batch))


def run_workers(worker, cut, begin, tell, *, count):
    """Does the batches in processes of this machine, which share its cores.

    A batch whose process is killed is done by another.

    Args:
        worker, cut, begin, tell: as for every runner.
        count: int >= 1. Processes.

    Raises:
        KmmError, OSError: of a worker.
        InputError: if processes are killed again and again before they have loaded the model.
    """
    waiting, tries, begun = deque(cut(count)), Counter(), False
    threads = max(1, count_cores() // count)
    crew = {}

    def enlist():
        member = _Member(worker, threads)
        crew[member.connection] = member

    try:
        for _ in range(min(count, len(waiting))):
            enlist()
        while crew:
            for connection in wait(list(crew)):
                member = crew[connection]
                try:
                    reply = member.receive()
                except (EOFError, ConnectionError):
                    del crew[connection]
                    said = _name_exit(member.stop())
                    if _give_up(member.batch, waiting, tries, said):
                        yield member.batch, f"the process that explained it was killed {TRIES} times ({said})."
                    if waiting:
                        enlist()
                    continue
                if not begun:
                    begin()
                    begun = True
                if isinstance(reply, int):
                    tell(member.batch, reply)
                    continue
                if member.batch is not None:
                    yield member.batch, reply
                if waiting:
                    member.send(waiting.popleft())
                else:
                    crew.pop(connection).stop()
    finally:
        for member in crew.values():
            member.stop()


def _give_up(batch, waiting, tries, said):
    """After a process was killed: whether its batch is given up; else it waits again, before all others."""
    name = batch and batch.name
    tries[name] += 1
    if tries[name] < TRIES:
        waiting.extendleft([batch] if batch else [])
        return False
    if batch is None:
        raise InputError(f"Workers were killed while they loaded the model ({said}).")
    return True


class _Member:
    """A process with a worker of its own."""

    def __init__(self, worker, threads):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.batch = None
        given = (other, worker, limit_threads(threads), os.getpid())
        self.process = context.Process(target=_serve, args=given, daemon=True)
        self.process.start()
        other.close()

    def send(self, batch):
        self.batch = batch
        with contextlib.suppress(ConnectionError):  # one that was killed: `receive` will say so
            self.connection.send(batch)

    def receive(self):
        reply = self.connection.recv()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def stop(self):
        """Ends the process, whatever it does, and returns its exit code."""
        self.connection.close()
        self.process.terminate()
        self.process.join()
        return self.process.exitcode


def _serve(connection, worker, environment, parent):
    """What a process of `run_workers` does: loads the model, then a batch for each that it is sent.

    It answers with None when it is ready, with ints on the way through a batch, and with the batch's lines. It ends
    with its parent.
    """
    end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that waits
    os.environ.update(environment)
    try:
        with silence_libraries():
            worker.load(parent)
        connection.send(None)
        while True:
            connection.send(worker.explain_batch(connection.recv(), connection.send))
    except EOFError:
        return  # who waited is gone
    except Exception as error:
        with contextlib.suppress(ConnectionError):
            connection.send(make_portable(error))
        raise SystemExit(1) from error


def _name_exit(code):
    return f"signal {-code}" if code and code < 0 else f"exit code {code}"


# Name of a runner to its function of `count` and `address`, which makes it.
RUNNERS = {
    "process": lambda count, address: run_here,
    "workers": lambda count, address: partial(run_workers, count=count),
    "ray": lambda count, address: partial(run_ray, count=count, address=address),
}


def choose_runner(name, *, count=1, address=None):
    """Makes the runner of a name.

    Args:
        name: str in `RUNNERS`.
        count: int >= 1. Processes or actors.
        address: str or None. Of a Ray cluster.

    Raises:
        InputError: if the name is unknown or there is no worker.
    """
    make = look_up(RUNNERS, name, "engine")
    if count < 1:
        raise InputError(f"Expected at least 1 worker. Received: {count}.")
    return make(count, address)
