"""The digest of the code changes with its statements and with nothing else."""

import pytest

from kmm.training.run_folders import digest_code, dump_statements

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
