"""Defects of published systems: what each does to a result whose right value is known, and that kmm does not have it.

The results are those of `benchmarks/published_defects.py`. Elsewhere are tests of defects that are errors of a formula:
the focal loss in models/test_loss.py, padding in tests/checks.py, explanations of another function in explain/.
"""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import defects_of_films as films
from benchmarks import defects_of_reports as reports
from benchmarks import defects_of_testing as testing
from kmm.batches import TextPreparation
from kmm.classifier import Classifier
from kmm.data.labels import label_studies
from kmm.data.layouts.openi import read_openi
from kmm.data.split import check_leaks, split_studies
from kmm.data.study import Report, Study
from kmm.errors import InputError, LeakError
from kmm.evaluate.compare import compare_models
from kmm.evaluate.decisions.operating_points import measure_operating_point
from kmm.experiments.planning.resampling import Resampling
from kmm.models.registration import register_image_encoder
from kmm.presets import PRESETS, make_settings
from kmm.settings import FitSettings
from kmm.text.bert_vocabulary import read_bert_vocabulary
from kmm.text.clean import find_words
from kmm.text.redaction import Redaction
from kmm.training.preparation.words import learn_words
from tests.factories.bert import write_bert

ONE_UNIT = "ignore:You are using a softmax over axis -1:UserWarning"


def is_unchanged(reader):
    """Whether no trainable weight has changed in training."""
    return all(np.array_equal(*pair) for pair in zip(reader.before, reports.copy_weights(reader.model), strict=True))


@pytest.mark.large
@pytest.mark.filterwarnings(ONE_UNIT)
def test_softmax_over_one_output_stays_at_the_base_rate_and_learns_nothing():
    right, wrong = reports.end_in_softmax()
    assert wrong == reports.ABNORMAL and right > wrong + 0.15
    reader = reports.train_reader(softmax=True)
    assert is_unchanged(reader)
    np.testing.assert_allclose(reader.model.predict(reader.encode(reader.test), verbose=0), 1, atol=1e-6)
    assert not is_unchanged(reports.train_reader())


def test_a_probability_of_kmm_is_the_sigmoid_of_a_logit(build_classifier):
    classifier = build_classifier(labels=("abnormal",))
    logits, present = np.float32([[-3.0], [0.0], [2.0]]), np.ones((3, 2), np.float32)
    expected = 1 / (1 + np.exp(-logits / classifier.temperatures["joint"][0]))
    assert classifier.probabilities(logits, present, "joint") == pytest.approx(expected)


@pytest.mark.filterwarnings(ONE_UNIT)
@pytest.mark.parametrize("end", [[layers.Dense(1, activation="softmax")], [layers.Dense(1), layers.Softmax()]])
def test_an_encoder_that_ends_in_a_softmax_over_one_unit_is_refused(end):
    film = keras.Input((32, 32, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3)(film))
    for layer in end:
        x = layer(x)
    with pytest.raises(InputError, match="which is 1 for every input"):
        register_image_encoder("mine", keras.Model(film, x))


@pytest.mark.large
def test_a_vocabulary_refitted_on_the_test_reports_scrambles_the_words():
    right, wrong = reports.refit_vocabulary()
    assert right > 0.8 and wrong < right - 0.15


def test_words_of_validation_and_test_are_unknown_to_kmm():
    settings = make_settings("small", {"min_word_patients": 1, "min_word_count": 1, "word_vector_epochs": 1})
    text, train = TextPreparation(), [Study(name, name, report=Report(findings="No mass.")) for name in "ab"]
    later = [Study("c", "c", report=Report(findings="Cardiomegaly, no mass."))]
    words = learn_words(settings, text, train, later)
    assert words.vocabulary.words[2:] == ("mass", "no")
    assert words.vocabulary.encode(text.words(later[0]), length=4).tolist() == [1, 3, 2, 0]
    assert words.facts["unknown_rate_on_validation"] == pytest.approx(1 / 3)


def test_a_saved_classifier_reads_every_report_and_film_as_its_training_did(tiny_run):
    _, run, folder = tiny_run
    saved = Classifier.load(folder).batches
    assert saved.vocabulary.words == run.maker.vocabulary.words
    for part in ("train", "validation", "test"):
        for row in run.rows(part)[:4]:
            study = run.prepared.studies[row]
            known = saved.token_ids(study)
            assert np.array_equal(known, run.token_ids[row]) or part == "train"  # which hides words of one patient
            if run.prepared.present[row, 0]:
                assert np.array_equal(saved.pixels(study)[0], run.prepared.films[[row]][0])


@pytest.mark.large
def test_validation_of_training_is_what_the_saved_classifier_says_of_the_same_studies(tiny_run):
    _, run, folder = tiny_run
    saved, kept = Classifier.load(folder), run.predictions["validation"]
    again = saved.predict(kept.studies, parts=list(kept.logits))
    for side, logits in kept.logits.items():
        assert again.logits[side] == pytest.approx(logits, abs=1e-4)


@pytest.mark.large
def test_validation_films_that_are_not_scaled_hide_what_was_learned_and_choose_a_wrong_epoch():
    right, wrong = films.validate_unscaled()
    assert right > 0.95 and wrong < 0.6
    right, wrong = films.choose_epoch_unscaled()
    assert right > 0.95 and wrong < 0.6


