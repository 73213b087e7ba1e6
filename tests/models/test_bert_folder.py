"""Folders of Hugging Face: which tensors are used, and what of hostile or broken ones is said in one line."""

import json
import pickle
import struct

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from kmm.errors import InputError, WeightsError
from kmm.models.weights.bert_folder import open_bert
from kmm.models.weights.bert_weights import MISSING, UNUSED, USED, WRONG, check_tensors, list_tensors
from tests.factories.bert import write_bert


def count_lines(folder):
    return len((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())


def check(folder):
    found = open_bert(folder)
    check_tensors(found, count_lines(folder))
    return found


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def replace_tensors(folder, edit):
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_tensors_are_listed_by_their_use(tmp_path):
    folder, tensors = write_bert(tmp_path / "bert", prefix="bert.")

    def edit(found):
        del found["bert.encoder.layer.1.output.dense.bias"]
        found["bert.encoder.layer.0.output.dense.weight"] = np.zeros((16, 8), np.float32)
        found["cls.predictions.bias"] = np.zeros(3, np.float32)

    replace_tensors(folder, edit)
    listed = {row.name: row for row in list_tensors(open_bert(folder))}
    assert listed["encoder.layer.1.output.dense.bias"].use == MISSING
    assert listed["encoder.layer.0.output.dense.weight"].use == WRONG
    assert listed["encoder.layer.0.output.dense.weight"].expected == (8, 16)
    unused = {name for name, row in listed.items() if row.use == UNUSED}
    assert unused == {"cls.predictions.bias", "pooler.dense.weight", "pooler.dense.bias"}
    assert sum(row.use == USED for row in listed.values()) == len(tensors) - 4
    with pytest.raises(WeightsError) as error:
        check(folder)
    assert "2 of 37 tensors do not fit: encoder.layer.0.output.dense.weight expected (8, 16), received (16, 8)" in str(
        error.value
    )


def test_a_file_of_weights_stands_for_its_folder(tmp_path):
    folder, tensors = write_bert(tmp_path / "bert")
    found = open_bert(folder / "model.safetensors")
    assert found.path == folder and found.words == count_lines(folder)
    np.testing.assert_array_equal(found.read("pooler.dense.bias"), tensors["pooler.dense.bias"])


def test_weights_in_several_files(tmp_path):
    folder, tensors = write_bert(tmp_path / "bert")
    (folder / "model.safetensors").unlink()
    parts = {"one.safetensors": list(tensors)[:9], "two.safetensors": list(tensors)[9:]}
    for name, names in parts.items():
        save_file({key: tensors[key] for key in names}, folder / name)
    index = {key: name for name, names in parts.items() for key in names}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    found = check(folder)
    assert [path.name for path in found.opened.folder.files] == list(parts) and len(found.opened.digest()) == 64
    for outside in ("../one.safetensors", str(tmp_path / "bert" / "one.safetensors"), "config.json"):
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {**index, "x": outside}}))
        with pytest.raises(WeightsError, match="which is no file of weights in its folder"):
            open_bert(folder)


def test_weights_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    folder, tensors = write_bert(tmp_path / "bert", prefix="bert.", old_names=True)
    (folder / "model.safetensors").unlink()
    path = folder / "pytorch_model.bin"
    for old in (False, True):
        state = {name: torch.tensor(value) for name, value in tensors.items()}
        torch.save(state, path, _use_new_zipfile_serialization=not old)
        found = check(folder)
        expected = tensors["bert.embeddings.LayerNorm.gamma"]
        np.testing.assert_array_equal(found.read("embeddings.LayerNorm.weight"), expected)
    for hostile in (pickle.dumps(print, 2), pickle.dumps({"a": Trap()}, 2), b"no weights"):
        path.write_bytes(hostile)
        with pytest.raises(WeightsError, match=r"pytorch_model.bin is damaged or contains more than weights \("):
            open_bert(folder)


