"""The commands of kmm: each parses, calls one function of kmm, and prints the result.

Every room is imported inside its command, so that `--help` answers at once. Results go to standard output, progress
and errors to standard error. Exit codes: 0 done, 1 the answer is bad news, 2 wrong usage or input, 130 interrupted.
"""

import contextlib
import json
import logging
import os
import sys
from pathlib import Path

import click

import kmm
from kmm import tables
from kmm.errors import InputError, KmmError, LeakError

FOLDER = click.Path(file_okay=True, path_type=Path)
SEED = click.IntRange(0, 2**32 - 1)


class Group(click.Group):
    """A group whose errors are one line each."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KmmError as error:
            _complain(error)
            ctx.exit(1 if isinstance(error, LeakError) else 2)
        except BrokenPipeError:
            raise  # click ends quietly when nobody reads on
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            _complain(f"{place}{error.strerror or error}")
            ctx.exit(2)
        except KeyboardInterrupt:
            hint = " `kmm fit ... --resume` goes on from the last finished epoch."
            _complain("interrupted." + hint * (ctx.invoked_subcommand == "fit"))
            ctx.exit(130)


@click.group(cls=Group, context_settings={"auto_envvar_prefix": "KMM", "help_option_names": ["-h", "--help"]})
@click.version_option(kmm.__version__, prog_name="kmm")
def main():
    """Classifiers on chest films and their reports. Not for diagnosis.

    Every option can also be given as a variable: KMM_FIT_SEED=3 is `kmm fit --seed 3`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _json_option(command):
    """The option `--json`, by its variable too: KMM_FIT_JSON of `fit`."""
    return click.option(
        "--json",
        "json_file",
        envvar=f"KMM_{command}_JSON",
        help="Write the result as JSON to a file; - is standard output.",
    )


@main.group()
def data():
    """Look at a folder of studies, or make the built-in one."""


@data.command()
@click.argument("out", type=FOLDER)
@click.option("--studies", default=600, show_default=True, help="How many.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same files.")
@click.option("--pixels", default=256, show_default=True, help="Side of the films.")
def phantom(out, studies, seed, pixels):
    """Make the built-in synthetic set in the new folder OUT.

    Example: kmm data phantom phantom --studies 600 --seed 1
    """
    from kmm.data.phantom import make_phantom

    with _naming(out):
        summary = make_phantom(out, studies=studies, seed=seed, pixels=pixels)
    click.echo(f"{out}: {', '.join(f'{name} {value}' for name, value in summary.items())}")


@data.command()
@click.argument("folder", type=FOLDER)
@_json_option("DATA_VERIFY")
def verify(folder, json_file):
    """Check the studies of FOLDER: missing, unreadable, empty, duplicate, orphaned and inverted images.

    Exit code 1 when something is wrong. Example: kmm data verify openi --json checks.json
    """
    from kmm.data.verify import verify_collection
    from kmm.image.read import read_image

    _check_place(json_file)
    report = verify_collection(folder, read_image, progress=_progress())
    _write(json_file, report.as_dict(), lambda: tables.print_checks(report))
    sys.exit(0 if report.ok else 1)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, help="File to write: .txt is word2vec text, .bin binary.")
