"""Tables of training: what the settings may name, and what each entry does."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.models.loss import LOSSES
from kmm.settings import FitSettings
from kmm.text.vocabulary import Vocabulary
from kmm.training.fit import fit_classifier
from kmm.training.preparation.word_rows import WORD_ROW_SOURCES, choose_source
from kmm.training.stages.checkpoint import Checkpoint
from kmm.training.stages.optimizers import OPTIMIZERS
from kmm.training.stages.recipe import Stage
from kmm.training.stages.schedule import SCHEDULES, Schedule

STAGE = Stage("head", epochs=10, learning_rate=0.1, patience=4)


@pytest.mark.parametrize(
    ("name", "table", "noun"),
    [("schedule", SCHEDULES, "schedule"), ("loss", LOSSES, "loss"), ("optimizer", OPTIMIZERS, "optimizer")],
)
def test_an_unknown_name_ends_a_fit_before_a_study_is_read(name, table, noun, tmp_path):
    settings = FitSettings(**{name: "warm"})
    with pytest.raises(InputError) as error:
        fit_classifier(None, settings, work=tmp_path / "work", cache=tmp_path / "cache")
    assert str(error.value) == f"Unknown {noun} 'warm'. Known: {', '.join(table)}."
    assert not list(tmp_path.iterdir())


def test_a_constant_rate_is_never_changed():
    constant = SCHEDULES["constant"]
    assert {constant.at_start(0.03, STAGE, epoch) for epoch in range(10)} == {0.03}
    assert {constant.without_gain(0.03, STAGE, waited) for waited in range(1, 5)} == {0.03}


def test_a_plateau_lowers_the_rate_once_after_half_the_patience():
    plateau = SCHEDULES["plateau"]
    rates = [plateau.without_gain(0.1, STAGE, waited) for waited in (1, 2, 3, 4)]
    assert rates == pytest.approx([0.1, 0.03, 0.1, 0.1])


def test_a_cosine_falls_from_the_rate_of_the_stage_to_nothing():
    rates = [SCHEDULES["cosine"].at_start(7.0, STAGE, epoch) for epoch in range(11)]
    assert rates == pytest.approx([0.1 * np.cos(np.pi * epoch / 20) ** 2 for epoch in range(11)])


def test_a_warm_up_rises_in_equal_steps_and_ends_in_a_cosine():
    stage = Stage("head", epochs=30, learning_rate=0.1)
    rates = [SCHEDULES["warmup-cosine"].at_start(7.0, stage, epoch) for epoch in range(30)]
    assert rates[:3] == pytest.approx([0.025, 0.05, 0.075])
    assert rates[3:] == pytest.approx([0.1 * np.cos(np.pi * epoch / 54) ** 2 for epoch in range(27)])
    assert SCHEDULES["warmup-cosine"].at_start(7.0, Stage("head", 1, 0.1), 0) == pytest.approx(0.05)


def test_decay_shrinks_weights_but_no_bias_and_no_scale():
    """Where a gradient is 0, AdamW multiplies a weight by 1 - rate x decay."""
    layers = [keras.layers.Dense(2, bias_initializer="ones"), keras.layers.LayerNormalization()]
    model = keras.Sequential([keras.Input((3,)), *layers])
    before = [np.array(keras.ops.convert_to_numpy(weight)) for weight in model.trainable_variables]
    stage = Stage("head", 1, learning_rate=0.1, optimizer="adamw", weight_decay=0.5)
    optimizer = OPTIMIZERS["adamw"](stage)
    optimizer.apply([keras.ops.zeros_like(weight) for weight in model.trainable_variables], model.trainable_variables)
    after = [keras.ops.convert_to_numpy(weight) for weight in model.trainable_variables]
    factors = [0.95 if weight.ndim == 2 else 1.0 for weight in before]
    for old, new, factor in zip(before, after, factors, strict=True):
        np.testing.assert_allclose(new, factor * old, rtol=1e-6)
    assert isinstance(OPTIMIZERS["adam"](stage), keras.optimizers.Adam) and not OPTIMIZERS["adam"](stage).weight_decay


def test_another_schedule_is_one_entry(monkeypatch, tmp_path):
    monkeypatch.setitem(SCHEDULES, "halved", Schedule(at_start=lambda rate, stage, epoch: rate / 2 if epoch else rate))
    checkpoint = Checkpoint(Stage("head", 3, 0.4, schedule="halved"), tmp_path / "halved", SimpleNamespace())
    assert [checkpoint.schedule.at_start(0.4, checkpoint.stage, epoch) for epoch in (0, 1)] == [0.4, 0.2]
    with pytest.raises(
        InputError, match=r"^Unknown schedule 'warm'. Known: plateau, cosine, warmup-cosine, constant, halved.$"
    ):
        Checkpoint(Stage("head", 3, 0.4, schedule="warm"), tmp_path / "warm", SimpleNamespace())


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
