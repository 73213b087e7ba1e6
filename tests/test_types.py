"""Every public function of kmm has types, and an installed kmm hands them to type checkers."""

import ast
import configparser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CALLED = ("__init__", "__call__", "__enter__", "__exit__", "__aenter__", "__aexit__")
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def find_untyped(body, prefix=""):
    """Finds public functions and methods whose parameters or results lack a type.

    Functions inside functions are private, and so are the members of a private class. `__init__` needs no return type
    once a parameter has one.

    Args:
        body: list of `ast.stmt`. Statements of a module or a class.
        prefix: str. Name of the class with a dot, or empty.

    Yields:
        the line of a function, its name, and the names of what lacks a type (`"return"` for the result).
    """
    for node in body:
        if isinstance(node, FUNCTIONS):
            if node.name in CALLED or not node.name.startswith("_"):
                missing = [argument.arg for argument in list_arguments(node) if argument.annotation is None]
                if prefix and missing[:1] in (["self"], ["cls"]):
                    missing = missing[1:]
                typed = node.name == "__init__" and len(list_arguments(node)) > 1
                if node.returns is None and not typed:
                    missing.append("return")
                if missing:
                    yield node.lineno, prefix + node.name, missing
        elif isinstance(node, ast.ClassDef):
            if not node.name.startswith("_"):
                yield from find_untyped(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.If | ast.Try | ast.With):
            yield from find_untyped(
                [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)], prefix
            )


def list_arguments(function):
    """Returns every `ast.arg` of a function, `*` and `**` included."""
    given = function.args
    return [
        argument
        for argument in (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg)
        if argument is not None
    ]


@pytest.mark.large
def test_every_public_function_has_types():
    paths = sorted((ROOT / "kmm").rglob("*.py"))
    assert len(paths) > 100
    untyped = [
        f"{path.relative_to(ROOT).as_posix()}:{line} {name}: {', '.join(missing)}"
        for path in paths
        for line, name, missing in find_untyped(ast.parse(path.read_text(encoding="utf-8")).body)
    ]
    assert not untyped, f"{len(untyped)} functions lack types:\n" + "\n".join(untyped)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f(a: int, *more: str, b: int = 0, **rest: int) -> int: ...", []),
        ("def f(a, *more, b: int = 0, **rest) -> int: ...", ["f: a, more, rest"]),
        ("async def f(): ...", ["f: return"]),
        ("def _f(a): ...\nclass _A:\n    def f(self, a): ...", []),
        ("def f() -> None:\n    def inner(a): ...", []),
        ("class A:\n    def __init__(self, a: int): ...\n    def __call__(self, a): ...", ["A.__call__: a, return"]),
        ("class A:\n    def __init__(self): ...\n    def __repr__(self): ...", ["A.__init__: return"]),
        (
            "class A:\n    @classmethod\n    def f(cls) -> int: ...\n    @staticmethod\n    def g(a) -> int: ...",
            ["A.g: a"],
        ),
        ("if x:\n    def f(a) -> None: ...\nelse:\n    def f(a: int): ...", ["f: a", "f: return"]),
    ],
)
def test_missing_types_are_found(source, expected):
    found = [f"{name}: {', '.join(missing)}" for _, name, missing in find_untyped(ast.parse(source).body)]
    assert found == expected


def test_type_checkers_see_the_types_of_an_installed_kmm():
    assert (ROOT / "kmm" / "py.typed").is_file()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    assert "py.typed" in setup["options.package_data"]["kmm"].split()
