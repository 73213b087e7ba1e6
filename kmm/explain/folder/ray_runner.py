"""Batches done by actors of a Ray cluster."""

import contextlib
import logging
import os

from kmm.errors import require
from kmm.explain.folder.lock import WORK_FOLDER
from kmm.explain.folder.processes import TRIES, count_cores, limit_threads, make_portable, silence_libraries


def run_ray(worker, cut, begin, tell, *, count, address=None):
    """Does the batches in actors of Ray Data, on any of the machines of a cluster.

    Every machine must have kmm, and see model, studies and folder under the same paths.

    Args:
        worker, cut, begin: as for every runner.
        tell: not called: actors answer with whole batches.
        count: int >= 1. Actors, which share the cores of the cluster.
        address: str or None. Of a cluster; None: the one that this process is connected to or that `RAY_ADDRESS`
            names, else one made here for the time of the run.

    Raises:
        KmmError, OSError: of an actor.
        MissingPackageError: if Ray is not installed.
    """
    batches = cut(count)
    with _connect_ray(count, address) as ray:
        begin()
        cores, count = _share_cluster(ray, min(count, len(batches)))
        table = ray.data.from_items([{"batch": batch} for batch in batches], override_num_blocks=len(batches))
        replies = table.map_batches(
            RayWorker,
            fn_constructor_args=(worker, os.getcwd(), limit_threads(cores)),
            batch_size=1,
            concurrency=count,
            num_cpus=cores,
        )
        for answer in replies.iter_rows():
            if isinstance(answer["reply"], Exception):
                raise answer["reply"]
            yield answer["batch"], answer["reply"]


class RayWorker:
    """A worker as Ray Data calls it. Ray does a batch again as often as its actor is killed: here it is counted."""

    def __init__(self, worker, folder, environment):
        os.environ.update(environment)
        os.chdir(folder)
        self.worker, self.loaded = worker, False

    def __call__(self, table):
        """Does batches: dict with the column `batch` to one with the column `reply` too, each as runners yield it."""
        import numpy as np

        replies = np.empty(len(table["batch"]), object)
        for place, batch in enumerate(table["batch"]):
            try:
                replies[place] = self._try(batch)
            except Exception as error:  # noqa: BLE001 - an error is an answer too: it is raised by who asked
                replies[place] = make_portable(error)
        return {"batch": table["batch"], "reply": replies}

    def _try(self, batch):
        marks = self.worker.out / WORK_FOLDER / f"{batch.name}.tries"
        tries = marks.stat().st_size if marks.exists() else 0
        if tries == TRIES:
            return f"the process that explained it was killed {TRIES} times."
        with open(marks, "a", encoding="ascii") as file:
            file.write("x")
        if not self.loaded:
            self.worker.load()
            self.loaded = True
        lines = self.worker.explain_batch(batch)
        marks.unlink()
        return lines


@contextlib.contextmanager
def _connect_ray(count, address):
    """Ray, quiet, with a cluster: one that is there, or one of this machine, which ends with the run."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # tells nobody of this run
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    ray = require("ray", "ray")
    require("ray.data", "ray")
    made = not ray.is_initialized()
    if made:
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        if not (address or os.environ.get("RAY_ADDRESS")):
            address = "local"
            quiet.update(num_cpus=max(count, count_cores()), include_dashboard=False)
        with silence_libraries():
            ray.init(address, **quiet)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        yield ray
    finally:
        if made:
            ray.shutdown()


def _share_cluster(ray, count):
    """The cores that each of some actors can have, and how many actors there can be."""
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    fitting = [cores for cores in range(1, max(nodes) + 1) if sum(node // cores for node in nodes) >= count]
    return max(fitting, default=1), max(1, min(count, sum(nodes)))