class Trap:
    def __reduce__(self):
        return (exec, ("raise SystemExit",))


CONFIGS = {
    "not a BERT": ({"model_type": "roberta"}, "the model is 'roberta'. Expected: bert"),
    "relative places": ({"position_embedding_type": "relative_key"}, "`position_embedding_type` is 'relative_key'"),
    "a decoder": ({"is_decoder": True}, "`is_decoder` is 'True'"),
    "an unknown activation": ({"hidden_act": "silu"}, "`hidden_act` is 'silu'. Expected: gelu, "),
    "no width": ({"hidden_size": None}, "width. Received: None"),
    "a width of text": ({"hidden_size": "wide"}, "width. Received: 'wide'"),
    "a huge network": ({"hidden_size": 10**12}, "width. Received: 1000000000000"),
    "a wider network": ({"hidden_size": 16000}, "tensors do not fit: embeddings.word_embeddings.weight expected"),
    "more layers": (
        {"num_hidden_layers": 90},
        r"encoder.layer.2.attention.self.query.weight expected \(8, 8\)",
    ),
    "fewer layers": ({"num_hidden_layers": 1}, "weights of more layers than the 1 that its config.json says"),
    "more places": ({"max_position_embeddings": 65000}, r"position_embeddings.weight expected \(65000, 8\)"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_config_of_something_else(case, tmp_path):
    values, said = CONFIGS[case]
    folder, _ = write_bert(tmp_path / "bert")
    change(folder, **values)
    with pytest.raises(WeightsError, match=said) as error:
        check(folder)
    assert "\n" not in str(error.value)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def claim(folder):
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**60) + b"{}")


def empty(folder):
    (folder / "model.safetensors").write_bytes(b"")


def lack_config(folder):
    (folder / "config.json").unlink()


def break_config(folder):
    (folder / "config.json").write_text("[" * 100_000)


def lack_weights(folder):
    (folder / "model.safetensors").unlink()


def shorten_vocabulary(folder):
    path = folder / "vocab.txt"
    path.write_text("\n".join([*path.read_text(encoding="utf-8").splitlines()[:-1], "a1", "a2"]), encoding="utf-8")


def spoil(folder):
    replace_tensors(folder, lambda found: found["embeddings.LayerNorm.bias"].fill(np.nan))


def rename(folder):
    replace_tensors(folder, lambda found: found.pop("embeddings.word_embeddings.weight"))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (cut, "model.safetensors is damaged"),
        (claim, "model.safetensors is damaged"),
        (empty, "model.safetensors has 0 bytes"),
        (lack_config, "config.json cannot be read"),
        (break_config, "config.json is not valid JSON"),
        (lack_weights, "has 0 files of weights. Name the file, or give a folder with one"),
        (shorten_vocabulary, "the vocabulary of another model: vocab.txt has .* lines, the weights have"),
        (rename, "is not a BERT: 0 tensors are called embeddings.word_embeddings.weight"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_broken_folders(spoil, said, tmp_path):
    folder, _ = write_bert(tmp_path / "bert")
    spoil(folder)
    with pytest.raises(InputError, match=said) as error:
        check(folder)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_a_number_that_is_none(tmp_path):
    folder, _ = write_bert(tmp_path / "bert")
    spoil(folder)
    with pytest.raises(WeightsError, match=r"contains NaN or infinity, first in embeddings\.LayerNorm\.bias"):
        open_bert(folder).read("embeddings.LayerNorm.bias")


def test_no_folder(tmp_path):
    with pytest.raises(WeightsError, match=r"is no file or folder\. Give the folder of a BERT"):
        open_bert(tmp_path / "none")


def test_a_vocabulary_may_be_filled_up(tmp_path):
    folder, _ = write_bert(tmp_path / "bert")
    lines = count_lines(folder)
    found = open_bert(folder)
    check_tensors(found, lines - 127)
    with pytest.raises(WeightsError, match="the vocabulary of another model"):
        check_tensors(found, lines - 128)
