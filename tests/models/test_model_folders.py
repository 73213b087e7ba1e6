"""Folders as Hugging Face publishes them, what is recognised in files, and files that are not what they say."""

import json
import struct
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from kmm.errors import InputError, WeightsError
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.weights.checkpoints import load_image_weights
from kmm.models.weights.encoder_weights import check_weights, convert_weights
from kmm.models.weights.files.model_folder import digest_folder
from kmm.models.weights.names.torch_names import Normalisation
from kmm.models.weights.weight_files import open_weights
from kmm.settings import FitSettings
from kmm.training.fit import check_names
from tests.factories.tiny_networks import TINY_DINOV2, TINY_ENTRIES, TINY_RESNET, TINY_VIT
from tests.factories.torch_networks import random_resnet, random_transformer

README = "---\nlicense: other\nlicense_name: msr-la\n---\n# Weights\n"


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name, entry in TINY_ENTRIES.items():
        monkeypatch.setitem(IMAGE_ENCODERS, name, entry)


@pytest.fixture(scope="module")
def dinov2():
    return random_transformer(TINY_DINOV2, side=6)


def build(name, pixels=42):
    keras.utils.set_random_seed(9)
    return build_image_encoder(IMAGE_ENCODERS[name], pixels=pixels)


def save_torch(state, path):
    torch = pytest.importorskip("torch")
    torch.save({name: torch.tensor(array) for name, array in state.items()}, path)
    return path


def save_safetensors(state, path):
    pytest.importorskip("safetensors.numpy").save_file(state, path)
    return path


def write_folder(folder, state, **texts):
    """Writes a folder with weights as safetensors, and JSON texts by their names without suffix."""
    folder.mkdir(exist_ok=True)
    save_safetensors(state, folder / "model.safetensors")
    for name, values in texts.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


def refuse(path, encoder_name, said):
    """Asserts that weights are refused in one line and that no weight of the encoder changes."""
    encoder = build(encoder_name, 64 if "resnet" in encoder_name else 42)
    before = encoder.get_weights()
    with pytest.raises(WeightsError, match=said) as caught:
        load_image_weights(encoder, encoder_name, path)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(old, new) for old, new in zip(before, encoder.get_weights(), strict=True))


CONFIG = {"hidden_size": 12, "num_hidden_layers": 4, "num_attention_heads": 3, "patch_size": 7, "hidden_act": "gelu"}


def test_a_folder_says_licence_and_normalisation_and_its_weights_are_loaded(dinov2, tmp_path):
    films = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}
    folder = write_folder(tmp_path / "rad", dinov2, config=CONFIG, preprocessor_config=films)
    (folder / "README.md").write_text(README)
    encoder = build("tiny-dinov2")
    report = load_image_weights(encoder, "tiny-dinov2", folder)
    assert (report.source, report.licence, report.random) == ("rad", "msr-la", ())
    assert load_image_weights(build("tiny-dinov2"), "tiny-dinov2", folder / "model.safetensors").licence == "msr-la"
    with open_weights(folder) as opened:
        assert opened.folder.normalisation == Normalisation((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    kernel = dinov2["patch_embed.proj.weight"].sum(axis=1) / (2 * 0.2)
    assert np.allclose(encoder.get_layer("patches").get_weights()[0][:, :, 0], kernel.transpose(1, 2, 0), atol=1e-6)
    before = digest_folder(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**films, "image_std": [1, 1, 1]}))
    assert digest_folder(folder) != before


def test_a_fit_takes_a_folder(dinov2, tmp_path):
    folder = write_folder(tmp_path / "rad", dinov2, config=CONFIG)
    check_names(FitSettings(image_encoder="tiny-dinov2", pixels=42, image_weights=str(folder)))
    with pytest.raises(InputError, match="Give the setting `word_vectors` an existing file"):
        check_names(FitSettings(word_vectors=str(folder)))