@click.option("--dimensions", type=click.IntRange(1), default=300, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option("--sections", help="Comma-separated; all four sections when not given.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--cbow", is_flag=True, help="CBOW instead of skip-gram.")
@click.option("--split", type=FOLDER, help="A split.csv: only its training studies are read.")
def embed(folder, out, dimensions, epochs, sections, seed, cbow, split):
    """Train word vectors on the reports of FOLDER.

    Without --split all reports are read. Vectors for a fit should not know its test reports: give its split.csv.
    Example: kmm embed openi --out vectors.txt --split saved_models/openi/split.csv
    """
    from kmm.batches import TextPreparation, gather_words
    from kmm.data.collection import read_collection
    from kmm.data.split import read_parts
    from kmm.settings import SECTIONS, expand_sections
    from kmm.text.word_vectors import train_word_vectors

    _check_place(out)
    chosen = expand_sections(sections.split(",")) if sections else SECTIONS
    collection = read_collection(folder)
    parts = read_parts(split) if split else {}
    studies = [study for study in collection.studies if not split or parts.get(study.id) == "train"]
    documents, problems = gather_words(studies, TextPreparation(chosen))
    _list_problems([*collection.problems, *problems])
    vectors = train_word_vectors(documents, dimensions=dimensions, epochs=epochs, seed=seed, skip_gram=not cbow)
    with _naming(out):
        vectors.save(out)
    click.echo(f"{out}: {len(vectors.words)} words, {vectors.vectors.shape[1]} dimensions")


def _fit_options(command):
    """The options of `fit` that are settings: none of them has a default, the preset has."""
    options = [
        click.option("--seed", type=int, help="Of everything drawn at random."),
        click.option("--labels", help="Label scheme."),
        click.option("--sections", help="Report sections to read: report, pre-read, or a comma-separated list."),
        click.option("--text-encoder", help="Name of the text encoder, or none."),
        click.option("--word-vectors", type=click.Path(), help="File of word vectors: word2vec or GloVe."),
        click.option("--image-encoder", help="Name of the image encoder, or none."),
        click.option("--image-weights", type=click.Path(), help="imagenet, or a file of weights."),
        click.option("--pixels", type=int, help="Side of the square that the encoder reads."),
        click.option("--batch-size", type=int),
        click.option("--learning-rate", type=float, help="Of the heads and of encoders that start at random."),
        click.option("--epochs", type=int, help="Upper bound on the epochs of every stage."),
        click.option("--strict", is_flag=True, default=None, help="The first unusable study ends the run."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@click.argument("folder", type=FOLDER, required=False)
@click.option("--preset", help="Name of a preset: small or paper.")
@click.option("--name", help="Name of the classifier; the preset's name when not given.")
@click.option("--out", default="saved_models", show_default=True, type=FOLDER, help="Where classifiers lie.")
@_fit_options
@click.option(
    "--set", "more", multiple=True, metavar="NAME=VALUE", envvar="KMM_FIT_SET", help="Any other setting; repeatable."
)
@click.option("--config", type=FOLDER, help="YAML file of settings; options on the command line win.")
@click.option("--split", type=FOLDER, help="A split.csv to re-use.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace a classifier of the same name.")
@click.option("--tensorboard", type=FOLDER, help="Folder for TensorBoard logs.")
@_json_option("FIT")
def fit(folder, preset, name, out, more, config, split, resume, overwrite, tensorboard, json_file, **values):
    """Train a classifier on the studies of FOLDER; without FOLDER, on the built-in phantom set.

    \b
    Examples: kmm fit
              kmm fit openi --preset paper --image-weights densenet121.h5 --name openi
              kmm fit openi --sections pre-read --set fusion_units=256 --json results.json
    """
    from kmm.data.collection import read_collection
    from kmm.presets import gather_settings

    settings = gather_settings(values, preset=preset, more=more, config=config)
    progress = _progress()
    _check_place(json_file)
    name = _choose_name(out, name, settings.preset, resume=resume, overwrite=overwrite)
    collection = read_collection(folder or _phantom(out, progress))
    progress.note(f"{collection.folder}: {collection.layout}, {len(collection.studies)} studies")
    _check_problems(collection, settings.strict)
    with _hushed():
        from kmm.train import fit_classifier, save_run

    with _naming(out), _workshop(out / f".work-{name}", resume=resume, overwrite=overwrite) as work:
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
    _list_problems([*collection.problems, *run.prepared.problems])
    _write(json_file, classifier.metrics, lambda: tables.print_results(classifier.metrics))
    progress.note(f"Saved: {out / name}")


@main.command()
@click.argument("model", type=FOLDER)
@click.argument("folder", type=FOLDER)
@_json_option("EVALUATE")
@click.option("--strict", is_flag=True, help="The first unusable study ends the run.")
def evaluate(model, folder, json_file, strict):
    """Measure the classifier MODEL on the studies of FOLDER, beside the baselines.

    Studies that MODEL was trained on are left out; those it was calibrated on are reported apart, as validation.

    \b
    Example: kmm evaluate saved_models/openi other-hospital --json results.json
    """
    from kmm.data.collection import read_collection

    _check_place(json_file)
    collection = read_collection(folder)
    _check_problems(collection, strict)
    with _hushed():
        from kmm.classifier import Classifier
        from kmm.evaluate.report import evaluate_studies

    classifier = Classifier.load(model)
    results, problems = evaluate_studies(classifier, collection.studies, strict=strict, progress=_progress())
    _list_problems([*collection.problems, *problems])
    _write(json_file, results, lambda: tables.print_results(results))


@main.command()
@click.argument("model", type=FOLDER)
@click.argument("files", nargs=-1, required=True, type=FOLDER)
@click.option("--report", type=FOLDER, help="Text file with the report of the one image.")
@_json_option("PREDICT")
@click.option("--strict", is_flag=True, help="The first unusable study ends the run.")
def predict(model, files, report, json_file, strict):
    """Predict images, DICOM files, manifests or folders with the classifier MODEL.

    Example: kmm predict saved_models/openi film.dcm --report report.txt
    """
    from kmm.data.inputs import place_report, read_inputs

    _check_place(json_file)
    collection = read_inputs(files, report=report)
    _check_problems(collection, strict)
    with _hushed():
        from kmm.classifier import Classifier, describe_predictions

    classifier = Classifier.load(model, main_only=True)
    studies = collection.studies
    if report:
        text = classifier.batches.text
        studies = [place_report(studies[0], text.sections if text else ())]
    predictions = classifier.predict(studies, strict=strict, progress=_progress())
    problems = [*collection.problems, *predictions.problems]
    _list_problems(problems)
    rows = describe_predictions(classifier, predictions)
    result = {"model": str(model), "predictions": rows, "set_aside": [str(problem) for problem in problems]}
    _write(json_file, result, lambda: tables.print_predictions(rows))
    sys.exit(0 if rows else 2)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell):
    """Print the completion script of a shell.

    Example: kmm completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    click.echo(get_completion_class(shell)(main, {}, "kmm", "_KMM_COMPLETE").source())


@contextlib.contextmanager
def _hushed():
    """Drops what C++ libraries write to standard error while they are imported: it is no news to a user."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def _naming(path):
    """An error of the disk that names no file is said of this one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


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


def _progress():
    from kmm.progress import choose_progress

    return choose_progress()


def _phantom(out, progress):
    """The phantom set that a bare `fit` trains on, made once."""
    from kmm.data.phantom import make_phantom

    folder = out / ".phantom"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        progress.note(f"No folder given: making the built-in phantom set in {folder}")
        with _naming(folder):
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


def _check_problems(collection, strict):
    """With `--strict`, what the reader set aside ends the run too."""
    if strict and collection.problems:
        raise InputError(str(collection.problems[0]))


def _check_place(path):
    """A file to be written at the end has a folder to lie in: said before the work, not after it."""
    if path and str(path) != "-" and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise InputError(f"{path}: expected the name of a file in a folder that exists.")


def _complain(text):
    """One line on standard error, whatever stands in file names."""
    click.echo(f"kmm: {_one_line(text)}", err=True)


def _one_line(text):
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(text).split()))


def _write(json_file, value, show):
    """The result: as JSON where it was asked for, else for people."""
    from kmm.settings import write_json

    if json_file == "-":
        click.echo(json.dumps(value, indent=2, allow_nan=False))
        return
    with _naming(json_file):
        if json_file and Path(json_file).exists() and not Path(json_file).is_file():  # a pipe is written, not replaced
            Path(json_file).write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        elif json_file:
            write_json(os.path.realpath(json_file), value)
    show()


def _list_problems(problems, most=20):
    for problem in problems[:most]:
        click.echo(f"set aside: {_one_line(problem)}", err=True)
    if len(problems) > most:
        click.echo(f"set aside: {len(problems) - most} more", err=True)


with contextlib.suppress(AttributeError, ValueError):
    sys.stdout.reconfigure(errors="backslashreplace")
