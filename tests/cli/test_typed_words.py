"""The command of a result is the one that was typed, without the folders of the machine."""

import click
import pytest
from click.testing import CliRunner

from kmm.cli.command import Command
from kmm.cli.typed_words import list_typed, shorten_paths


@click.command(cls=Command)
@click.argument("folder")
@click.option("--out")
@click.option("--set", "more", multiple=True)
@click.option("--address")
def tell(**values):
    click.echo("\n".join(list_typed("tell")))


def test_words_are_those_that_were_typed_without_folders_and_addresses():
    words = ["/data/openi", "--out=../mine/out", "--set", "redact=/home/me/my words.txt", "--address", "ray://host:1"]
    found = CliRunner().invoke(tell, words).output.splitlines()
    assert found == ["kmm", "tell", "openi", "--out=out", "--set", "redact=my words.txt", "--address", "ADDRESS"]
    assert CliRunner().invoke(tell, ["films", "--address=host:1"]).output.splitlines()[2:] == [
        *("films", "--address=ADDRESS"),
    ]


@pytest.mark.parametrize(
    "word, shown",
    [
        ("films/openi", "films/openi"),
        ("../openi", "openi"),
        ("~/openi", "openi"),
        ("image-weights=imagenet|/w/a.h5|../b.h5", "image-weights=imagenet|a.h5|b.h5"),
        ("shares=0.6,0.2,0.2", "shares=0.6,0.2,0.2"),
        ("--seed", "--seed"),
        ("/", ""),
    ],
)
def test_paths_outside_the_current_folder_are_their_last_part(word, shown):
    assert shorten_paths(word) == shown
