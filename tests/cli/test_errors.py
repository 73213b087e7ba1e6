"""Errors of commands: one line each, and the whole traceback where `--debug` or KMM_DEBUG asks for it."""

import copy
import os
import re
import subprocess
import sys

import click
import pytest

from kmm.cli import main
from kmm.cli.output import load_keras_quietly
from kmm.engines.processes import make_portable
from kmm.errors import InputError, LeakError, describe_error, is_debugging
from kmm.keras_backend import check_backend
from tests.factories.commands import find_command, run, walk_commands

SECRET = "opacity of Mr Smith"


def fill(command):
    """Words that the required arguments and options of a command take."""
    words = []
    for param in command.params:
        if param.required:
            value = param.type.choices[0] if isinstance(param.type, click.Choice) else "x"
            words += [param.opts[0], value] if isinstance(param, click.Option) else [value]
    return words


def fail(*_, **__):
    try:
        raise KeyError(SECRET)
    except KeyError:
        raise ValueError(f"{SECRET}, read wrongly") from None


@pytest.mark.parametrize("path", list(walk_commands(main)), ids=" ".join)
def test_an_unexpected_error_is_one_line_and_a_traceback_with_debug(path, monkeypatch):
    monkeypatch.delenv("KMM_DEBUG", raising=False)
    command = find_command(path)
    monkeypatch.setattr(command, "callback", fail)
    words = fill(command)
    result = run(*path, *words)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1, result.output
    assert result.stderr.startswith("kmm: unexpected ValueError") and "--debug" in result.stderr
    assert SECRET not in result.output and isinstance(result.exception, SystemExit)
    for arguments, variables in (
        ((*path, *words, "--debug"), {}),
        (("--debug", *path, *words), {}),
        ((*path, *words), {"KMM_DEBUG": "1"}),
    ):
        result = run(*arguments, env=variables)
        assert result.exit_code == 2 and not is_debugging()
        for said in ("Traceback (most recent call last)", "in fail", f"KeyError: '{SECRET}'", f"ValueError: {SECRET}"):
            assert said in result.stderr
        assert result.stderr.splitlines()[-1].startswith("kmm: unexpected ValueError")
    assert "Traceback" not in run(*path, *words, env={"KMM_DEBUG": "0"}).stderr


