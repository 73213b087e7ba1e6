"""Every result as JSON names its schema, and docs/results.md documents it."""

import json
import re
from pathlib import Path

import click
import pytest

import kmm
from kmm.classifier import Classifier
from kmm.cli import main
from kmm.cli.output import write_result
from kmm.client import Prediction
from kmm.storage.results import RESULTS_SCHEMA
from tests.factories.commands import run

DOCUMENT = (Path(kmm.__file__).parents[1] / "docs" / "results.md").read_text(encoding="utf-8")
PREDICTED = ["study", "image", "image_present", "text_present", *Prediction.__dataclass_fields__]


def list_commands(group, path=()):
    """Names of the commands with the option `--json`."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from list_commands(command, (*path, name))
        elif any("--json" in param.opts for param in command.params):
            yield " ".join((*path, name))


def test_the_schema_is_the_documented_one():
    assert RESULTS_SCHEMA == "kmm-results-1" and DOCUMENT.startswith(f"# Results as JSON: schema `{RESULTS_SCHEMA}`\n")


@pytest.mark.parametrize("command", tuple(list_commands(main)))
def test_every_command_with_json_is_documented(command):
    assert re.search(rf"^(## |\| ).*`kmm {command}( |`)", DOCUMENT, re.MULTILINE)


def test_the_result_of_a_command_is_an_object_that_names_its_schema(tmp_path, capsys):
    write_result(None, {"ok": True}, lambda: click.echo("shown"))
    assert capsys.readouterr().out == "shown\n"
    write_result(str(tmp_path / "out.json"), {"ok": True}, lambda: click.echo("shown"))
    assert capsys.readouterr().out == ""
    write_result("-", {"ok": True}, lambda: click.echo("shown"))
    for text in (capsys.readouterr().out, (tmp_path / "out.json").read_text(encoding="utf-8")):
        assert list(json.loads(text).items()) == [("schema", RESULTS_SCHEMA), ("ok", True)]


def test_commands_write_json_in_one_place():
    for path in Path(kmm.__file__).with_name("cli").glob("*.py"):
        assert "write_json(" not in path.read_text(encoding="utf-8"), path.name


def test_predictions_have_the_documented_keys(tiny_run, tiny_folder):
    result = run("predict", tiny_run[2], tiny_folder / "images" / "1.png", "--json", "-")
    found = json.loads(result.stdout)
    assert list(found) == ["schema", "model", "abstain", "predictions", "set_aside", "notes"]
    (row,) = found["predictions"]
    assert list(row) == PREDICTED and row["model"] is row["version"] is row["sets"] is found["abstain"] is None
    assert all(f"`{key}`" in DOCUMENT for key in (*row, *found))


def test_metrics_of_a_saved_classifier_name_the_schema(tiny_run):
    saved = json.loads((tiny_run[2] / "metrics.json").read_text(encoding="utf-8"))
    assert (
        saved.pop("schema") == RESULTS_SCHEMA and saved == tiny_run[0].metrics == Classifier.load(tiny_run[2]).metrics
    )
    (row,) = {tuple(saved[part]["joint"]) for part in ("validation", "test")}
    tests = saved["test"]["tests"]["text"]
    assert all(f"`{key}`" in DOCUMENT for key in (*saved["test"], *row, *tests, *tests["roc_auc"], *tests["accuracy"]))
