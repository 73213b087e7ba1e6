"""docs/compare.md: its commands can be typed, its protocols are those of the table, its keys those of the summary."""

import re
import shlex
from pathlib import Path

from kmm.experiments.planning.protocols import PROTOCOLS
from kmm.experiments.tables import ROWS
from tests.factories.commands import find_command

PAGE = (Path(__file__).parents[1] / "docs" / "compare.md").read_text(encoding="utf-8")


def test_the_commands_can_be_typed():
    commands = [line.split(" # ")[0] for line in re.findall(r"^    (kmm .*)$", PAGE, re.MULTILINE)]
    assert len(commands) > 5
    for command in commands:
        words = shlex.split(command)
        assert words[:2] == ["kmm", "compare"]
        find_command(("compare",)).make_context("kmm", words[2:])


def test_the_protocols_are_those_of_the_table():
    for name, protocol in PROTOCOLS.items():
        (row,) = re.findall(rf"^\| `{name}` \|(.*)\|$", PAGE, re.MULTILINE)
        cells = [cell.strip() for cell in row.split("|")]
        assert cells[1:3] == [str(protocol.epochs), str(protocol.splits)]
        assert protocol.learning_rate is None or float(cells[0]) == protocol.learning_rate


def test_the_columns_are_those_of_the_table():
    for name in ROWS:
        assert f"`{name}`" in PAGE
