"""Results of a task of a comparison: trains the models of a split, and measures them and their baselines.

The key of a task depends on the code of this module and of all that it imports, see
`kmm.experiments.tasks.task.digest_task_code`.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from kmm.classifier import Classifier
from kmm.data.split import PARTS
from kmm.evaluate.compare import expect_chance
from kmm.evaluate.metrics import METRICS, score_labels
from kmm.experiments.tables import HISTORY, PREDICTIONS, ROWS, join_columns, make_columns
from kmm.experiments.tasks.answers import Answers, gather_answers
from kmm.experiments.tasks.measures import measure_split
from kmm.experiments.tasks.study_shares import share_studies
from kmm.experiments.tasks.task import Task, TaskResult, name_stages
from kmm.progress import Advance, Progress
from kmm.training.fit import Run, fit_classifier
from kmm.training.preparation.prepared_studies import PreparedStudies

KEPT_PARTS = ("validation", "test")  # parts whose predictions are kept
KEPT_FACTS = ("image_weights", "text_weights", "text", "start_weights", "head_choice", "teachers")  # of the provenance
Notify = Callable[[int], None]


def run_task(
    task: Task,
    prepared: PreparedStudies,
    *,
    work: Path,
    cache: Path,
    progress: "TaskProgress",
) -> tuple[TaskResult, Classifier, Run]:
    """Trains the models of a task and measures them. A task that was killed goes on with the stage that was
    interrupted, and a stage that another task of the split has trained is not trained again.

    Args:
        task: `Task`.
        prepared: `PreparedStudies` of its preparation, with any split.
        work: path of the folder of the states of stages, which the tasks of the split share.
        cache: path of the folder of prepared films and features.
        progress: `TaskProgress`.

    Returns:
        `TaskResult`, and the classifier and the run of `kmm.training.fit.fit_classifier`.

    Raises:
        KmmError: if the models cannot be trained on the split.
    """
    start = time.monotonic()
    partial = bool(task.size)
    studies = prepared.with_split(task.split, note=progress.note, record_leaks=task.plain, partial=partial)
    classifier, run = fit_classifier(
        None, task.settings, work=work, cache=cache, prepared=studies, progress=progress, parts=PARTS, shared=True
    )
    answers, probe = gather_answers(classifier, run)
    result = TaskResult(
        rows=_tabulate(task, run, answers),
        predictions=tabulate_predictions(task, run, answers),
        history=_tabulate_history(task, run),
        facts={
            **task.place,
            "parts": studies.facts["parts"],
            "leaks": studies.facts.get("leaks"),
            "notes": progress.lines,
            "within": classifier.metrics.get("test"),
            **measure_split(classifier, run, answers),
            "probe": probe,
            "provenance": {name: run.facts.get(name) for name in KEPT_FACTS},
            "minutes": (time.monotonic() - start) / 60,
            "memory_gb": measure_memory(),
        },
    )
    return result, classifier, run


def _tabulate(task: Task, run: Run, answers: Mapping[str, Mapping[str, Answers]]) -> dict[str, np.ndarray]:
    """Measures all answers: a row per part, model, label and metric, and `macro` for the mean over the labels."""
    names, tables = run.maker.label_names, []
    for part, models in answers.items():
        labels = run.prepared.labels[run.rows(part)]
        for model, found in models.items():
            kept = found.measured
            scores = score_labels(labels[kept], found.probabilities[kept], found.thresholds[kept], label_names=names)
            by_label = scores.get("per_label") or {names[0]: scores}
            tables += [_measure(task, model, part, label, one) for label, one in {**by_label, "macro": scores}.items()]
            if model == "majority":
                chances = {label: expect_chance(one) for label, one in by_label.items()}
                chances["macro"] = {**_average(chances.values()), "n": scores["n"], "n_positive": scores["n_positive"]}
                tables += [_measure(task, "chance", part, label, one) for label, one in chances.items()]
    return join_columns(ROWS, tables)


def _average(singles):
    """Returns the mean of each metric over the labels for which it is defined."""
    found = {}
    for metric in METRICS:
        defined = [one[metric] for one in singles if one[metric] is not None]
        found[metric] = float(np.mean(defined)) if defined else None
    return found


def _measure(task, model, part, label, scores):
    """Makes the rows of the metrics of one label; those that are not defined have none."""
    known = {metric: scores[metric] for metric in METRICS if scores[metric] is not None}
    place = {**task.place, "model": model, "part": part, "label": label}
    counts = {name: scores[name] for name in ("n", "n_positive")}
    return make_columns(ROWS, {**place, "metric": list(known), "value": list(known.values()), **counts})


def tabulate_predictions(task: Task, run: Run, answers: Mapping[str, Mapping[str, Answers]]) -> dict[str, np.ndarray]:
    """Lists the predictions of validation and test: a row per study, model and label."""
    tables, place = [], task.place
    for part in KEPT_PARTS:
        rows, models = run.rows(part), answers.get(part, {})
        shares = share_studies(models) if "joint" in models else {}
        for model, found in models.items():
            chosen = rows[found.measured]
            studies = [run.prepared.studies[row] for row in chosen]
            common = {
                **place,
                "part": part,
                "model": model,
                "study": [study.id for study in studies],
                "patient": [study.patient for study in studies],
                "has_image": run.prepared.present[chosen, 0],
                "has_report": run.prepared.present[chosen, 1],
            }
            tables += [
                make_columns(
                    PREDICTIONS,
                    {
                        **common,
                        "label": label,
                        "truth": run.prepared.labels[chosen, column],
                        "probability": found.probabilities[found.measured, column],
                        "threshold": found.thresholds[found.measured, column],
                        **(
                            {name: share[found.measured, column] for name, share in shares.items()}
                            if model == "joint"
                            else {}
                        ),
                    },
                )
                for column, label in enumerate(run.maker.label_names)
            ]
    return join_columns(PREDICTIONS, tables)


def _tabulate_history(task, run):
    """Lists the learning curves: a row per stage, epoch and metric."""
    sides = name_stages(task.settings)
    tables = [
        make_columns(
            HISTORY,
            {
                **{**task.place, "model": sides[stage], "stage": stage},
                **{"epoch": list(range(1, len(values) + 1)), "metric": metric, "value": values},
            },
        )
        for stage, curves in run.history.items()
        for metric, values in curves.items()
    ]
    return join_columns(HISTORY, tables)


class TaskProgress(Progress):
    """Counts the stages of a task that are done, and keeps its notes.

    Args:
        task: `Task`.
        notify: function of the number of units of the task that are done; or None.

    Attributes:
        lines: list of str, its notes.
    """

    def __init__(self, task: Task, notify: Notify | None = None) -> None:
        self.stages, self.notify, self.done = set(name_stages(task.settings)), notify, 0
        self.lines: list[str] = []

    @contextmanager
    def step(self, title: str, total: int, done: int = 0) -> Iterator[Advance]:
        yield lambda count=1, text="": None
        if title in self.stages:
            self.reach(self.done + 1)

    def reach(self, count: int) -> None:
        """Notifies that so many units of the task are done."""
        self.done = max(self.done, count)
        if self.notify:
            self.notify(self.done)

    def note(self, text: str) -> None:
        self.lines.append(text)


def measure_memory() -> float:
    """Returns the largest memory that this process has had so far, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e9 if sys.platform == "darwin" else peak / 1e6
