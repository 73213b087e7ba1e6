"""Journal of an output folder, kept in its subfolder `.parts`: records finished studies, so that a run can be resumed.

`run.json` holds everything that the attributions of the folder depend on, and the names of each study's files. Each
finished batch adds a file with one line per study, and the next run gathers these into `done.jsonl`. A study is done if
its line has the attribution and drawing digests of this run and its files exist; it can be drawn again if its map is of
this run. Old files are removed only after their replacements are written.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kmm.data.names import choose_file_names, sort_key
from kmm.data.study import Study
from kmm.errors import InputError
from kmm.explain.folder.fingerprints import describe_attribution, digest_record, identify_study
from kmm.explain.folder.lock import GATE, LOCK, WORK_FOLDER, take_folder
from kmm.explain.folder.maps import MAPS, place_of, read_map_mark
from kmm.explain.output.files import RESERVED, SUFFIXES
from kmm.explain.output.table import TABLES
from kmm.storage.files import replace_file, write_json
from kmm.storage.output_mark import marking_output

if TYPE_CHECKING:
    from kmm.explain.folder.worker import Stamp

INDEX = "index.html"
FOLDER_FILES = (INDEX, *(table.name for table in TABLES.values()))
DONE, RUN = "done.jsonl", "run.json"
WORK = "work-"  # prefix of the folders in which a study's files are made


@contextlib.contextmanager
def lock_folder(out: Path) -> Iterator[str]:
    """Creates a folder and locks it for one run. Workers of an earlier run can no longer write into it.

    Args:
        out: Path. Its parents are created too.

    Yields:
        str: the token of the run, for `kmm.explain.folder.lock.FolderLock`.

    Raises:
        InputError: if the folder cannot be made or written, or another run holds it.
    """
    import fcntl

    with contextlib.ExitStack() as stack:
        try:
            (out / WORK_FOLDER).mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(out / WORK_FOLDER / LOCK, "a", encoding="ascii"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            token = take_folder(lock)
            stack.enter_context(marking_output(out))
        except BlockingIOError:
            raise InputError(f"{out}: another run writes into this folder. Choose another, or wait for it.") from None
        except OSError as error:
            raise InputError(f"{out}: expected a folder that can be written. Received: {error.strerror}.") from None
        yield token


class Journal:
    """Journal of a folder that `lock_folder` holds.

    Args:
        out: Path of the folder.
        stamp: `kmm.explain.folder.worker.Stamp` of this run.
        run: dict from `kmm.explain.folder.fingerprints.describe_attribution`.
        studies: list of `Study`.
        labels: dict of label to the part of a file's name that follows the study's name; None: studies have one label
            each, and files are named by the study only.
        overwrite: bool. Whether explanations of another model or method may be replaced.

    Attributes:
        names: dict of study id to the name of its files, without suffixes.
        lines: dict of study id to its line, for all studies of the folder.

    Raises:
        InputError: if a file to be written exists and is not kmm's, or the folder holds explanations of another model
            or method.
    """

    def __init__(
        self,
        out: Path,
        stamp: "Stamp",
        run: Mapping[str, Any],
        studies: Sequence[Study],
        *,
        labels: Mapping[str, str] | None = None,
        overwrite: bool = False,
    ):
        self.out, self.parts, self.stamp, self.run = out, out / WORK_FOLDER, stamp, json.loads(json.dumps(run))
        self.studies = {study.id: study for study in studies}
        self.before = _read_run(self.parts / RUN)
        self.labels = sorted({*self.before["labels"], *(labels or {}).values()})
        self.same = {digest for digest, known in self.before["runs"].items() if _complete(known) == self.run}
        self.same.add(stamp.run)
        self.present = set(os.listdir(out))
        known = self.before["names"]
        new = choose_file_names([study for study in self.studies if study not in known], [*RESERVED, *known.values()])
        self.names = {**known, **new}
        self._refuse_foreign(known, new)
        self.lines = self._read_lines()
        if not overwrite:
            self._refuse_other()
        self.begun = False

    def divide(
        self, studies: Iterable[Study]
    ) -> tuple[dict[str, dict[str, Any] | None], dict[str, dict[str, Any] | None]]:
        """Finds the studies that are not done.

        Args:
            studies: list of `Study`.

        Returns:
            two dicts of study id to identity, or None if it is not known yet: studies to draw again from their maps,
            and studies to explain.
        """
        redraw: dict[str, dict[str, Any] | None] = {}
        explain: dict[str, dict[str, Any] | None] = {}
        for study in studies:
            line = self.lines.get(study.id)
            if line is None and not place_of(self.out, self.names[study.id]).exists():
                explain[study.id] = None
                continue
            identity = identify_study(study, line and line["film"])
            if line and self._is_done(line, identity["key"]):
                continue
            mark = read_map_mark(place_of(self.out, self.names[study.id])) or {}
            right = mark.get("key") == identity["key"] and mark.get("run") in self.same
            (redraw if right else explain)[study.id] = identity
        return redraw, explain

    def begin(self, todo: Iterable[str]) -> None:
        """Marks the studies whose files are about to change, and removes incomplete files of a killed run."""
        if self.begun:
            return
        self.begun = True
        for study in todo:
            if study in self.lines:
                self.lines[study] = {**self.lines[study], "drawing": None}
        mine = {name + suffix for name in self.names.values() for suffix in SUFFIXES}.union(FOLDER_FILES)
        for name in self.present:
            incomplete = re.fullmatch(
                r"\.\d+(?:\.\d+)?-(.+)", name
            )  # temporary file that `replace_file` left in a killed run
            if incomplete and incomplete[1] in mine:
                (self.out / name).unlink(missing_ok=True)
        (self.out / MAPS).mkdir(exist_ok=True)
        self._write()

    def add(self, lines: Iterable[dict[str, Any]]) -> None:
        """Adds the lines of a finished batch, which are on disk already."""
        for line in lines:
            self.lines[line["study"]] = _follow(self.lines.get(line["study"]), line)

    def finish(self) -> None:
        """Removes outdated files: of kinds that are no longer requested, or of another model or method."""
        if not self.begun:
            return
        if all(self._is_of_run(self.lines.get(study)) for study in self.studies):
            stale = [study for study, line in self.lines.items() if not self._is_of_run(line)]
            outdated = {name for study in stale for name in self.lines.pop(study)["files"]}
            for name in outdated - self._list_files():
                (self.out / name).unlink(missing_ok=True)
            for study in stale:
                place_of(self.out, self.names.pop(study)).unlink(missing_ok=True)
        kept = self._list_files()
        settled = {self.names[study] for study in self.studies if self._is_settled(study)}
        for name in os.listdir(self.out):
            if name not in kept and self._study_of(name, settled):
                (self.out / name).unlink()
        self._write()

    def rows(self, lost: Mapping[str, dict[str, Any]] | None = None) -> list[dict[str, Any]]:
        """Returns the table's rows of the whole folder: first the studies of this run in their order, then the others.

        Args:
            lost: dict of study id to row, of studies that this run could not finish.
        """
        lost = lost or {}
        rows: list[dict[str, Any]] = []
        others = sorted(self.lines.keys() - self.studies.keys(), key=sort_key)
        for study in (*self.studies, *others):
            rows += [lost[study]] if study in lost else self.rows_of(study)
        return rows

    def rows_of(self, study: str) -> list[dict[str, Any]]:
        """Returns the table's rows of one study, one per label; empty if the study has no line."""
        return self.lines[study]["rows"] if study in self.lines else []

    def _list_files(self):
        return {name for line in self.lines.values() for name in line["files"]}

    def _is_of_run(self, line):
        return line is not None and line["run"] in self.same

    def _is_settled(self, study):
        """Returns whether a study has the files of this run, so that any other files of it are outdated."""
        line = self.lines.get(study)
        return self._is_of_run(line) and line["drawing"] == self.stamp.drawing and not _has_failed(line)

    def _is_done(self, line, key):
        if not self._is_of_run(line) or line["key"] != key:
            return False
        if _has_failed(line):  # another version of kmm may succeed
            return line["kmm"] == self.stamp.kmm
        return line["drawing"] == self.stamp.drawing and self.present.issuperset(line["files"])

    def _refuse_foreign(self, known, new):
        """Raises `InputError` if a file to be written exists and is not kmm's."""
        names, mine = set(new.values()), set(known.values())
        foreign = [name for name in self.present if self._study_of(name, names) and not self._study_of(name, mine)]
        if self.before["run"] is None:
            foreign += self.present.intersection([*FOLDER_FILES, MAPS])
        if foreign:
            place = self.out / min(foreign)
            raise InputError(f"{place} already exists, and kmm did not write it. Choose another folder.")

    def _refuse_other(self):
        """Raises `InputError` if the folder holds explanations of another model or method."""
        if self.before["run"] in self.same:
            return
        for line in self.lines.values():
            if not self._is_of_run(line) and not _has_failed(line):
                difference = _compare(_complete(self.before["runs"].get(line["run"], {})), self.run)
                raise InputError(
                    f"{self.out} holds explanations that this run would replace: {difference}. Choose another folder "
                    "or pass --overwrite."
                )

    def _study_of(self, name, names):
        """Returns the study name, one of `names`, whose file `name` would be; None if there is none."""
        for suffix in SUFFIXES:
            stem = name.removesuffix(suffix)
            if stem == name:
                continue
            if stem in names:
                return stem
            head, _, label = stem.rpartition(".")
            if head in names and label in self.labels:
                return head
        return None

    def _read_lines(self):
        lines = {}
        parts = sorted(self.parts.glob("*.jsonl"), key=lambda path: path.name != DONE)  # `done.jsonl` is oldest
        for path in parts:
            for line in _read_part(path, self.before["run"]):
                lines[line["study"]] = _follow(lines.get(line["study"]), line)
        return lines

    def _write(self):
        """Gathers all lines into one file, and removes the files of single batches."""
        runs = {line["run"] for line in self.lines.values()}
        described = {digest: known for digest, known in self.before["runs"].items() if digest in runs}
        described[self.stamp.run] = self.run
        values = {"format": 2, "run": self.stamp.run, "runs": described, "names": self.names, "labels": self.labels}
        write_json(self.parts / RUN, values)
        write_lines(self.parts / DONE, self.lines.values())
        for path in self.parts.iterdir():
            if path.name.startswith(WORK):
                shutil.rmtree(path)
            elif path.name not in (DONE, RUN, LOCK, GATE) and path.suffix in (".json", ".jsonl", ".tries"):
                path.unlink()


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Writes a file of JSON lines, whole or not at all."""
    with replace_file(path) as place:
        place.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines), encoding="utf-8")


def _follow(old, new):
    """Merges the old and the new line of a study: one that can no longer be explained keeps the files that it has."""
    if old and _has_failed(new):
        return {**new, "files": sorted({*old["files"], *new["files"]})}
    return new


def _has_failed(line):
    return any(row.get("error") for row in line["rows"])


def _complete(run):
    """Completes the description of a run to the form that this version of kmm writes."""
    if not isinstance(run.get("settings"), dict):
        return run
    return {**run, "settings": describe_attribution("", run["settings"])["settings"]}


def _compare(old, new):
    """Describes in words how two runs differ."""
    if old.get("model") != new["model"]:
        return "they are of another model"
    settings = old.get("settings", {})
    changed = [name for name, value in new["settings"].items() if settings.get(name) != value]
    if changed:
        changes = ", ".join(
            f"{name} {_say(settings.get(name))} instead of {_say(new['settings'][name])}" for name in changed
        )
        return f"they have {changes}"
    return "they were made by a version of kmm that computes different numbers"


def _say(value):
    return "none" if value in (None, []) else ",".join(value) if isinstance(value, list) else str(value)


def _read_part(path, run):
    """Reads the lines of a finished batch; none if the file is damaged."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [_upgrade(line, run) for line in lines]
    except (ValueError, TypeError, KeyError):
        return []


def _upgrade(line, run):
    """Converts a line to the present form; the first versions stored no maps, and identified films by path and time."""
    if "row" in line:
        line = {"study": line["study"], "run": run, "files": line["files"], "rows": [line["row"]]}
        line = {**line, "key": None, "drawing": None, "film": None, "kmm": None}
    return {name: line[name] for name in ("study", "run", "drawing", "kmm", "key", "film", "files", "rows")}


def _read_run(path):
    """Reads the file of an earlier run: dict of `run`, `runs`, `names` and `labels`, empty if there is none."""
    empty = {"run": None, "runs": {}, "names": {}, "labels": []}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if "studies" in value:  # of the first versions
            run = describe_attribution(value["run"]["model"], value["run"]["settings"])
            digest = digest_record(run)
            return {**empty, "run": digest, "runs": {digest: run}, "names": {name: name for name in value["studies"]}}
        return {
            name: type(default)(value[name]) if default is not None else value[name] for name, default in empty.items()
        }
    except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
        return empty
