"""The text baseline of every evaluation: logistic regression on TF-IDF of words and word pairs."""

import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kmm.errors import ArtefactError, InputError
from kmm.storage.files import replace_file
from kmm.text.clean import find_words

MAX_FILE_BYTES = 2_000_000_000
INVERSE_REGULARISATIONS = (1.0, 10.0, 100.0)
FOLDS = 3
MIN_REPORTS = 2
MAX_TERMS = 100_000
DAMAGED = (zipfile.BadZipFile, zlib.error)
_TERMS: dict[str, Any] = {"lowercase": False, "token_pattern": r"\S+", "ngram_range": (1, 2)}


@dataclass(frozen=True, repr=False)
class TfidfBaseline:
    """One linear model per label on the TF-IDF of words and adjacent pairs, sublinear and of unit length.

    Attributes:
        terms: tuple of str: words, and pairs joined by a space.
        idf: float64 `(n_terms,)`.
        coef: float64 `(n_labels, n_terms)`.
        intercept: float64 `(n_labels,)`; minus or plus infinity for a label that is 0 or 1 in all training studies.

    Source: https://doi.org/10.1016/0306-4573(88)90021-0

    Example:
        >>> texts = ["clear lungs", "lungs are clear", "large mass", "a mass"]
        >>> baseline = TfidfBaseline.fit(texts, np.array([[0], [0], [1], [1]]))
        >>> baseline.predict(["mass", "clear"]).round(1).tolist()
        [[0.9], [0.2]]
    """

    terms: tuple[str, ...]
    idf: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray

    @classmethod
    def fit(
        cls,
        texts: Sequence[str],
        labels: ArrayLike,
        *,
        seed: int = 0,
        patients: Sequence[str] | None = None,
        min_patients: int = 1,
        min_reports: int = MIN_REPORTS,
        max_terms: int = MAX_TERMS,
    ) -> "TfidfBaseline":
        """Fits the vocabulary, the IDF weights and one regression per label, with regularisation chosen per label.

        Most pairs of words occur once. They cannot inform about another report, and their number grows with the reports
        (516,000 terms in 32,000 reports), so they are left out.

        Args:
            texts: list of n str, the sections that the compared model reads; a text may be empty.
            labels: array `(n, n_labels)` of 0, 1 and NaN. A row with NaN is left out for that label.
            seed: int. Seed of the folds of the training texts that choose the regularisation.
            patients: sequence of n str: the patient of each text; None treats each text as of another patient.
            min_patients: int. Words and pairs in texts of fewer patients are left out.
            min_reports: int. Words and pairs in fewer texts are left out, unless all are.
            max_terms: int. Most words and pairs; those in the most texts are kept, of equal ones the first in the
                alphabet.

        Returns:
            `TfidfBaseline`. A label with a single class is always predicted with probability 1 for that class, a label
            without known values with 0.5.

        Raises:
            InputError: if the texts have no word (of enough patients) or do not match the labels.
        """
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        known_labels = np.asarray(labels, float)
        if known_labels.ndim != 2 or len(known_labels) != len(texts):
            raise InputError(
                f"`labels` must be ({len(texts)}, n_labels), one row per text. Received: {known_labels.shape}"
            )
        documents = _join_words(texts)
        if not any(documents):
            raise InputError("The TF-IDF baseline needs training texts with words. All texts are empty")
        counter, weighting = CountVectorizer(**_TERMS), TfidfTransformer(sublinear_tf=True)
        counts = counter.fit_transform(documents)
        chosen = _choose_terms(counts, patients, min_patients, min_reports, max_terms)
        if not len(chosen):
            raise InputError(f"The TF-IDF baseline needs words that at least {min_patients} patients share. Found none")
        terms = tuple(counter.get_feature_names_out()[chosen])
        features = weighting.fit_transform(counts[:, chosen])
        n_labels = known_labels.shape[1]
        coef, intercept = np.zeros((n_labels, features.shape[1])), np.zeros(n_labels)
        for column, values in enumerate(known_labels.T):
            known = np.isfinite(values)
            classes = np.unique(values[known])
            if len(classes) > 1:
                model = _fit_regression(features[known], values[known] > 0.5, seed)
                coef[column], intercept[column] = model.coef_[0], model.intercept_[0]
            elif len(classes) == 1:
                intercept[column] = np.inf if classes[0] > 0.5 else -np.inf
        return cls(terms, weighting.idf_, coef, intercept)

    def __repr__(self) -> str:
        return f"TfidfBaseline({len(self.terms)} terms, {len(self.intercept)} labels)"

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the probability of each label: float64 `(n, n_labels)` for a list of n str."""
        from scipy.special import expit

        if not len(texts):
            return np.empty((0, len(self.intercept)))
        return expit(self.weigh(texts) @ self.coef.T + self.intercept)

    def weigh(self, texts: Sequence[str]) -> Any:
        """Returns the TF-IDF weights of n texts: a sparse float64 matrix `(n, n_terms)` with rows of length 1, or 0."""
        return self._vectorizer.transform(_join_words(texts))

    @cached_property
    def _vectorizer(self) -> Any:
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(**_TERMS, sublinear_tf=True, vocabulary=self.terms)
        vectorizer.idf_ = self.idf
        return vectorizer

    def save(self, path: Path | str) -> None:
        """Writes a `.npz` file of plain arrays (the terms as UTF-8 lines), whole or not at all."""
        terms = np.frombuffer("\n".join(self.terms).encode(), np.uint8)
        with replace_file(path) as place, open(place, "wb") as file:
            np.savez_compressed(file, terms=terms, idf=self.idf, coef=self.coef, intercept=self.intercept)

    @classmethod
    def load(cls, path: Path | str) -> "TfidfBaseline":
        """Reads a file that `save` wrote.

        Raises:
            ArtefactError: if the file is missing, damaged, too large or not a TF-IDF baseline; it names the file.
        """
        path = Path(path)
        try:
            return cls(*_read_arrays(path))
        except OSError as error:
            raise ArtefactError(f"{path}: the TF-IDF baseline cannot be read ({error.strerror})") from None
        except (ValueError, TypeError, LookupError, EOFError, MemoryError, RuntimeError, *DAMAGED):
            raise ArtefactError(f"{path}: the file is damaged or not a TF-IDF baseline (.npz)") from None


def weigh_texts(texts: Sequence[str]) -> Any:
    """Computes the TF-IDF weights of texts, by how often words and pairs occur in these texts themselves.

    Args:
        texts: list of n str.

    Returns:
        sparse float32 matrix `(n, n_terms)` with rows of length 1, or 0 for a text without words.

    Source: https://doi.org/10.1016/0306-4573(88)90021-0

    Example:
        >>> weights = weigh_texts(["clear lungs", "lungs clear", "a mass", ""])
        >>> (weights @ weights.T).toarray()[0].round(2).astype(float).round(2).tolist()
        [1.0, 0.55, 0.0, 0.0]
    """
    from scipy import sparse
    from sklearn.feature_extraction.text import TfidfVectorizer

    documents = _join_words(texts)
    if not any(documents):
        return sparse.csr_matrix((len(documents), 1), dtype=np.float32)
    return TfidfVectorizer(**_TERMS, sublinear_tf=True, dtype=np.float32).fit_transform(documents)


def _read_arrays(path: Path) -> tuple[tuple[str, ...], np.ndarray, np.ndarray, np.ndarray]:
    """Reads the fields of a baseline; raises `ValueError`, or the errors of a damaged archive."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > MAX_FILE_BYTES:
            raise ValueError
    with np.load(path, allow_pickle=False) as arrays:
        terms = tuple(arrays["terms"].tobytes().decode("utf-8").split("\n"))
        idf, coef, intercept = (arrays[name].astype(np.float64) for name in ("idf", "coef", "intercept"))
    if idf.shape != (len(set(terms)),) or coef.shape != (len(intercept), len(terms)) or intercept.ndim != 1:
        raise ValueError
    if not np.isfinite(idf).all() or not np.isfinite(coef).all() or np.isnan(intercept).any():
        raise ValueError
    return terms, idf, coef, intercept


