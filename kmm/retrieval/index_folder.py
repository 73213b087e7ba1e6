"""Folder of an index: its description, which names the shards that count, and additions that appear in one step.

    INDEX/index.json        the description. Whatever it does not name does not exist for a reader
    INDEX/shards/           folders of arrays, see `kmm.retrieval.shards`
    INDEX/.addition.json    an addition, or a rebuilding, that is not finished
    INDEX/.measure/         a measurement that is not finished, see `kmm.retrieval.measures.pieces`

New shards are written beside those that count. Then the description is replaced, in one step. A process that is killed
before leaves the index as it was, and the same addition continues behind its last shard.
"""

import contextlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kmm
from kmm.errors import ArtefactError, InputError
from kmm.retrieval.shards import Rows, Shard, write_shard
from kmm.storage.classifier_folder import sign_description
from kmm.storage.file_lock import hold_file
from kmm.storage.files import write_json
from kmm.storage.output_mark import MARK, marking_output

FORMAT = "kmm-index-1"
DESCRIPTION, ADDITION, SHARDS, LOCK = "index.json", ".addition.json", "shards", ".lock"
MEASURE, MEASURE_LOCK = ".measure", ".measure.lock"
MAX_JSON_BYTES = 100_000_000
OWN = {DESCRIPTION, ADDITION, SHARDS, LOCK, MARK, MEASURE, MEASURE_LOCK}


def read_index(folder: Path | str) -> dict[str, Any]:
    """Reads the description of an index.

    Returns:
        dict of `format`, `kmm`, `model`, `layer`, `patterns`, `size`, `predicted`, `labels`, `columns`, `salt`,
        `sources` and `shards`: see `kmm.retrieval.additions`.

    Raises:
        ArtefactError: if there is no index, or its description is damaged, was altered or has an unknown format.
    """
    path = Path(folder) / DESCRIPTION
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ArtefactError(f"{path} is larger than {MAX_JSON_BYTES} bytes. Build the index again.")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        more = " Its building was not finished: run the same command again." if _is_begun(folder) else ""
        raise ArtefactError(f"{folder} is not an index that `kmm index build` wrote.{more}") from None
    except OSError as error:
        raise ArtefactError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise ArtefactError(f"{path} is not valid JSON. Build the index again.") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ArtefactError(f"{path} has an unknown format. This version of kmm reads {FORMAT}: build the index again.")
    if sign_description(found) != found:
        raise ArtefactError(f"{path} was altered after it was written; its digest differs. Build the index again.")
    return found


def list_shards(folder: Path | str, description: Mapping[str, Any]) -> list[Shard]:
    """Returns the shards of an index in order."""
    shards, start = [], 0
    for one in description["shards"]:
        shards.append(Shard(Path(folder, SHARDS, one["name"]), start, one["rows"]))
        start += one["rows"]
    return shards


class Addition:
    """An addition of rows to an index, which continues where the same addition was stopped.

    `kmm.retrieval.index_folder.adding` opens one.

    Args:
        folder: Path of the index.
        description: dict of the index as it will be, without the new shards.
        plan: dict of `key`, `token` and `shards` as in the file of the addition.
    """

    def __init__(self, folder: Path, description: Mapping[str, Any], plan: dict[str, Any]) -> None:
        self.folder, self.description, self._plan = folder, dict(description), plan

    @property
    def done(self) -> int:
        """How many units, such as studies that were read, the shards written so far are made of."""
        return self._plan["shards"][-1]["done"] if self._plan["shards"] else 0

    @property
    def planned(self) -> list[dict[str, Any]]:
        """The shards written so far, as dicts of `name`, `rows`, `done` and `facts`."""
        return self._plan["shards"]

    @property
    def facts(self) -> list[Any]:
        """The facts that were given with the shards written so far."""
        return [one["facts"] for one in self._plan["shards"]]

    def write(self, rows: Rows, done: int, facts: Any = None) -> None:
        """Writes a shard.

        Args:
            rows: `Rows`, at least one.
            done: int. How many units this shard and those before it are made of.
            facts: value for JSON to keep until the addition is finished.
        """
        name = f"{self._plan['token']}-{len(self._plan['shards']):06d}"
        if len(rows):
            write_shard(self.folder / SHARDS / name, rows)
        self._plan["shards"].append({"name": name, "rows": len(rows), "done": done, "facts": facts})
        write_json(self.folder / ADDITION, self._plan)

    def finish(self, **changes: Any) -> dict[str, Any]:
        """Makes the new shards part of the index, in one step.

        Args:
            changes: values of the description to replace.

        Returns:
            dict, the description that was written.
        """
        new = [{"name": one["name"], "rows": one["rows"]} for one in self._plan["shards"] if one["rows"]]
        shards = [*self.description.get("shards", []), *new]
        described = {"format": FORMAT, "kmm": kmm.__version__, **self.description, **changes, "shards": shards}
        written = sign_description(described)
        write_json(self.folder / DESCRIPTION, written)
        (self.folder / ADDITION).unlink(missing_ok=True)
        _remove_others(self.folder, {one["name"] for one in shards})
        return written


