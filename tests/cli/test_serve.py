"""`kmm serve`, as it is run: in a process of its own, ended by a signal."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request

import grpc
import pytest

from tests.conftest import run
from tests.server.tiny_model import Stubs, make_predict, make_spec, save_tiny, stubs


def test_serves_until_it_is_told_to_stop(tmp_path):
    """Whatever backend Keras has: TensorFlow imports Keras, and would fail with it."""
    save_tiny(tmp_path / "tiny" / "1", 1)
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


def test_a_server_that_was_killed_in_a_hot_swap_serves_the_new_version_when_it_is_started_again(tmp_path):
    save_tiny(tmp_path / "tiny" / "1", 1)
    save_tiny(tmp_path / "aside", 2)
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


@pytest.mark.parametrize(
    "options, complaint",
    [
        ([], "Expected a folder of a model, or --models FILE"),
        (["nowhere"], "Found no folder"),
        (["a=nowhere", "a=elsewhere"], "Expected each model once"),
        (["nowhere", "--host", "0.0.0.0"], "other hosts may connect with TLS only"),
        (["nowhere", "--host", "0.0.0.0", "--allow-plaintext", "--allow-reload"], "only with a token"),
        (["nowhere", "--rest-timeout", "0"], "--rest-timeout"),
        (["nowhere", "--versions", "newest"], "Expected versions as latest"),
        (["nowhere", "--label", "stable"], "Expected a label as MODEL:LABEL=VERSION"),
        (["nowhere", "--label", "other:stable=1"], "Expected a label as MODEL:LABEL=VERSION"),
        (["nowhere", "--token-file", "nothing"], "No such file"),
    ],
)
def test_wrong_usage_is_one_line(options, complaint):
    result = run("serve", *options, "--port", 0, "--rest-port", 0)
    assert result.exit_code == 2 and complaint in result.stderr.splitlines()[-1]