def _fit_regression(features, classes, seed):
    """Fits with the C of least log loss in cross-validation, or the middle C if a class is too rare for folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from threadpoolctl import threadpool_limits

    models = [LogisticRegression(C=strength, max_iter=1000) for strength in INVERSE_REGULARISATIONS]
    best = models[1]
    with threadpool_limits(1):  # the vectors are short: threads cost more time than they save
        if min(classes.sum(), (~classes).sum()) >= FOLDS:
            folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
            losses = [-cross_val_score(m, features, classes, cv=folds, scoring="neg_log_loss").mean() for m in models]
            best = models[int(np.argmin(losses))]
        return best.fit(features, classes)


def _choose_terms(counts, patients, min_patients, min_reports, max_terms):
    """Chooses the columns of a sparse matrix of counts `(n, n_terms)` that are used as terms: int, in their order."""
    reports = np.asarray((counts > 0).sum(axis=0)).ravel()
    common = _count_patients(counts, patients) >= min_patients if min_patients > 1 else np.ones(len(reports), bool)
    if (common & (reports >= min_reports)).any():
        common &= reports >= min_reports
    chosen = np.flatnonzero(common)
    return np.sort(chosen[np.argsort(-reports[chosen], kind="stable")[:max_terms]])


def _count_patients(counts, patients):
    """Counts the patients of each term of a sparse matrix `(n, n_terms)`: int `(n_terms,)`."""
    from scipy import sparse

    texts = np.arange(counts.shape[0])
    owner = texts if patients is None else np.unique(np.asarray(patients, str), return_inverse=True)[1]
    belongs = sparse.csr_matrix((np.ones(len(owner)), (owner, texts)))
    return np.asarray(((belongs @ (counts > 0)) > 0).sum(axis=0)).ravel()


def _join_words(texts: Iterable[str]) -> list[str]:
    return [" ".join(word.text for word in find_words(text)) for text in texts]