def test_an_index_divides_the_weights_among_files(dinov2, tmp_path):
    names = sorted(dinov2)
    parts = {"model-1.safetensors": names[:20], "model-2.safetensors": names[20:]}
    for file, own in parts.items():
        save_safetensors({name: dinov2[name] for name in own}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, own in parts.items() for name in own}}))
    whole, divided = build("tiny-dinov2"), build("tiny-dinov2")
    load_image_weights(whole, "tiny-dinov2", save_torch(dinov2, tmp_path / "whole.pth"))
    assert load_image_weights(divided, "tiny-dinov2", tmp_path).tensors == 66
    assert all(np.array_equal(a, b) for a, b in zip(whole.get_weights(), divided.get_weights(), strict=True))
    for outside in ("../model-2.safetensors", "/etc/passwd", "sub/model-2.safetensors", "model-3.safetensors", "x.py"):
        index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors", "b": outside}}))
        refuse(tmp_path, "tiny-dinov2", "no file of weights in its folder|which is missing")
    index.write_text("[1, 2")
    refuse(tmp_path, "tiny-dinov2", "model.safetensors.index.json is not valid JSON")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"hidden_size": 10**9}, "`hidden_size` 1000000000, and tiny-dinov2 has 12"),
        ({"num_hidden_layers": 40}, "`num_hidden_layers` 40, and tiny-dinov2 has 4"),
        ({"num_attention_heads": 4}, "`num_attention_heads` 4, and tiny-dinov2 has 3"),
        ({"hidden_act": "quick_gelu"}, "`hidden_act` quick_gelu"),
    ],
)
def test_a_configuration_larger_than_its_tensors_makes_nothing(changed, said, dinov2, tmp_path):
    folder = write_folder(tmp_path / "dinov2", dinov2, config={**CONFIG, **changed})
    refuse(folder, "tiny-dinov2", said)
    found = check_weights(folder)
    assert not found["fits"] and found["encoder"] is None and said in found["reason"]


