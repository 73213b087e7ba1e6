"""Words of a fit: vocabulary and word vectors of the training reports, without the words of too few patients."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kmm.batches import TextPreparation
from kmm.data.study import Study
from kmm.errors import InputError
from kmm.settings import FitSettings
from kmm.text.redaction import describe_redaction
from kmm.text.vocabulary import Vocabulary, count_patients, find_rare, text_report
from kmm.text.word_pieces import WordPieces
from kmm.text.word_vectors import embedding_matrix, measure_coverage
from kmm.training.preparation.text_weights import open_text_weights
from kmm.training.preparation.word_rows import choose_source


@dataclass(frozen=True)
class Words:
    """Vocabulary and word vectors of the training reports, made before a model is trained.

    Attributes:
        vocabulary: `Vocabulary` or `WordPieces`.
        vectors: float32 `(len(vocabulary), d)`, the initial rows of the embedding.
        rare: frozenset of the words or pieces that too few training patients use.
        facts: dict of counts for the classifier's provenance.
    """

    vocabulary: Vocabulary
    vectors: np.ndarray
    rare: frozenset[str]
    facts: dict[str, Any]


def learn_words(
    settings: FitSettings, text: TextPreparation, train: Sequence[Study], validation: Sequence[Study]
) -> Words:
    """Builds vocabulary and word vectors from the training reports.

    Args:
        settings: `FitSettings`.
        text: `TextPreparation`.
        train: sequence of the training studies.
        validation: sequence of the validation studies, of which unknown words are counted.

    Returns:
        `Words`.

    Raises:
        InputError: if no training report has words, or the redaction leaves none.
    """
    s = settings
    documents, patients = [text.words(study) for study in train], [study.patient for study in train]
    removed = text.redaction and describe_redaction(text.redaction, [text.text(study) for study in train])
    if removed and removed["removed"] == 1:
        raise InputError(
            "The redaction removes every word of the training reports. Take entries out of it, or train on films alone "
            "with --text-encoder none."
        )
    if not any(documents):
        raise InputError(
            f"No training report has words in the sections {', '.join(s.sections)}. Choose other --sections, or train "
            "on films alone with --text-encoder none."
        )
    if text.pieces:
        trained: Vocabulary = (
            WordPieces.read(s.word_pieces) if s.word_pieces else open_text_weights(s).vocabulary.pieces
        )
        documents = [trained.pieces(words) for words in documents]
    word_patients = count_patients(documents, patients)
    rare = frozenset(find_rare(word_patients, s.min_word_patients))
    documents = [words for words in documents if words]
    common = [[word for word in words if word not in rare] for words in documents]
    if not text.pieces:
        trained = Vocabulary.fit(common, min_count=s.min_word_count, max_words=s.max_words)
    source = choose_source(s)
    vectors, vocabulary = source.make(s, text, common, trained)
    rows = vectors.vectors
    if not source.exact:
        rows, _ = embedding_matrix(vectors, vocabulary, normalize=s.normalize_vectors, seed=s.seed)
    coverage = measure_coverage(vectors, trained, counts=Counter(word for words in documents for word in words))
    unseen = [vocabulary.pieces(text.words(study)) for study in validation]
    facts = {
        **text_report(documents, vocabulary, s.length),
        "unknown_rate_on_validation": text_report(unseen, vocabulary, s.length)["unknown_rate"],
        **({"redaction": removed} if removed else {}),
        "words": len(vocabulary),
        "words_of_the_vectors_alone": len(vocabulary) - len(trained),
        "word_patients": _sum_patients(word_patients, vocabulary, rare, s.min_word_patients),
        "words_passed_over": vectors.skipped,
        "word_pieces": Path(pieces).name if (pieces := s.word_pieces or s.text_weights) else None,
        "word_vectors": source.describe(s),
        "coverage_of_words": coverage.types,
        "coverage_of_running_words": coverage.tokens,
    }
    return Words(vocabulary, rows, rare, facts)


def _sum_patients(counts, vocabulary, rare, least):
    """Counts the patients that use the words read in training, for the privacy report of an export: numbers only."""
    used = [counts[word] for word in vocabulary.words[2:] if word in counts and word not in rare]
    return {
        "min_word_patients": least,
        "words": len(used),
        "of_one_patient": sum(count == 1 for count in used),
        "of_fewer_than_5": sum(count < 5 for count in used),
        "left_out": len(rare),
    }


def describe_words(facts: Mapping[str, Any], length: int) -> str:
    """Describes the facts of `Words` in one line; `length` is the number of words to which a report is cut."""
    words = "word pieces" if facts["word_pieces"] else "words"
    trained = facts["words"] - facts["words_of_the_vectors_alone"]
    more = f" and {facts['words_of_the_vectors_alone']} only from the vectors" if facts["words"] > trained else ""
    skipped, patients = facts["words_passed_over"], facts["word_patients"]
    end = f"; {skipped} words of the file are skipped, as they have white space or are not UTF-8" if skipped else ""
    if patients["left_out"]:
        end += (
            f"; {patients['left_out']} {words} of fewer than {patients['min_word_patients']} patients are read as "
            "unknown"
        )
    if removed := facts.get("redaction"):
        end += f"; the redaction of {removed['entries']} entries removes {removed['removed']:.1%} of the words"
    return (
        f"{words.capitalize()}: {trained} from training{more}; {facts['coverage_of_words']:.1%} of those from training "
        f"({facts['coverage_of_running_words']:.1%} of their occurrences) have a vector; "
        f"{facts['truncated_share']:.1%} of the training reports are cut at {length}; "
        f"{facts['unknown_rate_on_validation']:.1%} of the {words} of validation are unknown{end}"
    )
