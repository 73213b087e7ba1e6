"""Completion of a task of a comparison: its results and, if they are wanted, its classifier and explanations."""

import gc
import shutil
from pathlib import Path

import keras

from kmm.experiments.tasks.explanations import EXPLAINED_MODEL, explain_errors, lacks_explanations
from kmm.experiments.tasks.run_task import Notify, TaskProgress, run_task
from kmm.experiments.tasks.task import RESULT, Task, TaskResult
from kmm.training.preparation.prepared_studies import PreparedStudies
from kmm.training.save_run import save_run

CLASSIFIER = "classifier"  # folder in that of a task, until its errors are explained


def complete_task(
    task: Task,
    prepared: PreparedStudies,
    *,
    out: Path,
    cache: Path,
    models: Path,
    explanations: Path,
    keep_model: bool = False,
    notify: Notify | None = None,
) -> TaskResult:
    """Runs a task and writes the file of its results, then explains errors of its joint model.

    If the results are there and only explanations are missing, nothing is trained as long as the classifier is there.

    Args:
        task: `Task`.
        prepared: `PreparedStudies` of its preparation, with any split.
        out: path of the folder of tasks.
        cache: path of the folder of prepared films and features.
        models: path of the folder in which classifiers are kept, as `NAME`.
        explanations: path of the folder of explanations.
        keep_model: bool. Whether the classifier is kept.
        notify: function of the number of units of the task that are done.

    Returns:
        `TaskResult`.

    Raises:
        KmmError: if the models cannot be trained on the split.
        OSError: if a file cannot be written.
    """
    folder, kept = out / task.name, models / task.name
    progress = TaskProgress(task, notify)
    saved = next((place for place in (kept, folder / CLASSIFIER) if place.is_dir()), None)
    if (folder / RESULT).is_file() and saved is not None and (saved == kept or not keep_model):
        result = TaskResult.load(folder / RESULT)
    else:
        result, saved = _train(task, prepared, out, cache, kept if keep_model else None, progress)
    progress.reach(task.units - 1)
    if lacks_explanations(task, out):
        explain_errors(task, result.predictions, saved, prepared, folder=folder, out=explanations)
        _free_memory()
    shutil.rmtree(folder / CLASSIFIER, ignore_errors=True)
    return result


def _train(task, prepared, out, cache, kept, progress):
    """Trains a task and writes its results; returns them, and the path of its classifier if it is there.

    The classifier of a joint model whose errors are explained is kept until then.
    """
    folder = out / task.name
    result, classifier, run = run_task(task, prepared, work=out / task.states, cache=cache, progress=progress)
    folder.mkdir(parents=True, exist_ok=True)
    saved = None
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        save_run(classifier, run, kept, overwrite=True, keep_work=True)
        saved = kept
    elif task.explained and EXPLAINED_MODEL in classifier.models:
        saved = folder / CLASSIFIER
        classifier.save(saved, overwrite=True)
    result.save(folder / RESULT)
    del classifier, run
    _free_memory()
    return result, saved


def _free_memory():
    keras.backend.clear_session()
    gc.collect()
