"""Targets of pretraining are fitted on the training part alone, and a teacher never saw the study that it judges."""

from dataclasses import replace

import numpy as np
import pytest

from kmm.data.collection import read_collection
from kmm.data.groups import find_keys
from kmm.data.study import Report
from kmm.errors import InputError
from kmm.presets import make_settings
from kmm.training import teacher
from kmm.training.preparation.prepared_studies import prepare_studies
from kmm.training.pretraining.pretrain import take_open
from kmm.training.pretraining.targets import ask_teacher, describe_reports, list_headings
from kmm.training.teacher import divide_rows
from tests.factories.studies import TINY

SETTINGS = make_settings("small", {**TINY, "label_min_count": 5, "min_word_patients": 1})


@pytest.fixture(scope="module")
def opened(tiny_folder, tmp_path_factory):
    """Training and validation of the tiny studies; one of training has no report."""
    films = tmp_path_factory.mktemp("opened") / "cache"
    found = take_open(prepare_studies(read_collection(tiny_folder), SETTINGS, films=films))
    row = int(found.rows("train")[3])
    studies, present = list(found.studies), found.present.copy()
    studies[row], present[row, 1] = replace(studies[row], report=None), 0
    return replace(found, studies=tuple(studies), present=present)


def change(prepared, part, **fields):
    """The same studies, those of one part with other fields."""
    held = set(prepared.split.part(part))
    return replace(
        prepared,
        studies=tuple(replace(study, **fields) if study.id in held else study for study in prepared.studies),
    )


def test_test_studies_are_not_among_them(opened):
    assert set(opened.split.parts.values()) == {"train", "validation"} and not len(opened.rows("test"))
    assert len(opened.studies) == len(opened.films) == len(opened.labels) == len(opened.present) == 48
    row = int(opened.rows("validation")[0])
    one = opened.take(np.array([row]))
    assert one.studies == (opened.studies[row],) and np.array_equal(one.films[[0]], opened.films[[row]])
    assert one.film_digests == (opened.film_digests[row],) and one.split.parts == {one.studies[0].id: "validation"}


def test_headings_are_those_of_training(opened):
    found = list_headings(opened, SETTINGS)
    assert found.facts["headings"] == ["Mass"]
    assert found.values[:, 0].tolist() == [study.labels["abnormal"] for study in opened.studies]
    other = change(opened, "validation", mesh_major=("Opacity/lung",))
    assert list_headings(other, SETTINGS).facts["headings"] == ["Mass"]
    unindexed = change(opened, "validation", mesh_major=())
    assert np.isnan(list_headings(unindexed, SETTINGS).values[opened.rows("validation")]).all()
    with pytest.raises(InputError, match=r"multi-label needs MeSH headings: .*at least 50 studies"):
        list_headings(opened, make_settings("small", TINY))


def test_folds_keep_groups_together(opened):
    rows = opened.rows("train").tolist()
    same = replace(
        opened, studies=tuple(replace(study, patient=f"p{n // 4}") for n, study in enumerate(opened.studies))
    )
    folds = divide_rows(same, rows, seed=0)
    assert sorted(row for fold in folds for row in fold) == rows and len(folds) == 5
    keys = [{key for row in fold for key in find_keys(same.studies[row])} for fold in folds]
    assert all(not keys[i] & keys[j] for i in range(5) for j in range(i))


def test_a_teacher_never_saw_the_study_that_it_judges(opened, monkeypatch):
    asked = []

    class Teacher:
        @classmethod
        def fit(cls, texts, labels, **options):
            made = cls()
            made.texts = set(texts)
            assert len(texts) == len(labels) == len(options["patients"])
            return made

        def predict(self, texts):
            assert not self.texts & set(texts)
            asked.extend(texts)
            return np.full((len(texts), 1), 0.8)

    monkeypatch.setattr(teacher, "TfidfBaseline", Teacher)
    found = ask_teacher(opened, SETTINGS, temperature=2.0)
    texts = [study.report.text() for study in opened.studies if study.report]
    assert sorted(asked) == sorted(texts) and len(texts) == 47
    worded = opened.present[:, 1] > 0
    assert found.values[worded] == pytest.approx(1 / (1 + 4**-0.5), rel=1e-6)  # logit of 0.8 is log 4
    assert np.isnan(found.values[~worded]).all()


@pytest.mark.large
def test_the_teacher_is_good_and_its_quality_is_recorded(opened):
    found = ask_teacher(opened, SETTINGS, temperature=1.0)
    assert found.facts["teacher_roc_auc"] == {"abnormal": 1.0} and found.facts["labels"] == ["abnormal"]
    labels, known = opened.labels[:, 0], np.isfinite(found.values[:, 0])
    assert ((found.values[known, 0] > 0.5) == (labels[known] > 0.5)).all()
    softer = ask_teacher(opened, SETTINGS, temperature=4.0).values
    assert (np.abs(softer[known] - 0.5) < np.abs(found.values[known] - 0.5)).all()


@pytest.mark.parametrize(
    "make",
    [
        describe_reports,
        pytest.param(lambda *about: ask_teacher(*about, temperature=2.0), marks=pytest.mark.large),
    ],
    ids=["contrastive", "distill"],
)
def test_what_validation_says_changes_nothing_of_training(opened, make):
    train = opened.rows("train")
    other = change(opened, "validation", report=Report(findings="Ossified diaphragm without a precedent."))
    flipped = replace(other, labels=np.where(np.isin(np.arange(48), train)[:, None], other.labels, 1 - other.labels))
    before, after = make(opened, SETTINGS), make(flipped, SETTINGS)
    for name in before.columns:
        np.testing.assert_array_equal(before.columns[name][train], after.columns[name][train])
    if not before.columns:
        np.testing.assert_array_equal(before.values[train], after.values[train])


def test_reports_as_vectors(opened):
    body = Report(indication="Pain.", findings="There is a mass.")
    rows = opened.rows("train")[:2].tolist()
    studies = list(opened.studies)
    studies[rows[0]] = replace(studies[rows[0]], report=body)
    studies[rows[1]] = replace(studies[rows[1]], report=replace(body, indication="Fever."))
    found = describe_reports(replace(opened, studies=tuple(studies)), SETTINGS)
    vectors, worded = found.columns["report_vector"], opened.present[:, 1] > 0
    assert vectors.shape == (48, found.facts["dimensions"]) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[worded], axis=1), 1, rtol=1e-5)
    assert found.values.shape == (48, 3) and np.isnan(found.values[~worded]).all()
    one, other = found.values[rows]
    assert one[0] == other[0] and one[2] != other[2]  # the same body, read with another indication
    assert one[1] != other[1]  # of another patient
    assert len(np.unique(found.values[worded, 0])) == 46 and found.facts["distinct_reports"] == 47
