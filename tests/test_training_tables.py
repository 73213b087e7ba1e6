"""Tables of training: what the settings may name, and what each entry does."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.settings import FitSettings
from kmm.text.vocabulary import Vocabulary
from kmm.training.checkpoint import Checkpoint, StagePlan
from kmm.training.schedule import SCHEDULES, Schedule
from kmm.training.word_rows import WORD_ROW_SOURCES, choose_source

PLAN = StagePlan("head", epochs=10, learning_rate=0.1, patience=4)


def test_the_settings_allow_the_schedules_of_the_table():
    for name in SCHEDULES:
        assert FitSettings(schedule=name).schedule == name
    with pytest.raises(InputError) as error:
        FitSettings(schedule="warm")
    assert re.search(r"one of (.*)\. Received", str(error.value))[1] == ", ".join(SCHEDULES)


def test_a_constant_rate_is_never_changed():
    constant = SCHEDULES["constant"]
    assert {constant.at_start(0.03, PLAN, epoch) for epoch in range(10)} == {0.03}
    assert {constant.without_gain(0.03, PLAN, waited) for waited in range(1, 5)} == {0.03}


def test_a_plateau_lowers_the_rate_once_after_half_the_patience():
    plateau = SCHEDULES["plateau"]
    rates = [plateau.without_gain(0.1, PLAN, waited) for waited in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.1, 0.03, 0.1, 0.1])


def test_a_cosine_falls_from_the_rate_of_the_plan_to_nothing():
    rates = [SCHEDULES["cosine"].at_start(7.0, PLAN, epoch) for epoch in range(11)]
    assert rates == pytest.approx([0.1 * np.cos(np.pi * epoch / 20) ** 2 for epoch in range(11)])


def test_another_schedule_is_one_entry(monkeypatch, tmp_path):
    monkeypatch.setitem(SCHEDULES, "halved", Schedule(at_start=lambda rate, plan, epoch: rate / 2 if epoch else rate))
    checkpoint = Checkpoint(StagePlan("head", 3, 0.4, schedule="halved"), tmp_path / "halved", SimpleNamespace())
    assert [checkpoint.schedule.at_start(0.4, checkpoint.plan, epoch) for epoch in (0, 1)] == [0.4, 0.2]
    with pytest.raises(InputError, match=r"^Unknown schedule 'warm'. Known: plateau, cosine, constant, halved.$"):
        Checkpoint(StagePlan("head", 3, 0.4, schedule="warm"), tmp_path / "warm", SimpleNamespace())


def test_word_rows_come_from_the_training_reports_or_from_a_file(tmp_path):
    documents = [["no", "mass"], ["a", "mass"]] * 5
    trained = Vocabulary.fit(documents)
    settings = FitSettings(embedding_size=4, word_vector_epochs=1)
    source = choose_source(settings)
    vectors, vocabulary = source.make(settings, None, documents, trained)
    assert source is WORD_ROW_SOURCES["reports"] and vocabulary is trained
    assert vectors.vectors.shape[1] == 4
    assert source.describe(settings) == "trained on the training reports"
    path = tmp_path / "mine.txt"
    path.write_text("2 2\nmass 1 2\ncyst 3 4\n", encoding="utf-8")
    settings = FitSettings(word_vectors=str(path))
    source = choose_source(settings)
    text = SimpleNamespace(find=lambda word: [SimpleNamespace(text=word)])
    vectors, vocabulary = source.make(settings, text, documents, trained)
    assert source is WORD_ROW_SOURCES["file"] and source.describe(settings) == "mine.txt"
    assert "cyst" in vocabulary.words and "cyst" not in trained.words
