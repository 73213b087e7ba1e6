"""Options of commands that train: settings of a fit."""

import click

from kmm.cli.command import Decorated, Decorator, group_options
from kmm.data.labels import LABEL_SCHEMES
from kmm.presets import PRESETS


def fit_options(command: Decorated) -> Decorated:
    """Adds the options that are settings of a fit; their defaults come from the preset."""
    options = [
        click.option("--preset", help=" ".join(f"{name}: {preset.about}" for name, preset in PRESETS.items())),
        click.option("--seed", type=int, help="Seed of the random numbers."),
        click.option(
            "--labels",
            help="; ".join(f"{name}: {scheme.description}" for name, scheme in LABEL_SCHEMES.items())
            + "; rules:FILE: by rules in YAML or JSON; rules:chestxray14: 14 findings as reports state them.",
        ),
        click.option("--sections", help="Report sections to read: report, pre-read, or a comma-separated list."),
        click.option("--redact", type=click.Path(), help="File of words to remove from the reports, or default."),
        click.option("--text-encoder", help="Name of the text encoder, or none."),
        click.option("--text-weights", type=click.Path(), help="Folder of a BERT, for the text encoder bert."),
        click.option("--word-pieces", type=click.Path(), help="Word-piece file: vocab.txt of an uncased BERT."),
        click.option("--word-vectors", type=click.Path(), help="Word-vector file: word2vec or GloVe."),
        click.option(
            "--min-word-patients",
            type=int,
            help="Fewest training patients who use a word that is kept; 1 keeps the words of a single patient.",
        ),
        click.option("--image-encoder", help="Name of the image encoder, or none."),
        click.option("--image-weights", type=click.Path(), help="imagenet, random, or a file or folder of weights."),
        click.option(
            "--image-depths",
            type=int,
            help="Depths of the image encoder that make up the vector of a film; 1: the last block.",
        ),
        click.option(
            "--image-grid",
            type=int,
            help="Cells along each side of the film over which that vector takes means; 1: the whole film.",
        ),
        click.option("--pixels", type=int, help="Height and width of the encoder's input, in pixels."),
        click.option("--batch-size", type=int, help="Studies per training step."),
        click.option(
            "--learning-rate", type=float, help="Learning rate of heads and of randomly initialised encoders."
        ),
        click.option(
            "--tta", type=int, help="Views of a film to average, such as 5; a film then costs 5 times the computation."
        ),
        click.option(
            "--members",
            type=int,
            help="Image encoders to train on folds and average, such as 3; training then takes 3 times as long.",
        ),
        click.option("--epochs", type=int, help="Most epochs per stage."),
        click.option("--strict", is_flag=True, default=None, help="Stop at the first unusable study."),
    ]
    return group_options(*options)(command)


def set_option(command: str) -> Decorator:
    """Makes the option `--set`.

    Args:
        command: str. Words of the command in the option's variable, for example `"FIT"` for KMM_FIT_SET.
    """
    return click.option(
        "--set",
        "more",
        multiple=True,
        metavar="NAME=VALUE",
        envvar=f"KMM_{command}_SET",
        help="Any other setting; repeatable.",
    )