@contextlib.contextmanager
def adding(folder: Path | str, description: Mapping[str, Any], key: str) -> Iterator[Addition]:
    """Opens an addition to an index, a new one or that which a killed process left.

    Args:
        folder: path of the index, created if it is missing.
        description: dict of the index as it will be, with the shards to keep. Its `salt`, if it lacks one, is drawn.
        key: str. Everything that decides the new rows: an addition with another key starts from the beginning.

    Yields:
        `Addition`. Without `finish` the index stays as it is.

    Raises:
        InputError: if the folder has other files, or another process adds to it.
    """
    folder = Path(folder)
    check_place(folder)
    with marking_output(folder), hold_file(folder / LOCK) as held:
        if not held:
            raise InputError(f"{folder}: another process is adding to this index. Wait until it has finished.")
        plan = _read_plan(folder)
        if plan.get("key") != key:
            plan = {"key": key, "token": secrets.token_hex(6), "salt": secrets.token_hex(16), "shards": []}
        kept = {one["name"] for one in (*_list_kept(folder), *plan["shards"])}
        _remove_others(folder, kept)
        write_json(folder / ADDITION, plan)
        yield Addition(folder, {"salt": plan["salt"], **description}, plan)


def check_place(folder: Path | str) -> None:
    """Checks that a folder is an index, begins to be one, is empty or does not exist.

    Raises:
        InputError: if it has other files, or is one.
    """
    folder = Path(folder)
    if folder.is_file():
        raise InputError(f"{folder} is a file. Choose another name for the index.")
    foreign = sorted({path.name for path in folder.iterdir()} - OWN) if folder.is_dir() else []
    foreign = [name for name in foreign if not name.endswith(DESCRIPTION) and not name.endswith(ADDITION)]
    if foreign:
        raise InputError(f"{folder} has files that are no index, such as {foreign[0]}. Choose another folder.")


def _is_begun(folder):
    return (Path(folder) / ADDITION).is_file()


def _list_kept(folder):
    """Returns the shards of the index as it is; none if it is new."""
    try:
        return read_index(folder)["shards"]
    except ArtefactError:
        if (folder / DESCRIPTION).exists():
            raise
        return []


def _read_plan(folder):
    """Reads the addition that a killed process left, as far as its shards exist; an empty dict if there is none."""
    try:
        plan = json.loads((folder / ADDITION).read_text(encoding="utf-8"))
        shards = list(plan["shards"])
        there = [not one["rows"] or (folder / SHARDS / one["name"]).is_dir() for one in shards]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    count = there.index(False) if False in there else len(there)
    return {**plan, "shards": shards[:count]}


def _remove_others(folder, kept):
    """Removes shards that neither the index nor an addition names."""
    for path in (folder / SHARDS).glob("*"):
        if path.name not in kept:
            shutil.rmtree(path, ignore_errors=True)
