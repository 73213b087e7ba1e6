"""Prepared studies never change, serve any split that does not leak, and can be read from another process."""

import dataclasses
import multiprocessing
import shutil

import numpy as np
import pytest

from kmm.data.collection import read_collection
from kmm.data.split import PARTS, Split, k_folds
from kmm.errors import InputError, LeakError
from kmm.presets import make_settings
from kmm.progress import Progress
from kmm.training.preparation.prepared_studies import prepare_studies
from tests.factories.public_collections import write_chestxray14
from tests.factories.studies import TINY


@pytest.fixture(scope="module")
def prepared(tiny_folder, tmp_path_factory):
    films = tmp_path_factory.mktemp("prepared") / "cache"
    return prepare_studies(read_collection(tiny_folder), make_settings("small", TINY), films=films)


def test_everything_is_there_and_nothing_can_be_filled_in(prepared):
    count = len(prepared.studies)
    assert prepared.maker.vocabulary is None and prepared.maker.label_names == ("abnormal",)
    assert prepared.labels.shape == (count, 1) and prepared.labels.dtype == np.float32
    assert prepared.labels[:, 0].tolist() == [study.labels["abnormal"] for study in prepared.studies]
    assert prepared.films.shape == (count, 32, 32, 1) and prepared.films.stored == np.uint8
    assert prepared.facts["with_image"] == prepared.present[:, 0].sum() == len(set(prepared.film_digests)) - 1
    assert prepared.facts["parts"] == {part: len(prepared.rows(part)) for part in PARTS}
    assert sorted(np.concatenate([prepared.rows(part) for part in PARTS])) == list(range(count))
    for field in dataclasses.fields(prepared):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(prepared, field.name, None)


def test_what_is_printed_holds_no_report_and_no_name(prepared):
    assert repr(prepared) == "PreparedStudies(60 studies, 59 films, labels abnormal, train 39, validation 9, test 12)"


def test_folds_share_films_and_reports(prepared):
    folds = [prepared.with_split(split) for split in k_folds(prepared.studies, 3, seed=0)]
    tests = np.concatenate([fold.rows("test") for fold in folds])
    assert sorted(tests) == list(range(len(prepared.studies)))
    for fold in folds:
        assert fold.films is prepared.films and fold.studies is prepared.studies
        assert fold.facts["parts"]["test"] == len(fold.rows("test"))
        assert fold.facts["split_digest"] == fold.split.digest and fold.digest() == prepared.digest()


def part_by(prepared, choose):
    parts = {study.id: choose(row, study) for row, study in enumerate(prepared.studies)}
    return Split(parts, {study.id: study.patient for study in prepared.studies})


def test_labels_are_chosen_for_the_training_part_of_the_fold(prepared):
    def without_positives(row, study):
        return PARTS[row // 2 % 2 + 1] if study.labels["abnormal"] else "train"

    with pytest.raises(InputError, match="label 'abnormal' lacks a class in the training part"):
        prepared.with_split(part_by(prepared, without_positives))
    notes = []
    alone = prepared.studies[0].id
    split = part_by(prepared, lambda row, study: "test" if study.id == alone else ("train", "validation")[row % 4 == 0])
    assert prepared.with_split(split, note=notes.append).maker.label_names == ("abnormal",)
    assert any("lacks a class in test" in note for note in notes)


def test_a_split_that_leaks_or_lacks_studies_is_refused(prepared):
    first, second = prepared.studies[:2]
    one = dataclasses.replace(
        prepared, studies=(first, dataclasses.replace(second, patient=first.patient), *prepared.studies[2:])
    )
    with pytest.raises(LeakError, match="patient"):
        one.with_split(part_by(prepared, lambda row, study: PARTS[row % 3]))
    rest = {study.id: PARTS[row % 3] for row, study in enumerate(prepared.studies) if row}
    with pytest.raises(InputError, match="It lacks 1, for example 1"):
        prepared.with_split(Split(rest, dict(prepared.split.patients)))
    with pytest.raises(InputError, match="The part validation of the split has no studies"):
        prepared.with_split(part_by(prepared, lambda row, study: ("train", "test")[row % 2]))


def answer_digest(prepared, answers):
    rows = prepared.rows("test")
    answers.put((prepared.digest(), prepared.films[rows].tobytes(), prepared.labels[rows].tobytes()))


def test_a_spawned_process_reads_the_same_studies(prepared):
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=answer_digest, args=(prepared, answers))
    child.start()
    found = answers.get(timeout=120)
    child.join()
    expected = context.SimpleQueue()
    answer_digest(prepared, expected)
    assert found == expected.get()


def test_a_split_that_leaks_is_refused_or_its_leaks_are_counted(prepared):
    split = part_by(prepared, lambda row, study: PARTS[row % 3])
    shared = dataclasses.replace(prepared.studies[1], patient=prepared.studies[0].patient)
    leaky = dataclasses.replace(prepared, studies=(prepared.studies[0], shared, *prepared.studies[2:]))
    with pytest.raises(LeakError):
        leaky.with_split(split)
    facts = leaky.with_split(split, record_leaks=True).facts
    assert facts["leaks"]["patients"] == 1 and facts["leaks"]["studies"] >= 2 and "leaks" not in prepared.facts


def test_the_published_parts_are_used_without_what_leaks(tmp_path):
    folder = write_chestxray14(tmp_path / "nih", 16)
    shutil.copy(folder / "images/00000016_000.png", folder / "images/00000001_000.png")
    lists = folder / "train_val_list.txt"
    lists.write_text(lists.read_text().replace("00000002_001.png\n", ""))
    collection, notes = read_collection(folder), []
    progress = Progress()
    progress.note = notes.append
    settings = make_settings("small", {**TINY, "labels": "columns", "text_encoder": "none"})
    prepared = prepare_studies(collection, settings, films=tmp_path / "cache", progress=progress)
    assert [str(problem) for problem in prepared.problems] == [
        "study 00000001_000: left out of train, because the same film is in test"
    ]
    assert "Not used, because they have no part: 1 of 32 studies." in notes
    assert len(prepared.studies) == len(prepared.films) == len(prepared.labels) == 30 and len(prepared.present) == 30
    assert set(prepared.split.part("test")) == {study for study, part in collection.parts.items() if part == "test"}
    validation = prepared.split.part("validation")
    assert validation and all(collection.parts[study] == "train" for study in validation)
    again = prepare_studies(collection, settings, films=tmp_path / "cache")
    assert again.split == prepared.split and np.array_equal(again.films[[3]], prepared.films[[3]])

    prepared.split.save(tmp_path / "split.csv")
    read = prepare_studies(collection, settings, films=tmp_path / "cache", split=tmp_path / "split.csv")
    assert read.split == prepared.split and read.problems == ()
