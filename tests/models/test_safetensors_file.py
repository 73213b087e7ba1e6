"""Safetensors files are opened by their header; each tensor is read when it is needed."""

import json
import struct
from collections import Counter

import numpy as np
import pytest
import safetensors
from safetensors.numpy import save_file

from kmm.errors import WeightsError
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.encoders_text import TEXT_ENCODERS, build_text_encoder
from kmm.models.weights.bert_folder import WORDS
from kmm.models.weights.bert_weights import load_text_weights
from kmm.models.weights.checkpoints import load_image_weights
from kmm.models.weights.files.safetensors_file import read_safetensors
from kmm.models.weights.recognition import recognise_encoder
from kmm.models.weights.weight_files import open_weights
from kmm.settings import FitSettings
from kmm.training.preparation.text_weights import open_text_weights
from tests.factories.bert import write_bert
from tests.factories.tiny_networks import TINY_ENTRIES, TINY_VIT
from tests.factories.torch_networks import random_transformer

ARRAYS = {
    "matrix": np.arange(6, dtype=np.float16).reshape(2, 3),
    "number": np.array(7, np.int64),
    "empty": np.zeros((0, 4), np.float32),
    "marks": np.array([True, False]),
}


@pytest.fixture
def read(monkeypatch):
    """The names of the tensors that are read from now on, and how often; files that are opened, under `open`."""
    counts, real = Counter(), safetensors.safe_open

    class Counting:
        def __init__(self, path, framework):
            counts["open"] += 1
            self.file = real(path, framework=framework)

        def get_tensor(self, name):
            counts[name] += 1
            return self.file.get_tensor(name)

        def __getattr__(self, name):
            return getattr(self.file, name)

    monkeypatch.setattr(safetensors, "safe_open", Counting)
    return counts


def test_names_types_and_shapes_are_known_before_anything_is_read(read, tmp_path):
    save_file(ARRAYS, tmp_path / "x.safetensors", metadata={"made": "here"})
    tensors, metadata = read_safetensors(tmp_path / "x.safetensors")
    assert {name: (one.shape, one.dtype) for name, one in tensors.items()} == {
        name: (array.shape, array.dtype) for name, array in ARRAYS.items()
    }
    assert metadata == {"made": "here"} and read == {"open": 1}
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(np.asarray(tensors[name]), array)
        assert np.asarray(tensors[name], np.float64).dtype == np.float64
    assert read == {"open": 1, **dict.fromkeys(ARRAYS, 2)}


def test_a_type_that_numpy_lacks_is_refused_before_anything_is_read(read, tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "half.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(WeightsError, match=r"half.safetensors has a number type that NumPy lacks \(BF16\). Save it as"):
        read_safetensors(tmp_path / "half.safetensors")
    assert read == {"open": 1}


def test_a_bert_is_checked_by_its_header_and_read_once(read, tmp_path):
    folder, tensors = write_bert(tmp_path / "bert")
    settings = FitSettings(text_encoder="bert", text_weights=str(folder))
    for _ in range(3):  # before the studies are read, for the words, for the network
        weights = open_text_weights(settings)
    assert read == {"open": 3}
    shape = weights.folder.shape
    encoder = build_text_encoder(
        TEXT_ENCODERS["bert"], length=9, embedding_size=shape.width, filters=1, dropout=0.1, shape=shape
    )
    load_text_weights(encoder, weights.folder, weights.vocabulary.marks)
    np.testing.assert_array_equal(weights.read_rows()[2], tensors[WORDS][weights.vocabulary.rows[2]])
    used = [name for name in tensors if not name.startswith("pooler")]
    assert read == {"open": 3, **dict.fromkeys(used, 1), WORDS: 2}


def test_an_image_encoder_is_recognised_by_the_header_and_its_head_is_not_read(read, tmp_path, monkeypatch):
    monkeypatch.setitem(IMAGE_ENCODERS, "tiny-vit", TINY_ENTRIES["tiny-vit"])
    state = random_transformer(TINY_VIT, side=4)
    save_file(state, tmp_path / "vit.safetensors")
    with open_weights(tmp_path / "vit.safetensors") as opened:
        assert recognise_encoder(opened) == "tiny-vit"
    assert read == {"open": 1}
    load_image_weights(build_image_encoder(IMAGE_ENCODERS["tiny-vit"], pixels=32), "tiny-vit", opened.path)
    assert read == {"open": 2, **{name: 1 for name in state if not name.startswith("head")}}
