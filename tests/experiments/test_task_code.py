"""The key of a task changes with code on which its results depend, and with no other."""

import ast
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kmm
from kmm.experiments.tasks.task import COMPUTES, digest_task_code
from kmm.training.source_code import ROOT, digest_reached, list_reached
from tests.factories.studies import TINY

REACHED = set(list_reached(COMPUTES))
CHANGE = "\nADDED = 1\n"
COMPUTING = (
    *(
        "training.train",
        "training.stages.fit_stage",
        "training.stages.checkpoint",
        "training.preparation.words",
        "training.stages.recipe",
    ),
    *("text.clean", "image.prepare", "data.labels", "data.split", "models.fusion", "models.build", "batches"),
    *("classifier", "settings", "evaluate.metrics", "evaluate.decisions.calibration", "evaluate.compare"),
    *("experiments.tasks.run_task", "experiments.tasks.measures", "evaluate.linear_probe"),
)
SHOWING = (
    *("experiments.summary", "experiments.statistics", "experiments.run_comparison", "experiments.tasks.complete"),
    *("experiments.tasks.explanations", "experiments.planning.task_list", "experiments.comparison_folder"),
    *("evaluate.output.card", "evaluate.output.plots", "evaluate.result_files", "training.save_run"),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of kmm's sources, of which a test may change a file."""
    skip = shutil.ignore_patterns("__pycache__")
    return Path(shutil.copytree(ROOT, tmp_path_factory.mktemp("sources") / "kmm", ignore=skip))


def digest_changed(copy, name):
    """The digest after a file of the copy was changed, for as long as this takes."""
    path = copy / name
    before = path.read_text(encoding="utf-8")
    path.write_text(before + CHANGE, encoding="utf-8")
    try:
        return digest_reached.__wrapped__(COMPUTES, copy)
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize("name", ["training/train.py", "text/clean.py", "text/redaction_default.txt"])
def test_code_on_which_results_depend_changes_the_key(copy, name):
    assert digest_changed(copy, name) != digest_task_code()


@pytest.mark.parametrize("name", ["experiments/output/page.py", "experiments/output/comparison.html", "cli/compare.py"])
def test_other_code_does_not(copy, name):
    assert digest_changed(copy, name) == digest_task_code()


def test_rooms_that_compute_are_reached_and_those_that_show_are_not():
    rooms = {".".join(name.split(".")[:2]) for name in REACHED}
    assert rooms == {
        *("kmm", "kmm.batches", "kmm.classifier", "kmm.data", "kmm.errors", "kmm.evaluate", "kmm.experiments"),
        *("kmm.image", "kmm.keras_backend", "kmm.models", "kmm.progress", "kmm.protocol", "kmm.settings"),
        "kmm.setting_values",
        *("kmm.rules", "kmm.storage", "kmm.text", "kmm.training"),
    }
    assert {f"kmm.{name}" for name in COMPUTING} <= REACHED
    assert not {f"kmm.{name}" for name in SHOWING} & REACHED
    assert all(importlib.util.find_spec(f"kmm.{name}") for name in SHOWING)


def test_a_module_that_nobody_has_named_counts_once_it_is_imported(copy):
    (copy / "new_idea.py").write_text("x = 1\n")
    assert digest_reached.__wrapped__(COMPUTES, copy) == digest_task_code()
    with_import = copy / "training" / "stages" / "recipe.py"
    before = with_import.read_text()
    with_import.write_text(before + "\ndef later():\n    import kmm.new_idea\n")
    first = digest_reached.__wrapped__(COMPUTES, copy)
    (copy / "new_idea.py").write_text("x = 2\n")
    second = digest_reached.__wrapped__(COMPUTES, copy)
    with_import.write_text(before)
    assert len({first, second, digest_task_code()}) == 3


def test_what_is_reached_imports_no_module_by_a_name_in_a_string():
    """The graph follows statements; `kmm.require` and `keras_backend` import other packages."""
    found = set()
    for name in REACHED:
        tree = ast.parse(Path(importlib.util.find_spec(name).origin).read_bytes())
        calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
        called = {getattr(call, "attr", getattr(call, "id", "")) for call in calls}
        if called & {"import_module", "__import__", "exec", "eval", "run_module"}:
            found.add(name)
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        used = {one.attr for one in attributes if isinstance(one.value, ast.Name) and one.value.id == "kmm"}
        assert used <= {"__version__", "__file__"}, name
    assert found <= {"kmm", "kmm.errors", "kmm.keras_backend", "kmm.progress"}


SCRIPT = """
import json, sys
from pathlib import Path
from kmm.data.collection import read_collection
from kmm.experiments.tasks.run_task import TaskProgress, run_task
from kmm.experiments.tasks.task import Task
from kmm.settings import FitSettings
from kmm.training.preparation.prepared_studies import prepare_studies

folder, place, settings = sys.argv[1], Path(sys.argv[2]), FitSettings(**json.loads(sys.argv[3]))
prepared = prepare_studies(read_collection(folder), settings, films=place / "cache")
task = Task("1", "", settings, "", prepared.split, False, "key")
run_task(task, prepared, work=place / "work", cache=place / "cache", progress=TaskProgress(task))
print(json.dumps(sorted(name for name in sys.modules if name.partition(".")[0] == "kmm")))
"""


@pytest.mark.large
def test_a_task_loads_nothing_that_is_not_reached(tiny_folder, tmp_path):
    words = [sys.executable, "-c", SCRIPT, tiny_folder, tmp_path, json.dumps({**TINY, "text_epochs": 1})]
    done = subprocess.run(words, cwd=Path(kmm.__file__).parent.parent, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert len(loaded) > 50 and loaded <= REACHED
