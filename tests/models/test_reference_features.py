"""Features against the programs that publish weights, with random weights that they saved; skipped without them."""

import sys

import pytest

from kmm.errors import MissingPackageError
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.weights.encoder_weights import check_weights
from tests.factories.tiny_networks import TINY_ENTRIES, TINY_RESNET
from tests.factories.torch_networks import random_resnet


def save_state(network, path):
    torch = pytest.importorskip("torch")
    torch.save(network.state_dict(), path)
    return path


def assert_equal(found, encoder, reference):
    assert found["fits"], found.get("reason")
    assert found["encoder"] == encoder and found["against"]["reference"].startswith(reference)
    assert found["against"]["equal"] and found["against"]["difference"] < 1e-5


@pytest.mark.large
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "densenet121", "swin_t"])
def test_torchvision(name, tmp_path):
    torchvision = pytest.importorskip("torchvision", exc_type=ImportError)
    path = save_state(getattr(torchvision.models, name)(weights=None), tmp_path / f"{name}.pth")
    assert_equal(check_weights(path, against="torchvision"), name.replace("swin_t", "swin-tiny"), "torchvision")


@pytest.mark.large
@pytest.mark.parametrize(
    ("model", "encoder"),
    [
        ("resnet18", "resnet18"),
        ("swin_tiny_patch4_window7_224", "swin-tiny"),
        ("vit_small_patch16_224", "vit-small"),
        ("vit_small_patch14_dinov2", "dinov2-small"),
        ("vit_small_patch14_reg4_dinov2", "dinov2-small"),
    ],
)
def test_timm(model, encoder, tmp_path):
    timm = pytest.importorskip("timm", exc_type=ImportError)
    options = {"img_size": 70} if "dinov2" in model else {}
    path = save_state(timm.create_model(model, pretrained=False, **options), tmp_path / f"{model}.pth")
    assert_equal(check_weights(path, against="timm"), encoder, "timm")


@pytest.mark.large
@pytest.mark.parametrize("registers", [0, 4])
def test_transformers(registers, tmp_path):
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    kind, more = ("Dinov2WithRegisters", {"num_register_tokens": 4}) if registers else ("Dinov2", {})
    sizes = {"hidden_size": 384, "num_attention_heads": 6, "image_size": 70, "patch_size": 14}
    config = getattr(transformers, f"{kind}Config")(num_hidden_layers=12, **sizes, **more)
    getattr(transformers, f"{kind}Model")(config).save_pretrained(tmp_path)
    assert_equal(check_weights(tmp_path, against="transformers"), "dinov2-small", "transformers")


@pytest.mark.large
@pytest.mark.parametrize(("kind", "encoder"), [("Swin", "swin-tiny"), ("ResNet", "resnet50")])
def test_networks_of_maps_of_transformers(kind, encoder, tmp_path):
    transformers = pytest.importorskip("transformers", exc_type=ImportError)
    getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")()).save_pretrained(tmp_path)
    assert_equal(check_weights(tmp_path, against="transformers"), encoder, "transformers")


def test_a_program_that_is_missing_is_named(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(IMAGE_ENCODERS, "tiny", TINY_ENTRIES["tiny-resnet"])
    torch.save({name: torch.tensor(array) for name, array in random_resnet(TINY_RESNET).items()}, tmp_path / "x.pth")
    with pytest.raises(MissingPackageError, match=r'"timm" is needed here .* pip install "kmm\[reference\]"'):
        check_weights(tmp_path / "x.pth", "tiny", against="timm")
