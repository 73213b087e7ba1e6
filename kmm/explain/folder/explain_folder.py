"""A folder of studies explained: what is missing is done, in batches, by any runner; then index and table."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import kmm
from kmm.data.names import choose_file_names
from kmm.errors import InputError
from kmm.explain.folder.fingerprints import describe_attribution, describe_drawing, digest_record
from kmm.explain.folder.journal import FOLDER_FILES, INDEX, Journal, lock_folder
from kmm.explain.folder.lock import FolderLock
from kmm.explain.folder.runners import run_here
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

BATCH = 16  # studies at most: enough to fill the chunks of paths, and little to lose
TURNS = 4  # batches a worker at least, where there are several workers, so that they end at about the same time
RESUME, REDRAW, OVERWRITE = MODES = ("resume", "redraw", "overwrite")
NO_MAP = "no map of this film and report is kept. Run the command without --redraw to compute it"


def explain_folder(
    model,
    studies,
    out,
    *,
    settings=None,
    outputs=None,
    table="csv",
    runner=run_here,
    progress=None,
    mode=RESUME,
):
    """Explains studies into a folder. What is done already is not done again.

    A study's attribution depends on the model, the settings but for `regions`, the bytes of its film and its report.
    Its map is kept, so that other `regions` or outputs draw it again without the model. A run that was killed loses one
    batch a worker at most. Files that a run replaces stay until their successors are written, and files that are not
    kmm's are never touched. Index and table hold every study of the folder.

    Args:
        model: path of a saved classifier.
        studies: sequence of `Study`, each with an id of its own.
        out: path of the folder, made where it is missing.
        settings: `ExplainSettings`; None: the defaults.
        outputs: `Outputs`: which files a study gets; None: the defaults.
        table: kind of table, a name in `kmm.explain.output.table.TABLES`.
        runner: of `kmm.explain.folder.runners.choose_runner`.
        progress: `kmm.progress.Progress`.
        mode: `"resume"`; `"redraw"`: nothing is computed, and a study without a map has an `error`, while the files
            that it has stay; or `"overwrite"`: explanations of another model or method are replaced.

    Returns:
        list of dict, the rows of the table of these studies in their order. `docs/explanation.md` names their columns.
        A study that cannot be explained has an `error`.

    Raises:
        InputError: if there is no study, an id comes twice, the folder cannot be used or is in use, it holds
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
    table = choose_table(table)
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
            explain.update((study, redraw[study]) for study in lost)  # what could not be drawn is computed again
            lost = {}
            if explain or not redraw:
                lost = work.do("Explaining", make_worker(ModelSource(model, settings)), explain, len(studies))
            journal.finish()
            rows = journal.rows(lost)
        _write_folder_files(out, rows, table)
        return [
            row for study in studies for row in ([lost[study.id]] if study.id in lost else journal.rows_of(study.id))
        ]


@dataclass(frozen=True)
class _Work:
    """How the studies of a run are done."""

    studies: list
    journal: Journal
    runner: Callable
    begin: Callable
    progress: Progress

    def do(self, title, worker, identities, total=None):
        """Lets the runner do some studies; what is done is in the journal then.

        Args:
            title: str. What is done, for the progress.
            worker: `FolderWorker`.
            identities: dict of the id of each study to do to its identity, or None where it is not known.
            total: int. Studies in all, with those that were done before; None: those that are done now.

        Returns:
            dict of study id to row, of those that failed.
        """
        chosen, failed = [study for study in self.studies if study.id in identities], {}
        total = total or len(chosen)
        with self.progress.step(title, total, total - len(chosen)) as advance:
            tell, cut = _count_up(advance), partial(cut_batches, chosen, self.journal.names, identities)
            for batch, reply in self.runner(worker, cut, self.begin, tell) if chosen else ():
                if isinstance(reply, str):
                    failed.update((study.id, describe_failure(study, reply)) for study in batch.studies)
                else:
                    errors = {line["study"]: line["rows"][0] for line in reply if not line["files"]}
                    failed.update(errors)
                    self.journal.add(line for line in reply if worker.source.computes or line["study"] not in errors)
                tell(batch, len(batch.studies))
        return failed


def cut_batches(studies, names, identities, workers):
    """Cuts studies into batches for some workers.

    Args:
        studies: list of `Study`.
        names: dict of study id to what its files are called.
        identities: dict of study id to identity, or None where it is not known.
        workers: int >= 1.

    Returns:
        list of `Batch` of at most `BATCH` studies, the last one perhaps smaller; empty without studies.

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
    """A function `(batch, count)` that counts studies once, though a batch whose process was killed is done again."""
    told = Counter()

    def tell(batch, count):
        if count > told[batch.name]:
            advance(count - told[batch.name])
            told[batch.name] = count

    return tell


def _check_studies(studies):
    if not studies:
        raise InputError("Expected studies to explain. Received: none.")
    seen = set()
    for study in studies:
        if study.id in seen:
            raise InputError(f"Expected every study once. Received twice: {study.id}.")
        seen.add(study.id)


def _read_labels(model):
    """The labels of a saved classifier, without loading it."""
    try:
        return peek_description(model)["preparation"]["label_names"]
    except (KeyError, TypeError) as error:
        raise not_as_expected(model, error) from None


def _write_folder_files(out, rows, table):
    """Index and table; a table of another kind that an earlier run wrote goes."""
    with replace_file(out / INDEX) as place:
        place.write_text(render_index(rows, files=set(os.listdir(out))), encoding="utf-8")
    table.write(out / table.name, rows)
    for name in set(FOLDER_FILES) - {INDEX, table.name}:
        (out / name).unlink(missing_ok=True)
