"""The scikit-learn estimator: parameters, clones, cross-validation, searches and pipelines."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks as checks

import kmm
from kmm.errors import InputError
from kmm.sklearn import StudyClassifier
from tests.factories.studies import TINY

FAST = {**TINY, "text_epochs": 4, "text_learning_rate": 0.03, "word_vector_epochs": 1, "bootstrap_repeats": 5}


def make_rows(count=48):
    generator = np.random.default_rng(0)
    rows = [
        {"text": f"There is {'a' if row % 2 else 'no'} mass in case {generator.integers(10**6)}.", "who": row // 2}
        for row in range(count)
    ]
    return rows, np.array(["sick" if row % 2 else "healthy" for row in range(count)])


@pytest.mark.parametrize(
    "check",
    [
        checks.check_estimator_cloneable,
        checks.check_estimator_repr,
        checks.check_no_attributes_set_in_init,
        checks.check_parameters_default_constructible,
        checks.check_get_params_invariance,
        checks.check_set_params,
        checks.check_estimator_tags_renamed,
        checks.check_valid_tag_types,
        checks.check_mixin_order,
    ],
)
def test_checks_of_scikit_learn(check):
    check("StudyClassifier", StudyClassifier(report="text"))


def test_settings_are_parameters():
    model = StudyClassifier(report="text", patient="who", pixels=32, sections=None)
    assert model.get_params()["pixels"] == 32 and "pixels" in repr(model)
    copy = clone(model.set_params(pixels=64, learning_rate=0.1, image="film"))
    assert copy.get_params() == model.get_params() and copy.image == "film"
    with pytest.raises(ValueError, match="Invalid parameter 'pixel'"):
        model.set_params(pixel=3)


@pytest.mark.large
def test_fit_and_predict():
    rows, y = make_rows()
    model = StudyClassifier(report="text", patient="who", **FAST).fit(rows, y)
    assert model.classes_.tolist() == ["healthy", "sick"] and isinstance(model.classifier_, kmm.Classifier)
    found = model.predict_proba(rows)
    assert found.shape == (48, 2) and np.allclose(found.sum(axis=1), 1)
    expected = model.classifier_.predict(rows, columns={"report": "text"})
    np.testing.assert_array_equal(found[:, 1], expected.probabilities[:, 0])
    np.testing.assert_array_equal(model.predict(rows), model.classes_[expected.decisions[:, 0].astype(int)])
    assert model.predict_proba({"text": []}).shape == (0, 2) and model.predict({"text": []}).shape == (0,)
    assert model.score(rows, y) == np.mean(model.predict(rows) == y)
    sizes = model.classifier_._record.provenance["parts"]
    assert sizes == {"train": 38, "validation": 10, "test": 0}
    with pytest.raises(InputError, match=r"cannot be used|expected"):
        model.predict([{"text": None}])


@pytest.mark.parametrize(
    ("y", "says"),
    [
        ([0, 1, 2] * 16, "two classes"),
        ([1] * 48, "two classes"),
        ([0, 1], "equally many rows"),
        (["well", None, "sick"] * 16, "no class in 16 rows, the first of them 1"),
        ([0.0, 1.0, np.nan] * 16, "no class in 16 rows, the first of them 2"),
        (np.array(["sick", 1] * 24, object), "must be of one type. Received: int, str"),
    ],
)
def test_wrong_classes(y, says):
    with pytest.raises(InputError, match=says):
        StudyClassifier(report="text").fit(make_rows()[0], y)


def test_films_that_are_not_found_are_an_error():
    rows, y = make_rows(4)
    with pytest.raises(InputError, match="None of the 4 studies has a film"):
        StudyClassifier(image="film", report="text").fit([{**row, "film": "gone.png"} for row in rows], y)


def test_an_estimator_must_be_fitted_first():
    with pytest.raises(NotFittedError):
        StudyClassifier(report="text").predict([{"text": "Clear."}])


@pytest.mark.large
def test_cross_validation_search_and_pipeline():
    rows, y = make_rows()
    groups = [row["who"] for row in rows]
    model = StudyClassifier(report="text", patient="who", **FAST)
    scores = cross_val_predict(model, rows, y, groups=groups, cv=GroupKFold(3), method="predict_proba")
    assert scores.shape == (48, 2)
    search = GridSearchCV(model, {"text_filters": [4, 8], "text_dropout": [0.2]}, cv=2).fit(rows, y)
    assert search.best_params_["text_filters"] in (4, 8) and search.predict(rows).shape == (48,)
    upper = FunctionTransformer(lambda table: [{**row, "text": row["text"].upper()} for row in table])
    pipe = make_pipeline(upper, model).fit(rows, y)
    assert set(pipe.predict(rows)) <= {"sick", "healthy"}
