"""Files of weights as their writers lay them out, and files that are none."""

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from kmm.errors import WeightsError
from kmm.models.weights.weight_files import open_weights

KERNEL, GAMMA = np.arange(6.0).reshape(2, 3), np.arange(3.0)


def read(path):
    """Returns the arrays of a file of Keras by layer, and the tensors of PyTorch by name."""
    with open_weights(Path(path)) as opened:
        if opened.state is not None:
            return dict(opened.state)
        return {name: [np.asarray(array) for array in arrays] for name, arrays in opened.layers.items()}


def write_legacy(path, layers, *, root="/"):
    """Writes the layout of Keras 1 and 2: `layers` maps a layer's name to its arrays by name."""
    with h5py.File(path, "w") as file:
        group = file.require_group(root)
        group.attrs["layer_names"] = [name.encode() for name in layers]
        for name, weights in layers.items():
            inner = group.create_group(name)
            inner.attrs["weight_names"] = [key.encode() for key in weights]
            for key, array in weights.items():
                inner[key] = array


@pytest.mark.parametrize("root", ["/", "model_weights"])
def test_legacy_hdf5_of_weights_and_of_a_whole_model(root, tmp_path):
    layers = {
        "conv1/conv": {"conv1/conv/kernel:0": KERNEL},
        "conv1/bn": {"conv1/bn/gamma:0": GAMMA, "conv1/bn/beta:0": GAMMA + 1},
        "relu": {},
        "predictions": {"predictions/kernel:0": KERNEL},
    }
    write_legacy(tmp_path / "chexnet.h5", layers, root=root)
    found = read(tmp_path / "chexnet.h5")
    assert list(found) == ["conv1_conv", "conv1_bn", "predictions"]
    assert np.array_equal(found["conv1_bn"], [GAMMA, GAMMA + 1])


def test_legacy_hdf5_with_a_model_as_layer(tmp_path):
    weights = {"a/kernel:0": KERNEL, "b/gamma:0": GAMMA, "b/beta:0": GAMMA}
    write_legacy(tmp_path / "nested.h5", {"densenet121": weights, "dense": {"dense/kernel:0": KERNEL}})
    assert {name: len(arrays) for name, arrays in read(tmp_path / "nested.h5").items()} == {"a": 1, "b": 2, "dense": 1}


def test_keras_1_names_its_arrays_after_the_layer(tmp_path):
    weights = {"convolution2d_1_W:0": KERNEL, "convolution2d_1_b:0": GAMMA}
    write_legacy(tmp_path / "old.h5", {"convolution2d_1": weights})
    assert [array.shape for array in read(tmp_path / "old.h5")["conv2d"]] == [(2, 3), (3,)]


def test_keras_3_arrays_are_in_the_order_of_their_numbers(tmp_path):
    with h5py.File(tmp_path / "many.weights.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        for number in range(11):
            group[str(number)] = np.full(2, number)
    assert np.array_equal(np.stack(read(tmp_path / "many.weights.h5")["dense"])[:, 0], range(11))


def test_a_name_used_twice_belongs_to_no_layer(tmp_path):
    with h5py.File(tmp_path / "twice.weights.h5", "w") as file:
        for place, name in [("a", "bn"), ("b", "bn"), ("c", "conv")]:
            group = file.create_group(f"layers/{place}/vars")
            group.attrs["name"] = name
            group["0"] = GAMMA
    assert list(read(tmp_path / "twice.weights.h5")) == ["conv"]


def test_data_in_other_files_is_not_followed(tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["0"] = GAMMA
    with h5py.File(tmp_path / "link.weights.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        group["0"] = h5py.ExternalLink("secret.h5", "/0")
    assert read(tmp_path / "link.weights.h5") == {}
    with h5py.File(tmp_path / "raw.weights.h5", "w") as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "dense"
        group.create_dataset("0", (3,), "float64", external=[(str(tmp_path / "secret.h5"), 0, 24)])
    with pytest.raises(WeightsError, match="refers to data in other files"):
        read(tmp_path / "raw.weights.h5")


def write_zip(path, name):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"not hdf5")


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("none.h5", lambda path: None, "is not a file. Give `imagenet` or a file .h5"),
        ("folder.h5", Path.mkdir, "has 0 files of weights. Name the file"),
        ("empty.h5", lambda path: path.write_bytes(b""), "empty.h5 has 0 bytes"),
        ("text.h5", lambda path: path.write_text("hello"), "text.h5 is not a file of weights. Expected .h5"),
        ("cut.h5", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(50)), "cut.h5 is damaged"),
        ("broken.keras", lambda path: write_zip(path, "model.weights.h5"), "broken.keras is damaged"),
        ("other.keras", lambda path: write_zip(path, "readme.txt"), "other.keras is not a file of weights"),
        ("nameless.weights.h5", lambda path: h5py.File(path, "w").close(), "contains no layer names"),
    ],
)
def test_what_is_no_file_of_weights(name, write, message, tmp_path):
    write(tmp_path / name)
    with pytest.raises(WeightsError) as caught:
        read(tmp_path / name)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_tensor_alone_is_no_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save(torch.zeros(2), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"x.pt contains a Tensor. Expected a PyTorch state_dict"):
        read(tmp_path / "x.pt")
