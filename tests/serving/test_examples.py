"""The examples send what a served classifier takes, without kmm."""

import ast
import base64
import importlib.util
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import click
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format

from kmm.cli import call
from kmm.cli import serve as serve_command
from kmm.cli.serving_flags import FLAGS, FOLDER, NAME, REFUSED
from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import decode_tensor
from tests.factories.stub_server import StubServer, serve

SERVING = Path(__file__).parents[2] / "serving"
EXAMPLES = SERVING / "examples"
FILM, REPORT = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 40, 'Löffel "mass".\n'.encode()


@pytest.fixture
def files(tmp_path):
    (tmp_path / "film.png").write_bytes(FILM)
    (tmp_path / "report.txt").write_bytes(REPORT)
    return tmp_path


def load(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_with(program, script, files, **more):
    """Runs a script with a program in its path that keeps what it was given."""
    if not shutil.which("sh"):
        pytest.skip("there is no sh")
    fake = files / "bin" / program
    fake.parent.mkdir(exist_ok=True)
    fake.write_text('#!/bin/sh\nfor word; do echo "$word"; done > "$KEPT.words"\ncat > "$KEPT"\n')
    fake.chmod(0o755)
    kept = files / "kept"
    environment = {**os.environ, "PATH": f"{fake.parent}:{os.environ['PATH']}", "KEPT": str(kept), **more}
    words = ["sh", EXAMPLES / script, "localhost:8500", "openi", files / "film.png", files / "report.txt"]
    subprocess.run(words, env=environment, check=True)
    return kept.read_text(), (files / "kept.words").read_text().split("\n")


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_know_nothing_of_kmm(script):
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert not any(name.split(".")[0] == "kmm" for name in names)


def test_stock_stubs(files, capsys):
    stub, example = StubServer(), load("predict_stubs")
    with serve(stub) as port:
        example.main(f"127.0.0.1:{port}", "openi", files / "film.png", files / "report.txt")
        example.main(f"127.0.0.1:{port}", "openi", files / "film.png")
    first, second = stub.requests
    assert first.model_spec.signature_name == "serving_bytes"
    assert decode_tensor(first.inputs["image_bytes"]).tolist() == [FILM]
    assert decode_tensor(first.inputs["report"]).tolist() == [REPORT]
    assert decode_tensor(second.inputs["report"]).tolist() == [b""]
    said = capsys.readouterr().out
    assert said.startswith("openi version 3\n") and re.search(r"^mass\t0\.\d{4}\t(yes|no)$", said, re.MULTILINE)


def test_grpcurl(files):
    body, words = run_with("grpcurl", "call.sh", files)
    request = json_format.Parse(body, load_stubs().predict_pb2.PredictRequest())
    assert (request.model_spec.name, request.model_spec.signature_name) == ("openi", "serving_bytes")
    assert decode_tensor(request.inputs["image_bytes"]).tolist() == [FILM]
    assert decode_tensor(request.inputs["report"]).tolist() == [REPORT]
    assert "tensorflow.serving.PredictionService/Predict" in words and "-protoset" not in words
    assert "-protoset" in run_with("grpcurl", "call.sh", files, PROTOSET="serving.protoset")[1]


def test_curl(files):
    body, words = run_with("curl", "call_rest.sh", files)
    said = json.loads(body)
    (instance,) = said["instances"]
    assert said["signature_name"] == "serving_bytes" and set(instance) == {"image_bytes", "report"}
    assert base64.b64decode(instance["image_bytes"]["b64"]) == FILM
    assert base64.b64decode(instance["report"]["b64"]) == REPORT
    assert "http://localhost:8500/v1/models/openi:predict" in words


@pytest.mark.parametrize("script", ["call.sh", "call_rest.sh"])
def test_scripts_refuse_wrong_usage(script, tmp_path):
    for words in ([], ["localhost:1", "openi", tmp_path / "gone", tmp_path / "gone"]):
        done = subprocess.run(["sh", EXAMPLES / script, *words], capture_output=True, text=True)
        assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_the_protoset_is_complete():
    example, files = load("write_protoset"), descriptor_pb2.FileDescriptorSet()
    for module in (example.prediction_service_pb2, example.model_service_pb2):
        example.add_file(module.DESCRIPTOR, files)
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(files.SerializeToString()).file:
        pool.Add(file)
    assert pool.FindServiceByName("tensorflow.serving.PredictionService").methods_by_name["Predict"]
    assert pool.FindServiceByName("tensorflow.serving.ModelService").methods_by_name["GetModelStatus"]


def test_the_readme_names_the_files_and_options_that_there_are():
    text = (SERVING / "README.md").read_text(encoding="utf-8")
    for path in set(SERVING.rglob("*.*")) - {SERVING / "README.md"} - set(SERVING.rglob("*.pyc")):
        assert path.name in text, path.name
    for name in re.findall(r"serving/(examples/[\w.]+)", text):
        assert (SERVING / name).is_file()
    known = list_options(call.call)
    for command in re.findall(r"kmm call (.*)", text):
        assert set(re.findall(r"--[\w-]+", command.split("`")[0])) <= known, command
    told = "".join(
        re.findall(r"^\| (`--[^|]*) \|", text.partition("## kmm serve")[2].partition("\n## ")[0], re.MULTILINE)
    )
    known = list_options(serve_command.serve) - {"--rest"}  # the default
    assert set(re.findall(r"--[\w-]+", told)) == known


def test_the_readme_names_every_flag_of_tensorflow_serving():
    """Each that is translated beside its option; the others in the text."""
    text = (SERVING / "README.md").read_text(encoding="utf-8").partition("## kmm serve")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| `--")]
    for flag in {*FLAGS, *REFUSED, NAME, FOLDER}:
        assert re.search(rf"`--{flag}\b", text), flag
        option = getattr(FLAGS.get(flag), "option", None)
        assert option is None or any(f"`{option}`" in row[0] and f"`--{flag}`" in row[1] for row in rows), flag
    context = click.Context(serve_command.serve)
    defaults = {option.opts[0]: option.get_default(context) for option in serve_command.serve.params}
    for row in rows:
        if re.fullmatch(r"\d+(\.\d+)?", row[2]):
            option = row[0].split("`")[1]
            assert defaults[option] == float(row[2]), option


def list_options(command):
    options = [option for option in command.params if isinstance(option, click.Option)]
    return {name for option in options for name in option.opts + option.secondary_opts}
