"""Weights of the text encoder of a fit: the folder of a BERT, with its vocabulary."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmm.errors import InputError, look_up
from kmm.models.build import ModelSpec
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.weights.bert_folder import CONFIG, WORDS, BertFolder, find_folder, open_bert
from kmm.models.weights.bert_weights import USED, ListedTensor, check_tensors, list_tensors, report_weights
from kmm.models.weights.files.model_folder import find_files
from kmm.settings import FitSettings
from kmm.text.bert_vocabulary import TOKENIZER, VOCABULARY, BertVocabulary, read_bert_vocabulary


@dataclass(frozen=True)
class TextWeights:
    """An opened folder and its vocabulary, which fit together.

    Attributes:
        folder: `BertFolder`.
        vocabulary: `BertVocabulary`.
    """

    folder: BertFolder
    vocabulary: BertVocabulary

    def read_rows(self) -> np.ndarray:
        """Reads the rows of the word pieces, float32 `(len(vocabulary.pieces), width)`, in the order of their ids."""
        return self.folder.read(WORDS)[list(self.vocabulary.rows)]


def open_text_weights(settings: FitSettings) -> TextWeights:
    """Opens the folder that the setting `text_weights` names.

    Raises:
        InputError: if a file is missing, damaged or of another model, or its parts do not fit together; in one line.
        MissingPackageError: if the weights are PyTorch's, and torch is not installed.
    """
    path = settings.text_weights or ""
    folder = open_bert(path)
    vocabulary = read_bert_vocabulary(folder.path)
    check_tensors(folder, vocabulary.lines)
    return TextWeights(folder, vocabulary)


def check_text_weights(settings: FitSettings) -> None:
    """Checks that text encoder and weights belong together, before the first report is read.

    Raises:
        InputError: if the encoder takes no weights, or needs some, or the weights cannot be used.
    """
    s = settings
    if s.text_encoder is None:
        return
    entry = look_up(TEXT_ENCODERS, s.text_encoder, "text encoder")
    if s.text_weights and not entry.weights:
        known = ", ".join(name for name, other in TEXT_ENCODERS.loaded().items() if other.weights)
        raise InputError(f"The text encoder {s.text_encoder!r} takes no `text_weights`. Choose one that does: {known}.")
    if entry.weights and not s.text_weights:
        raise InputError(
            f"The text encoder {s.text_encoder!r} starts from weights. Pass --text-weights FOLDER, with config.json, "
            "vocab.txt and weights, or choose transformer-small, which is trained from its start."
        )
    if s.text_weights:
        shape = open_text_weights(s).folder.shape
        ModelSpec(text_encoder=s.text_encoder, length=s.length, text_shape=shape)


def check_text_folder(path: Path | str, encoder: str) -> dict[str, Any]:
    """Checks the folder of a BERT tensor by tensor.

    Args:
        path: path of the folder, or of the file of weights inside it.
        encoder: str, the key of `TEXT_ENCODERS` that it is for.

    Returns:
        dict for JSON: `fits` (bool), `encoder` and `listing`, a list of the dicts of
        `kmm.models.weights.bert_weights.ListedTensor`, empty if the folder cannot be opened. If it fits, also `source`,
        `sha256`, `tensors`, `parameters`, `extra` as in `kmm.models.weights.checkpoints.WeightsReport`, `shape` (dict),
        `words` (int, word pieces) and `cleaning` (str); otherwise `reason` (str).

    Raises:
        MissingPackageError: if the weights are PyTorch's, and torch is not installed.
    """
    listing: list[ListedTensor] = []
    try:
        folder = open_bert(path)
        listing = list_tensors(folder)
        vocabulary = read_bert_vocabulary(folder.path)
        check_tensors(folder, vocabulary.lines)
        for row in listing:
            if row.use == USED:
                folder.read(row.name)
        facts = {
            **dataclasses.asdict(report_weights(folder)),
            "shape": dataclasses.asdict(folder.shape),
            "words": len(vocabulary.pieces),
            "cleaning": vocabulary.cleaning,
        }
    except InputError as error:
        facts = {"reason": str(error)}
    rows = [dataclasses.asdict(row) for row in listing]
    return {"fits": "reason" not in facts, "encoder": encoder, **facts, "listing": rows}


def list_text_files(settings: FitSettings) -> list[Path]:
    """Lists the files that a fit reads of the folder of its text weights; none without text weights."""
    if not settings.text_weights or not settings.text_encoder:
        return []
    path = Path(settings.text_weights)
    folder = find_folder(path)
    others = [folder / name for name in (CONFIG, VOCABULARY, TOKENIZER)]
    return [file for file in (*others, *((path,) if path.is_file() else find_files(folder))) if file.is_file()]
