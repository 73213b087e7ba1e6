"""What commands say and write: results, progress, one-line errors, what was set aside; and what they keep quiet."""

import contextlib
import json
import os
from pathlib import Path

import click

from kmm.cli.keras_backend import check_backend
from kmm.data.study import part_problems
from kmm.errors import InputError, KmmError
from kmm.explain.folder import processes


def complain(text):
    """One line on standard error, whatever stands in file names."""
    click.echo(f"kmm: {_one_line(text)}", err=True)


@contextlib.contextmanager
def hushed():
    """Imports what needs Keras: quietly, and with one line where its backend or its settings do not let it load."""
    name = check_backend()
    with processes.silence_libraries():
        try:
            yield
        except KmmError:
            raise
        except Exception as error:  # an import of Keras or its backend raises nearly anything; no data is read yet
            said = " ".join(str(error).split())[:300]
            raise InputError(
                f"Keras cannot be loaded on the backend {name}: {type(error).__name__}: {said}. Repair its "
                "installation or keras.json, or set KERAS_BACKEND to another backend."
            ) from error


def make_progress():
    """Progress on standard error: a moving bar on a terminal, lines elsewhere."""
    from kmm.progress import choose_progress

    return choose_progress()


def list_problems(problems, most=20):
    """A line on standard error for each file, row or study that was set aside, and for each film that is lacking."""
    for said, lines in zip(("note", "set aside"), reversed(part_problems(problems)), strict=True):
        for line in lines[:most]:
            click.echo(f"{said}: {_one_line(line)}", err=True)
        if len(lines) > most:
            click.echo(f"{said}: {len(lines) - most} more", err=True)


def tell_layout(collection):
    """A line on standard error: as what the studies were read, and what else lies there unread."""
    count = len(collection.studies)
    layout = f"{collection.layout}, {count} {'study' if count == 1 else 'studies'}"
    click.echo(_one_line(f"{collection.folder}: {layout}"), err=True)
    tell_passed_over(collection)


def tell_passed_over(collection):
    """A line on standard error: how many files were passed over, by kind; nothing where there were none."""
    from kmm.data.film_files import describe_passed_over

    if said := describe_passed_over(collection.passed_over):
        click.echo(f"passed over: {said}", err=True)


@contextlib.contextmanager
def telling(problems):
    """A refusal comes with what was set aside before it, here or where it was said: that may be why."""
    try:
        yield
    except KmmError as error:
        list_problems([*problems, *error.problems], most=5)
        raise


def check_problems(collection, strict):
    """With `--strict`, what the reader set aside ends the run too."""
    if strict and collection.problems:
        raise InputError(str(collection.problems[0]))


def check_place(path):
    """A file to be written at the end has a folder to lie in: said before the work, not after it."""
    if path and str(path) != "-" and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise InputError(f"{path}: expected the name of a file in a folder that exists.")


def write_result(json_file, value, show):
    """The result: as JSON where it was asked for, else for people, by the function `show`."""
    from kmm.storage.files import write_json

    if json_file == "-":
        click.echo(json.dumps(value, indent=2, allow_nan=False))
        return
    with naming(json_file):
        if json_file and Path(json_file).exists() and not Path(json_file).is_file():  # a pipe is written, not replaced
            Path(json_file).write_text(json.dumps(value, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        elif json_file:
            write_json(os.path.realpath(json_file), value)
    show()


@contextlib.contextmanager
def naming(path):
    """An error of the disk that names no file is said of this one."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _one_line(text):
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(text).split()))
