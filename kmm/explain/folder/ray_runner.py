"""Runner that explains batches in actors of a Ray cluster."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from kmm.errors import require
from kmm.explain.folder.lock import WORK_FOLDER
from kmm.explain.folder.processes import TRIES, limit_threads, make_portable
from kmm.image.decoding import count_cores
from kmm.keras_backend import silence_libraries

if TYPE_CHECKING:
    from kmm.explain.folder.worker import Begin, Cut, FolderWorker, Job, Notify, Reply


def run_ray(
    worker: "FolderWorker", cut: "Cut", begin: "Begin", notify: "Notify", *, count: int, address: str | None = None
) -> "Iterator[tuple[Job, Reply]]":
    """Explains the batches in actors of Ray Data, on any machine of a cluster.

    Every machine must have kmm, and reach model, studies and folder under the same paths.

    Args:
        worker, cut, begin: as for every runner.
        notify: never called, as actors return whole batches.
        count: int >= 1. Number of actors, which share the cores of the cluster.
        address: str or None. Address of a cluster; None: the one that this process is connected to or that
            `RAY_ADDRESS` names, else a local one for the duration of the run.

    Yields:
        each batch and its reply, as every runner.

    Raises:
        KmmError, OSError: the error of an actor.
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
    """Adapter of a worker to Ray Data. Ray repeats a batch without limit if its actor is killed; this one counts."""

    def __init__(self, worker: "FolderWorker", folder: str, environment: Mapping[str, str]):
        os.environ.update(environment)
        os.chdir(folder)
        self.worker, self.loaded = worker, False

    def __call__(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """Explains the batches in column `batch` of a table and adds their replies, or errors, as column `reply`."""
        import numpy as np

        replies = np.empty(len(table["batch"]), object)
        for place, batch in enumerate(table["batch"]):
            try:
                replies[place] = self._try(batch)
            except Exception as error:  # noqa: BLE001 - `run_ray` raises it
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
    """Yields the module `ray`, silenced and connected to a given cluster, or to a local one that ends with the run."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics are sent
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
    """Returns the cores per actor, and the number of actors, at most `count`, that the cluster can run."""
    nodes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    fitting = [cores for cores in range(1, max(nodes) + 1) if sum(node // cores for node in nodes) >= count]
    return max(fitting, default=1), max(1, min(count, sum(nodes)))
