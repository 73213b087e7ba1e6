"""The baseline that is always there: TF-IDF of words and word pairs with logistic regression."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kmm.errors import ArtefactError, InputError
from kmm.storage.files import replace_file
from kmm.text.clean import find_words

MAX_FILE_BYTES = 2_000_000_000
INVERSE_REGULARISATIONS = (1.0, 10.0, 100.0)
FOLDS = 3
DAMAGED = (zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, repr=False)
class TfidfBaseline:
    """One linear model a label on the TF-IDF of words and pairs of neighbours, sublinear and of length 1.

    Attributes:
        terms: tuple of str: words, and pairs joined by a space.
        idf: float64 `(n_terms,)`.
        coef: float64 `(n_labels, n_terms)`.
        intercept: float64 `(n_labels,)`; minus or plus infinity for a label that was always 0 or always 1.

    Source: https://doi.org/10.1016/0306-4573(88)90021-0

    Example:
        >>> texts = ["clear lungs", "lungs are clear", "large mass", "a mass"]
        >>> baseline = TfidfBaseline.fit(texts, np.array([[0], [0], [1], [1]]))
        >>> baseline.predict(["mass", "clear"]).round(1).tolist()
        [[0.8], [0.2]]
    """

    terms: tuple[str, ...]
    idf: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray

    @classmethod
    def fit(cls, texts, labels, *, seed=0, patients=None, min_patients=1):
        """Fits vocabulary, weights and one regression a label, as strongly regularised as suits the label.

        Args:
            texts: list of n str, the sections that the compared model reads. An empty one is allowed.
            labels: array `(n, n_labels)` of 0, 1 and NaN. A row with NaN is left out for that label.
            seed: int, of the folds of the training texts that choose the regularisation.
            patients: sequence of n str: whose text each one is; None takes each text for another patient's.
            min_patients: int. A word or pair that fewer patients use is left out.

        Returns:
            `TfidfBaseline`. A label with one class gives that class the probability 1; one without a known row 0.5.

        Raises:
            InputError: if the texts hold no word (of enough patients) or do not match the labels.
        """
        labels = np.asarray(labels, float)
        if labels.ndim != 2 or len(labels) != len(texts):
            raise InputError(f"`labels` must be ({len(texts)}, n_labels), one row a text. Received: {labels.shape}")
        documents = _join_words(texts)
        if not any(documents):
            raise InputError("The TF-IDF baseline needs a training text with a word in it. Received: none")
        vectorizer = _make_vectorizer()
        features = vectorizer.fit_transform(documents)
        if min_patients > 1:
            common = _count_patients(features, patients) >= min_patients
            if not common.any():
                raise InputError(
                    f"The TF-IDF baseline needs a word of at least {min_patients} patients. Received: none"
                )
            vectorizer = _make_vectorizer(vectorizer.get_feature_names_out()[common])
            features = vectorizer.fit_transform(documents)
        coef, intercept = np.zeros((labels.shape[1], features.shape[1])), np.zeros(labels.shape[1])
        for column, values in enumerate(labels.T):
            known = np.isfinite(values)
            classes = np.unique(values[known])
            if len(classes) > 1:
                model = _fit_regression(features[known], values[known] > 0.5, seed)
                coef[column], intercept[column] = model.coef_[0], model.intercept_[0]
            elif len(classes) == 1:
                intercept[column] = np.inf if classes[0] > 0.5 else -np.inf
        return cls(tuple(vectorizer.get_feature_names_out()), vectorizer.idf_, coef, intercept)

    def __repr__(self):
        return f"TfidfBaseline({len(self.terms)} terms, {len(self.intercept)} labels)"

    def predict(self, texts):
        """Returns the probability of each label: float64 `(n, n_labels)` for a list of n str."""
        from scipy.special import expit

        if not len(texts):
            return np.empty((0, len(self.intercept)))
        vectorizer = _make_vectorizer(self.terms)
        vectorizer.idf_ = self.idf
        return expit(vectorizer.transform(_join_words(texts)) @ self.coef.T + self.intercept)

    def save(self, path):
        """Writes a `.npz` file of plain arrays (the terms as UTF-8 lines), whole or not at all."""
        terms = np.frombuffer("\n".join(self.terms).encode(), np.uint8)
        with replace_file(path) as place, open(place, "wb") as file:
            np.savez_compressed(file, terms=terms, idf=self.idf, coef=self.coef, intercept=self.intercept)

    @classmethod
    def load(cls, path):
        """Reads what `save` wrote.

        Raises:
            ArtefactError: if the file is missing, damaged, too large or something else; it names the file.
        """
        path = Path(path)
        try:
            return cls(*_read_arrays(path))
        except OSError as error:
            raise ArtefactError(f"{path}: expected a readable TF-IDF baseline. Received: {error.strerror}") from None
        except (ValueError, TypeError, LookupError, EOFError, MemoryError, RuntimeError, *DAMAGED):
            raise ArtefactError(f"{path}: expected a TF-IDF baseline (.npz). Received: something else") from None


def _read_arrays(path):
    """The fields of a baseline from a file; raises ValueError, or what a damaged archive raises."""
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
    """Fits with the C of least log loss in cross-validation, or the middle one where a class is too rare for folds."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score
    from threadpoolctl import threadpool_limits

    models = [LogisticRegression(C=strength, max_iter=1000) for strength in INVERSE_REGULARISATIONS]
    best = models[1]
    with threadpool_limits(1):  # the vectors are short: threads cost more than they give, much more on a busy machine
        if min(classes.sum(), (~classes).sum()) >= FOLDS:
            folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
            losses = [-cross_val_score(m, features, classes, cv=folds, scoring="neg_log_loss").mean() for m in models]
            best = models[int(np.argmin(losses))]
        return best.fit(features, classes)


def _count_patients(features, patients):
    """int `(n_terms,)`: how many patients use each term of a sparse matrix `(n, n_terms)`."""
    from scipy import sparse

    texts = np.arange(features.shape[0])
    owner = texts if patients is None else np.unique(np.asarray(patients, str), return_inverse=True)[1]
    belongs = sparse.csr_matrix((np.ones(len(owner)), (owner, texts)))
    return np.asarray(((belongs @ (features > 0)) > 0).sum(axis=0)).ravel()


def _join_words(texts):
    return [" ".join(word.text for word in find_words(text)) for text in texts]


def _make_vectorizer(terms=None):
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(
        lowercase=False, token_pattern=r"\S+", ngram_range=(1, 2), sublinear_tf=True, vocabulary=terms
    )
