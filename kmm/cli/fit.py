"""`kmm fit`: train a classifier, in a folder of its own, one run at a time."""

import contextlib

import click

from kmm.cli import result_tables
from kmm.cli.command import PLACE, Command, group_options, json_option, views_option
from kmm.cli.keras_backend import check_backend
from kmm.cli.output import (
    check_place,
    check_problems,
    hushed,
    list_problems,
    make_progress,
    naming,
    telling,
    write_result,
)
from kmm.data.labels import LABEL_SCHEMES
from kmm.errors import InputError, KmmError
from kmm.presets import PRESETS, SETTING_NAMES, gather_settings


def _setting_options(command):
    """The options of `fit` that are settings: none of them has a default, the preset has."""
    options = [
        click.option("--preset", help=" ".join(f"{name}: {preset.about}" for name, preset in PRESETS.items())),
        click.option("--seed", type=int, help="Of everything drawn at random."),
        click.option(
            "--labels", help="; ".join(f"{name}: {scheme.description}" for name, scheme in LABEL_SCHEMES.items()) + "."
        ),
        click.option("--sections", help="Report sections to read: report, pre-read, or a comma-separated list."),
        click.option("--text-encoder", help="Name of the text encoder, or none."),
        click.option("--word-pieces", type=click.Path(), help="File of word pieces: vocab.txt of an uncased BERT."),
        click.option("--word-vectors", type=click.Path(), help="File of word vectors: word2vec or GloVe."),
        click.option(
            "--min-word-patients",
            type=int,
            help="Training patients who must use a word for it to be kept; 1 keeps the words of one patient.",
        ),
        click.option("--image-encoder", help="Name of the image encoder, or none."),
        click.option("--image-weights", type=click.Path(), help="imagenet, or a file of weights."),
        click.option("--pixels", type=int, help="Side of the square that the encoder reads."),
        click.option("--batch-size", type=int),
        click.option("--learning-rate", type=float, help="Of the heads and of encoders that start at random."),
        click.option("--epochs", type=int, help="Upper bound on the epochs of every stage."),
        click.option("--strict", is_flag=True, default=None, help="The first unusable study ends the run."),
    ]
    return group_options(*options)(command)


@click.command(cls=Command, settings=SETTING_NAMES)
@click.argument("folder", type=PLACE, required=False)
@click.option("--name", help="Name of the classifier; the preset's name when not given.")
@click.option("--out", default="saved_models", show_default=True, type=PLACE, help="Where classifiers lie.")
@_setting_options
@click.option(
    "--set", "more", multiple=True, metavar="NAME=VALUE", envvar="KMM_FIT_SET", help="Any other setting; repeatable."
)
@click.option("--split", type=PLACE, help="A split.csv to re-use.")
@views_option
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace a classifier of the same name.")
@click.option("--tensorboard", type=PLACE, help="Folder for TensorBoard logs.")
@json_option("FIT")
def fit(folder, name, out, more, config, split, views, resume, overwrite, tensorboard, json_file, **values):
    """Train a classifier on the studies of FOLDER; without FOLDER, on the built-in phantom set.

    \b
    Examples: kmm fit
              kmm fit openi --preset paper --image-weights densenet121.h5 --name openi
              kmm fit openi --sections pre-read --set fusion_units=256 --json results.json
    """
    from kmm.data.collection import read_collection

    settings = gather_settings(values, more=more, config=config)
    check_backend()
    progress = make_progress()
    check_place(json_file)
    name = _choose_name(out, name, settings.preset, resume=resume, overwrite=overwrite)
    collection = read_collection(folder or _make_phantom(out, progress), view_overrides=views)
    progress.note(f"{collection.folder}: {collection.layout}, {len(collection.studies)} studies")
    check_problems(collection, settings.strict)
    with hushed():
        from kmm.training.fit import fit_classifier, save_run

    workshop = _workshop(out / f".work-{name}", resume=resume, overwrite=overwrite)
    with naming(out), telling(collection.problems), workshop as work:
        classifier, run = fit_classifier(
            collection,
            settings,
            work=work,
            cache=out / ".cache",
            split=split,
            progress=progress,
            tensorboard=tensorboard,
        )
        save_run(classifier, run, out / name, overwrite=overwrite)
    list_problems([*collection.problems, *run.prepared.problems])
    write_result(json_file, classifier.metrics, lambda: result_tables.print_results(classifier.metrics))
    progress.note(f"Saved: {out / name}")


@contextlib.contextmanager
def _workshop(work, *, resume, overwrite):
    """The folder of a run's state, for one run at a time: kept for `--resume` once there is something to go on from."""
    import fcntl
    import shutil

    work.parent.mkdir(parents=True, exist_ok=True)
    mark = work.with_name(work.name.replace(".work-", ".lock-", 1))
    with open(mark, "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(f"{work}: another run of this name is at work. Choose another --name.") from None
        if work.exists() and not resume:
            if (work / "stages").exists() and not overwrite:
                raise InputError(f"{work}: a run of this name was stopped. --resume goes on, --overwrite starts over.")
            shutil.rmtree(work)
        try:
            yield work
        except (KmmError, OSError):
            if not (work / "stages").exists():
                shutil.rmtree(work, ignore_errors=True)
            raise
        finally:
            mark.unlink(missing_ok=True)


def _make_phantom(out, progress):
    """The phantom set that a bare `fit` trains on, made once."""
    from kmm.data.phantom.dataset import make_phantom

    folder = out / ".phantom"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        progress.note(f"No folder given: making the built-in phantom set in {folder}")
        with naming(folder):
            make_phantom(folder, studies=800)
    return folder


def _choose_name(out, name, preset, *, resume, overwrite):
    """The name asked for; else that of the run that was stopped, or the preset's name with the first free number."""
    import re

    if name is None and resume:
        stopped = sorted(path.name.removeprefix(".work-") for path in out.glob(".work-*"))
        if len(stopped) > 1:
            raise InputError(f"{out}: expected a --name of the run to resume. Stopped: {', '.join(stopped)}")
        name = stopped[0] if stopped else None
    if name is None:
        name, number = preset, 1
        while (out / name).exists() and not overwrite:
            name, number = f"{preset}-{number + 1}", number + 1
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.isdigit():
        raise InputError(f"Expected a name of letters, digits, '.', '_' and '-'. Received: {name!r}")
    if (out / name).exists() and not overwrite:
        raise InputError(f"{out / name} is there already. Choose another --name, or --overwrite it.")
    return name
