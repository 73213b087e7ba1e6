"""Command line of kmm: each command parses its options, calls one function of kmm, and prints the result.

A family of commands is one file in this folder and one line in `COMMANDS`, under the section of `kmm --help` that lists
it. Commands import the rest of kmm when they run, so that `--help` answers at once. Results go to standard output,
progress and errors to standard error. Exit codes: 0 success; 1 a check failed or a split leaks; 2 wrong usage or input,
or an unexpected error; 130 interrupted.
"""

import importlib
import io
import logging
import os
import sys

import click

import kmm
from kmm.cli.command import Group, rename_command

COMMANDS = {
    "train": {"fit": "kmm.cli.fit", "compare": "kmm.cli.compare"},
    "use": {
        "predict": "kmm.cli.evaluate",
        "evaluate": "kmm.cli.evaluate",
        "explain": "kmm.cli.explain",
        "fidelity": "kmm.cli.fidelity",
    },
    "serve": {"export": "kmm.cli.export", "serve": "kmm.cli.serve", "call": "kmm.cli.call"},
    "things": {
        "data": "kmm.cli.data",
        "model": "kmm.cli.model",
        "index": "kmm.cli.index",
        "weights": "kmm.cli.weights",
        "cache": "kmm.cli.cache",
    },
    "shell": {"completion": "kmm.cli.completion"},
}
OLD_NAMES = {"embed": ("kmm.cli.weights", "weights embed")}  # hidden; to be removed in version 0.3


@click.group(
    cls=Group, sections=COMMANDS, context_settings={"auto_envvar_prefix": "KMM", "help_option_names": ["-h", "--help"]}
)
@click.version_option(kmm.__version__, prog_name="kmm")
def main() -> None:
    """\b
    Classifiers of chest films and their reports. Not for diagnosis.
    Options are also read from variables (KMM_FIT_SEED=3) and YAML (--config).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


for _section in COMMANDS.values():
    for _name, _module in _section.items():
        main.add_command(getattr(importlib.import_module(_module), _name))
for _name, (_module, _new_name) in OLD_NAMES.items():
    main.add_command(rename_command(getattr(importlib.import_module(_module), _name), _name, _new_name))

if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="backslashreplace")
