"""`kmm serve`, as it is run: in a process of its own, ended by a signal."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import grpc
import pytest

from tests.factories.commands import run
from tests.factories.saved_model import Stubs, make_predict, make_spec, stubs


@pytest.mark.large
def test_serves_until_it_is_told_to_stop(versions, tmp_path):
    """Whatever backend Keras has: TensorFlow imports Keras, and would fail with it."""
    shutil.copytree(versions / "1", tmp_path / "tiny" / "1")
    (tmp_path / "token").write_text("word")
    command = [sys.executable, "-m", "kmm", "serve", f"best={tmp_path / 'tiny'}", "--port", "0", "--rest-port", "0"]
    command += ["--label", "stable=1", "--token-file", tmp_path / "token", "--log-requests"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "KERAS_BACKEND": "theano"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        line = process.stdout.readline()
        found = re.fullmatch(r"serving best \(1\): gRPC 127\.0\.0\.1:(\d+), REST (http://127\.0\.0\.1:\d+)\n", line)
        assert found, process.stderr.read()
        with grpc.insecure_channel(f"127.0.0.1:{found[1]}") as channel:
            bearer = (("authorization", "Bearer word"),)
            request = make_predict(name="best", label="stable")
            answer = Stubs(channel).predict.Predict(request, metadata=bearer, timeout=20)
        assert answer.model_spec.version.value == 1
        with urllib.request.urlopen(f"{found[2]}/healthz", timeout=20) as health:
            assert health.status == 200
        process.send_signal(signal.SIGTERM)
        output, said = process.communicate(timeout=30)
    assert (process.returncode, output) == (0, "")
    assert "in production serve the same folders with TensorFlow Serving. Not for diagnosis." in said
    (line,) = [line for line in said.splitlines() if line.startswith("{")]
    entry = json.loads(line)
    assert {name: entry[name] for name in ("protocol", "method", "model", "version", "signature", "code")} == {
        "protocol": "GRPC",
        "method": "Predict",
        "model": "best",
        "version": 1,
        "signature": "serving_default",
        "code": "OK",
    }
    assert "word" not in said


@contextlib.contextmanager
def serving(*command):
    """A server in a process of its own, killed in the end."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until_it_is_loaded(face, version, *, seconds=20):
    """Until the server says that it loads a version, or serves it."""
    request, end = stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=make_spec()), time.monotonic() + seconds
    while time.monotonic() < end:
        for one in face.models.GetModelStatus(request, timeout=20).model_version_status:
            if one.version == version and one.state in (one.LOADING, one.AVAILABLE):
                return
    raise AssertionError("the version was not looked at")


@pytest.mark.large
def test_a_server_that_was_killed_in_a_hot_swap_serves_the_new_version_when_it_is_started_again(versions, tmp_path):
    shutil.copytree(versions / "1", tmp_path / "tiny" / "1")
    shutil.copytree(versions / "2", tmp_path / "aside")
    command = [sys.executable, "-m", "kmm", "serve", tmp_path / "tiny", "--port", "0", "--no-rest"]
    with serving(*command, "--poll-seconds", "0.01") as process:
        found = re.fullmatch(r"serving tiny \(1\): gRPC (\S+)\n", process.stdout.readline())
        with grpc.insecure_channel(found[1]) as channel:
            (tmp_path / "aside").rename(tmp_path / "tiny" / "2")
            wait_until_it_is_loaded(Stubs(channel), 2)
    with serving(*command) as process:
        found = re.fullmatch(r"serving tiny \(2\): gRPC (\S+)\n", process.stdout.readline())
        with grpc.insecure_channel(found[1]) as channel:
            answer = Stubs(channel).predict.Predict(make_predict(), timeout=20)
    assert answer.model_spec.version.value == 2


