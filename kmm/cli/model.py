"""`kmm model`: pack a saved classifier for a colleague, or check that it is what it was."""

import os
import sys

import click

from kmm.cli import result_tables
from kmm.cli.command import PLACE, Group, json_option
from kmm.cli.output import check_place, hushed, naming, write_result


@click.group(cls=Group)
def model():
    """Pack a saved classifier for a colleague, or check that it is what it was."""


@model.command()
@click.argument("model", type=PLACE)
@click.option("--out", required=True, type=PLACE, help="Archive to write, a name that ends in .zip.")
@json_option("MODEL_PACK")
def pack(model, out, json_file):
    """Write the classifier MODEL as one archive, without ids, patients or text.

    Every command takes the archive in place of MODEL. Left out are the split, the hashes of training studies and the
    TF-IDF baseline: `kmm evaluate` cannot recognise training studies then, and says so.

    \b
    Example: kmm model pack saved_models/openi --out openi.zip
    """
    check_place(json_file)
    check_place(out)
    with hushed():
        from kmm.export.pack import pack_classifier
    with naming(out):
        packed = pack_classifier(model, out)
    write_result(json_file, packed, lambda: result_tables.print_packed(packed))


@model.command()
@click.argument("model", type=PLACE)
@json_option("MODEL_VERIFY")
def verify(model, json_file):
    """Check the classifier MODEL: its digests, its answers, and its exports.

    The answers to made-up studies are compared with those of when it was saved, and every export beside it with the
    classifier. Exit code 1: a check failed.

    \b
    Example: kmm model verify saved_models/openi
    """
    check_place(json_file)
    if model.is_dir() and any(path.name.isdigit() for path in model.iterdir()):
        os.environ["KERAS_BACKEND"] = "tensorflow"  # exports are loaded by TensorFlow
    with hushed():
        from kmm.export.verification import FAILED, verify_classifier
    checks = verify_classifier(model)
    sound = all(check.result != FAILED for check in checks)
    result = {"model": str(model), "ok": sound, "checks": [check.as_dict() for check in checks]}
    write_result(json_file, result, lambda: result_tables.print_model_checks(checks))
    sys.exit(0 if sound else 1)
