"""Teachers of a fit: what the models learn, what the teachers read, and that only the training part decides it."""

from dataclasses import replace

import numpy as np
import pytest

import kmm.training.train
from kmm.data.collection import read_collection
from kmm.data.study import Report
from kmm.errors import InputError
from kmm.presets import make_settings
from kmm.progress import Progress
from kmm.training import teacher
from kmm.training.fit import fit_classifier
from kmm.training.preparation.prepared_studies import prepare_studies
from kmm.training.teacher import ask_teacher, make_targets
from tests.factories.studies import TINY


def make(**settings):
    return make_settings("small", {**TINY, "text_teacher": 0.25, **settings})


class Notes(Progress):
    """Keeps the notes."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def prepared(tiny_folder, tmp_path_factory):
    return prepare_studies(read_collection(tiny_folder), make(), films=tmp_path_factory.mktemp("films"))


@pytest.fixture
def read(monkeypatch):
    """The texts that teachers are fitted on and asked about; each says 0.8 of all labels."""
    seen = []

    class Teacher:
        @classmethod
        def fit(cls, texts, labels, **options):
            seen.extend(texts)
            return cls()

        def predict(self, texts):
            seen.extend(texts)
            return np.full((len(texts), 1), 0.8)

    monkeypatch.setattr(teacher, "TfidfBaseline", Teacher)
    return seen


def change_reports(prepared, parts, **report):
    """The same studies, with another report in some parts."""
    rows = {row for part in parts for row in prepared.rows(part)}
    studies = [
        replace(study, report=Report(**report)) if row in rows else study for row, study in enumerate(prepared.studies)
    ]
    return replace(prepared, studies=tuple(studies))


def test_labels_of_training_are_mixed_and_no_others(prepared, read):
    notes = Notes()
    targets, facts = make_targets(prepared, make(teacher_temperature=2.0), notes)
    labels, (rows, others) = (
        prepared.labels,
        (prepared.rows("train"), np.setdiff1d(np.arange(60), prepared.rows("train"))),
    )
    p = 1 / (1 + 4**-0.5)  # the logit of 0.8 is log 4
    expected = np.where(prepared.present[:, 1:] > 0, 0.75 * labels + 0.25 * p, labels)
    assert set(targets) == set(facts) == {"text"} and targets["text"].dtype == np.float32
    np.testing.assert_allclose(targets["text"][rows], expected[rows], rtol=1e-6)
    np.testing.assert_array_equal(targets["text"][others], labels[others])
    assert facts["text"] == {"weight": 0.25, "temperature": 2.0, "roc_auc": {"abnormal": 0.5}}
    assert notes.lines == ["Teacher of the text side: TF-IDF, weight 0.25, ROC AUC out of fold 0.500"]
    unknown = replace(prepared, labels=np.where(np.arange(60)[:, None] == rows[0], np.nan, labels))
    assert np.isnan(make_targets(unknown, make(), notes)[0]["text"][rows[0]]).all()


def test_no_weight_and_no_side_means_no_teacher(prepared, read):
    assert make_targets(prepared, make(text_teacher=0), Notes()) == ({}, {})
    assert make_targets(prepared, make(text_encoder="none"), Notes()) == ({}, {}) and not read


def test_the_teacher_of_films_reads_the_whole_report_after_the_redaction(tiny_folder, read, tmp_path):
    (tmp_path / "words.txt").write_text("mass\n", encoding="utf-8")
    films, collection = tmp_path / "films", read_collection(tiny_folder)
    for encoder in ("text-cnn", "none"):
        settings = make(
            sections="pre-read",
            text_teacher=0,
            image_teacher=0.5,
            redact=str(tmp_path / "words.txt"),
            text_encoder=encoder,
        )
        prepared = prepare_studies(collection, settings, films=films)
        read.clear()
        targets, _ = make_targets(prepared, settings, Notes())
        assert set(targets) == {"image"} and (targets["image"] != prepared.labels).any()
        assert any("Cough" in text and "None" in text and "in case" in text for text in read)
        assert not any("mass" in text for text in read)


def test_the_teacher_of_reports_reads_what_the_text_model_reads(tiny_folder, read, tmp_path):
    settings = make(sections="pre-read")
    prepared = prepare_studies(read_collection(tiny_folder), settings, films=tmp_path)
    make_targets(prepared, settings, Notes())
    assert read and not any("case" in text for text in read)


@pytest.mark.large
def test_validation_and_test_change_nothing_of_training(prepared):
    settings, rows = make(image_teacher=0.5), prepared.rows("train")
    before, _ = make_targets(prepared, settings, Notes())
    other = change_reports(prepared, ("validation", "test"), findings="Ossified diaphragm without a precedent.")
    flipped = np.where(np.isin(np.arange(60), rows)[:, None], other.labels, 1 - other.labels)
    after, _ = make_targets(replace(other, labels=flipped), settings, Notes())
    assert set(before) == {"text", "image"}
    for side, targets in before.items():
        np.testing.assert_array_equal(targets[rows], after[side][rows])
        assert (targets[rows] != prepared.labels[rows]).any()


def test_too_few_reports_leave_the_labels_as_they_are(prepared):
    notes, few = Notes(), prepared.rows("train")[:4]
    kept = [*few, *prepared.rows("validation"), *prepared.rows("test")]
    assert make_targets(prepared.take(np.sort(kept)), make(), notes) == ({}, {})
    assert notes.lines[0].startswith("No teacher of the text side: A split into 5 parts needs as many groups")
    with pytest.raises(InputError):
        ask_teacher(prepared.take(np.sort(kept)), [""] * len(kept), np.zeros(len(kept), bool), make())


@pytest.mark.parametrize("name", ["text_teacher", "image_teacher"])
def test_weights_are_shares_and_a_temperature_is_above_0(name):
    for value in (-0.1, 1.5, float("nan")):
        with pytest.raises(InputError, match=rf"Setting `{name}` must be in \[0, 1\]"):
            make(**{name: value})
    with pytest.raises(InputError, match="Setting `teacher_temperature` must be a number above 0"):
        make(teacher_temperature=0)


@pytest.mark.large
def test_a_fit_learns_from_the_targets_and_stops_by_the_labels(tiny_folder, tmp_path, monkeypatch):
    learnt, train_on = {}, kmm.training.train.train_on

    def note(context, stage, model, trained, columns, targets, **options):
        learnt[stage.name] = targets
        return train_on(context, stage, model, trained, columns, targets, **options)

    monkeypatch.setattr(kmm.training.train, "train_on", note)
    settings = make(image_encoder="none", text_epochs=1)
    classifier, run = fit_classifier(read_collection(tiny_folder), settings, work=tmp_path, cache=tmp_path / "cache")
    expected, facts = make_targets(run.prepared, settings, Notes())
    np.testing.assert_array_equal(learnt["text"], expected["text"])
    assert classifier.provenance["teachers"] == facts
