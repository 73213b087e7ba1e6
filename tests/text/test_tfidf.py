import csv
import io
import zipfile

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, roc_auc_score
from sklearn.model_selection import train_test_split

from kmm.errors import ArtefactError, InputError
from kmm.text.tfidf import INVERSE_REGULARISATIONS, TfidfBaseline


def make_reports(count=200, seed=0):
    random = np.random.default_rng(seed)
    words = ["Heart", "size", "is", "normal.", "No", "effusion,", "lungs", "clear;", "a", "T-spine"]
    labels = random.integers(0, 2, (count, 2)).astype(float)
    texts = [
        " ".join([*random.choice(words, 12), *["mass"] * int(mass), *["no fracture" if not broken else "fracture"]])
        for mass, broken in labels
    ]
    return texts, labels


def test_equals_scikit_learn():
    texts, labels = make_reports()
    baseline = TfidfBaseline.fit(texts[:150], labels[:150])
    vectorizer = TfidfVectorizer(token_pattern=r"[^\W_]+", ngram_range=(1, 2), sublinear_tf=True, min_df=2)
    train, test = vectorizer.fit_transform(texts[:150]), vectorizer.transform(texts[150:])
    predicted = baseline.predict(texts[150:])
    assert baseline.terms == tuple(vectorizer.get_feature_names_out())
    for column in range(2):
        errors = []
        for strength in INVERSE_REGULARISATIONS:
            model = LogisticRegression(C=strength, max_iter=1000).fit(train, labels[:150, column])
            errors.append(np.abs(predicted[:, column] - model.predict_proba(test)[:, 1]).max())
        assert min(errors) < 1e-9
        assert accuracy_score(labels[150:, column], predicted[:, column] > 0.5) > 0.9


def test_the_same_probabilities_after_save_and_load(tmp_path):
    texts, labels = make_reports()
    baseline = TfidfBaseline.fit(texts, labels)
    baseline.save(tmp_path / "tfidf.npz")
    loaded = TfidfBaseline.load(tmp_path / "tfidf.npz")
    new = ["A mass, no fracture.", "", "unheard of words", "œdème 漢字"]
    np.testing.assert_allclose(loaded.predict(new), baseline.predict(new), atol=1e-9, rtol=0)
    assert [file.name for file in tmp_path.iterdir()] == ["tfidf.npz"]
    assert repr(loaded) == f"TfidfBaseline({len(baseline.terms)} terms, 2 labels)"


def test_words_and_pairs_of_one_patient_are_left_out():
    texts = ["No mass of john.", "No mass. John here.", "A smith saw a mass.", "No john.", "A mass, no mass.", "Here."]
    labels, patients = np.array([[0.0], [0], [1], [0], [1], [0]]), ["a", "a", "b", "c", "d", "a"]
    baseline = TfidfBaseline.fit(texts, labels, patients=patients, min_patients=2)
    assert baseline.terms == ("a", "a mass", "john", "mass", "no", "no mass")  # "no john" is of one, "here" of one
    vectorizer = TfidfVectorizer(
        token_pattern=r"[^\W_]+", ngram_range=(1, 2), sublinear_tf=True, vocabulary=baseline.terms
    ).fit(texts)
    np.testing.assert_allclose(baseline.idf, vectorizer.idf_)
    whole = TfidfBaseline.fit(texts, labels, patients=patients, min_patients=1, min_reports=1)
    assert {"smith", "john here"} <= set(whole.terms)
    with pytest.raises(InputError, match="words that at least 5 patients share"):
        TfidfBaseline.fit(texts, labels, patients=patients, min_patients=5)


def test_terms_of_one_report_and_beyond_the_cap_are_left_out():
    texts, labels = ["a mass", "a mass of it", "no mass", "no cyst"], np.array([[1.0], [1], [0], [0]])
    assert TfidfBaseline.fit(texts, labels).terms == ("a", "a mass", "mass", "no")
    assert TfidfBaseline.fit(texts, labels, min_reports=3).terms == ("mass",)
    assert TfidfBaseline.fit(texts, labels, max_terms=3).terms == ("a", "a mass", "mass")  # "mass" is in most
    apart = TfidfBaseline.fit(["mass", "clear"], [[1.0], [0]])
    assert apart.terms == ("clear", "mass")  # where no term is in two reports, all count


def test_the_cap_keeps_the_terms_of_the_most_reports():
    texts, labels = make_reports()
    whole, capped = (TfidfBaseline.fit(texts, labels, **how) for how in ({}, {"max_terms": 30}))
    vectorizer = TfidfVectorizer(
        token_pattern=r"[^\W_]+", ngram_range=(1, 2), sublinear_tf=True, vocabulary=whole.terms
    ).fit(texts)
    reports = dict(zip(whole.terms, (vectorizer.transform(texts) > 0).sum(axis=0).tolist()[0]))
    left_out = set(whole.terms) - set(capped.terms)
    assert len(capped.terms) == 30 and len(left_out) == len(whole.terms) - 30 > 0
    assert min(reports[term] for term in capped.terms) >= max(reports[term] for term in left_out)
    idf = dict(zip(whole.terms, vectorizer.idf_))
    np.testing.assert_allclose(capped.idf, [idf[term] for term in capped.terms])


