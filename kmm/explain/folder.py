"""A folder of studies explained: what is missing is done, in batches, by any runner; then index and table."""

import hashlib
from collections import Counter
from functools import partial
from pathlib import Path

import kmm
from kmm.artefact import digest_description
from kmm.data.names import is_safe_id
from kmm.errors import InputError
from kmm.explain.explanation import SCHEMA
from kmm.explain.index import render_index
from kmm.explain.ledger import FOLDER_FILES, INDEX, Ledger, lock_folder, make_key
from kmm.explain.outputs import Outputs
from kmm.explain.regions import check_settings
from kmm.explain.runners import run_here
from kmm.explain.settings import ExplainSettings
from kmm.explain.table import choose_table, describe_failure
from kmm.explain.worker import Batch, FolderWorker
from kmm.files import replace_file
from kmm.progress import Progress

BATCH = 16  # studies at most: enough to fill the chunks of paths, and little to lose
TURNS = 4  # batches a worker at least, where there are several workers, so that they end at about the same time


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
):
    """Explains studies into a folder. What is done already is not done again.

    Done is what an earlier run finished with the same model, settings and outputs, of the same film (by its size and
    time) and report. A run that was killed loses one batch a worker at most. With another model or other settings or
    outputs, all that kmm wrote into the folder before is removed first; files that are not kmm's are never touched.

    Args:
        model: path of a saved classifier.
        studies: sequence of `Study`, each with an id of its own.
        out: path of the folder, made where it is missing.
        settings: `ExplainSettings`; None: the defaults.
        outputs: `Outputs`: which files a study gets; None: the defaults.
        table: kind of table, a name in `kmm.explain.table.TABLES`.
        runner: of `kmm.explain.runners.choose_runner`.
        progress: `kmm.progress.Progress`.

    Returns:
        list of dict, the rows of the table in the order of the studies. `docs/explanation.md` names their columns. A
        study that cannot be explained has an `error`.

    Raises:
        InputError: if there is no study, an id comes twice, the folder cannot be used or is in use, or a setting is
            out of range.
        ArtefactError: if the classifier is incomplete or was altered.
        OSError: if the disk is full.
    """
    studies, out, progress = list(studies), Path(out), progress or Progress()
    settings, outputs = settings or ExplainSettings(), outputs or Outputs()
    _check_studies(studies)
    check_settings(settings.regions)
    table = choose_table(table)
    run = {
        "schema": SCHEMA,
        "kmm": kmm.__version__,
        "model": digest_description(model),
        "settings": settings.as_dict(),
        "outputs": outputs.as_dict(),
    }
    with lock_folder(out):
        ledger = Ledger(out, run, {study.id: make_key(study) for study in studies})
        todo = [study for study in studies if study.id not in ledger.lines]
        worker = FolderWorker(model, out, settings, outputs)
        lost = {}
        with progress.step("Explaining", len(studies), len(studies) - len(todo)) as advance:
            cut, tell = partial(cut_batches, todo, ledger.keys), _count_up(advance)
            for batch, reply in runner(worker, cut, ledger.begin, tell) if todo else ():
                if isinstance(reply, str):
                    lost.update((study.id, describe_failure(study, reply)) for study in batch.studies)
                else:
                    ledger.add(reply)
                tell(batch, len(batch.studies))
        rows = [lost.get(study.id) or ledger.lines[study.id]["row"] for study in studies]
        _write_folder_files(out, rows, table, outputs.page)
    return rows


def cut_batches(studies, keys, workers):
    """Cuts studies into batches for some workers.

    Args:
        studies: list of `Study`.
        keys: dict of study id to key.
        workers: int >= 1.

    Returns:
        list of `Batch` of at most `BATCH` studies, the last one perhaps smaller; empty without studies.

    Example:
        >>> from kmm.data.study import Study
        >>> studies = [Study(str(number), "1") for number in range(20)]
        >>> keys = {study.id: study.id for study in studies}
        >>> [[len(batch.studies) for batch in cut_batches(studies, keys, workers)] for workers in (1, 2)]
        [[16, 4], [2, 2, 2, 2, 2, 2, 2, 2, 2, 2]]
    """
    size = BATCH if workers == 1 else max(1, min(BATCH, len(studies) // (TURNS * workers)))
    batches = []
    for start in range(0, len(studies), size):
        chosen = tuple(studies[start : start + size])
        own = tuple(keys[study.id] for study in chosen)
        batches.append(Batch(hashlib.sha256("".join(own).encode("ascii")).hexdigest()[:32], chosen, own))
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
        if not is_safe_id(study.id) or study.id == INDEX.partition(".")[0]:
            raise InputError(f"Expected ids of studies that can name files beside {INDEX}. Received: {study.id!r}.")
        seen.add(study.id)


def _write_folder_files(out, rows, table, pages):
    """Index and table; a table of another kind that an earlier run wrote goes."""
    with replace_file(out / INDEX) as place:
        place.write_text(render_index(rows, pages=pages), encoding="utf-8")
    table.write(out / table.name, rows)
    for name in set(FOLDER_FILES) - {INDEX, table.name}:
        (out / name).unlink(missing_ok=True)
