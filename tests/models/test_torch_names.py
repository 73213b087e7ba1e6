"""DenseNet121 as PyTorch writes it, against a network written here by its definition."""

import re

import h5py
import keras
import numpy as np
import pytest

from kmm.errors import WeightsError
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.weights.checkpoints import load_image_weights
from kmm.models.weights.names.densenet import name_densenet
from tests.model_checks import to_numpy

BLOCKS = (6, 12, 24, 16)
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def random_state(seed=0):
    """Random weights of a DenseNet121 under torchvision's names, with a classifier of 14 labels."""
    random, state = np.random.default_rng(seed), {}

    def conv(name, outputs, inputs, size):
        state[f"{name}.weight"] = random.normal(
            scale=(inputs * size * size) ** -0.5, size=(outputs, inputs, size, size)
        )

    def norm(name, n):
        state[f"{name}.weight"], state[f"{name}.running_var"] = random.uniform(0.5, 1.5, (2, n))
        state[f"{name}.bias"], state[f"{name}.running_mean"] = random.normal(scale=0.1, size=(2, n))
        state[f"{name}.num_batches_tracked"] = np.array(7)

    conv("features.conv0", 64, 3, 7)
    norm("features.norm0", 64)
    width = 64
    for block, depth in enumerate(BLOCKS, start=1):
        for number in range(1, depth + 1):
            layer = f"features.denseblock{block}.denselayer{number}"
            norm(f"{layer}.norm1", width)
            conv(f"{layer}.conv1", 128, width, 1)
            norm(f"{layer}.norm2", 128)
            conv(f"{layer}.conv2", 32, 128, 3)
            width += 32
        if block < len(BLOCKS):
            norm(f"features.transition{block}.norm", width)
            conv(f"features.transition{block}.conv", width // 2, width, 1)
            width //= 2
    norm("features.norm5", width)
    state["classifier.weight"], state["classifier.bias"] = random.normal(size=(14, width)), np.zeros(14)
    return {name: np.asarray(array, "int64" if array.ndim == 0 else "float32") for name, array in state.items()}


def torch_features(torch, state, film):
    """The feature map `(n, d, rows, columns)` by the definition of the network, ReLU after the last normalisation."""
    functional = torch.nn.functional
    state = {name: torch.tensor(array) for name, array in state.items()}

    def normed(x, name):
        values = [state[f"{name}.{kind}"] for kind in ("running_mean", "running_var", "weight", "bias")]
        return functional.relu(functional.batch_norm(x, *values, eps=1e-5))

    x = functional.conv2d(film, state["features.conv0.weight"], stride=2, padding=3)
    x = functional.max_pool2d(normed(x, "features.norm0"), 3, stride=2, padding=1)
    for block, depth in enumerate(BLOCKS, start=1):
        for number in range(1, depth + 1):
            layer = f"features.denseblock{block}.denselayer{number}"
            y = functional.conv2d(normed(x, f"{layer}.norm1"), state[f"{layer}.conv1.weight"])
            y = functional.conv2d(normed(y, f"{layer}.norm2"), state[f"{layer}.conv2.weight"], padding=1)
            x = torch.cat([x, y], dim=1)
        if block < len(BLOCKS):
            name = f"features.transition{block}"
            x = functional.avg_pool2d(functional.conv2d(normed(x, f"{name}.norm"), state[f"{name}.conv.weight"]), 2)
    return normed(x, "features.norm5")


@pytest.fixture(scope="module")
def encoder():
    return build_image_encoder(IMAGE_ENCODERS["densenet121"], pixels=64)


def write(path, state, torch):
    torch.save({name: torch.tensor(array) for name, array in state.items()}, path)


@pytest.mark.large
def test_features_equal_those_of_the_network_in_pytorch(encoder, tmp_path):
    torch = pytest.importorskip("torch")
    state = random_state()
    write(tmp_path / "densenet.pth", state, torch)
    report = load_image_weights(encoder, "densenet121", tmp_path / "densenet.pth")
    assert (report.tensors, report.parameters) == (604, 7_037_504)
    assert report.extra == ("classifier",)
    gray = np.random.default_rng(1).uniform(0, 255, (2, 64, 64, 1)).astype("float32")
    film = ((gray / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2).astype("float32")
    with torch.no_grad():
        expected = torch_features(torch, state, torch.tensor(film)).numpy().mean(axis=(2, 3))
    vector = to_numpy(encoder(gray, training=False)["vector"])
    assert np.allclose(vector, expected, atol=2e-5 * np.abs(expected).max())  # epsilon 1.001e-5 there, 1e-5 here


@pytest.mark.large
@pytest.mark.parametrize("name", ["model.pth.tar", "model.safetensors"])
def test_old_names_prefixes_and_training_checkpoints(encoder, name, tmp_path):
    torch = pytest.importorskip("torch")
    state = random_state(seed=2)
    old = {
        "module.densenet121."
        + re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key).replace("classifier", "classifier.0"): v
        for key, v in state.items()
    }
    if name.endswith(".tar"):
        tensors = {key: torch.tensor(array) for key, array in old.items()}
        torch.save({"epoch": 3, "state_dict": tensors, "best_loss": 0.1, "optimizer": {"lr": 1e-4}}, tmp_path / name)
    else:
        pytest.importorskip("safetensors.numpy").save_file(old, tmp_path / name)
    report = load_image_weights(encoder, "densenet121", tmp_path / name)
    assert report.tensors == 604
    kernel = to_numpy(encoder.get_layer("conv4_block24_2_conv").kernel)
    expected = state["features.denseblock3.denselayer24.conv2.weight"]
    assert np.array_equal(kernel[2, 1, 5, 7], expected[7, 5, 2, 1])
    assert np.array_equal(to_numpy(encoder.get_layer("pool2_bn").beta), state["features.transition1.norm.bias"])


def test_a_file_of_two_networks_is_refused():
    state = {"student.features.norm0.bias": np.zeros(64), "teacher.features.norm0.bias": np.zeros(64)}
    with pytest.raises(WeightsError, match=r"the network more than once, under 'student\.' and 'teacher\.'"):
        name_densenet(BLOCKS)(state)


def test_another_network_of_pytorch_is_refused(encoder, tmp_path):
    torch = pytest.importorskip("torch")
    write(tmp_path / "resnet.pth", {"layer1.0.conv1.weight": np.zeros((2, 2, 1, 1), "float32")}, torch)
    with pytest.raises(WeightsError, match="another network: 241 of 241 layers do not fit: conv1_conv is missing"):
        load_image_weights(encoder, "densenet121", tmp_path / "resnet.pth")


@pytest.mark.large
def test_full_chexnet_file_of_keras_2_with_its_head(encoder, tmp_path):
    weights = encoder.get_weights()
    image = keras.Input((64, 64, 3))
    base = keras.applications.DenseNet121(include_top=False, weights=None, input_tensor=image, pooling="avg")
    full = keras.Model(image, keras.layers.Dense(14, activation="sigmoid", name="predictions")(base.output))
    base.set_weights([weight * 2 for weight in weights])
    full.save(tmp_path / "chexnet.h5")
    with h5py.File(tmp_path / "chexnet.h5", "r+") as file:  # Keras 2 had a slash in the first names
        group = file["model_weights"]
        names = [re.sub(r"^conv1_", "conv1/", name) for name in group.attrs["layer_names"].astype(str)]
        for name in ("conv", "bn", "relu"):
            group.move(f"conv1_{name}", f"conv1/{name}")
        group.attrs["layer_names"] = [name.encode() for name in names]
    report = load_image_weights(encoder, "densenet121", tmp_path / "chexnet.h5")
    assert report.extra == ("predictions",)
    assert all(np.array_equal(old * 2, new) for old, new in zip(weights, encoder.get_weights()))
