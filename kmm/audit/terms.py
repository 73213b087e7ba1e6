"""Find the most frequent terms of reports: words that enough patients share, without stop words."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kmm.audit.report_words import read_as
from kmm.data.study import Study
from kmm.errors import InputError, ReportError
from kmm.settings import FitSettings
from kmm.text.clean import STOP_WORDS
from kmm.text.vocabulary import count_patients

MOST_TERMS = 40


@dataclass(frozen=True)
class Terms:
    """The most frequent terms of reports.

    Attributes:
        counts: dict of term to the number of reports that have it, most frequent first, ties in alphabetical order.
        reports: int. Number of reports with a word.
        words: int. Number of different words that may be shown.
        withheld: int. Number of different words that are not, because too few patients use them.
        min_patients: int. Fewest patients of a word that is shown.
    """

    counts: dict[str, int]
    reports: int
    words: int
    withheld: int
    min_patients: int


def find_terms(studies: Sequence[Study], *, min_patients: int = 2, most: int = MOST_TERMS) -> Terms:
    """Finds the words that occur in most reports.

    The text is that of the sections which a fit reads by default, cleaned as by default. Stop words (also `no` and
    `not`), numbers, single letters and the token of removed names are no terms.

    Args:
        studies: sequence of `Study`.
        min_patients: int, 1 or more. A word in the reports of fewer patients is not returned: it may be a name. A study
            whose patient is not known counts as a patient of its own.
        most: int. Largest number of terms.

    Returns:
        `Terms`.

    Raises:
        InputError: if `min_patients` is below 1.

    Example:
        >>> from kmm.data.study import Report
        >>> reports = [("ann", "No mass. Mass?"), ("ann", "Cyst of Dr Jones."), ("ben", "A mass.")]
        >>> studies = [Study(str(i), who, report=Report(findings=text)) for i, (who, text) in enumerate(reports)]
        >>> find_terms(studies).counts
        {'mass': 2}
    """
    if min_patients < 1:
        raise InputError(f"`min_patients` must be at least 1. Received: {min_patients}")
    text = replace(read_as(FitSettings()), deidentified="drop")
    documents, patients = [], []
    for study in studies:
        try:
            words = text.words(study)
        except ReportError:  # counted by `count_report_words`
            continue
        if words:
            documents.append({word for word in words if is_term(word)})
            patients.append(study.patient)
    shared = {word: count >= min_patients for word, count in count_patients(documents, patients).items()}
    counts = Counter(word for words in documents for word in words if shared[word])
    kept = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    shown = sum(shared.values())
    return Terms(dict(kept), len(documents), shown, len(shared) - shown, min_patients)


def is_term(word: str) -> bool:
    """Returns whether a cleaned word can be a term: at least two letters, and no stop word.

    Example:
        >>> [is_term(word) for word in ("mass", "no", "t", "2019", "l2")]
        [True, False, False, False, False]
    """
    return sum(letter.isalpha() for letter in word) > 1 and word not in STOP_WORDS
