"""Output of commands: results, progress, one-line errors, and lists of what was set aside."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kmm.data.collection import Collection
from kmm.data.study import Problem, part_problems
from kmm.errors import InputError, KmmError
from kmm.keras_backend import load_keras_quietly as load_keras_quietly
from kmm.progress import Progress
from kmm.storage.results import add_schema, write_with_schema


def complain(text: object) -> None:
    """Prints one line on standard error; control characters, as file names may hold them, become `?`."""
    click.echo(f"kmm: {_one_line(text)}", err=True)


def make_progress() -> Progress:
    """Makes progress on standard error: a moving bar on a terminal, lines elsewhere."""
    from kmm.progress import choose_progress

    return choose_progress()


def list_problems(problems: Sequence[Problem | str], most: int = 20) -> None:
    """Prints each study, row or file that was set aside, and each note, on standard error; at most `most` of each."""
    for kind, lines in zip(("note", "set aside"), reversed(part_problems(problems)), strict=True):
        for line in lines[:most]:
            click.echo(f"{kind}: {_one_line(line)}", err=True)
        if len(lines) > most:
            click.echo(f"{kind}: {len(lines) - most} more", err=True)


def print_layout(collection: Collection) -> None:
    """Prints the layout and number of the studies that were read, and the skipped files, on standard error."""
    count = len(collection.studies)
    layout = f"{collection.layout}, {count} {'study' if count == 1 else 'studies'}"
    click.echo(_one_line(f"{collection.folder}: {layout}"), err=True)
    print_skipped(collection)


def print_skipped(collection: Collection) -> None:
    """Prints the number of files that were skipped, by kind, on standard error; nothing if there were none."""
    from kmm.data.film_files import describe_skipped

    if counts := describe_skipped(collection.skipped):
        click.echo(f"skipped: {counts}", err=True)


@contextlib.contextmanager
def print_problems_on_error(problems: Sequence[Problem | str]) -> Iterator[None]:
    """On an error, also lists the studies that were set aside so far; they may explain it."""
    try:
        yield
    except KmmError as error:
        list_problems([*problems, *error.problems], most=5)
        raise


def check_problems(collection: Collection, strict: bool) -> None:
    """Raises the first problem of a collection as an error if `strict`."""
    if strict and collection.problems:
        raise InputError(str(collection.problems[0]))


def check_place(path: Path | str | None) -> None:
    """Checks before any work that a file written at the end has a folder.

    Args:
        path: of the file; None and "-" need no folder.

    Raises:
        InputError: if the path is a folder, or its folder does not exist.
    """
    if path and str(path) != "-" and (Path(path).is_dir() or not Path(path).absolute().parent.is_dir()):
        raise InputError(f"{path}: expected the name of a file in a folder that exists.")


def write_result(json_file: str | None, value: Mapping[str, Any], show: Callable[[], object]) -> None:
    """Writes the result of a command: for people, or as JSON with the name of its schema if asked for.

    Args:
        json_file: path of the JSON file; "-" is standard output; None: no JSON.
        value: JSON-compatible mapping.
        show: prints the result for people. It is called only without JSON, and so renders no table that nobody reads.
    """
    if not json_file:
        show()
    elif json_file == "-":
        click.echo(_to_json(value))
    else:
        with name_file_in_errors(json_file):
            if Path(json_file).exists() and not Path(json_file).is_file():  # a pipe cannot be replaced
                Path(json_file).write_text(_to_json(value) + "\n", encoding="utf-8")
            else:
                write_with_schema(os.path.realpath(json_file), value)


@contextlib.contextmanager
def name_file_in_errors(path: Path | str | None) -> Iterator[None]:
    """Adds the path to an error of the system that names no file."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _to_json(value):
    return json.dumps(add_schema(value), indent=2, allow_nan=False)


def _one_line(text):
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(text).split()))
