"""`kmm model`: show the card of a saved classifier, verify it, or pack it into one file."""

import os
import sys
from pathlib import Path

import click

from kmm.cli import result_tables
from kmm.cli.command import PLACE, Group, json_option
from kmm.cli.output import check_place, load_keras_quietly, name_file_in_errors, write_result


@click.group(cls=Group)
def model() -> None:
    """Show, verify or pack a saved classifier."""


@model.command()
@click.argument("model", type=PLACE)
@click.option("--out", type=PLACE, help="Markdown file to write; standard output when not given.")
def card(model: Path, out: Path | None) -> None:
    """Print the model card of MODEL.

    The card states purpose, training data, results and limits.

    \b
    Example: kmm model card saved_models/openi --out openi.md
    """
    from kmm.storage.archive import read_text
    from kmm.storage.classifier_folder import CARD
    from kmm.storage.files import replace_file

    check_place(out)
    text = read_text(model, CARD)
    if not out:
        printable = (letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
        click.echo("".join(printable), nl=False)  # an archive and its card may come from anyone
        return
    with name_file_in_errors(out), replace_file(out) as place:
        place.write_text(text, encoding="utf-8")
    click.echo(str(out))


@model.command()
@click.argument("model", type=PLACE)
@click.option("--out", required=True, type=PLACE, help="Archive to write, ending in .zip.")
@json_option("MODEL_PACK")
def pack(model: Path, out: Path, json_file: str | None) -> None:
    """Write MODEL as one archive, without ids, patients or report text.

    Every command takes the archive in place of the folder. The archive lacks the split, the hashes of training studies
    and the TF-IDF baseline, so `kmm evaluate` cannot recognise training studies with it, and prints a note.

    \b
    Example: kmm model pack saved_models/openi --out openi.zip
    """
    check_place(json_file)
    check_place(out)
    with load_keras_quietly():
        from kmm.export.pack import pack_classifier
    with name_file_in_errors(out):
        packed = pack_classifier(model, out)
    write_result(json_file, packed, lambda: result_tables.print_packed(packed))


@model.command()
@click.argument("model", type=PLACE)
@json_option("MODEL_VERIFY")
def verify(model: Path, json_file: str | None) -> None:
    """Check the files, known answers and exports of MODEL.

    Compares file digests and the predictions for made-up studies with those stored when MODEL was saved, and every
    export in its folder with MODEL. Exit code 1: a check failed.

    \b
    Example: kmm model verify saved_models/openi
    """
    check_place(json_file)
    if model.is_dir() and any(path.name.isdigit() for path in model.iterdir()):
        os.environ["KERAS_BACKEND"] = "tensorflow"  # exports are loaded by TensorFlow
    with load_keras_quietly():
        from kmm.export.verification import FAILED, verify_classifier
    checks = verify_classifier(model)
    sound = all(check.result != FAILED for check in checks)
    result = {"model": str(model), "ok": sound, "checks": [check.as_dict() for check in checks]}
    write_result(json_file, result, lambda: result_tables.print_model_checks(checks))
    sys.exit(0 if sound else 1)
