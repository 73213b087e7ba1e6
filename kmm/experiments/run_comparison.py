"""A comparison from studies to results: prepares the studies once, runs the tasks that are left, and sums them up."""

import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import keras

import kmm
from kmm.data.study import Collection
from kmm.engines.runners import run_here
from kmm.engines.worker import Runner
from kmm.errors import InputError
from kmm.experiments.comparison import Comparison
from kmm.experiments.comparison_folder import (
    EXPLANATIONS,
    MODELS,
    TASKS,
    list_left,
    open_folder,
    refuse_others,
    remove_others,
)
from kmm.experiments.output.page import write_pages
from kmm.experiments.planning.plan import Plan, check_plan
from kmm.experiments.planning.task_list import key_preparation, list_tasks, order_tasks
from kmm.experiments.run_tasks import run_tasks
from kmm.experiments.schema import Summary
from kmm.experiments.size_curves import select_whole, summarize_sizes
from kmm.experiments.summary import summarize
from kmm.experiments.tables import check_format, join_columns
from kmm.experiments.tasks.explanations import describe_problem, read_explained
from kmm.experiments.tasks.features import fill_features, measure_states, measure_weights
from kmm.experiments.tasks.given import keep_given
from kmm.experiments.tasks.task import (
    RESULT,
    TABLES,
    Task,
    TaskResult,
    digest_facts,
    find_done,
)
from kmm.experiments.tasks.worker import TaskWorker
from kmm.progress import Progress
from kmm.training.cache.cache_folder import require_disk
from kmm.training.fit import check_names
from kmm.training.preparation.prepared_studies import PreparedStudies, prepare_studies
from kmm.training.source_code import digest_code

# Settings that the methods paragraph names.
NAMED = ("image_encoder", "image_depths", "image_grid", "head", "text_teacher", "image_teacher")
COPIES = 4  # of the weights of an encoder that a running stage or a kept classifier takes on the disk


def compare_studies(
    collection: Collection,
    plan: Plan,
    out: Path | str,
    *,
    cache: Path | str,
    runner: Runner = run_here,
    keep_models: bool = False,
    explain: int = 0,
    predictions: str = "csv",
    command: Sequence[str] = (),
    progress: Progress | None = None,
) -> Comparison:
    """Compares models and baselines over splits. Tasks that an earlier run of the same plan finished are not repeated.

    Args:
        collection: `Collection`.
        plan: `Plan`.
        out: path of the folder of the comparison, created if it is missing.
        cache: path of the folder of prepared films and features, shared with fits.
        runner: runner of `kmm.engines.runners.choose_runner`.
        keep_models: bool. Keeps the classifier of each task in `models`.
        explain: int. Most studies of each variant that the joint model mends, and most that it breaks, that are
            explained. Each split explains its share, the clearest ones.
        predictions: str, the format of the table of predictions: a key of `FORMATS`.
        command: sequence of str. Words of the command, for the summary; empty if there was none.
        progress: `kmm.progress.Progress`.

    Returns:
        `Comparison`, written to its folder. Tasks that failed are listed in its summary.

    Raises:
        InputError: if the data or settings cannot be used, the folder holds another comparison or is in use, the disk
            is too full, or every task failed; after the first task of every worker, if they fail for the same reason.
    """
    out, cache, progress = Path(out), Path(cache), progress or Progress()
    check_format(predictions)
    refuse_others(out)
    for settings in plan.variants.values():
        keep_given(out / TASKS, settings)
        check_names(settings)
    with open_folder(out):
        check_plan(out, plan)
        prepared, keys = _prepare(collection, plan, cache, progress)
        tasks = list_tasks(plan, prepared, keys, explain=explain)
        check_plan(out, plan, digest_facts({key: studies.digest() for key, studies in prepared.items()}))
        left = list_left(out, tasks, keep_models)
        remove_others(out, tasks, left)
        kept = len(left) if keep_models else 0

        def cut(workers: int) -> list[Task]:
            _check_disk(out, plan, workers, kept)
            return order_tasks(left, workers)

        if left:
            _check_disk(out, plan, 1, kept)
            fill_features([(task.settings, prepared[task.preparation]) for task in left], cache, out, progress)
        worker = TaskWorker(out / TASKS, cache, prepared, out / MODELS, out / EXPLANATIONS, keep_models)
        failed = run_tasks(tasks, left, cut, worker, runner, progress)
        data = describe_studies(collection, plan, list(prepared.values()))
        comparison = gather(out, plan, tasks, failed, {**data, "command": list(command)} if command else data)
        comparison.save(predictions=predictions)
        with progress.step("Writing the page and its figures", 1) as advance:
            summary = cast(Summary, comparison.summary)
            tables = comparison.rows, comparison.predictions, comparison.history
            rows, predicted, history = (select_whole(table, comparison.summary) for table in tables)
            write_pages(out, rows, predicted, history, summary)
            advance()
        return comparison


