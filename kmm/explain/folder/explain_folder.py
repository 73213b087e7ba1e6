"""Explanation of studies into a folder: explains those that are missing, in batches, then writes index and table."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import kmm
from kmm.data.names import choose_file_names
from kmm.data.study import Study
from kmm.engines.runners import run_here
from kmm.engines.worker import Runner
from kmm.errors import InputError
from kmm.explain.folder.fingerprints import describe_attribution, describe_drawing, digest_record
from kmm.explain.folder.journal import FOLDER_FILES, INDEX, Journal, lock_folder
from kmm.explain.folder.lock import FolderLock
from kmm.explain.folder.sources import MapSource, ModelSource
from kmm.explain.folder.worker import FolderWorker, Job, Stamp
from kmm.explain.output.files import Outputs
from kmm.explain.output.index import render_index
from kmm.explain.output.table import choose_table, describe_failure
from kmm.explain.regions.find import check_settings
from kmm.explain.settings import ExplainSettings
from kmm.progress import Progress
from kmm.storage.archive import digest_classifier, peek_description
from kmm.storage.classifier_folder import not_as_expected
from kmm.storage.files import replace_file

BATCH = 16  # most studies of a batch: enough to fill the chunks of paths, and few to lose when a process is killed
TURNS = 4  # least batches per worker, if there are several workers, so that they finish at about the same time
RESUME, REDRAW, OVERWRITE = MODES = ("resume", "redraw", "overwrite")
NO_MAP = "no map of this film and report is kept. Run the command without --redraw to compute it"


def explain_folder(
    model: Path | str,
    studies: Sequence[Study],
    out: Path | str,
    *,
    settings: ExplainSettings | None = None,
    outputs: Outputs | None = None,
    table: str = "csv",
    runner: Runner = run_here,
    progress: Progress | None = None,
    mode: str = RESUME,
) -> list[dict[str, Any]]:
    """Explains studies into a folder. Studies that are already explained are skipped.

    A study's attribution depends on the model, the settings except `regions`, the bytes of its film and its report. Its
    map is stored, so that it can be drawn with other `regions` or outputs without the model. A killed run loses at most
    one batch per worker. Old files stay until new ones replace them, and files not written by kmm are never touched.
    Index and table list every study of the folder.

    Args:
        model: path of a saved classifier.
        studies: sequence of `Study` with distinct ids.
        out: path of the folder, created if missing.
        settings: `ExplainSettings`; None: the defaults.
        outputs: `Outputs`, the files to write for each study; None: the defaults.
        table: kind of table, a name in `kmm.explain.output.table.TABLES`.
        runner: runner from `kmm.engines.runners.choose_runner`.
        progress: `kmm.progress.Progress`.
        mode: `"resume"`; `"redraw"`: only draw from stored maps, and a study without a map gets an `error` and keeps
            its files; or `"overwrite"`: replace explanations of another model or method.

    Returns:
        list of dict, the table's rows of these studies in their order. `docs/explanation.md` names their columns. A
        study that cannot be explained has an `error`.

    Raises:
        InputError: if there are no studies, an id occurs twice, the folder cannot be used or is in use, it holds
            explanations of another model or method, or a setting is out of range.
        ArtefactError: if the classifier is incomplete or was altered.
        OSError: if the disk is full.
    """
    studies, out, progress = list(studies), Path(out), progress or Progress()
    settings, outputs = settings or ExplainSettings(), outputs or Outputs()
    _check_studies(studies)
    check_settings(settings.regions)
    if mode not in MODES:
        raise InputError(f"`mode` must be one of {', '.join(MODES)}. Received: {mode!r}.")
    table_file = choose_table(table)
    run = describe_attribution(digest_classifier(model), settings.as_dict())
    drawing = digest_record(describe_drawing(settings, outputs))
    stamp = Stamp(run=digest_record(run), drawing=drawing, kmm=kmm.__version__)
    labels = choose_file_names(_read_labels(model), dots=False) if settings.targets else None
    with lock_folder(out) as token:
        journal = Journal(out, stamp, run, studies, labels=labels, overwrite=mode == OVERWRITE)
        redraw, explain = journal.divide(studies)
        work = _Work(studies, journal, runner, partial(journal.begin, [*redraw, *explain]), progress)
        make_worker = partial(FolderWorker, claim=FolderLock(out, token), outputs=outputs, stamp=stamp, labels=labels)
        lost = work.do("Redrawing", make_worker(MapSource(out, settings, journal.names)), redraw) if redraw else {}
        if mode == REDRAW:
            journal.finish()
            rows = journal.rows()
            lost.update((study.id, describe_failure(study, NO_MAP)) for study in studies if study.id in explain)
        else:
            explain.update((study, redraw[study]) for study in lost)  # computes again what could not be drawn
            lost = {}
            if explain or not redraw:
                lost = work.do("Explaining", make_worker(ModelSource(model, settings)), explain, len(studies))
            journal.finish()
            rows = journal.rows(lost)
        _write_folder_files(out, rows, table_file)
        return [
            row for study in studies for row in ([lost[study.id]] if study.id in lost else journal.rows_of(study.id))
        ]


@dataclass(frozen=True)
class _Work:
    """The studies of a run, and the means to process them."""

    studies: list[Study]
    journal: Journal
    runner: Runner
    begin: Callable[[], None]
    progress: Progress

    def do(self, title, worker, identities, total=None):
        """Runs a worker over some studies and adds the finished ones to the journal.

        Args:
            title: str. Name of the step, for the progress.
            worker: `FolderWorker`.
            identities: dict of the id of each study to process to its identity, or None if it is not known yet.
            total: int. Number of studies, with those that were done before; None: only those in `identities`.

        Returns:
            dict of study id to row, of studies that failed.
        """
        chosen, failed = [study for study in self.studies if study.id in identities], {}
        total = total or len(chosen)
        with self.progress.step(title, total, total - len(chosen)) as advance:
            notify, cut = _count_up(advance), partial(cut_batches, chosen, self.journal.names, identities)
            for batch, reply in self.runner(worker, cut, self.begin, notify) if chosen else ():
                if isinstance(reply, str):
                    failed.update((study.id, describe_failure(study, reply)) for study in batch.studies)
                else:
                    errors = {line["study"]: line["rows"][0] for line in reply if not line["files"]}
                    failed.update(errors)
                    self.journal.add(line for line in reply if worker.source.computes or line["study"] not in errors)
                notify(batch, len(batch.studies))
        return failed


def cut_batches(
    studies: Sequence[Study],
    names: Mapping[str, str],
    identities: Mapping[str, dict[str, Any] | None],
    workers: int,
) -> list[Job]:
    """Splits studies into batches for a number of workers.

    Args:
        studies: list of `Study`.
        names: dict of study id to the name of its files, without suffixes.
        identities: dict of study id to identity, or None if it is not known yet.
        workers: int >= 1.

    Returns:
        list of `Job` of at most `BATCH` studies each, the last one perhaps smaller; empty without studies.

    Example:
        >>> from kmm.data.study import Study
        >>> studies = [Study(str(number), "1") for number in range(20)]
        >>> names = {study.id: study.id for study in studies}
        >>> [[len(batch.studies) for batch in cut_batches(studies, names, {}, workers)] for workers in (1, 2)]
        [[16, 4], [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]]
    """
    size = BATCH if workers == 1 else max(1, min(BATCH, len(studies) // (TURNS * workers)))
    batches = []
    for start in range(0, len(studies), size):
        chosen = tuple(studies[start : start + size])
        own = tuple(names[study.id] for study in chosen)
        known = tuple(identities.get(study.id) for study in chosen)
        batches.append(Job(hashlib.sha256("/".join(own).encode("ascii")).hexdigest()[:32], chosen, own, known))
    return batches


def _count_up(advance):
    """Makes a function `(batch, count)` that counts each study once, even if a killed batch is repeated."""
    counted = Counter()

    def notify(batch, count):
        if count > counted[batch.name]:
            advance(count - counted[batch.name])
            counted[batch.name] = count

    return notify


def _check_studies(studies):
    if not studies:
        raise InputError("There are no studies to explain.")
    seen = set()
    for study in studies:
        if study.id in seen:
            raise InputError(f"The id {study.id} occurs twice. Every study needs an id of its own.")
        seen.add(study.id)


def _read_labels(model):
    """Reads the labels of a saved classifier, without loading it."""
    try:
        return peek_description(model)["preparation"]["label_names"]
    except (KeyError, TypeError) as error:
        raise not_as_expected(model, error) from None


def _write_folder_files(out, rows, table):
    """Writes index and table; removes a table of another kind that an earlier run wrote."""
    with replace_file(out / INDEX) as place:
        place.write_text(render_index(rows, files=set(os.listdir(out))), encoding="utf-8")
    table.write(out / table.name, rows)
    for name in set(FOLDER_FILES) - {INDEX, table.name}:
        (out / name).unlink(missing_ok=True)
