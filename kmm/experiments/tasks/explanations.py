"""Explanations of studies that the joint model of a task mends or breaks: folders and pages as `kmm explain` writes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm.data.names import choose_file_names
from kmm.errors import KmmError, describe_error
from kmm.evaluate.breakdown.error_table import ALL_OTHERS, tabulate_errors
from kmm.experiments.tables import Columns, list_values
from kmm.experiments.tasks.task import Task
from kmm.explain.folder.explain_folder import OVERWRITE, explain_folder
from kmm.explain.settings import ExplainSettings
from kmm.storage.classifier_folder import read_json
from kmm.storage.files import write_json
from kmm.training.preparation.prepared_studies import PreparedStudies

EXPLAINED = "explained.json"  # file of a task's folder: written when its explanations are complete
EXPLAINED_MODEL = "joint"


def share_out(count: int, splits: int) -> list[int]:
    """Shares out a number of studies over splits as evenly as possible; the first splits get what is left over.

    Example:
        >>> share_out(5, 3), share_out(1, 3)
        ([2, 2, 1], [1, 0, 0])
    """
    return [count // splits + (number < count % splits) for number in range(splits)]


def choose_studies(predictions: Columns, count: int) -> list[dict[str, str]]:
    """Chooses the clearest studies that the joint model mends and breaks, compared with the image or the text model.

    Args:
        predictions: columns of `kmm.experiments.tables.PREDICTIONS` of one task.
        count: int. Most mended studies, and most broken ones; each label of a study counts as one.

    Returns:
        list of dict of `study`, `label` and `what` (`"mended"` or `"broken"`), the mended first: those whose
        probability differs most from that of the image or the text model, equal ones in the order of their ids. Empty
        without a joint model.
    """
    if EXPLAINED_MODEL not in predictions["model"]:
        return []
    gaps: dict[tuple[str, str, str], float] = {}
    for row in tabulate_errors(predictions, model=EXPLAINED_MODEL):
        for one in row["studies"] if row["other"] != ALL_OTHERS else ():
            key = one["what"], one["study"], row["label"]
            gap = max(abs(one["probability"] - other) for other in one["others"].values())
            gaps[key] = max(gap, gaps.get(key, 0.0))
    order = sorted(gaps, key=lambda key: (-gaps[key], key))
    chosen = [key for what in ("mended", "broken") for key in [key for key in order if key[0] == what][:count]]
    return [{"study": study, "label": label, "what": what} for what, study, label in chosen]


def explain_errors(
    task: Task, predictions: Columns, classifier: Path | None, prepared: PreparedStudies, *, folder: Path, out: Path
) -> None:
    """Explains studies that the joint model of a task mends or breaks, and records their pages.

    A run that was killed goes on with the studies that lack an explanation. If they cannot be explained, the reason is
    recorded, and the results of the task stay.

    Args:
        task: `Task`; its `explained` is the number of mended and of broken studies.
        predictions: columns of its predictions.
        classifier: path of its saved classifier; None if it has no joint model.
        prepared: `PreparedStudies` that have the studies.
        folder: Path of the folder of the task, in which `EXPLAINED` is written.
        out: Path of the folder of all explanations, in which a folder of the task's name is made.

    Raises:
        OSError: if a file cannot be written.
    """
    found: dict[str, Any] = {"count": task.explained, "rows": [], "failed": 0, "problem": ""}
    try:
        chosen = choose_studies(predictions, task.explained) if classifier else []
        for label, place in _name_places(predictions, out / task.name).items():
            own = {one["study"]: one for one in chosen if one["label"] == label}
            studies = [study for study in prepared.studies if study.id in own]
            if classifier is None or not studies:
                continue
            for row in explain_folder(
                classifier, studies, place, settings=ExplainSettings(target=label), mode=OVERWRITE
            ):
                if row["error"]:
                    found["failed"] += 1
                    continue
                page = (place / f"{row['file']}.html").relative_to(out.parent).as_posix()
                found["rows"].append({**own[row["study"]], "page": page})
    except OSError:
        raise
    except KmmError as error:
        found["problem"] = str(error)
    except Exception as error:  # noqa: BLE001  its message may quote a report, so only its origin is named
        found["problem"] = f"unexpected {describe_error(error)}"
    write_json(folder / EXPLAINED, found)


def _name_places(predictions, place):
    """Returns the folder of the explanations of each label: of several labels each has one of its own."""
    labels = list_values(predictions["label"])
    names = choose_file_names(labels, dots=False)
    return {label: place / names[label] if len(labels) > 1 else place for label in labels}


def read_explained(folder: Path) -> dict[str, Any]:
    """Reads what `explain_errors` recorded in the folder of a task; `count` is 0 if there is nothing."""
    path = folder / EXPLAINED
    return read_json(path) if path.is_file() else {"count": 0, "rows": [], "failed": 0, "problem": ""}


def lacks_explanations(task: Task, tasks: Path) -> bool:
    """Returns whether fewer studies of a task are explained than wanted, or a page is gone.

    Args:
        task: `Task`.
        tasks: Path of the folder of tasks, in the folder of the comparison.
    """
    found = read_explained(tasks / task.name)
    gone = any(not (tasks.parent / row["page"]).is_file() for row in found["rows"])
    return bool(task.explained) and (found["count"] < task.explained or gone)


def describe_problem(task: Task, found: Mapping[str, Any]) -> list[str]:
    """Says in one sentence each what could not be explained.

    Args:
        task: `Task`.
        found: mapping of `read_explained`.
    """
    lines = []
    if found["problem"]:
        lines.append(f"{task.title}: errors of the joint model could not be explained: {found['problem']}")
    if found["failed"]:
        lines.append(f"{task.title}: {found['failed']} studies could not be explained; their folder's table says why.")
    return lines
