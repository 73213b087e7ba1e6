"""Every command: help with examples, usage, and the three ways to start one."""

import configparser
import inspect
import re
import shlex
import shutil
import time

import pytest

from kmm.cli import main
from tests.factories.commands import (
    ROOT,
    find_command,
    read_one_document,
    run,
    run_apart,
)

COMMANDS = [
    ("data", "phantom"),
    ("data", "verify"),
    ("data", "split"),
    ("data", "summary"),
    ("weights", "list"),
    ("weights", "check"),
    ("weights", "convert"),
    ("weights", "embed"),
    ("weights", "pretrain"),
    ("index", "build"),
    ("index", "add"),
    ("index", "search"),
    ("index", "measure"),
    ("cache", "list"),
    ("cache", "clear"),
    ("model", "card"),
    ("fit",),
    ("compare",),
    ("evaluate",),
    ("predict",),
    ("explain",),
    ("fidelity",),
    ("model", "pack"),
    ("model", "verify"),
    ("export",),
    ("serve",),
    ("call",),
    ("completion",),
]


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_can_be_typed(path):
    result = run(*path, "--help")
    assert result.exit_code == 0 and "Example" in result.stdout
    text = inspect.cleandoc(find_command(path).help)
    examples = re.findall(rf"kmm {' '.join(path)}\b[^\n]*", text[text.index("Example") :])
    assert examples
    for example in examples:
        assert example in " ".join(result.stdout.split())
        words = shlex.split(example.split(">>")[0])[1 + len(path) :]
        find_command(path).make_context("kmm", words)


def test_all_commands_are_tested_here():
    assert {path[0] for path in COMMANDS} == {name for name, command in main.commands.items() if not command.hidden}
    for group in ("data", "model", "index", "weights", "cache"):
        assert {path[1] for path in COMMANDS if path[0] == group} == set(main.commands[group].commands)


def measure(*words, **options):
    """Returns the seconds of a process."""
    start = time.perf_counter()
    assert run_apart(*words, **options).returncode == 0
    return time.perf_counter() - start


def test_help_answers_at_once_and_imports_nothing_heavy():
    code = """
import sys
from kmm.cli import main
for path in sys.argv[1:]:
    try:
        main([*path.split(), "--help"], prog_name="kmm")
    except SystemExit as end:
        assert end.code == 0
heavy = {"keras", "tensorflow", "numpy", "sklearn", "cv2", "PIL", "pydicom", "gensim", "rich", "yaml", "h5py"}
sys.exit(", ".join(sorted(heavy & set(sys.modules))) or None)
"""
    result = run_apart("", "data", *map(" ".join, COMMANDS), entry=("-c", code))
    assert result.returncode == 0, result.stderr
    ratios = []
    for _ in range(8):  # the least: other work on the machine disturbs the rest
        bare = measure("import click", entry=("-c",))
        ratios.append(measure("fit", "--help") / bare)
        if ratios[-1] < 6:
            break
    assert min(ratios) < 6, ratios


@pytest.mark.parametrize(
    "arguments", [[], ["data"], ["nothing"], ["fit", "--nothing"], ["predict"], ["fit", "--seed", "x"]]
)
def test_wrong_usage_is_exit_code_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2 and "Usage: kmm" in result.output and "Traceback" not in result.output


def test_one_command_by_three_names(phantom, tmp_path):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    module, function = setup["options.entry_points"]["console_scripts"].split("=")[1].strip().split(":")
    installed = f"import sys; from {module} import {function}; sys.exit({function}())"
    folder = tmp_path / "phantom"
    shutil.copytree(phantom, folder)
    next((folder / "images").iterdir()).write_bytes(b"")
    results = [
        run_apart("data", "verify", folder, "--json", "-", entry=entry)
        for entry in (("cli.py",), ("-m", "kmm"), ("-c", installed))
    ]
    assert [result.returncode for result in results] == [1, 1, 1]
    assert results[0].stdout == results[1].stdout == results[2].stdout != ""
    assert read_one_document(results[0].stdout)["ok"] is False