def test_the_vectorizer_is_made_once(monkeypatch):
    texts, labels = make_reports(40)
    baseline, made = TfidfBaseline.fit(texts, labels), []
    check = TfidfVectorizer._validate_vocabulary
    monkeypatch.setattr(TfidfVectorizer, "_validate_vocabulary", lambda self: made.append(self) or check(self))
    first, second = baseline.predict(texts), baseline.predict(texts)
    assert len({id(one) for one in made}) == 1 and np.array_equal(first, second)


def test_the_seed_decides_alone():
    texts, labels = make_reports()
    first, second = (TfidfBaseline.fit(texts, labels, seed=3) for _ in range(2))
    assert np.array_equal(first.coef, second.coef)


def test_rows_without_a_label_are_left_out():
    texts, labels = make_reports()
    some = labels.copy()
    some[::3, 1] = np.nan
    known = np.isfinite(some[:, 1])
    flipped = np.where(known, some[:, 1], 1 - labels[:, 1])
    baseline = TfidfBaseline.fit(texts, some)
    assert accuracy_score(labels[:, 1], baseline.predict(texts)[:, 1] > 0.5) > 0.95
    assert not np.allclose(baseline.coef[1], TfidfBaseline.fit(texts, np.stack([labels[:, 0], flipped], 1)).coef[1])


def test_labels_with_one_class_or_none(tmp_path):
    labels = np.array([[0, 1, np.nan, 0], [0, 1, np.nan, 1], [np.nan, 1, np.nan, 1]])
    baseline = TfidfBaseline.fit(["clear", "mass", "a mass"], labels)
    baseline.save(tmp_path / "tfidf.npz")
    for model in (baseline, TfidfBaseline.load(tmp_path / "tfidf.npz")):
        assert model.predict(["clear", ""])[:, :3].tolist() == [[0.0, 1.0, 0.5]] * 2
        assert model.predict(["a mass"])[0, 3] > model.predict(["clear"])[0, 3]
        assert model.predict([]).shape == (0, 4)


def test_bad_training_input():
    with pytest.raises(InputError, match=r"needs training texts with words"):
        TfidfBaseline.fit(["", "..."], [[0], [1]])
    for labels in ([0, 1], [[0]]):
        with pytest.raises(InputError, match=r"`labels` must be \(2, n_labels\)"):
            TfidfBaseline.fit(["a", "b"], labels)


def change(path, **changes):
    with np.load(path) as arrays:
        content = {**arrays, **changes}
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value for name, value in content.items() if value is not None})
    return buffer.getvalue()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: b"",
        lambda path: path.read_bytes()[:-30],
        lambda path: path.read_bytes()[:200] + b"\x55" * 30 + path.read_bytes()[230:],
        lambda path: b"some text",
        lambda path: change(path, idf=None),
        lambda path: change(path, idf=np.ones(3)),
        lambda path: change(path, idf=np.array([object()])),
        lambda path: change(path, coef=np.ones(3)),
        lambda path: change(path, coef=np.full((1, 3), np.nan)),
        lambda path: change(path, intercept=np.array(0.0)),
        lambda path: change(path, intercept=np.array(["a"])),
        lambda path: change(path, terms=np.array([255, 254], np.uint8)),
    ],
)
def test_a_file_of_something_else(tmp_path, damage):
    path = tmp_path / "tfidf.npz"
    TfidfBaseline.fit(["clear", "mass", "a mass"], [[0], [1], [1]]).save(path)
    path.write_bytes(damage(path))
    with pytest.raises(ArtefactError, match="is damaged or not a TF-IDF baseline") as caught:
        TfidfBaseline.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_missing_file_and_one_that_claims_to_be_huge(tmp_path):
    with pytest.raises(ArtefactError, match=r"cannot be read \(No such file"):
        TfidfBaseline.load(tmp_path / "none.npz")
    path = tmp_path / "bomb.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**15,)})
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("terms", "idf", "coef", "intercept"):
            archive.writestr(f"{name}.npy", header.getvalue())
    with pytest.raises(ArtefactError, match="not a TF-IDF baseline"):
        TfidfBaseline.load(path)


@pytest.mark.openi
def test_open_i_reports_reach_the_known_scores(openi_folder):
    with open(openi_folder / "indiana_reports.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts = [" ".join(row[name] for name in ("indication", "impression", "findings") if row[name]) for row in rows]
    labels = np.array([[float(row["MeSH"].strip().lower() != "normal")] for row in rows])
    train, test = train_test_split(np.arange(len(rows)), test_size=0.2, stratify=labels, random_state=0)
    baseline = TfidfBaseline.fit([texts[i] for i in train], labels[train])
    scores = baseline.predict([texts[i] for i in test])
    assert roc_auc_score(labels[test], scores) >= 0.975
    assert accuracy_score(labels[test], scores > 0.5) >= 0.93
