"""Tasks of a comparison: one split with one variant and size, done when the file of its results is there."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from kmm.data.split import Split
from kmm.experiments.tables import HISTORY, PREDICTIONS, ROWS, Columns
from kmm.keras_backend import check_backend
from kmm.settings import FitSettings
from kmm.storage.classifier_folder import digest_file
from kmm.storage.files import replace_file
from kmm.training.source_code import digest_reached
from kmm.training.stages.recipe import make_recipe

FOLDER, RESULT = "split-", "result.npz"  # the folder of a task begins with its split
STATES = "stages-"  # beginning of the folder of the stages that the tasks of a split and size share
TABLES = {"rows": ROWS, "predictions": PREDICTIONS, "history": HISTORY}
DIGITS = 10  # of a key, in the name of a folder
COMPUTES = "kmm.experiments.tasks.run_task"  # the module that computes the results of a task


@dataclass(frozen=True)
class Task:
    """The unit of work: the models of one variant, trained and measured on one split.

    Attributes:
        split_name: str, `"1"` for the first split.
        variant: str. Name of the variant; empty if nothing is varied.
        settings: `FitSettings` of the variant.
        preparation: str. Key of its prepared studies.
        split: `Split` of these studies.
        plain: bool. Whether the split may leak.
        key: str. Digest of everything that its results depend on.
        code: str. Digest of the code among it.
        explained: int. Most studies that the joint model mends, and most that it breaks, of which an explanation is
            wanted; the results do not depend on it.
        size: int. Number of training studies for which the split was made smaller; 0 if its training part is whole.
    """

    split_name: str
    variant: str
    settings: FitSettings
    preparation: str
    split: Split
    plain: bool
    key: str
    code: str = ""
    explained: int = 0
    size: int = 0

    @property
    def name(self) -> str:
        """Name of its folder."""
        return f"{FOLDER}{int(self.split_name):03d}-{self.key[:DIGITS]}"

    @property
    def states(self) -> str:
        """Name of the folder of the states of its stages, shared with the other tasks of its split and size."""
        size = f"-{self.size}" if self.size else ""
        return f"{STATES}{int(self.split_name):03d}{size}-{self.code[:DIGITS]}"

    @property
    def place(self) -> dict[str, str | int]:
        """The columns that say where the rows of its tables belong. `size` is the number of training studies: the one
        that was asked for, or that of the whole training part."""
        size = self.size or len(self.split.part("train"))
        return {"split": self.split_name, "variant": self.variant, "size": size}

    @property
    def title(self) -> str:
        """Name for people."""
        size = f"{self.size} training studies" if self.size else ""
        return ", ".join(filter(None, (f"split {self.split_name}", size, self.variant)))

    @property
    def units(self) -> int:
        """Number of its stages, one for what follows them, and one for explanations if they are wanted."""
        return len(name_stages(self.settings)) + 1 + bool(self.explained)


@dataclass(frozen=True)
class TaskResult:
    """Results of a task.

    Attributes:
        rows, predictions, history: columns of `kmm.experiments.tables`.
        facts: dict for JSON: counts, notes, results within the split, minutes and memory.
    """

    rows: Columns
    predictions: Columns
    history: Columns
    facts: dict[str, Any]

    def save(self, path: Path) -> None:
        """Writes one file of plain arrays, completely or not at all."""
        arrays = {f"{table}.{name}": getattr(self, table)[name] for table, kinds in TABLES.items() for name in kinds}
        facts = np.frombuffer(json.dumps(self.facts, allow_nan=False).encode(), np.uint8)
        with replace_file(path) as place, open(place, "wb") as file:
            np.savez_compressed(file, facts=facts, **arrays)

    @classmethod
    def load(cls, path: Path) -> "TaskResult":
        """Reads a file that `save` wrote."""
        with np.load(path, allow_pickle=False) as stored:
            tables = {table: {name: stored[f"{table}.{name}"] for name in kinds} for table, kinds in TABLES.items()}
            return cls(**tables, facts=json.loads(stored["facts"].tobytes()))


def name_stages(settings: FitSettings) -> dict[str, str]:
    """Returns the side of each stage of a fit, by the name of the stage.

    Example:
        >>> name_stages(FitSettings(image_encoder=None))
        {'text': 'text'}
    """
    stages = [stage for group in make_recipe(settings).values() for stage in group if stage.epochs]
    return {stage.name: stage.side for stage in stages}


def make_key(settings: FitSettings, split: Split, data: str, *, plain: bool = False, size: int = 0) -> str:
    """Returns the digest of everything that the results of a task depend on.

    Args:
        settings: `FitSettings`; the files that it names count by their content.
        split: `Split`.
        data: str, the digest of the prepared studies.
        plain: bool. Whether the split may leak.
        size: int, as in `Task`.

    Returns:
        str of 64 hexadecimal digits.
    """
    # These load Keras, which a process that only waits for tasks need not.
    from kmm.training.preparation.text_weights import list_text_files
    from kmm.training.resume import FILES

    files: dict[str, Any] = {name: _digest(getattr(settings, name)) for name in (*FILES, "redact")}
    files["text_weights"] = list(map(_digest, list_text_files(settings)))
    facts = {
        "settings": {**settings.as_dict(), **{name: digest for name, digest in files.items() if digest}},
        "split": split.digest,
        "plain": plain,
        "data": data,
        "code": digest_task_code(),
        "backend": check_backend(),
        **({"size": size} if size else {}),
    }
    return digest_facts(facts)


def digest_task_code() -> str:
    """Returns the digest of the code on which the results of a task can depend: not of commands, pages and the summary,
    nor of what is made from the results."""
    return digest_reached(COMPUTES)


def digest_facts(facts: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of a mapping for JSON, whatever the order of its keys.

    Example:
        >>> digest_facts({"a": 1, "b": 2}) == digest_facts({"b": 2, "a": 1})
        True
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


def _digest(path):
    """Returns the digest of a file or folder that a setting names; empty for None and for the name of known weights."""
    if path and Path(path).is_dir():
        from kmm.models.weights.files.model_folder import digest_folder

        return digest_folder(Path(path))
    return _digest_once(str(path), Path(path).stat().st_mtime_ns) if path and Path(path).is_file() else ""


@lru_cache
def _digest_once(path, changed):
    return digest_file(Path(path))


def find_done(out: Path, tasks: Sequence[Task]) -> set[str]:
    """Returns the names of the tasks whose results are there."""
    return {task.name for task in tasks if (out / task.name / RESULT).is_file()}
