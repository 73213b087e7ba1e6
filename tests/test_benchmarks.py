"""The benchmarks' files import each other without a cycle, and each command explains itself."""

import ast
import graphlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
COMMANDS = (
    *("attack", "error_rates", "evaluate", "explain", "fit", "growth", "growth_of_films", "published_defects", "read"),
    *("search", "serve", "soak"),
)


def find_imports(path):
    """Returns the names of the modules that a file imports, at its top level or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_benchmarks_do_not_import_each_other_in_a_cycle():
    files = {path.stem: path for path in FOLDER.glob("*.py")}
    graph = {name: find_imports(path) & set(files) for name, path in files.items()}
    order = list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(files)
    assert not any(set(COMMANDS) & imported for imported in graph.values()), "a command is not a library"


@pytest.mark.large
@pytest.mark.parametrize("name", COMMANDS)
def test_help_lists_the_figures(name):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, FOLDER / f"{name}.py", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"usage: {name}.py") and "--" in done.stdout
