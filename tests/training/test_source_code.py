"""Digests of the code, whole or of what a module reaches, change with its statements and with nothing else."""

import pytest

from kmm.training.source_code import digest_code, digest_reached, dump_statements, list_reached

SOURCE = b'''"""A module."""

def double(x):
    """Doubles."""
    if x:
        def inner():
            "Says nothing."
            return 2
    else:
        class Inner:
            """Nor this."""
    return 2 * x
'''
SAME = {
    "a comment": SOURCE + b"# more\n",
    "another docstring": SOURCE.replace(b"Doubles", b"Returns twice the number"),
    "no docstring": SOURCE.replace(b'    """Doubles."""\n', b""),
    "inner docstrings": SOURCE.replace(b"Says nothing", b"Says more").replace(b"Nor this", b"Or this"),
    "another module docstring": SOURCE.replace(b"A module", b"The module"),
    "blank lines": SOURCE.replace(b"\n", b"\n\n"),
}
OTHER = {
    "a number": SOURCE.replace(b"2 *", b"3 *"),
    "a name": SOURCE.replace(b"double", b"twice"),
    "a string that is used": SOURCE.replace(b"2 * x", b"'2 * x'"),
}


@pytest.mark.parametrize("change", SAME)
def test_comments_and_docstrings_do_not_count(change):
    assert SAME[change] != SOURCE and dump_statements(SAME[change]) == dump_statements(SOURCE)


@pytest.mark.parametrize("change", OTHER)
def test_statements_count(change):
    assert dump_statements(OTHER[change]) != dump_statements(SOURCE)


def test_the_digest_of_the_code_is_that_of_every_process():
    assert len(digest_code()) == 64 and digest_code() == digest_code.__wrapped__()


def write_package(root, **sources):
    """A package `kmm` of some modules, whose names have `__` for a dot."""
    for name, source in sources.items():
        path = root.joinpath(*name.split("__")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        for folder in path.relative_to(root).parents:
            (root / folder / "__init__.py").touch()
    return root


def test_imports_are_followed_wherever_they_stand_and_type_checks_are_not(tmp_path):
    root = write_package(
        tmp_path / "kmm",
        a="import typing\nimport kmm.b\nif typing.TYPE_CHECKING:\n    import kmm.unused\nelse:\n    import kmm.c",
        b="def one():\n    from kmm.room import d\n    return d.two()",
        room__d="from kmm import a\nimport numpy",
        c="",
        unused="import kmm.other",
        other="",
    )
    assert list_reached("kmm.a", root) == ["kmm", "kmm.a", "kmm.b", "kmm.c", "kmm.room", "kmm.room.d"]


def test_the_digest_counts_what_is_reached_and_the_data_files_beside_it(tmp_path):
    def digest(**changed):
        sources = {"a": "from kmm.room.b import one", "room__b": "one = 1", "c": "two = 2"}
        root = write_package(tmp_path / str(len(list(tmp_path.iterdir()))) / "kmm", **{**sources, **changed})
        (root / "room" / "words.txt").write_text(words)
        return digest_reached("kmm.a", root)

    words = "lung"
    first = digest()
    assert digest(c="two = 3") == digest(a="from kmm.room.b import one  # comment") == first
    others = {digest(a="from kmm.room.b import one as two"), digest(room__b="one = 2"), digest(a="import kmm.c")}
    words = "heart"
    assert len({first, digest(), *others}) == 5


def test_a_relative_import_is_not_passed_over(tmp_path):
    with pytest.raises(ValueError, match="relative import"):
        list_reached("kmm.a", write_package(tmp_path / "kmm", a="from . import b"))
