"""Folder of a comparison: what may be in it, its lock and mark, and the tasks that are left to run."""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from kmm.errors import InputError
from kmm.experiments.planning.plan import PLAN
from kmm.experiments.tasks.explanations import lacks_explanations
from kmm.experiments.tasks.given import GIVEN
from kmm.experiments.tasks.task import FOLDER, STATES, Task, find_done
from kmm.storage.file_lock import hold_file
from kmm.storage.output_mark import marking_output

TASKS, MODELS, EXPLANATIONS, LOCK = "tasks", "models", "explanations", ".lock"


def refuse_others(out: Path) -> None:
    """Rejects a folder that holds anything but a comparison, whose files would be mixed with or replace the others."""
    if not out.is_dir() or (out / PLAN).exists():
        return
    others = [path.name for path in out.iterdir() if not path.name.startswith(".") and path.name != TASKS]
    if (out / TASKS).is_dir():
        others += [
            f"{TASKS}/{path.name}"
            for path in (out / TASKS).iterdir()
            if not path.name.startswith((FOLDER, STATES, GIVEN))
        ]
    if others:
        raise InputError(f"{out} holds other files, for example {min(others)}. Choose a new folder for --out.")


@contextlib.contextmanager
def open_folder(out: Path) -> Iterator[None]:
    """Creates, marks and locks the folder of a comparison."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: expected a folder that can be written. Received: {error.strerror}.") from None
    with hold_file(out / LOCK) as held:
        if not held:
            raise InputError(f"{out} is in use by another comparison. Choose another --out, or wait for it.")
        with marking_output(out):
            (out / TASKS).mkdir(exist_ok=True)
            yield


def remove_others(out: Path, tasks: Sequence[Task], left: Sequence[Task]) -> None:
    """Removes the folders of tasks of earlier code, and the states of stages that no task needs any more.

    Args:
        out: Path of the folder of the comparison.
        tasks: sequence of `Task`, all of the comparison.
        left: sequence of the tasks that are left to run.
    """
    names = {task.name for task in tasks} | {task.states for task in left}
    for path in [*(out / TASKS).iterdir(), *(out / EXPLANATIONS).glob("*")]:
        if path.is_dir() and path.name not in names and path.name.startswith((FOLDER, STATES)):
            shutil.rmtree(path, ignore_errors=True)  # a worker of before that was killed may still end its writing


def remove_states(folder: Path, task: Task, left: Iterable[Task]) -> None:
    """Removes the states of the stages of a task that is done, unless a task that is left shares them."""
    if all(other.states != task.states for other in left):
        shutil.rmtree(folder / task.states, ignore_errors=True)


def list_left(out: Path, tasks: Sequence[Task], keep_models: bool) -> list[Task]:
    """Lists the tasks to run: those without results, those that lack explanations and, if classifiers are wanted, those
    whose classifier is gone."""
    done = find_done(out / TASKS, tasks)
    if keep_models:
        done = {name for name in done if (out / MODELS / name).is_dir()}
    return [task for task in tasks if task.name not in done or lacks_explanations(task, out / TASKS)]
