"""The README's commands exist, with the options that it names."""

import re
import shlex
from pathlib import Path

import click
import pytest

from kmm.cli import main
from kmm.data.labels import LABEL_SCHEMES
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.presets import PRESETS

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.strip().split("#")[0] for line in README.splitlines() if line.startswith("    kmm ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_readme_exists_with_its_options(line):
    words = shlex.split(line)[1:]
    command = main
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_readme_names_commands_and_make_targets_that_exist():
    assert len(COMMANDS) >= 4
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([a-z-]+)", README)) <= set(targets) | {"sure"}


@pytest.mark.parametrize("table", [PRESETS, IMAGE_ENCODERS, TEXT_ENCODERS])
def test_the_readme_names_every_entry_of_the_tables(table):
    assert [name for name in table if f"`{name}`" not in README] == []


def test_the_readme_names_label_schemes_that_exist():
    assert {"normal-abnormal", "findings", "columns"} <= set(LABEL_SCHEMES)
    assert all(f"`{name}`" in README for name in ("normal-abnormal", "findings", "columns"))


def test_no_figure_is_left_open():
    assert "@" not in README
