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
from kmm.errors import KmmError, LeakError

FOLDER = click.Path(file_okay=True, path_type=Path)
JSON_HELP = "Write the result as JSON to a file; - is standard output."


class Group(click.Group):
    """A group whose errors are one line each."""

    def invoke(self, ctx):
        try:
            return super().invoke(ctx)
        except KmmError as error:
            click.echo(f"kmm: {error}", err=True)
            ctx.exit(1 if isinstance(error, LeakError) else 2)
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            click.echo(f"kmm: {place}{error.strerror or error}", err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            click.echo("kmm: interrupted. `kmm fit ... --resume` goes on from the last finished epoch.", err=True)
            ctx.exit(130)


@click.group(cls=Group, context_settings={"auto_envvar_prefix": "KMM", "help_option_names": ["-h", "--help"]})
@click.version_option(kmm.__version__, prog_name="kmm")
def main():
    """Classifiers on chest films and their reports. Not for diagnosis.

    Every option can also be given as a variable: KMM_FIT_SEED=3 is `kmm fit --seed 3`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


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

    summary = make_phantom(out, studies=studies, seed=seed, pixels=pixels)
    click.echo(f"{out}: {', '.join(f'{name} {value}' for name, value in summary.items())}")


@data.command()
@click.argument("folder", type=FOLDER)
@click.option("--json", "json_file", help=JSON_HELP)
def verify(folder, json_file):
    """Check the studies of FOLDER: missing, unreadable, empty, duplicate, orphaned and inverted images.

    Exit code 1 when something is wrong. Example: kmm data verify openi --json checks.json
    """
    from kmm.data.verify import verify_collection
    from kmm.image.read import read_image

    report = verify_collection(folder, read_image, progress=_progress())
    _write(json_file, report.as_dict(), lambda: _print_checks(report))
    sys.exit(0 if report.ok else 1)


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, help="File to write: .txt is word2vec text, .bin binary.")
@click.option("--dimensions", default=300, show_default=True)
@click.option("--epochs", default=10, show_default=True)
@click.option("--sections", help="Comma-separated; all four sections when not given.")
@click.option("--seed", default=0, show_default=True)
@click.option("--skip-gram", is_flag=True, help="Skip-gram instead of CBOW.")
def embed(folder, out, dimensions, epochs, sections, seed, skip_gram):
    """Train word vectors on the reports of FOLDER.

    Example: kmm embed openi --out vectors.txt --dimensions 300
    """
    from kmm.data.collection import read_collection
    from kmm.data.study import SECTIONS
    from kmm.settings import expand_sections
    from kmm.text.clean import find_words
    from kmm.text.word_vectors import train_word_vectors

    chosen = expand_sections(sections.split(",")) if sections else SECTIONS
    studies = read_collection(folder).studies
    documents = [[word.text for word in find_words(study.report.text(chosen))] for study in studies if study.report]
    vectors = train_word_vectors(
        [words for words in documents if words], dimensions=dimensions, epochs=epochs, seed=seed, skip_gram=skip_gram
    )
    vectors.save(out)
    click.echo(f"{out}: {len(vectors.words)} words, {vectors.vectors.shape[1]} dimensions")


def _fit_options(command):
    """The options of `fit` that are settings: none of them has a default, the preset has."""
    options = [
        click.option("--seed", type=int, help="Of everything drawn at random."),
        click.option("--labels", help="Label scheme."),
        click.option(
            "--sections", help="Report sections to read: report, pre-read, or a comma-separated list."
        ),
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
@click.option("--set", "more", multiple=True, metavar="NAME=VALUE", help="Any other setting; repeatable.")
@click.option("--config", type=FOLDER, help="YAML file of settings; options on the command line win.")
@click.option("--split", type=FOLDER, help="A split.csv to re-use.")
@click.option("--resume", is_flag=True, help="Go on with a run that was stopped.")
@click.option("--overwrite", is_flag=True, help="Replace a classifier of the same name.")
@click.option("--tensorboard", type=FOLDER, help="Folder for TensorBoard logs.")
@click.option("--json", "json_file", help=JSON_HELP)
def fit(folder, preset, name, out, more, config, split, resume, overwrite, tensorboard, json_file, **values):
    """Train a classifier on the studies of FOLDER; without FOLDER, on the built-in phantom set.

    \b
    Examples: kmm fit
              kmm fit openi --preset paper --image-weights densenet121.h5 --name openi
              kmm fit openi --sections pre-read --set fusion_units=256 --json results.json
    """
    from kmm.presets import gather_settings

    settings = gather_settings(values, preset=preset, more=more, config=config)
    from kmm.data.collection import read_collection

    with _hushed():
        from kmm.train import fit_classifier, save_run

    progress = _progress()
    name = _choose_name(out, name, settings.preset, resume or overwrite)
    collection = read_collection(folder or _phantom(out, progress))
    progress.note(f"{collection.folder}: {collection.layout}, {len(collection.studies)} studies")
    work = out / f".work-{name}"
    if work.exists() and not resume:
        import shutil

        shutil.rmtree(work)
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
    _write(json_file, classifier.metrics, lambda: _print_results(classifier))
    progress.note(f"Saved: {out / name}")


@main.command()
@click.argument("model", type=FOLDER)
@click.argument("folder", type=FOLDER)
@click.option("--json", "json_file", help=JSON_HELP)
@click.option("--strict", is_flag=True, help="The first unusable study ends the run.")
def evaluate(model, folder, json_file, strict):
    """Measure the classifier MODEL on the studies of FOLDER, beside the baselines.

    Studies that MODEL was trained on are left out; those it was calibrated on are reported apart, as validation.
    Example: kmm evaluate saved_models/openi other-hospital --json results.json
    """
    from kmm.data.collection import read_collection

    collection = read_collection(folder)
    with _hushed():
        from kmm.classifier import Classifier
        from kmm.evaluate.report import evaluate_studies

    classifier = Classifier.load(model)
    results, problems = evaluate_studies(classifier, collection.studies, strict=strict, progress=_progress())
    _list_problems([*collection.problems, *problems])
    _write(json_file, results, lambda: _print_tables(results))


@main.command()
@click.argument("model", type=FOLDER)
@click.argument("files", nargs=-1, required=True, type=FOLDER)
@click.option("--report", type=FOLDER, help="Text file with the report of the one image.")
@click.option("--json", "json_file", help=JSON_HELP)
@click.option("--strict", is_flag=True, help="The first unusable study ends the run.")
def predict(model, files, report, json_file, strict):
    """Predict images, DICOM files, manifests or folders with the classifier MODEL.

    Example: kmm predict saved_models/openi film.dcm --report report.txt
    """
    from kmm.data.inputs import read_inputs

    collection = read_inputs(files, report=report)
    with _hushed():
        from kmm.classifier import Classifier, describe_predictions

    classifier = Classifier.load(model, main_only=True)
    predictions = classifier.predict(collection.studies, strict=strict, progress=_progress())
    problems = [*collection.problems, *predictions.problems]
    _list_problems(problems)
    rows = describe_predictions(classifier, predictions)
    result = {"model": str(model), "predictions": rows, "set_aside": [str(problem) for problem in problems]}
    _write(json_file, result, lambda: _print_predictions(rows))
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
        make_phantom(folder)
    return folder


def _choose_name(out, name, preset, taken_is_right):
    """The name asked for, or the preset's name with the first free number."""
    import re

    from kmm.errors import InputError

    if name is not None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or name.isdigit():
            raise InputError(f"Expected a name of letters, digits, '.', '_' and '-'. Received: {name!r}")
        if (out / name).exists() and not taken_is_right:
            raise InputError(f"{out / name} is there already. Choose another --name, or --overwrite it.")
        return name
    if taken_is_right:
        return preset
    number = 1
    while (out / (name := preset if number == 1 else f"{preset}-{number}")).exists():
        number += 1
    return name


def _write(json_file, value, show):
    """The result: as JSON where it was asked for, else for people."""
    if json_file == "-":
        click.echo(json.dumps(value, indent=2, allow_nan=False))
        return
    if json_file:
        from kmm.settings import write_json

        write_json(json_file, value)
    show()


def _list_problems(problems, most=20):
    for problem in problems[:most]:
        click.echo(f"set aside: {problem}", err=True)
    if len(problems) > most:
        click.echo(f"set aside: {len(problems) - most} more", err=True)


def _table(columns, rows, title=None):
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row))
    width = None if sys.stdout.isatty() else 160
    Console(width=width, markup=False, highlight=False).print(table)


def _print_checks(report):
    """A line a check; what is wrong bears a mark and examples."""
    rows = [
        [
            check.name,
            check.found,
            "" if check.expected is None else check.expected,
            "wrong" if check.wrong else "",
            "; ".join(check.examples[:3]),
        ]
        for check in report.checks
    ]
    _table(["check", "found", "expected", "", "examples"], rows, title=f"{report.folder}: {report.layout}")


def _print_results(classifier):
    _print_tables(classifier.metrics)


def _print_tables(results):
    from kmm.evaluate.card import evaluate_rows

    for part, result in results.items():
        columns, *rows = evaluate_rows(result)
        _table(columns, rows, title=f"{part}: {result['n']} studies")


def _print_predictions(rows):
    names = list(rows[0]["probabilities"]) if rows else []
    _table(
        ["study", "image", "text", *names],
        [
            [
                row["study"],
                "yes" if row["image_present"] else "no",
                "yes" if row["text_present"] else "no",
                *(f"{row['probabilities'][name]:.3f}{' *' if row['decisions'][name] else ''}" for name in names),
            ]
            for row in rows
        ],
    )


with contextlib.suppress(AttributeError, ValueError):
    sys.stdout.reconfigure(errors="backslashreplace")
