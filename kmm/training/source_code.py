"""Digests of kmm's source code: of all of it, or of what a module can reach by its imports."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import kmm

ROOT = Path(kmm.__file__).parent
TYPED = ("TYPE_CHECKING", "typing.TYPE_CHECKING")  # conditions of blocks that are never run


@cache
def digest_code() -> str:
    """Returns the SHA-256 of the statements of kmm's source files. It identifies the code even if it was not committed;
    comments, docstrings and line breaks do not change it.

    Returns:
        str of 64 hexadecimal digits.
    """
    total = hashlib.sha256()
    for path in sorted(ROOT.rglob("*.py")):
        total.update(f"{path.relative_to(ROOT).as_posix()} {dump_statements(path.read_bytes())}\n".encode())
    return total.hexdigest()


@cache
def digest_reached(module: str, root: Path = ROOT) -> str:
    """Returns the SHA-256 of the code on which the results of a module can depend: the statements of all modules that
    `list_reached` finds, and the data files beside them.

    Args:
        module: str, the full name of a module of kmm.
        root: Path of the folder of the package `kmm`.

    Returns:
        str of 64 hexadecimal digits.
    """
    total = hashlib.sha256()
    paths = [path for name in list_reached(module, root) if (path := _find_source(name, root))]
    for path in paths:
        total.update(f"{path.relative_to(root).as_posix()} {_digest_statements(path.read_bytes())}\n".encode())
    for folder in sorted({path.parent for path in paths}):
        for path in _list_data(folder):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            total.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return total.hexdigest()


def list_reached(module: str, root: Path = ROOT) -> list[str]:
    """Lists the modules of kmm that a module can import, directly or through others. Nothing is executed.

    Imports within functions count, imports for type checks alone do not. Names that the package `kmm` imports when a
    user first asks for them are no imports of its modules.

    Args:
        module: str, the full name of a module of kmm.
        root: Path of the folder of the package `kmm`.

    Returns:
        list of str in the order of the alphabet: the module, those that it reaches, and the packages that hold them.

    Example:
        >>> list_reached("kmm.storage.file_lock")
        ['kmm', 'kmm.errors', 'kmm.keras_backend', 'kmm.storage', 'kmm.storage.file_lock']
    """
    reached: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _find_source(name, root)
        if path is None or name in reached:
            continue
        reached.add(name)
        waiting += [name.rpartition(".")[0], *_read_imports(path.read_bytes(), name)]
    return sorted(reached)


def _find_source(name, root):
    """Returns the source file of a module or package; None for a name that is neither, such as that of a function."""
    place = root.joinpath(*name.split(".")[1:])
    return next((path for path in (place / "__init__.py", place.with_suffix(".py")) if name and path.is_file()), None)


@cache
def _read_imports(source, name):
    """Returns the names of kmm that the source of a module imports."""
    found: list[str] = []
    for node in _walk_run(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{name} has a relative import, which is not followed.")
            found += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return [name for name in found if name.partition(".")[0] == "kmm"]


def _walk_run(node) -> Iterator[ast.AST]:
    """Yields the nodes of a syntax tree, without the blocks for type checks alone."""
    yield node
    typed = isinstance(node, ast.If) and ast.unparse(node.test) in TYPED
    for child in node.orelse if typed else ast.iter_child_nodes(node):
        yield from _walk_run(child)


def _list_data(folder):
    """Lists the files of a package that are no source code, for example lists of words."""
    return sorted(path for path in folder.glob("[!.]*") if path.is_file() and path.suffix not in (".py", ".pyc"))


@cache
def _digest_statements(source):
    return hashlib.sha256(dump_statements(source).encode()).hexdigest()


def dump_statements(source: bytes) -> str:
    """Returns the syntax tree of Python source as text, without comments, docstrings and positions.

    Example:
        >>> dump_statements(b"x = 1  # one") == dump_statements(b"x = (1)") != dump_statements(b"x = 2")
        True
    """
    tree = ast.parse(source)
    _drop_docstrings(tree)
    return ast.dump(tree)


def _drop_docstrings(node):
    body = getattr(node, "body", [])
    documented = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
    if documented and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        del body[0]
    for name in ("body", "orelse", "finalbody", "handlers"):
        for statement in getattr(node, name, []):
            _drop_docstrings(statement)
