"""ResNets under the names of Hugging Face; those of torchvision are in `test_networks.py`."""

import re

import keras
import numpy as np
import pytest

from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.networks.entries import describe_resnet
from kmm.models.networks.resnet import ResNet
from kmm.models.weights.checkpoints import load_image_weights
from kmm.models.weights.encoder_weights import check_weights
from tests.factories.torch_networks import random_resnet

NETWORKS = {
    "tiny-basic": ResNet((1, 1, 2, 1), widths=(4, 6, 8, 10)),
    "tiny-bottleneck": ResNet((1, 1, 1, 1), bottleneck=True, widths=(2, 3, 4, 5)),
}
NAMES = [
    (r"^conv1", "resnet.embedder.embedder.convolution"),
    (r"^bn1", "resnet.embedder.embedder.normalization"),
    (r"^layer(\d)\.", lambda found: f"resnet.encoder.stages.{int(found[1]) - 1}.layers."),
    (r"downsample\.0", "shortcut.convolution"),
    (r"downsample\.1", "shortcut.normalization"),
    (r"\.conv(\d)\.", lambda found: f".layer.{int(found[1]) - 1}.convolution."),
    (r"\.bn(\d)\.", lambda found: f".layer.{int(found[1]) - 1}.normalization."),
    (r"^fc", "classifier.1"),
]


def rename(key):
    for old, new in NAMES:
        key = re.sub(old, new, key)
    return key


@pytest.mark.parametrize("name", NETWORKS)
def test_names_of_hugging_face_give_the_same_weights(name, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(IMAGE_ENCODERS, name, describe_resnet(NETWORKS[name]))
    state = {key: torch.tensor(array) for key, array in random_resnet(NETWORKS[name]).items()}
    paths = [tmp_path / "torchvision.pth", tmp_path / "pytorch_model.bin"]
    torch.save(state, paths[0])
    torch.save({rename(key): tensor for key, tensor in state.items()}, paths[1])
    found = []
    for seed, path in enumerate(paths):
        keras.utils.set_random_seed(seed)
        encoder = build_image_encoder(IMAGE_ENCODERS[name], pixels=64)
        extra = load_image_weights(encoder, name, path).extra
        assert extra == (("fc",), ("classifier.1",))[seed]
        found.append(encoder.get_weights())
    assert all(np.array_equal(one, other) for one, other in zip(*found, strict=True))
    assert check_weights(paths[1])["encoder"] == name