class Run:
    """Pickles as a call of a function that a test sees."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))


def test_a_malicious_pickle_does_not_run(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    for name, made in (("evil.pth", {"state_dict": Run()}), ("evil.bin", Run())):
        torch.save(made, tmp_path / name)
        refuse(tmp_path / name, "tiny-resnet", f"{name} is damaged or contains more than weights")
    (tmp_path / "evil.safetensors").write_bytes((tmp_path / "evil.pth").read_bytes())
    refuse(tmp_path / "evil.safetensors", "tiny-resnet", "is damaged, is no safetensors file")
    assert not (tmp_path / "ran").exists()


def test_a_pickled_network_is_refused_with_the_lines_that_make_weights_of_it(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    said = (
        r"is a pickled torch\.nn\.modules\.linear\.Linear.*weights_only=False\)`, `torch\.save\(model\.state_dict\(\)"
    )
    refuse(tmp_path / "whole.pt", "tiny-resnet", said)


def test_a_file_that_claims_more_than_it_has_is_refused(dinov2, tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"patch_embed.proj.weight": torch.zeros(1).expand(10**6, 10**6)}, tmp_path / "wide.pth")
    refuse(tmp_path / "wide.pth", "tiny-dinov2", "claims more values than the file has")
    with (
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("data", "w") as file,
    ):
        for _ in range(65):
            file.write(bytes(2**20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kmm.models.weights.weight_files.MAX_BYTES", 2**26)
        refuse(tmp_path / "bomb.pth", "tiny-dinov2", "unpacks to 68,157,440 bytes")
    path = save_safetensors(dinov2, tmp_path / "whole.safetensors")
    data = path.read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-100])
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9, 10**3], "data_offsets": [0, 4 * 10**12]}}).encode()
    (tmp_path / "large.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (tmp_path / "noise.safetensors").write_bytes(b"\xff" * 40)
    for name in ("cut", "large", "noise"):
        refuse(tmp_path / f"{name}.safetensors", "tiny-dinov2", f"{name}.safetensors is damaged")


def test_a_file_that_is_not_what_its_name_says_is_refused(dinov2, tmp_path):
    pytest.importorskip("torch")
    (tmp_path / "text.pth").write_text("hello")
    refuse(tmp_path / "text.pth", "tiny-dinov2", "text.pth is damaged or contains more than weights")
    data = save_safetensors(dinov2, tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.pth").write_bytes(data)
    refuse(tmp_path / "x.pth", "tiny-dinov2", "x.pth is damaged or contains more than weights")
    save_torch({"a": np.zeros(2)}, tmp_path / "y.pt")
    (tmp_path / "y.safetensors").write_bytes((tmp_path / "y.pt").read_bytes())
    refuse(tmp_path / "y.safetensors", "tiny-dinov2", "y.safetensors is damaged, is no safetensors file")
    refuse(save_torch({}, tmp_path / "none.pt"), "tiny-dinov2", "none.pt contains no tensors")


def test_transposed_kernels_are_refused(dinov2, tmp_path):
    turned = {name: array.T.copy() if array.ndim == 2 else array for name, array in dinov2.items()}
    refuse(
        save_torch(turned, tmp_path / "turned.pth"), "tiny-dinov2", r"block0_qkv expected \(12, 36\).*\(transposed\?\)"
    )
    state = random_resnet(TINY_RESNET)
    turned = {name: array.transpose(2, 3, 1, 0).copy() if array.ndim == 4 else array for name, array in state.items()}
    refuse(save_torch(turned, tmp_path / "turned.pt"), "tiny-resnet", "conv1 expected .* received")


def test_weights_that_lack_layers_are_refused_unless_they_may(dinov2, tmp_path):
    lacking = {name: array for name, array in dinov2.items() if not name.startswith(("norm.", "blocks.3.mlp.fc2"))}
    path = save_torch({**lacking, "mask_token": np.zeros((1, 12), "float32")}, tmp_path / "lacking.pth")
    refuse(path, "tiny-dinov2", "2 of 39 layers do not fit: block3_dense2 is missing; norm is missing")
    strict, found = check_weights(path, "tiny-dinov2"), check_weights(path, "tiny-dinov2", partial=True)
    assert not strict["fits"] and strict["missing"] == ["block3_dense2", "norm"]
    assert found["fits"] and found["random"] == ["block3_dense2", "norm"]
    rows = {row["name"]: row for row in found["file"]}
    assert rows["mask_token"] == {"name": "mask_token", "shape": [1, 12], "layer": None}
    assert rows["blocks.0.attn.qkv.weight"] == {
        "name": "blocks.0.attn.qkv.weight",
        "shape": [36, 12],
        "layer": "block0_qkv",
    }
    out = tmp_path / "whole.weights.h5"
    assert convert_weights(path, "tiny-dinov2", out, partial=True)["random"] == ["block3_dense2", "norm"]
    report = load_image_weights(build("tiny-dinov2"), "tiny-dinov2", out)
    assert report.random == ("block3_dense2", "norm") and report.origin.startswith("lacking.pth (")
    other = save_torch(random_resnet(TINY_RESNET), tmp_path / "other.pth")
    assert "39 of 39 layers do not fit" in check_weights(other, "tiny-dinov2", partial=True)["reason"]


@pytest.mark.large
def test_names_and_shapes_tell_the_encoder(dinov2, tmp_path):
    states = {
        "tiny-dinov2": dinov2,
        "tiny-vit": random_transformer(TINY_VIT, side=4),
        "tiny-resnet": random_resnet(TINY_RESNET),
    }
    for name, state in states.items():
        path = save_torch({f"module.{key}": array for key, array in state.items()}, tmp_path / f"{name}.pth")
        found = check_weights(path)
        assert (found["fits"], found["encoder"]) == (True, name)
        for suffix in (".weights.h5", ".safetensors") if name == "tiny-dinov2" else (".weights.h5",):
            if suffix == ".safetensors":
                pytest.importorskip("safetensors")
            out = tmp_path / f"{name}{suffix}"
            convert_weights(path, None, out)
            again = check_weights(out)
            assert (again["encoder"], again["weights_sha256"]) == (name, found["weights_sha256"])
    path = save_torch({"a.weight": np.zeros((2, 2), "float32")}, tmp_path / "other.pth")
    found = check_weights(path)
    assert not found["fits"] and "names the layers of no encoder of kmm. Name the encoder" in found["reason"]


def test_the_network_twice_in_a_file_is_refused(dinov2, tmp_path):
    twice = {f"{role}.{name}": array for role in ("student", "teacher") for name, array in dinov2.items()}
    refuse(save_torch(twice, tmp_path / "both.pth"), "tiny-dinov2", "more than once, under 'student.' and 'teacher.'")


def test_pytorch_weights_need_a_network_whose_names_are_known(tmp_path):
    path = save_torch({"a.weight": np.zeros(2)}, tmp_path / "x.pth")
    encoder = build_image_encoder(IMAGE_ENCODERS["small-cnn"], pixels=32)
    with pytest.raises(WeightsError, match=r"can be read only for .*densenet121, .*, not small-cnn"):
        load_image_weights(encoder, "small-cnn", path)
