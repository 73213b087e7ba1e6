"""Completion of words in the shells that Click knows."""

import re

import pytest

from tests.factories.commands import run


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    result = run("completion", shell)
    assert result.exit_code == 0 and f"_KMM_COMPLETE={shell}_complete" in result.stdout.replace('"', "")
    environment = {"_KMM_COMPLETE": f"{shell}_complete", "COMP_WORDS": "kmm data ", "COMP_CWORD": "2"}
    completed = run(env={**environment, "COMP_CWORD": "" if shell == "fish" else "2"})
    assert {"phantom", "verify", "split"} <= set(re.split(r"[,\s]+", completed.stdout))


def test_completion_of_an_unknown_shell_is_refused():
    result = run("completion", "dos")
    assert result.exit_code == 2 and "fish" in result.stderr
