"""The README's commands and options exist; versions and modules that the documents name are those of kmm."""

import re
import shlex
from pathlib import Path

import click
import pytest

import kmm
from kmm.cli import main
from kmm.data.labels import LABEL_SCHEMES
from kmm.explain.attribution.methods import METHODS
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.fusion import FUSIONS
from kmm.models.loss import LOSSES
from kmm.presets import PRESETS
from kmm.training.stages.optimizers import OPTIMIZERS
from kmm.training.stages.schedule import SCHEDULES

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


@pytest.mark.parametrize(
    "table", [PRESETS, IMAGE_ENCODERS, TEXT_ENCODERS, FUSIONS, METHODS, LOSSES, OPTIMIZERS, SCHEDULES]
)
def test_the_readme_names_every_entry_of_the_tables(table):
    assert [name for name in table if f"`{name}`" not in README] == []


def test_the_readme_names_label_schemes_that_exist():
    assert {"normal-abnormal", "findings", "columns"} <= set(LABEL_SCHEMES)
    assert all(f"`{name}`" in README for name in ("normal-abnormal", "findings", "columns"))


def test_no_figure_is_left_open():
    assert "@" not in README


def test_the_version_is_the_same_everywhere():
    newest = re.search(
        r"^## (\S+) - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert newest[1] == cited[1] == kmm.__version__


def test_the_migration_note_names_modules_that_exist():
    table = (ROOT / "docs" / "migration.md").read_text(encoding="utf-8").partition("## Modules")[2]
    named = re.findall(r"^\|[^|]+\| `(kmm\.[a-z_.]+)`((?:, `\.?[a-z_.]+`)*)", table, re.MULTILINE)
    assert len(named) > 15
    for first, others in named:
        room = first.rpartition(".")[0]
        for name in (
            first,
            *(f"{room}{name}" if name[0] == "." else name for name in re.findall(r"`([^`]+)`", others)),
        ):
            place = ROOT / name.replace(".", "/")
            assert place.with_suffix(".py").is_file() or place.is_dir() or name == "kmm.storage.files.write_json", name


def test_the_tree_of_contributing_is_that_of_the_code():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("    kmm/\n")[2].partition("\n\n")[0]
    names = {name for line in text.splitlines() for name in re.findall(r"[a-z_]+/?", line[:33])}
    found = {path.name + "/" if path.is_dir() else path.stem for path in (ROOT / "kmm").iterdir()}
    assert names == {name for name in found if not name.startswith("_") and name != "py"}
