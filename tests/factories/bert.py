"""Folders as Hugging Face writes them for a BERT: config.json, vocab.txt, weights with random numbers."""

import json
import string
import tarfile
from pathlib import Path

import numpy as np
from defusedxml import ElementTree
from safetensors.numpy import save_file

MARKS = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = string.ascii_lowercase + string.digits
PIECES = (
    *string.punctuation,
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    *("no", "acute", "disease", "card", "##io", "##meg", "##aly", "effusion", "the", "##ing", "##s", "heart", "xxxx"),
    *("心", "正", "常", "é", "##é", "été", "épanchement", "°", "##°", "🙂", "cœur", "##œur"),
)
CAPITALS = (*string.ascii_uppercase, *(f"##{letter}" for letter in string.ascii_uppercase), "No", "XXXX", "À", "ÉTÉ")
LAYER_NAMES = ("attention.output.LayerNorm", "output.LayerNorm")


def read_openi_reports(folder):
    """Reads the text of every report of Open-i, with all of its sections, from the archive of its reports."""
    with tarfile.open(folder / "NLMCXR_reports.tgz") as archive:
        files = [archive.extractfile(member) for member in archive if member.name.endswith(".xml")]
        roots = [ElementTree.fromstring(file.read()) for file in files if file]
    return [" ".join(part.text or "" for part in root.iter("AbstractText")) for root in roots]


def write_vocabulary(folder, *, lower=True, pieces=None):
    """Writes `vocab.txt`; the pieces of a cased BERT have capitals. Returns its path."""
    pieces = pieces or (PIECES if lower else (*PIECES, *CAPITALS))
    path = Path(folder, "vocab.txt")
    path.write_text("".join(f"{piece}\n" for piece in dict.fromkeys((*MARKS, *pieces))), encoding="utf-8")
    return path


def make_tensors(
    count, *, layers=2, width=8, hidden=16, positions=64, types=2, prefix="", old_names=False, pooler=True, seed=0
):
    """Makes the tensors of a BERT by their names in PyTorch, as NumPy arrays of random numbers."""
    random = np.random.default_rng(seed)

    def draw(*shape, scale=0.3):
        return random.normal(0, scale, shape).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": draw(count, width, scale=1.0),
        "embeddings.position_embeddings.weight": draw(positions, width),
        "embeddings.token_type_embeddings.weight": draw(types, width),
    }

    def add_dense(name, rows, columns):
        found[f"{name}.weight"], found[f"{name}.bias"] = draw(rows, columns), draw(rows)

    def add_norm(name):
        found[f"{name}.{'gamma' if old_names else 'weight'}"] = 1 + draw(width)
        found[f"{name}.{'beta' if old_names else 'bias'}"] = draw(width)

    add_norm("embeddings.LayerNorm")
    for layer in range(layers):
        start = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            add_dense(f"{start}.attention.self.{name}", width, width)
        add_dense(f"{start}.attention.output.dense", width, width)
        add_norm(f"{start}.attention.output.LayerNorm")
        add_dense(f"{start}.intermediate.dense", hidden, width)
        add_dense(f"{start}.output.dense", width, hidden)
        add_norm(f"{start}.output.LayerNorm")
    if pooler:
        add_dense("pooler.dense", width, width)
    return {f"{prefix}{name}": value for name, value in found.items()}


def write_bert(
    folder,
    *,
    lower=True,
    layers=2,
    heads=2,
    width=8,
    hidden=16,
    positions=64,
    activation="gelu",
    epsilon=1e-12,
    config=(),
    tokenizer=None,
    pieces=None,
    **tensors,
):
    """Writes a folder of a BERT. Returns its Path and its tensors by name.

    Args:
        folder: Path, created.
        lower: bool. Whether its vocabulary has no capitals.
        layers, heads, width, hidden, positions, activation, epsilon: its shape.
        config: dict of further or other values of config.json.
        tokenizer: dict of tokenizer_config.json, or None for no such file.
        pieces: the word pieces, or None for those of this module.
        tensors: options of `make_tensors`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = write_vocabulary(folder, lower=lower, pieces=pieces)
    count = len(path.read_text(encoding="utf-8").splitlines())
    shape = {"layers": layers, "width": width, "hidden": hidden, "positions": positions}
    found = make_tensors(count, **shape, **tensors)
    values = {
        "model_type": "bert",
        "vocab_size": count,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "hidden_size": width,
        "intermediate_size": hidden,
        "max_position_embeddings": positions,
        "type_vocab_size": 2,
        "hidden_act": activation,
        "layer_norm_eps": epsilon,
        "position_embedding_type": "absolute",
        **dict(config),
    }
    (folder / "config.json").write_text(json.dumps(values))
    if tokenizer is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    save_file(found, folder / "model.safetensors")
    return folder, found
