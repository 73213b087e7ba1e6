"""Rules on the tree: the size of rooms, and what tests import."""

import ast
from pathlib import Path

import pytest

import kmm

ROOT = Path(kmm.__file__).parent.parent


def list_imports(code):
    """Names that a module imports, with dots: of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (module, *(f"{module}.{alias.name}" for alias in node.names))


def is_test(name):
    """Whether a name with dots is that of a test module or a conftest, or of something inside."""
    parts = name.strip(".").split(".")
    return parts[-1] == "conftest" or any(part == "conftest" or part.startswith("test_") for part in parts[:-1])


MODULES = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}


def find_test_imports(code):
    return [name for name in list_imports(code) if is_test(name) or name.split(".")[-1] in MODULES]


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_nothing_imports_a_test_or_a_conftest(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    found = {str(file.relative_to(ROOT)): find_test_imports(file.read_text(encoding="utf-8")) for file in files}
    assert files and not {file: names for file, names in found.items() if names}


@pytest.mark.parametrize(
    "code",
    [
        "from {package} import conftest",
        "from {package}.conftest import run",
        "from {package}.cli.test_fit import run",
        "from {package}.cli import test_fit",
        "from . import conftest",
        "def test():\n    import {package}.cli.test_fit",
    ],
)
def test_such_imports_are_found(code):
    assert find_test_imports(code.format(package="tests"))


def test_imports_of_factories_are_not_found():
    assert not find_test_imports("from tests.factories.commands import run\nimport kmm")


MOST_FILES, COMMANDS = 16, ROOT / "kmm" / "cli"  # of a room; a command has a file of its own


def list_crowded(root):
    """Returns the number of modules of each folder that has too many, the commands aside."""
    rooms = {file.parent for file in root.rglob("*.py")} - {COMMANDS}
    counts = {room: sum(file.stem != "__init__" for file in room.glob("*.py")) for room in rooms}
    return {str(room.relative_to(root)): count for room, count in counts.items() if count > MOST_FILES}


def test_no_room_is_crowded(tmp_path):
    assert list_crowded(ROOT / "kmm") == {}
    (tmp_path / "room").mkdir()
    for number in range(MOST_FILES + 1):
        (tmp_path / "room" / f"file{number}.py").touch()
    assert list_crowded(tmp_path) == {"room": MOST_FILES + 1}
