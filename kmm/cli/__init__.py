"""The commands of kmm: each parses, calls one function of kmm, and prints the result.

A family of commands is one file here and one line in `COMMANDS`. Every room is imported inside its command, so that
`--help` answers at once. Results go to standard output, progress and errors to standard error. Exit codes: 0 done,
1 the answer is bad news, 2 wrong usage or input, or an unexpected error, 130 interrupted.
"""

import contextlib
import importlib
import logging
import os
import sys

import click

import kmm
from kmm.cli.command import Group

COMMANDS = {
    "data": "kmm.cli.data",
    "embed": "kmm.cli.embed",
    "fit": "kmm.cli.fit",
    "evaluate": "kmm.cli.evaluate",
    "predict": "kmm.cli.evaluate",
    "explain": "kmm.cli.explain",
    "fidelity": "kmm.cli.fidelity",
    "model": "kmm.cli.model",
    "export": "kmm.cli.export",
    "serve": "kmm.cli.serve",
    "call": "kmm.cli.call",
}


@click.group(cls=Group, context_settings={"auto_envvar_prefix": "KMM", "help_option_names": ["-h", "--help"]})
@click.version_option(kmm.__version__, prog_name="kmm")
def main():
    """Classifiers on chest films and their reports. Not for diagnosis.

    Every option can also be given as a variable, KMM_FIT_SEED=3 is `kmm fit --seed 3`, or in a YAML file (--config).
    The command line wins over variables, variables over the file.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell):
    """Print the completion script of a shell.

    Example: kmm completion bash >> ~/.bashrc
    """
    from click.shell_completion import get_completion_class

    click.echo(get_completion_class(shell)(main, {}, "kmm", "_KMM_COMPLETE").source())


for _name, _module in COMMANDS.items():
    main.add_command(getattr(importlib.import_module(_module), _name))

with contextlib.suppress(AttributeError, ValueError):
    sys.stdout.reconfigure(errors="backslashreplace")
