"""Sources of the initial embedding rows of words, one table entry each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kmm.batches import TextPreparation
from kmm.settings import FitSettings
from kmm.text.vocabulary import Vocabulary
from kmm.text.word_vectors import WordVectors, load_word_vectors, train_word_vectors
from kmm.training.preparation.text_weights import open_text_weights


@dataclass(frozen=True)
class WordRowSource:
    """A row of the table `WORD_ROW_SOURCES`.

    Attributes:
        make: function `(settings, text, documents, vocabulary) -> (WordVectors, vocabulary)`. `settings` is a
            `FitSettings`, `text` a `TextPreparation`, `documents` the lists of words of the training reports.
        describe: function `(settings) -> str`, the description of the source in the classifier's provenance, without
            folders.
        exact: bool. Whether `make` gives the row of every word of the vocabulary, in its order, which stay as they are.
    """

    make: Callable[[FitSettings, TextPreparation, Sequence[Sequence[str]], Vocabulary], tuple[WordVectors, Vocabulary]]
    describe: Callable[[FitSettings], str]
    exact: bool = False


def _train(settings, text, documents, vocabulary):
    size, epochs = settings.embedding_size, settings.word_vector_epochs
    return train_word_vectors(documents, dimensions=size, epochs=epochs, seed=settings.seed), vocabulary


def _read(settings, text, documents, vocabulary):
    """Reads a file of word vectors. Its words that occur in no training report are added to the vocabulary if they can
    occur in a report; a vocabulary of word pieces does not change."""
    vectors = load_word_vectors(
        settings.word_vectors,
        keep=set(vocabulary.words),
        more=0 if settings.word_pieces else settings.max_words,
        accept=lambda word: [found.text for found in text.find(word)] == [word],
    )
    return vectors, vocabulary if settings.word_pieces else vocabulary.extend(vectors.words)


def _take(settings, text, documents, vocabulary):
    """Takes the rows of word pieces from the weights of a BERT."""
    return WordVectors(vocabulary.words, open_text_weights(settings).read_rows()), vocabulary


WORD_ROW_SOURCES = {
    "reports": WordRowSource(_train, lambda settings: "trained on the training reports"),
    "file": WordRowSource(_read, lambda settings: Path(settings.word_vectors or "").name),
    "weights": WordRowSource(_take, lambda settings: Path(settings.text_weights or "").name, exact=True),
}


def choose_source(settings: FitSettings) -> WordRowSource:
    """Returns the source that the settings select: the weights of a BERT, a file of word vectors, or training on the
    training reports.

    Example:
        >>> from kmm.settings import FitSettings
        >>> settings = FitSettings(word_vectors="vectors/glove.txt")
        >>> choose_source(settings).describe(settings)
        'glove.txt'
    """
    if settings.text_weights:
        return WORD_ROW_SOURCES["weights"]
    return WORD_ROW_SOURCES["file" if settings.word_vectors else "reports"]
