"""`kmm weights list`, `check` and `convert`: what fits, what does not, and the same numbers after a conversion."""

import json

import keras
import numpy as np
import pytest

from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.weights.checkpoints import load_image_weights, weights_digest
from kmm.models.weights.encoder_weights import list_encoders
from tests.factories.bert import write_bert
from tests.factories.commands import run


def build(seed):
    keras.utils.set_random_seed(seed)
    return build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=40)


@pytest.fixture(scope="module")
def source():
    return build(1)


@pytest.fixture(scope="module")
def file(source, tmp_path_factory):
    """The source's weights in a whole saved model."""
    path = tmp_path_factory.mktemp("weights") / "film.keras"
    source.save(path)
    return path


def ask(*words, code=0):
    result = run("weights", *words, "--encoder", "small-cnn", "--json", "-")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_check_reports_all_layers_and_the_loaded_numbers(source, file):
    found = ask("check", file)
    names = [layer.name for layer in source.layers if layer.weights]
    assert found["fits"] and found["layers"] == names and found["pixels"] == 128
    assert (found["tensors"], found["parameters"]) == (25, source.count_params())
    assert (found["source"], found["extra"], found["licence"]) == ("film.keras", [], "unknown")
    assert found["weights_sha256"] == weights_digest(source)
    shown = run("weights", "check", file, "--encoder", "small-cnn")
    assert shown.exit_code == 0 and "layers matched: 10 of 10" in shown.stdout
    assert f"parameters: {source.count_params():,}" in shown.stdout


@pytest.mark.parametrize("name", ["film.weights.h5", "film.safetensors"])
def test_what_convert_writes_has_the_same_numbers_and_a_fit_takes_it(source, file, tmp_path, name):
    if name.endswith(".safetensors"):
        pytest.importorskip("safetensors")
    out = tmp_path / name
    converted, original = ask("convert", file, "--out", out), ask("check", file)
    assert converted == {**original, "out": str(out)}
    again = ask("check", out)
    assert again["origin"] == f"film.keras ({original['sha256'][:16]})"
    assert sorted(row["name"] for row in again["file"]) == sorted(row["name"] for row in original["file"])
    apart = ("source", "sha256", "origin", "file")
    assert {key: value for key, value in again.items() if key not in apart} == {
        key: value for key, value in original.items() if key not in apart
    }
    target = build(2)
    load_image_weights(target, "small-cnn", out)
    assert all(np.array_equal(a, b) for a, b in zip(source.get_weights(), target.get_weights(), strict=True))
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_layers_that_the_encoder_lacks_are_named_and_left_out(source, tmp_path):
    head = keras.layers.Dense(3, name="old_head")(source.output["vector"])
    keras.Model(source.input, head).save_weights(tmp_path / "trained.weights.h5")
    assert ask("check", tmp_path / "trained.weights.h5")["extra"] == ["old_head"]
    ask("convert", tmp_path / "trained.weights.h5", "--out", tmp_path / "clean.weights.h5")
    found = ask("check", tmp_path / "clean.weights.h5")
    assert found["extra"] == [] and found["weights_sha256"] == weights_digest(source)


