"""Sources of the rows that the embedding of words starts from, one table entry each."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kmm.text.word_vectors import load_word_vectors, train_word_vectors


@dataclass(frozen=True)
class WordRowSource:
    """A row of the table `WORD_ROW_SOURCES`.

    Attributes:
        make: function `(settings, text, documents, vocabulary) -> (WordVectors, vocabulary)`. `settings` is a
            `FitSettings`, `text` a `TextPreparation`, `documents` the lists of words of the training reports.
        describe: function `(settings) -> str`, what the classifier's facts say of the source, without its folder.
    """

    make: Callable
    describe: Callable


def _train(settings, text, documents, vocabulary):
    size, epochs = settings.embedding_size, settings.word_vector_epochs
    return train_word_vectors(documents, dimensions=size, epochs=epochs, seed=settings.seed), vocabulary


def _read(settings, text, documents, vocabulary):
    """Reads a file. Its words that no training report has are added to the vocabulary if a report could hold them; a
    vocabulary of word pieces stays as it is."""
    vectors = load_word_vectors(
        settings.word_vectors,
        keep=set(vocabulary.words),
        more=0 if settings.word_pieces else settings.max_words,
        accept=lambda word: [found.text for found in text.find(word)] == [word],
    )
    return vectors, vocabulary if settings.word_pieces else vocabulary.extend(vectors.words)


WORD_ROW_SOURCES = {
    "reports": WordRowSource(_train, lambda settings: "trained on the training reports"),
    "file": WordRowSource(_read, lambda settings: Path(settings.word_vectors).name),
}


def choose_source(settings):
    """Returns the entry that settings ask for: a file of word vectors, or vectors trained on the training reports.

    Example:
        >>> from kmm.settings import FitSettings
        >>> settings = FitSettings(word_vectors="vectors/glove.txt")
        >>> choose_source(settings).describe(settings)
        'glove.txt'
    """
    return WORD_ROW_SOURCES["file" if settings.word_vectors else "reports"]