@pytest.mark.parametrize("error", (InputError("expected a film."), OSError(28, "No space left", "film.png")))
def test_expected_errors_have_a_traceback_with_debug_too(monkeypatch, tmp_path, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("kmm.data.phantom.dataset.make_phantom", fail)
    plain, debugged = run("data", "phantom", tmp_path), run("data", "phantom", tmp_path, "--debug")
    assert plain.exit_code == debugged.exit_code == 2 and plain.stderr.count("\n") == 1
    assert "Traceback" in debugged.stderr and debugged.stderr.endswith(plain.stderr)


def test_an_option_that_cannot_be_read_has_a_traceback_wherever_debug_stands(tmp_path):
    missing = ["--config", tmp_path / "missing.yaml"]
    for words in ([*missing, "--debug"], ["--debug", *missing]):
        result = run("fit", *words)
        assert result.exit_code == 2 and "Traceback" in result.stderr and "FileNotFoundError" in result.stderr
    assert run("fit", *missing).stderr.count("\n") == 1


def test_wrong_usage_and_interrupts_have_no_traceback(monkeypatch, tmp_path):
    assert "Traceback" not in run("fit", "--nothing", "--debug").output

    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("kmm.data.phantom.dataset.make_phantom", stop)
    result = run("data", "phantom", tmp_path, "--debug")
    assert result.exit_code == 130 and result.stderr == "kmm: interrupted.\n"


def test_an_error_of_a_worker_process_keeps_its_traceback(capsys, monkeypatch):
    monkeypatch.setenv("KMM_DEBUG", "1")
    for error in (InputError("expected a film."), ZeroDivisionError("division by zero")):
        try:
            raise error
        except (InputError, ZeroDivisionError) as raised:
            portable = copy.copy(make_portable(raised))  # by the same protocol as to another process
        assert "test_errors.py" in "".join(portable.__notes__)
    monkeypatch.delenv("KMM_DEBUG")
    try:
        fail()
    except ValueError as error:
        describe_error(error)
        assert capsys.readouterr().err == ""
        monkeypatch.setenv("KMM_DEBUG", "yes")
        describe_error(error)
    assert f"KeyError: '{SECRET}'" in capsys.readouterr().err


# The backend of Keras


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    return tmp_path


def test_the_backend_is_that_of_the_variable_then_the_file_then_tensorflow(keras_home, monkeypatch):
    assert check_backend() == "tensorflow"
    for damaged in ("{", "[]", "{}"):
        (keras_home / "keras.json").write_text(damaged)
        assert check_backend() == "tensorflow"
    (keras_home / "keras.json").write_text('{"backend": "theano"}')
    with pytest.raises(InputError, match=r"keras\.json names the unknown backend 'theano'"):
        check_backend()
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert check_backend() == "tensorflow"


@pytest.mark.parametrize("name", ("jax", "torch"))
def test_a_backend_that_is_not_installed_is_one_line_with_the_remedy(monkeypatch, tmp_path, name):
    monkeypatch.setenv("KERAS_BACKEND", name)
    monkeypatch.setattr("kmm.keras_backend.importlib.util.find_spec", lambda _: None)
    (tmp_path / "film.png").write_bytes(b"")
    for words in (["predict", tmp_path, tmp_path / "film.png"], ["fit", "--out", tmp_path / "out"]):
        result = run(*words)
        assert result.exit_code == 2 and result.stderr.splitlines()[-1] == (
            f"kmm: KERAS_BACKEND names the backend {name}, which is not installed. "
            f'Install it (pip install "kmm[{name}]") or set KERAS_BACKEND=tensorflow.'
        )
    assert not (tmp_path / "out").exists()


def test_an_unknown_backend_is_one_line_in_a_process_of_its_own(tmp_path):
    (tmp_path / "film.png").write_bytes(b"")
    result = subprocess.run(
        [sys.executable, "-m", "kmm", "predict", tmp_path, tmp_path / "film.png"],
        env={**os.environ, "KERAS_BACKEND": "tensrflow"},
        capture_output=True,
        text=True,
    )
    assert (
        result.returncode == 2
        and result.stdout == ""
        and result.stderr
        == (
            "kmm: KERAS_BACKEND names the unknown backend 'tensrflow'. Set KERAS_BACKEND to tensorflow, jax or torch.\n"
        )
    )


def test_a_broken_installation_of_keras_is_one_line(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    with (
        pytest.raises(InputError, match=r"backend tensorflow: ImportError: libcudart: no such file\. Repair"),
        load_keras_quietly(),
    ):
        raise ImportError("libcudart:\nno such file")
    with pytest.raises(InputError, match=r"^expected$"), load_keras_quietly():
        raise InputError("expected")


# Places, exit codes and names of files


@pytest.mark.parametrize("command", ["fit", "evaluate", "predict", "verify", "embed"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(tiny_folder, tmp_path, fits, model, command):
    place = tmp_path / "nowhere" / "file.txt"
    arguments = {
        "fit": ["fit", tiny_folder, "--out", tmp_path, "--json", place],
        "evaluate": ["evaluate", model, tiny_folder, "--json", place],
        "predict": ["predict", model, tiny_folder, "--json", place],
        "verify": ["data", "verify", tiny_folder, "--json", place],
        "embed": ["weights", "embed", tiny_folder, "--out", place],
    }[command]
    result = run(*arguments)
    assert result.exit_code == 2 and not fits
    assert result.stderr == f"kmm: {place}: expected the name of a file in a folder that exists.\n"


def test_exit_codes_of_failed_checks_and_of_interrupts(tiny_folder, tmp_path, monkeypatch, fits):
    import kmm.data.phantom.dataset
    import kmm.training.fit

    def stop(error):
        def stop(*_, **__):
            raise error

        return stop

    monkeypatch.setattr(kmm.training.fit, "fit_classifier", stop(LeakError("Patient 7 is in train and test.")))
    result = run("fit", tiny_folder, "--out", tmp_path)
    assert result.exit_code == 1 and result.stderr.splitlines()[-1] == "kmm: Patient 7 is in train and test."
    monkeypatch.setattr(kmm.training.fit, "fit_classifier", stop(KeyboardInterrupt()))
    result = run("fit", tiny_folder, "--out", tmp_path)
    assert result.exit_code == 130 and "--resume" in result.stderr.splitlines()[-1]
    monkeypatch.setattr(kmm.data.phantom.dataset, "make_phantom", stop(KeyboardInterrupt()))
    result = run("data", "phantom", tmp_path / "x")
    assert result.exit_code == 130 and result.stderr == "kmm: interrupted.\n"


def test_an_error_is_one_line_whatever_the_file_is_called(model, tmp_path):
    place = tmp_path / "a\nb\x1b[31m.png"
    place.write_bytes(b"")
    for arguments in ([place], [place, "--strict"], [f"{place}x"]):
        result = run("predict", model, *arguments)
        progress = re.compile(r"Predicting.*|.*: images, \d+ stud(y|ies)")
        lines = [line for line in result.stderr.splitlines() if not progress.fullmatch(line)]
        assert result.exit_code == 2 and len(lines) == 1 and "\x1b" not in result.output