@pytest.mark.large
def test_films_of_one_patient_on_both_sides_of_a_split_make_a_result_of_nothing():
    right, wrong = testing.separate_siblings()
    assert right == pytest.approx(0.5, abs=0.04) and wrong > 0.9
    studies, _ = testing.draw_patients(0)
    split = split_studies(studies)
    assert len({(study.patient, split.parts[study.id]) for study in studies}) == testing.PATIENTS
    (plain,) = Resampling(splits=1, plain=True).make(studies, shares=testing.SHARES, seed=0, label_names=["abnormal"])
    with pytest.raises(LeakError):
        check_leaks(plain, studies)


def test_a_split_of_a_set_in_hash_order_tests_what_was_trained_on():
    right, wrong = testing.split_in_hash_order()
    assert right == pytest.approx(0.5, abs=0.06) and wrong > 0.9


def test_kmm_splits_alike_in_every_process():
    code = (
        "from kmm.data.split import split_studies; from kmm.data.study import Study; "
        "print(split_studies([Study(name, name) for name in set(map(str, range(50)))]).digest)"
    )
    digests = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


def test_without_its_negations_a_report_says_nothing():
    right, wrong = reports.drop_stop_words()
    assert right == 1.0 and wrong == pytest.approx(0.5, abs=0.1)
    assert [word.text for word in find_words("No mass, not large.", FitSettings().cleaning)] == [
        "no",
        "mass",
        "not",
        "large",
    ]
    assert all(make_settings(name).cleaning == "standard" for name in PRESETS)


def test_labels_mined_from_the_text_that_is_read_are_found_again():
    right, published = reports.mine_labels()
    assert published == 1.0 and right < 0.85


@pytest.mark.large
def test_films_of_either_polarity_and_without_a_window_look_alike():
    (right, inverted), (same, saturated) = films.ignore_inversion(), films.apply_ct_window()
    assert right == same == 1.0
    assert inverted < 0.9 and saturated == 0.5


def test_mirrored_films_hide_the_side():
    right, wrong = films.mirror_films()
    assert right > 0.95 and wrong == pytest.approx(0.5, abs=0.1)
    assert not any(make_settings(name).augment_flip for name in PRESETS)


def test_a_threshold_chosen_on_test_makes_a_result_of_random_scores():
    right, wrong = testing.choose_threshold_on_test()
    assert right == pytest.approx(0.5, abs=0.01) and wrong > 0.55


@pytest.mark.large
def test_a_list_of_words_leaves_the_answer_in_the_text():
    before_reading, without_words = reports.remove_words()
    assert before_reading < 0.65 and without_words > 0.95


def test_a_result_below_the_majority_class_stands_beside_it():
    above_majority, above_coin = testing.leave_out_majority()
    assert above_majority == pytest.approx(0.82 - 0.88, abs=0.005) and above_coin == pytest.approx(0.32, abs=0.005)
    found = compare_models(
        [0, 1], {"text": [0.1, 0.9]}, thresholds={"text": 0.5}, groups=None, label_names=["a"], train_prevalence=0.5
    )
    assert found["majority"] is not None and found["chance"] is not None


def test_a_label_taken_from_a_word_is_another_label_and_kmm_reads_no_report_for_it():
    right, wrong = reports.take_labels_from_a_word()
    assert right == 1.0 and wrong < 0.7
    studies = [
        Study("1", "1", report=Report(impression="No abnormality."), mesh_major=("normal",)),
        Study("2", "2", report=Report(findings="Normal heart. A large mass."), mesh_major=("Mass/lung",)),
    ]
    assert reports.label_by_word(studies).tolist() == [0.0, 0.0]
    assert [study.labels["abnormal"] for study in label_studies(studies)[0]] == [0.0, 1.0]


@pytest.mark.openi
def test_the_word_normal_says_less_of_real_reports_than_the_majority_class(openi_folder):
    studies, _ = label_studies(read_openi(openi_folder).studies)
    labels, mined = reports.list_labels(studies), reports.label_by_word(studies)
    assert 0.11 < mined.mean() < 0.13  # the share of abnormal studies that the published rates imply
    assert np.mean(mined == labels) < 0.5 < 0.6 < labels.mean()


def test_right_alarms_are_counted_beside_the_accuracy():
    right_alarms, accuracy = testing.leave_out_predictive_value()
    assert right_alarms == pytest.approx(0.52 * 0.12 / (0.52 * 0.12 + 0.14 * 0.88), abs=0.005)
    assert accuracy == pytest.approx(0.82, abs=0.005)
    labels, decisions = testing.repeat_published_decisions()
    point = measure_operating_point(labels, decisions, 0.5)
    low, high = point["intervals"]["ppv"]
    assert low < right_alarms < high < accuracy


def test_words_that_were_removed_are_kept_with_a_classifier(build_classifier, tmp_path):
    classifier = build_classifier(None, "text-cnn", labels=("abnormal",), redaction=Redaction(reports.WORD_LIST))
    classifier.save(tmp_path / "saved")
    assert Classifier.load(tmp_path / "saved").batches.text.redaction == Redaction(reports.WORD_LIST)


def test_a_cased_vocabulary_is_not_read_in_lower_case(tmp_path):
    folder, _ = write_bert(tmp_path / "cased", lower=False)
    found = read_bert_vocabulary(folder)
    words = [word.text for word in find_words("No XXXX", found.cleaning)]
    assert words == ["No", "XXXX"] and found.pieces.pieces(words) == ["No", "XXXX"]
    assert found.pieces.pieces([word.lower() for word in words]) != ["No", "XXXX"]
