"""Folders that the processes of one test run share: the first process that needs one makes it."""

import contextlib
import fcntl
import os


@contextlib.contextmanager
def sharing(factory, name):
    """Yields a folder, while no other process of this test run is given it.

    Args:
        factory: `pytest.TempPathFactory`.
        name: str. The name of the folder, which is empty for the first process.
    """
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root  # the folder of all workers
    folder = root / f"shared-{name}"
    folder.mkdir(exist_ok=True)
    with open(root / f"shared-{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
