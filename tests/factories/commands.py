"""Commands run as a user types them, and checks of what they print."""

import json
import re
import subprocess
import sys
from pathlib import Path

from click import Group
from click.testing import CliRunner

import kmm
from kmm.cli import main

ROOT = Path(kmm.__file__).parent.parent
ROWS = ("joint", "image", "text", "tfidf", "majority", "chance")


def run(*arguments, **options):
    """Runs a command in this process, as a user types it."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="kmm", **options)


def run_apart(*arguments, entry=("-m", "kmm")):
    """Runs a command in a process of its own."""
    command = [sys.executable, *entry, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def read_one_document(text):
    """The one JSON document that a text is: nothing before it, nothing behind it."""
    value, end = json.JSONDecoder().raw_decode(text)
    assert not text[end:].strip()
    return value


CANARY = "zyxcanary"  # stands in every report of these tests
PROGRESS = re.compile(
    r".*: \d+/\d+.*|.*: .*, \d+ stud(y|ies)|Words: \d+ from training.*|\d+ studies: \d+ without .*"
    r"|Teacher of the (?:text|image) side: .*|Head of (?:text|image|joint): .*"
    r"|Calibrated on validation studies: .*|Fewer than \d+ (?:validation|training) studies of a class for .*"
)


def run_safely(*arguments):
    """Runs a command that must end without a traceback and without a word of a report."""
    result = run(*arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output and CANARY not in result.output.lower()
    return result


def lines_of(result):
    """What is said on standard error besides progress."""
    return [line for line in result.stderr.splitlines() if not PROGRESS.fullmatch(line)]


def refuse(*arguments, says, code=2):
    """Runs a command that must end with one line that says some things, and with nothing on standard output."""
    result = run_safely(*arguments)
    lines = [line for line in lines_of(result) if not line.startswith("set aside: ")]  # what may be why
    assert result.exit_code == code and len(lines) == 1, result.output
    assert lines[0].startswith("kmm: ")
    for words in [says] if isinstance(says, str) else says:
        assert words in lines[0], lines[0]
    assert result.stdout == ""
    return lines[0]


def set_aside(result):
    """The lines of a run that was finished without some of its studies."""
    lines = lines_of(result)
    assert result.exit_code == 0, result.output
    assert all(line.startswith("set aside: ") for line in lines), lines
    return lines


IMAGES_ONLY = ["--text-encoder", "none", "--pixels", 32, "--epochs", 1, "--set", "bootstrap_repeats=2"]


def walk_commands(group, path=()):
    """Yields the path of each command, as a tuple of names; old names are left out."""
    for name, command in group.commands.items():
        if command.hidden:  # an old name: it says the new one, then runs the same command
            continue
        if isinstance(command, Group):
            yield from walk_commands(command, (*path, name))
        else:
            yield (*path, name)


def find_command(path):
    """The command of a path of names."""
    command = main
    for name in path:
        command = command.commands[name]
    return command
