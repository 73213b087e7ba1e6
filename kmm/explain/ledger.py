"""What is done of a folder of studies, kept in its folder `.parts`, so that a second run does only what is missing.

`run.json` holds what all explanations depend on, and the ids of the studies whose files are kmm's own. Each finished
batch adds a file with a line a study. A study is done when a line holds its key and its files are there.
"""

import contextlib
import hashlib
import json
import os
import re

from kmm.errors import InputError
from kmm.explain.outputs import SUFFIXES
from kmm.explain.table import TABLES
from kmm.files import replace_file
from kmm.output_mark import marking_output
from kmm.settings import write_json

INDEX = "index.html"
FOLDER_FILES = (INDEX, *(table.name for table in TABLES.values()))
PARTS = ".parts"


@contextlib.contextmanager
def lock_folder(out):
    """Makes a folder and holds it for one run.

    Args:
        out: Path. Its parents are made too.

    Raises:
        InputError: if the folder cannot be made or written, or another run holds it.
    """
    import fcntl

    with contextlib.ExitStack() as stack:
        try:
            (out / PARTS).mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(out / PARTS / "lock", "w", encoding="utf-8"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stack.enter_context(marking_output(out))
        except BlockingIOError:
            raise InputError(f"{out}: another run writes into this folder. Choose another, or wait for it.") from None
        except OSError as error:
            raise InputError(f"{out}: expected a folder that can be written. Received: {error.strerror}.") from None
        yield


def make_key(study):
    """Digest of all of a study that its explanation depends on: id, film (path, size, time of change) and report.

    Args:
        study: `Study`. Its film may be missing.

    Returns:
        str of 64 hexadecimal digits.
    """
    film = None
    if study.frontal is not None:
        film = [str(study.frontal.path)]
        with contextlib.suppress(OSError):
            stat = os.stat(study.frontal.path)
            film += [stat.st_size, stat.st_mtime_ns]
    report = None if study.report is None else list(vars(study.report).values())
    return hashlib.sha256(json.dumps([study.id, film, report]).encode("ascii")).hexdigest()


class Ledger:
    """What is done of a folder that `lock_folder` holds.

    Args:
        out: Path of the folder.
        run: dict that JSON can hold: what all explanations depend on.
        keys: dict of study id to key: the studies of this run.

    Raises:
        InputError: if a file that is to be written is there and was not written by kmm.
    """

    def __init__(self, out, run, keys):
        self.out, self.parts, self.run, self.keys = out, out / PARTS, json.loads(json.dumps(run)), keys
        before = _read_json(self.parts / "run.json")
        self.owned = set(before.get("studies", ()))
        self.changed = before.get("run") != self.run
        self.names = set(os.listdir(out))
        new = [] if before else list(FOLDER_FILES)
        new += [study + suffix for study in keys if study not in self.owned for suffix in SUFFIXES]
        if foreign := sorted(self.names.intersection(new)):
            raise InputError(
                f"{out / foreign[0]}: expected a free name. Found a file that is not kmm's. Choose another folder."
            )
        self.lines, self.others = ({}, {}) if self.changed else self._read_lines()

    def begin(self):
        """Removes what is no longer so: outputs of another model or settings, and of studies that changed."""
        kept = set() if self.changed else (self.owned - self.keys.keys()) | self.lines.keys()
        stale = {study + suffix for study in self.owned - kept for suffix in SUFFIXES}
        stale.update(FOLDER_FILES if self.changed else ())
        mine = {study + suffix for study in self.owned for suffix in SUFFIXES}.union(FOLDER_FILES)
        for name in self.names:
            half = re.fullmatch(r"\.\d+-(.+)", name)  # what a run that was killed left of `replace_file`
            if name in stale or (half and half[1] in mine):
                (self.out / name).unlink(missing_ok=True)
        self.owned = self.owned.intersection(kept).union(self.keys)
        self._gather()
        write_json(self.parts / "run.json", {"run": self.run, "studies": sorted(self.owned)})

    def add(self, lines):
        """Takes note of a finished batch, which is on disk already."""
        self.lines.update((line["study"], line) for line in lines)

    def _read_lines(self):
        """The lines of studies of this run that are done, and those of other studies."""
        lines, others = {}, {}
        for path in self.parts.glob("*.jsonl"):
            for line in _read_part(path):
                key = self.keys.get(line["study"])
                if key is None:
                    others[line["study"]] = line
                elif key == line["key"] and self.names.issuperset(line["files"]):
                    lines[line["study"]] = line
        return lines, others

    def _gather(self):
        """Puts all that is done into one file, and removes the others."""
        gathered = self.parts / "done.jsonl"
        write_lines(gathered, [*self.others.values(), *self.lines.values()])
        for path in self.parts.iterdir():
            if path.name not in (gathered.name, "run.json", "lock"):
                path.unlink()


def write_lines(path, lines):
    """Writes a file of JSON lines, whole or not at all."""
    with replace_file(path) as place:
        place.write_text("".join(json.dumps(line, allow_nan=False) + "\n" for line in lines), encoding="utf-8")


def _read_part(path):
    """Lines of a finished batch; none where the file is damaged."""
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return lines if all({"study", "key", "files", "row"} <= set(line) for line in lines) else []
    except (ValueError, TypeError):
        return []


def _read_json(path):
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}
    except (FileNotFoundError, ValueError):
        return {}