@pytest.mark.large
def test_hang_up_reads_all_files_again(versions, tmp_path):
    """At once, though nothing is looked at by itself: tokens, the list of models, new versions."""
    shutil.copytree(versions / "1", tmp_path / "tiny" / "1")
    (tmp_path / "token").write_text("old")
    listed, text = tmp_path / "models.config", 'model_config_list {{ config {{ name: "{}" base_path: "{}" }} }}'
    listed.write_text(text.format("first", tmp_path / "tiny"))
    command = [sys.executable, "-m", "kmm", "serve", f"own={tmp_path / 'tiny'}", "--models", listed, "--port", "0"]
    command += ["--no-rest", "--token-file", tmp_path / "token", "--poll-seconds", "0", "--models-poll-seconds", "0"]
    with serving(*command) as process:
        found = re.fullmatch(r"serving own \(1\), first \(1\): gRPC (\S+)\n", process.stdout.readline())
        with grpc.insecure_channel(found[1]) as channel:
            predict = Stubs(channel).predict.Predict

            def ask(name, token):
                try:
                    answer = predict(
                        make_predict(name=name), metadata=(("authorization", f"Bearer {token}"),), timeout=20
                    )
                except grpc.RpcError as error:
                    return error.code().name
                return answer.model_spec.version.value

            assert (ask("own", "old"), ask("first", "old"), ask("own", "new")) == (1, 1, "UNAUTHENTICATED")
            (tmp_path / "token").write_text("new")
            listed.write_text(text.format("second", tmp_path / "tiny"))
            shutil.copytree(versions / "2", tmp_path / "aside")
            (tmp_path / "aside").rename(tmp_path / "tiny" / "2")
            time.sleep(0.3)
            assert (ask("own", "old"), ask("second", "old")) == (1, "NOT_FOUND")
            process.send_signal(signal.SIGHUP)
            end, wanted = time.monotonic() + 20, (2, 2, "NOT_FOUND", "UNAUTHENTICATED")
            while (ask("own", "new"), ask("second", "new"), ask("first", "new"), ask("own", "old")) != wanted:
                assert time.monotonic() < end, "they were not read again"
                time.sleep(0.05)


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_configuration_is_tried_and_nothing_stays_bound(versions, tmp_path):
    (tmp_path / "token").write_text("word\n")
    before = set(threading.enumerate())  # of servers of other tests too
    result = run(
        "serve", f"best={versions}", "--port", 0, "--rest-port", 0, "--token-file", tmp_path / "token", "--validate"
    )
    found = re.fullmatch(
        r"valid: serving best \(2\): gRPC 127\.0\.0\.1:(\d+), REST http://127\.0\.0\.1:(\d+)\n", result.stdout
    )
    assert result.exit_code == 0 and found and not result.stderr
    assert is_free(int(found[1])) and is_free(int(found[2]))
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), thread.name


@pytest.mark.parametrize(
    "options, complaint",
    [
        (["--label", "next=9"], "version 9 of model tiny, which is not currently available"),
        (["--token-file", "tokens"], "tokens, line 1: expected a token"),
        (["--tls-cert", "tokens", "--tls-key", "tokens"], "tokens: expected certificates in PEM."),
        (["--models", "tokens"], "tokens, line 1: expected the text of a ModelServerConfig."),
        (["--port", "TAKEN"], "cannot listen on this address"),
        (["--rest-port", "TAKEN"], "cannot listen on this address"),
        (["--tls-config", "none"], "none: expected the text of an SSLConfig. No such file"),
    ],
)
def test_a_configuration_that_is_wrong_is_one_line(versions, tmp_path, monkeypatch, options, complaint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens").write_text("no token but words\n")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        words = [str(taken.getsockname()[1]) if word == "TAKEN" else word for word in options]
        free = [word for name in ("--port", "--rest-port") if name not in words for word in (name, 0)]
        result = run("serve", f"tiny={versions}", "--validate", *free, *words)
    assert result.exit_code == 2 and not result.stdout
    (line,) = result.stderr.splitlines()
    assert complaint in line


def test_a_version_that_does_not_load_is_no_valid_configuration(versions, tmp_path):
    """A server starts with the version before it; but whoever tries a configuration wants to know."""
    shutil.copytree(versions / "1", tmp_path / "tiny" / "1")
    shutil.copytree(versions / "2", tmp_path / "tiny" / "2")
    (tmp_path / "tiny" / "2" / "saved_model.pb").unlink()
    result = run("serve", tmp_path / "tiny", "--port", 0, "--no-rest", "--validate")
    assert result.exit_code == 2 and not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.endswith("tiny version 2: NOT_FOUND: The version has no file saved_model.pb.")


@pytest.mark.parametrize(
    "options, complaint",
    [
        ([], "Expected a folder of a model, or --models FILE"),
        (["nowhere"], "Found no folder"),
        (["a=nowhere", "a=elsewhere"], "Two models have the same name"),
        (["nowhere", "--host", "0.0.0.0"], "other hosts may connect with TLS only"),
        (["nowhere", "--host", "0.0.0.0", "--allow-plaintext", "--allow-reload"], "only with a token"),
        (["nowhere", "--rest-timeout", "0"], "--rest-timeout"),
        (["nowhere", "--versions", "newest"], "is not a choice of versions"),
        (["nowhere", "--label", "stable"], "Expected a label as MODEL:LABEL=VERSION"),
        (["nowhere", "--label", "other:stable=1"], "Expected a label as MODEL:LABEL=VERSION"),
        (["nowhere", "--token-file", "nothing"], "No such file"),
    ],
)
def test_wrong_usage_is_one_line(options, complaint):
    result = run("serve", *options, "--port", 0, "--rest-port", 0)
    assert result.exit_code == 2 and complaint in result.stderr.splitlines()[-1]
