"""Run the tasks of a comparison that are left, count their stages, and stop at once if the first ones fail alike."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from kmm.engines.worker import Runner
from kmm.errors import InputError
from kmm.experiments.comparison_folder import remove_states
from kmm.experiments.tasks.task import Task, find_done
from kmm.experiments.tasks.worker import TaskWorker
from kmm.progress import Progress

LEAST_FAILED = 2  # failed tasks: a single one may fail because of its split


def run_tasks(
    tasks: Sequence[Task],
    left: Sequence[Task],
    cut: Callable[[int], list[Task]],
    worker: TaskWorker,
    runner: Runner,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Runs the tasks that are left.

    Args:
        tasks: sequence of `Task`, all of the comparison.
        left: sequence of those without results.
        cut: function of the number of workers that returns those that are left in the order in which they are begun.
        worker: `TaskWorker`.
        runner: runner of `kmm.engines.runners.choose_runner`.
        progress: `kmm.progress.Progress`.

    Returns:
        list of dict of the tasks that failed: `split`, `variant`, `reason`, and `size` if their training part was made
        smaller.

    Raises:
        InputError: if no task of the comparison has results, and the first one of every worker, at least two, failed
            for the same reason. The others would fail too.
    """
    failed: list[dict[str, Any]] = []
    if not left:
        return failed
    waiting = {task.name: task for task in left}
    total = sum(task.units for task in tasks)
    done = total - sum(task.units for task in left)
    first = _FirstTasks(bool(find_done(worker.out, tasks)))
    counted: Counter[str] = Counter()
    with progress.step(f"Comparing {len(tasks)} tasks, in stages", total, done) as advance:

        def notify(task: Task, count: int) -> None:
            """Counts each stage once, even if a killed task is repeated."""
            if count > counted[task.name]:
                advance(count - counted[task.name], text=task.title)
                counted[task.name] = count

        running: Any = runner(worker, first.count_workers(cut), lambda: None, notify)
        with contextlib.closing(running):  # ends its processes if this loop ends with an error
            for task, reply in running:
                first.note(reply)
                if isinstance(reply, str):
                    again = bool(failed) and failed[-1]["reason"] == reply
                    failed.append(_describe(task, reply))
                    progress.note(f"{task.title}: failed{' for the same reason' if again else f': {reply}'}")
                else:
                    del waiting[task.name]
                    remove_states(worker.out, task, waiting.values())
                notify(task, task.units)
                first.check(waiting)
    return failed


def _describe(task, reason):
    size = {"size": task.size} if task.size else {}
    return {"split": task.split_name, "variant": task.variant, **size, "reason": reason}


class _FirstTasks:
    """Watches whether the first tasks all fail for the same reason.

    Args:
        succeeded: bool. Whether the comparison has results already.
    """

    def __init__(self, succeeded: bool) -> None:
        self.succeeded, self.workers = succeeded, 1
        self.reasons: list[str | None] = []

    def count_workers(self, cut):
        """Returns the function `cut`, which from now on also tells the number of workers."""

        def count(workers):
            self.workers = workers
            return cut(workers)

        return count

    def note(self, reply: object) -> None:
        """Takes the reply of a task: the reason why it failed, or anything else."""
        self.reasons.append(reply if isinstance(reply, str) else None)

    def check(self, waiting) -> None:
        """Raises `InputError` if it makes no sense to go on; if no task waits, the comparison ends by itself."""
        number = max(self.workers, LEAST_FAILED)
        reason = self.reasons[0]
        stop = not self.succeeded and len(self.reasons) == number < len(waiting) and reason is not None
        if stop and set(self.reasons) == {reason}:
            raise InputError(
                f"The comparison was stopped, because its first {number} tasks failed for the same reason: {reason}"
            )
