"""The words of a command as they were typed, for a result that is shared."""

import re
from pathlib import Path

import click

WORDS = "kmm.words"  # in the meta data of a context: the words after the name of the command, as typed
ADDRESS_OPTION, ADDRESS = "--address", "ADDRESS"


def list_typed(name: str) -> list[str]:
    """Lists the words of the running command for a page that is shared: of a path outside the current folder the last
    part alone, and no address of a cluster.

    Args:
        name: str, the name of the command.
    """
    words = click.get_current_context().meta.get(WORDS, [])
    shown = [ADDRESS if before == ADDRESS_OPTION else shorten_paths(word) for before, word in zip(["", *words], words)]
    whole = f"{ADDRESS_OPTION}="
    return ["kmm", name, *(f"{whole}{ADDRESS}" if word.startswith(whole) else word for word in shown)]


def shorten_paths(word: str) -> str:
    """Shortens the paths in a word of a command line that lead out of the current folder to their last part.

    Example:
        >>> shorten_paths("/data/openi"), shorten_paths("--out=../mine/out"), shorten_paths("sections=report|pre-read")
        ('openi', '--out=out', 'sections=report|pre-read')
        >>> shorten_paths("image-weights=/home/me/chest.h5|random"), shorten_paths("data/openi")
        ('image-weights=chest.h5|random', 'data/openi')
    """
    parts = re.split(r"([=|,])", word)
    paths = [Path(part) for part in parts]
    leading = [path.is_absolute() or ".." in path.parts or part.startswith("~") for part, path in zip(parts, paths)]
    return "".join(path.name if leads else part for part, path, leads in zip(parts, paths, leading, strict=True))
