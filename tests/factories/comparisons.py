"""Comparisons without models: a runner that answers for each task with numbers made from its name."""

import hashlib

import numpy as np

from kmm.experiments.tables import HISTORY, PREDICTIONS, ROWS, join_columns, make_columns
from kmm.experiments.tasks.task import RESULT, TaskResult

MODELS = ("joint", "image", "text", "tfidf", "image-linear", "linear-sum", "majority", "chance")
PARTS = ("train", "validation", "test")
METRICS = ("roc_auc", "average_precision", "accuracy", "brier")
REASON = "no epoch had a finite validation loss."


def make_result(task, labels=("abnormal",)):
    """Makes the results of a task: values, predictions of its studies and learning curves that depend on its key."""
    rng = np.random.default_rng(int(hashlib.sha256(task.key.encode()).hexdigest()[:8], 16))
    place = task.place
    rows = [
        make_columns(
            ROWS,
            {
                **{**place, "model": model, "part": part, "label": label, "metric": list(METRICS)},
                **{"value": rng.uniform(0.6, 0.9, len(METRICS)), "n": 20, "n_positive": 9},
            },
        )
        for model in MODELS
        for part in PARTS
        for label in ("macro", *labels)
    ]
    tests = [study for study, part in task.split.parts.items() if part == "test"]
    predictions = [
        make_columns(
            PREDICTIONS,
            {
                **{**place, "part": "test", "study": tests, "model": model, "label": label, "threshold": 0.5},
                **{"patient": [task.split.patients[study] for study in tests], "has_image": 1, "has_report": 1},
                **{"truth": [float(int(study) % 2) for study in tests], "probability": rng.uniform(0, 1, len(tests))},
            },
        )
        for model in MODELS[:-1]
        for label in labels
    ]
    history = [
        make_columns(
            HISTORY,
            {
                **{**place, "model": side, "stage": side, "epoch": [1, 2, 3], "metric": metric},
                "value": rng.uniform(0.5, 0.9, 3),
            },
        )
        for side in ("text", "image", "joint")
        for metric in ("val_loss", "val_accuracy")
    ]
    facts = {**place, "within": {}, "leaks": None, "parts": {part: len(task.split.part(part)) for part in PARTS}}
    facts |= {"notes": [], "minutes": 0.25, "memory_gb": 1.0}
    return TaskResult(
        join_columns(ROWS, rows), join_columns(PREDICTIONS, predictions), join_columns(HISTORY, history), facts
    )


class FakeRunner:
    """A runner that writes the results of `make_result`, and counts.

    Args:
        failing: splits, as `"2"`, whose tasks fail; or a dict of such splits to the reason.
        stop_after: int. Number of tasks after which it raises `KeyboardInterrupt`; None: never.
    """

    def __init__(self, failing=(), stop_after=None):
        self.failing, self.stop_after, self.done = failing, stop_after, []

    def __call__(self, worker, cut, begin, tell):
        for task in cut(1):
            if self.stop_after is not None and len(self.done) == self.stop_after:
                raise KeyboardInterrupt
            if task.split_name in self.failing:
                yield task, self.failing[task.split_name] if isinstance(self.failing, dict) else REASON
                continue
            (worker.out / task.name).mkdir(exist_ok=True)
            make_result(task).save(worker.out / task.name / RESULT)
            self.done.append(task)
            yield task, {"minutes": 0.25, "memory_gb": 1.0}
