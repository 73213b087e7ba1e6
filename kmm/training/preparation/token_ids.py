"""Token ids of the reports of a run, which depend on the vocabulary of its training part."""

from collections.abc import Collection

import numpy as np

from kmm.batches import BatchMaker
from kmm.text.vocabulary import UNKNOWN, Vocabulary
from kmm.training.preparation.prepared_studies import PreparedStudies


def encode_reports(prepared: PreparedStudies, maker: BatchMaker, *, hidden: Collection[str] = ()) -> np.ndarray:
    """Encodes the report of every study.

    Args:
        prepared: `PreparedStudies`.
        maker: `kmm.batches.BatchMaker` with the vocabulary of the training part.
        hidden: words or pieces that training must not learn from; see `hide_words`.

    Returns:
        int32 `(n, length)`, 0 is padding; `(n, 0)` if the model reads no text.
    """
    ids = np.array([maker.token_ids(study) for study in prepared.studies], np.int32)
    if hidden and maker.vocabulary is not None:
        rows = prepared.rows("train")
        ids[rows] = hide_words(ids[rows], maker.vocabulary, hidden)
    return ids


def hide_words(token_ids: np.ndarray, vocabulary: Vocabulary, words: Collection[str]) -> np.ndarray:
    """Replaces words with UNKNOWN.

    Args:
        token_ids: int32 `(n, length)`.
        vocabulary: `kmm.text.vocabulary.Vocabulary` of the token ids.
        words: str each: words or pieces to hide. Those outside the vocabulary are unknown already.

    Returns:
        int32 `(n, length)`, a new array.

    Example:
        >>> vocabulary = Vocabulary(("[PAD]", "[UNK]", "mass", "smith"))
        >>> hide_words(np.int32([[2, 3, 0]]), vocabulary, {"smith"}).tolist()
        [[2, 1, 0]]
    """
    hidden = [number for number, word in enumerate(vocabulary.words) if word in words and number > UNKNOWN]
    return np.where(np.isin(token_ids, hidden), np.int32(UNKNOWN), token_ids)
