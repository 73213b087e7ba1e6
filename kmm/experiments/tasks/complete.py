"""What a task of a comparison leaves in its folders: the file of its results and, if it is wanted, its classifier."""

import gc
from pathlib import Path

import keras

from kmm.experiments.tasks.run_task import Notify, TaskProgress, run_task
from kmm.experiments.tasks.task import RESULT, Task, TaskResult
from kmm.training.preparation.prepared_studies import PreparedStudies
from kmm.training.save_run import save_run


def complete_task(
    task: Task,
    prepared: PreparedStudies,
    *,
    out: Path,
    cache: Path,
    models: Path | None = None,
    notify: Notify | None = None,
) -> TaskResult:
    """Runs a task and writes the file of its results, which is the last that it writes.

    Args:
        task: `Task`.
        prepared: `PreparedStudies` of its preparation, with any split.
        out: path of the folder of tasks.
        cache: path of the folder of prepared films and features.
        models: path of the folder in which the classifier is kept, as `NAME`; None keeps none.
        notify: function of the number of units of the task that are done.

    Returns:
        `TaskResult`.

    Raises:
        KmmError: if the models cannot be trained on the split.
    """
    folder = out / task.name
    result, classifier, run = run_task(
        task, prepared, work=out / task.states, cache=cache, progress=TaskProgress(task, notify)
    )
    folder.mkdir(exist_ok=True)
    if models is not None:
        models.mkdir(parents=True, exist_ok=True)
        save_run(classifier, run, models / task.name, overwrite=True, keep_work=True)
    result.save(folder / RESULT)
    del classifier, run
    keras.backend.clear_session()
    gc.collect()
    return result
