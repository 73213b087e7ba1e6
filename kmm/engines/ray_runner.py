"""Runner that runs jobs in actors of a Ray cluster."""

import contextlib
import logging
import os
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any

from kmm.engines.processes import TRIES, describe_kills, limit_threads, make_portable
from kmm.engines.worker import Begin, Cut, Job, Notify, Worker
from kmm.errors import require
from kmm.image.decoding import count_cores
from kmm.keras_backend import silence_libraries


def run_ray(
    worker: Worker, cut: Cut, begin: Begin, notify: Notify, *, count: int, address: str | None = None
) -> Iterator[tuple[Job, Any]]:
    """Runs the jobs in actors of Ray, on any machine of a cluster.

    Every machine must have kmm, and reach all files under the same paths. A job whose actor is killed is repeated by
    another actor.

    Args:
        worker, cut, begin: as for every runner.
        notify: never called, as actors return whole jobs.
        count: int >= 1. Number of actors, which share the cores of the cluster, except one that is left free.
        address: str or None. Address of a cluster; None: the one that this process is connected to or that
            `RAY_ADDRESS` names, else a local one for the duration of the run.

    Yields:
        each job and its reply, as every runner.

    Raises:
        KmmError, OSError: the error of an actor.
        MissingPackageError: if Ray is not installed.
    """
    waiting = deque(cut(count))
    with _connect_ray(count, address) as ray:
        begin()
        cores, count = _share_cluster(ray, min(count, max(1, len(waiting))))
        given, threads = ray.put(worker), limit_threads(cores)
        killed = (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError)
        idle: list[Any] = []
        busy: dict[Any, tuple[Any, Job]] = {}  # by the reference of the reply
        tries: Counter = Counter()
        while waiting or busy:
            while waiting and len(busy) < count:
                actor = (
                    idle.pop() if idle else ray.remote(num_cpus=cores)(RayWorker).remote(given, os.getcwd(), threads)
                )
                job = waiting.popleft()
                busy[actor.run.remote(job)] = actor, job
            for reference in ray.wait(list(busy))[0]:
                actor, job = busy.pop(reference)
                try:
                    reply = ray.get(reference)
                except killed:
                    tries[job.name] += 1
                    if tries[job.name] == TRIES:
                        yield job, describe_kills()
                    else:
                        waiting.appendleft(job)
                    continue
                if isinstance(reply, Exception):
                    raise reply
                idle.append(actor)
                yield job, reply


class RayWorker:
    """Adapter of a worker to an actor of Ray."""

    def __init__(self, worker: Worker, folder: str, environment: Mapping[str, str]):
        os.environ.update(environment)
        os.chdir(folder)
        self.worker, self.loaded = worker, False

    def run(self, job: Job) -> Any:
        """Runs a job and returns its reply, or its error."""
        try:
            if not self.loaded:
                with silence_libraries():
                    self.worker.load()
                self.loaded = True
            return self.worker.run(job)
        except Exception as error:  # noqa: BLE001 - `run_ray` raises it
            return make_portable(error)


@contextlib.contextmanager
def _connect_ray(count, address):
    """Yields the module `ray`, silenced and connected to a given cluster, or to a local one that ends with the run."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = require("ray", "ray")
    require("ray.exceptions", "ray")
    made = not ray.is_initialized()
    if made:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not (address or os.environ.get("RAY_ADDRESS")):
            address = "local"
            quiet.update(num_cpus=max(count, count_cores()), include_dashboard=False)
        with silence_libraries():
            ray.init(address, **quiet)
    try:
        yield ray
    finally:
        if made:
            ray.shutdown()


def _share_cluster(ray, count):
    """Returns the cores per actor, and the number of actors, at most `count`, that the cluster can run.

    One core is left free for what collects the replies, if there are more cores than actors.
    """
    nodes = sorted(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    if sum(nodes) > count:
        nodes[-1] -= 1
    fitting = [cores for cores in range(1, max(nodes) + 1) if sum(node // cores for node in nodes) >= count]
    return max(fitting, default=1), max(1, min(count, sum(nodes)))