def test_weights_of_another_network_do_not_fit(tmp_path):
    image = keras.Input((40, 40, 1))
    keras.Model(image, keras.layers.Conv2D(2, 3, name="block1_conv")(image)).save(tmp_path / "other.keras")
    (tmp_path / "broken.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50))
    for name, reason in (("other.keras", "10 of 10 layers do not fit"), ("broken.h5", "is damaged")):
        found = ask("check", tmp_path / name, code=1)
        assert not found["fits"] and reason in found["reason"]
        shown = run("weights", "check", tmp_path / name, "--encoder", "small-cnn")
        assert shown.exit_code == 1 and shown.stdout.startswith("does not fit small-cnn: ") and not shown.stderr
        out = tmp_path / "out.weights.h5"
        result = run("weights", "convert", tmp_path / name, "--encoder", "small-cnn", "--out", out)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and not out.exists()


def test_wrong_names_are_one_line(file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, says in (
        (("check", "imagenet", "--encoder", "small-cnn"), "is not a file"),
        (
            ("check", file, "--encoder", "vgg"),
            f"Unknown image encoder 'vgg'. Known: {', '.join(sorted(IMAGE_ENCODERS))}.",
        ),
        (("convert", file, "--encoder", "small-cnn", "--out", tmp_path / "x.pth"), "Choose a name that ends in"),
    ):
        result = run("weights", *words)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and says in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_safetensors_file_with_foreign_names_under_our_layout_is_damaged(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    numpy.save_file({"loose": np.zeros(2)}, tmp_path / "x.safetensors", {"layout": "keras-layers-1"})
    assert "not named layer/index" in ask("check", tmp_path / "x.safetensors", code=1)["reason"]


def test_list_names_every_encoder_with_its_source_and_weights():
    rows = json.loads(run("weights", "list", "--json", "-").stdout)["encoders"]
    assert [row["name"] for row in rows] == [*IMAGE_ENCODERS, *TEXT_ENCODERS]
    by_name = {row["name"]: row for row in rows}
    for name, entry in {**IMAGE_ENCODERS, **TEXT_ENCODERS}.items():
        assert by_name[name]["source"] == entry.source
        assert by_name[name]["pixels"] == getattr(entry, "pixels", None)
        assert by_name[name]["parameters"] is None
    assert by_name["densenet121"]["weights"][0] == "imagenet" and ".pth" in by_name["densenet121"]["weights"]
    assert "imagenet" not in by_name["small-cnn"]["weights"] and ".pth" not in by_name["small-cnn"]["weights"]
    assert all("random" in by_name[name]["weights"] for name in IMAGE_ENCODERS)
    shown = run("weights", "list").stdout
    assert all(name in shown for name in by_name)


def test_parameters_are_those_of_the_built_network(source, monkeypatch):
    monkeypatch.setattr("kmm.models.weights.encoder_weights.IMAGE_ENCODERS", {"small-cnn": IMAGE_ENCODERS["small-cnn"]})
    assert list_encoders(count_parameters=True)[0]["parameters"] == source.count_params()


def test_names_tell_the_encoder_and_each_tensor_can_be_listed(file):
    result = run("weights", "check", file, "--keys", "--json", "-")
    assert json.loads(result.stdout)["encoder"] == "small-cnn"
    shown = run("weights", "check", file, "--keys").stdout
    assert "film.keras: fits small-cnn" in shown and "licence: unknown" in shown
    assert "block1_conv/0" in shown and "3x3x1x16" in shown


def test_a_file_that_lacks_layers_is_taken_only_when_that_is_wanted(source, tmp_path):
    path = tmp_path / "lower.weights.h5"
    keras.Model(source.input, source.get_layer("block4_relu").output).save_weights(path)
    strict = ask("check", path, code=1)
    assert "2 of 10 layers do not fit" in strict["reason"] and strict["missing"] == ["block5_conv", "block5_bn"]
    assert ask("check", path, "--partial")["random"] == ["block5_bn", "block5_conv"]
    shown = run("weights", "check", path, "--encoder", "small-cnn", "--partial").stdout
    assert "layers matched: 8 of 10" in shown and "layers with random weights: 2 (block5_bn, block5_conv)" in shown
    out = tmp_path / "whole.weights.h5"
    ask("convert", path, "--partial", "--out", out)
    assert ask("check", out)["random"] == ["block5_bn", "block5_conv"]


def test_check_lists_the_tensors_of_a_text_encoder(tmp_path):
    folder, tensors = write_bert(tmp_path / "bert", prefix="bert.")
    result = run("weights", "check", folder, "--encoder", "bert", "--json", "-")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["fits"] and found["cleaning"] == "bert-uncased"
    uses = [row["use"] for row in found["listing"]]
    assert (uses.count("used"), uses.count("unused")) == (len(tensors) - 2, 2)
    assert found["extra"] == ["pooler.dense.bias", "pooler.dense.weight"] and found["shape"]["width"] == 8
    shown = run("weights", "check", folder, "--encoder", "bert").stdout
    assert "bert: fits bert" in shown and "layers: 2, heads: 2, width: 8, hidden: 16" in shown
    (folder / "config.json").write_text((folder / "config.json").read_text().replace(": 2,", ": 4,", 1))
    wrong = run("weights", "check", folder, "--encoder", "bert")
    assert (
        wrong.exit_code == 1 and "missing" in wrong.stdout and "does not fit bert: bert holds weights" in wrong.stdout
    )