def describe_studies(collection: Collection, plan: Plan, prepared: Sequence[PreparedStudies]) -> dict[str, Any]:
    """Describes the studies and the program of a comparison.

    Args:
        collection: `Collection`.
        plan: `Plan`.
        prepared: sequence of `PreparedStudies`, one per preparation.

    Returns:
        dict for JSON: `data`, `versions` and `digests`, keys of `kmm.experiments.schema.Summary`.
    """
    patients = {study.id: study.patient for one in prepared for study in one.studies}
    return {
        "data": {
            "name": collection.layout,
            "studies": len(patients),
            "patients": len(set(patients.values())),
            "sections": list(plan.base.sections),
            **{name: plan.share(name) for name in NAMED},
            "set_aside": max(one.facts["set_aside"] for one in prepared),
        },
        "versions": {
            "kmm": kmm.__version__,
            "keras": keras.__version__,
            "backend": keras.backend.backend(),
            "python": platform.python_version(),
        },
        "digests": {"data": digest_facts({"data": sorted(one.digest() for one in prepared)}), "code": digest_code()},
    }


def _prepare(
    collection: Collection, plan: Plan, cache: Path, progress: Progress
) -> tuple[dict[str, PreparedStudies], dict[str, str]]:
    """Prepares the studies once for all variants that read them alike.

    Returns:
        dict of the key of a preparation to `PreparedStudies`, and dict of variant to this key.
    """
    prepared: dict[str, PreparedStudies] = {}
    keys: dict[str, str] = {}
    for name, settings in plan.variants.items():
        keys[name] = key_preparation(settings)
        if keys[name] not in prepared:
            prepared[keys[name]] = prepare_studies(collection, settings, films=cache, progress=progress)
    return prepared, keys


def _check_disk(out: Path, plan: Plan, workers: int, kept: int) -> None:
    """Checks that the disk has room for a running stage and the finished ones of a split for each worker, and for the
    classifiers that are kept."""
    weights = max(map(measure_weights, plan.variants.values()))
    states = sum(map(measure_states, plan.variants.values()))
    what = f"the states of the stages{' and the classifiers that are kept' if kept else ''}"
    require_disk(out, workers * (COPIES * weights + states) + COPIES * weights * kept, what)


def gather(
    out: Path,
    plan: Plan,
    tasks: Sequence[Task],
    failed: Sequence[Mapping[str, str]],
    data: Mapping[str, Any],
) -> Comparison:
    """Gathers the results of the tasks that are done.

    The summary is that of the tasks with the whole training part; if sizes were compared, their learning curves are
    added.

    Raises:
        InputError: if none is that has the whole training part.
    """
    done = find_done(out / TASKS, tasks)
    tasks = [task for task in tasks if task.name in done]
    results = [TaskResult.load(out / TASKS / task.name / RESULT) for task in tasks]
    whole = [(task, result) for task, result in zip(tasks, results, strict=True) if not task.size]
    if not whole:
        what = " with the whole training part" if results else ""
        reason = f" The first: {failed[0]['reason']}" if failed else ""
        raise InputError(f"Every task{what} of the comparison failed.{reason}")
    tables, largest = (_join(found) for found in (results, [result for _, result in whole]))
    facts = [_add_explanations(result.facts, task, out) for task, result in whole]
    summary = summarize(plan, largest["rows"], largest["predictions"], facts, failed, data)
    if plan.train_sizes is not None:
        sizes = {task.size for task in tasks if task.size}
        summary |= summarize_sizes(plan, tables["rows"], [result.facts for result in results], sizes)
    return Comparison(out, **tables, summary=summary)


def _join(results: Sequence[TaskResult]) -> dict[str, Any]:
    return {name: join_columns(kinds, [getattr(result, name) for result in results]) for name, kinds in TABLES.items()}


def _add_explanations(facts, task, out):
    """Adds the pages of explained studies to the facts of a task, and what could not be explained to its notes."""
    found = read_explained(out / TASKS / task.name)
    rows = [row for row in found["rows"] if (out / row["page"]).is_file()]
    return {**facts, "explained": rows, "notes": [*facts["notes"], *describe_problem(task, found)]}
