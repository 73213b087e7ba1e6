"""Weighted sampling: in training alone, by seed and epoch; evaluation and export keep each study once."""

from collections import Counter

import numpy as np
import pytest

from kmm.data.collection import read_collection
from kmm.errors import InputError
from kmm.evaluate.report import evaluate_studies
from kmm.presets import make_settings
from kmm.settings import FitSettings
from kmm.training.fit import fit_classifier
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.sampling import MOST_DRAWS, weigh_draws
from tests.factories.studies import TINY


def test_classes_of_one_label_are_drawn_equally_often():
    labels = np.array([[1.0]] * 10 + [[0.0]] * 90)
    draws = weigh_draws(labels)
    assert draws[:10].sum() == pytest.approx(50) and draws[10:].sum() == pytest.approx(50)


def test_the_rarest_label_of_a_study_decides():
    labels = np.array([[1, 1], [1, 0], [1, 0], [0, 0], [np.nan, 0], [0, np.nan]], float)
    draws = weigh_draws(labels)
    assert draws[0] / draws[1] == pytest.approx(3)  # label of one study, label of three
    assert len(set(draws[3:])) == 1 and draws[3] / draws[1] == pytest.approx(1)  # three without a label
    assert draws.sum() == pytest.approx(6)


def test_no_study_is_drawn_without_end():
    labels = np.zeros((1000, 1))
    labels[0] = 1
    assert weigh_draws(labels)[0] == MOST_DRAWS
    assert weigh_draws(np.full((3, 2), np.nan)).tolist() == [1, 1, 1]


def make_dataset(rows, shares=None, seed=3):
    columns, labels = {"x": np.arange(100.0)[:, None]}, np.zeros((100, 1), np.float32)
    return StudyDataset(columns, labels, rows=rows, batch_size=8, seed=seed, shares=shares)


def read_epoch(data, epoch):
    data.start_epoch(epoch)
    batches = [data[index] for index in range(len(data))]
    return [int(x) for inputs, _, weights in batches for x, weight in zip(inputs["x"][:, 0], weights) if weight]


def test_draws_follow_the_shares_and_are_those_of_seed_and_epoch():
    rows, shares = np.arange(20, 60), np.array([9.0] * 10 + [1.0] * 30)
    data = make_dataset(rows, shares)
    drawn = [read_epoch(data, epoch) for epoch in range(50)]
    assert {len(one) for one in drawn} == {40} and set().union(*drawn) <= set(rows)
    counts = Counter(row for one in drawn for row in one)
    assert sum(counts[row] for row in rows[:10]) / 2000 == pytest.approx(0.75, abs=0.05)
    assert drawn[7] == read_epoch(make_dataset(rows, shares), 7) != drawn[8]
    assert drawn[7] != read_epoch(make_dataset(rows, shares, seed=4), 7)


def test_without_shares_an_epoch_has_each_study_once():
    assert sorted(read_epoch(make_dataset(np.arange(30)), 5)) == list(range(30))


def test_a_dataset_without_a_seed_ignores_shares():
    """Those of validation have no seed."""
    assert read_epoch(make_dataset(np.arange(12), np.ones(12), seed=None), 2) == list(range(12))


def test_settings_name_the_ways():
    with pytest.raises(InputError, match="Setting `sampling` must be one of all, balanced"):
        FitSettings(sampling="weighted")


@pytest.mark.large
def test_evaluation_and_predictions_keep_each_study_once(tiny_folder, tmp_path):
    """System B exported embeddings through its shuffled sampler: ids twice, and ids that were missing."""
    collection = read_collection(tiny_folder)
    settings = make_settings("small", {**TINY, "image_encoder": "none", "sampling": "balanced", "text_epochs": 1})
    options = {"cache": tmp_path / "cache", "parts": ("train", "validation", "test")}
    classifier, run = fit_classifier(collection, settings, work=tmp_path / "work", **options)
    for part, found in run.predictions.items():
        assert [study.id for study in found.studies] == [run.prepared.studies[row].id for row in run.rows(part)]
        assert len({study.id for study in found.studies}) == len(found.studies)
    kept = {}
    evaluate_studies(classifier, collection.studies, keep=lambda part, found: kept.update({part: found}))
    test = sorted(study.id for study in kept["test"].studies)
    assert test == sorted(study.id for study in run.predictions["test"].studies)
