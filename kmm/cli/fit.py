"""`kmm fit`: train and save a classifier."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from kmm.cli import result_tables
from kmm.cli.command import PLACE, Command, json_option, views_option
from kmm.cli.fit_options import fit_options, set_option
from kmm.cli.output import (
    check_place,
    check_problems,
    list_problems,
    load_keras_quietly,
    make_progress,
    name_file_in_errors,
    print_problems_on_error,
    write_result,
)
from kmm.errors import InputError
from kmm.keras_backend import check_backend
from kmm.presets import SETTING_NAMES, gather_settings
from kmm.progress import Progress


@click.command(cls=Command, settings=SETTING_NAMES)
@click.argument("folder", type=PLACE, required=False)
@click.option("--name", help="Name of the classifier; the preset's name when not given.")
@click.option("--out", default="saved_models", show_default=True, type=PLACE, help="Folder of classifiers.")
@fit_options
@set_option("FIT")
@click.option("--split", type=PLACE, help="split.csv to use instead of a new split.")
@views_option
@click.option("--resume", is_flag=True, help="Continue a run that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace a classifier of the same name.")
@click.option("--tensorboard", type=PLACE, help="Folder for TensorBoard logs.")
@json_option("FIT")
def fit(
    folder: Path | None,
    name: str | None,
    out: Path,
    more: tuple[str, ...],
    config: Mapping[str, Any],
    split: Path | None,
    views: Mapping[str, str] | None,
    resume: bool,
    overwrite: bool,
    tensorboard: Path | None,
    json_file: str | None,
    **values: Any,
) -> None:
    """Train a classifier on a folder of studies.

    Without FOLDER, trains on the built-in phantom set.

    \b
    Examples: kmm fit
              kmm fit openi --preset paper --image-weights densenet121.h5 --name openi
              kmm fit openi --sections pre-read --set fusion_units=256 --json results.json
    """
    from kmm.data.collection import read_collection
    from kmm.training.run_folders import CACHE, WORK, open_work_folder

    settings = gather_settings(values, more=more, config=config)
    check_backend()
    progress = make_progress()
    check_place(json_file)
    name = _choose_name(out, name, settings.preset, resume=resume, overwrite=overwrite)
    collection = read_collection(folder or make_phantom_set(out, progress), view_overrides=views)
    progress.note(f"{collection.folder}: {collection.layout}, {len(collection.studies)} studies")
    check_problems(collection, settings.strict)
    with load_keras_quietly():
        from kmm.training.fit import fit_classifier
        from kmm.training.save_run import save_run

    opened = open_work_folder(out / f"{WORK}{name}", resume=resume, overwrite=overwrite)
    with name_file_in_errors(out), print_problems_on_error(collection.problems), opened as work:
        classifier, run = fit_classifier(
            collection,
            settings,
            work=work,
            cache=out / CACHE,
            split=split,
            progress=progress,
            tensorboard=tensorboard,
        )
        save_run(classifier, run, out / name, overwrite=overwrite)
    list_problems([*collection.problems, *run.prepared.problems])
    if "test" not in classifier.metrics:
        progress.note("The split has no test studies: the results are of validation alone, which also chose thresholds")
    write_result(json_file, classifier.metrics, lambda: result_tables.print_results(classifier.metrics))
    progress.note(f"Saved: {out / name}")


def make_phantom_set(out: Path, progress: Progress) -> Path:
    """Returns the folder of the phantom set, on which a command without FOLDER trains; makes it on first use."""
    from kmm.data.phantom.dataset import make_phantom
    from kmm.training.run_folders import PHANTOM

    folder = out / PHANTOM
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        progress.note(f"No FOLDER given: making the built-in phantom set in {folder}")
        with name_file_in_errors(folder):
            make_phantom(folder, studies=800)
    return folder


def _choose_name(out, name, preset, *, resume, overwrite):
    """Returns the given name, else that of the stopped run, else the preset's name with the first free number."""
    import re

    from kmm.training.run_folders import OBJECTIVE, WORK

    if name is None and resume:
        runs = (path for path in out.glob(f"{WORK}*") if not (path / OBJECTIVE).exists())
        stopped = sorted(path.name.removeprefix(WORK) for path in runs)
        if len(stopped) > 1:
            raise InputError(f"{out} has several stopped runs: {', '.join(stopped)}. Choose one with --name.")
        name = stopped[0] if stopped else None
    if name is None:
        name, number = preset, 1
        while (out / name).exists() and not overwrite:
            name, number = f"{preset}-{number + 1}", number + 1
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.isdigit():
        raise InputError(f"Expected a name of letters, digits, '.', '_' and '-'. Received: {name!r}")
    if (out / name).exists() and not overwrite:
        raise InputError(f"{out / name} already exists. Choose another --name or pass --overwrite.")
    return name
