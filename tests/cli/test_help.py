"""`kmm --help` on one screen, in sections; old names of commands and variables."""

import re

import pytest

from kmm.cli import COMMANDS, main
from kmm.text.word_vectors import load_word_vectors
from tests.factories.commands import run


def test_help_lists_every_command_once_by_section_on_one_screen():
    lines = run("--help", terminal_width=80).stdout.splitlines()
    assert len(lines) <= 25 and max(map(len, lines)) <= 80
    listed = lines[lines.index("Commands:") + 1 :]
    found, section = {}, ""
    for line in listed:
        title, name, about = re.fullmatch(r"  (\w*) +(\w+)  +(\S.*)", line).groups()
        section = title or section
        found.setdefault(section, []).append(name)
        assert not about.endswith("..."), line
    assert found == {title: list(names) for title, names in COMMANDS.items()}
    assert list(found) == ["train", "use", "serve", "things", "shell"]


def test_help_shows_no_old_name_and_nothing_that_is_not_built():
    shown = run("--help").stdout
    for name in ("embed", "cohort"):
        assert not re.search(rf"^ +(\w+ +)?{name}  ", shown, re.MULTILINE)
    assert "embed" in main.commands and main.commands["embed"].hidden


@pytest.mark.parametrize("group", [name for name, command in main.commands.items() if hasattr(command, "commands")])
def test_first_lines_of_the_commands_of_a_group_are_whole(group):
    assert "..." not in run(group, "--help", terminal_width=80).stdout.partition("Commands:")[2]


def embed(tiny_folder, out, *words, env=None):
    result = run(*words, tiny_folder, "--out", out, "--epochs", 1, env=env)
    assert result.exit_code == 0, result.output
    return result


def test_the_old_name_of_a_command_works_and_says_the_new_one(tiny_folder, tmp_path):
    new = embed(tiny_folder, tmp_path / "new.txt", "weights", "embed", "--dimensions", 3)
    old = embed(tiny_folder, tmp_path / "old.txt", "embed", "--dimensions", 3)
    assert (tmp_path / "new.txt").read_bytes() == (tmp_path / "old.txt").read_bytes()
    note = "note: `kmm embed` is now `kmm weights embed`; the old name works until 0.3\n"
    assert old.stderr == note + new.stderr and old.stdout == new.stdout.replace("new.txt", "old.txt")


@pytest.mark.parametrize("words", [("embed",), ("weights", "embed")], ids=" ".join)
def test_old_variables_work_and_new_ones_win(tiny_folder, tmp_path, words):
    both = {"KMM_EMBED_DIMENSIONS": "2", "KMM_WEIGHTS_EMBED_DIMENSIONS": "3"}
    for variables, dimensions in (({"KMM_EMBED_DIMENSIONS": "2"}, 2), (both, 3)):
        embed(tiny_folder, tmp_path / "v.txt", *words, env=variables)
        assert load_word_vectors(tmp_path / "v.txt").dimensions == dimensions
