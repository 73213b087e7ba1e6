"""What a saved classifier is, and what it refuses."""

import json
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import kmm
import kmm.client
from kmm.batches import identify_films
from kmm.classifier import Classifier, describe_predictions, list_predictions, probabilities
from kmm.data.collection import read_collection
from kmm.data.study import ImageFile, Report, Study
from kmm.errors import ArtefactError, ImageError, InputError
from kmm.evaluate.report import evaluate_studies
from kmm.evaluate.seen import gather_seen, part_studies
from kmm.image.film_identity import sketch_film
from kmm.image.read import read_image
from kmm.models.build import ModelSpec, build_model
from kmm.models.views.parts import copy_encoder_weights
from kmm.models.views.shared_encoders import find_shared
from kmm.progress import Progress
from kmm.storage.classifier_folder import digest_file, sign_description
from kmm.storage.seen_studies import SeenStudies


@pytest.fixture(scope="module")
def loaded(tiny_run):
    return Classifier.load(tiny_run[2])


@pytest.fixture(scope="module")
def studies(tiny_folder):
    return read_collection(tiny_folder).studies


def test_probabilities_are_the_sigmoid_at_any_size():
    logits = np.array([[0.0], [np.log(3)], [-1e6], [1e6]])
    np.testing.assert_allclose(probabilities(logits, [1.0])[:, 0], [0.5, 0.75, 0, 1], atol=1e-12)
    np.testing.assert_allclose(probabilities(2 * logits, [2.0]), probabilities(logits, [1.0]))


def test_a_loaded_classifier_predicts_what_the_trained_one_did(tiny_run, loaded, studies):
    trained = tiny_run[0]
    before = trained.predict(studies[:10], parts=trained.models)
    after = loaded.predict(studies[:10], parts=loaded.models)
    for part in ("joint", "image", "text"):
        np.testing.assert_allclose(after.logits[part], before.logits[part], atol=1e-6)
    assert loaded.metrics == trained.metrics and loaded.settings == trained.settings
    np.testing.assert_array_equal(loaded.thresholds["joint"], trained.thresholds["joint"])
    np.testing.assert_array_equal(loaded.conformal, trained.conformal)


def test_a_prediction_does_not_depend_on_the_other_studies(loaded, studies):
    together = loaded.predict(studies[:7])
    alone = [loaded.predict([study]).logits["joint"][0] for study in studies[:7]]
    np.testing.assert_allclose(together.logits["joint"], alone, atol=1e-5)


def test_image_only_text_only_and_both_are_answered(loaded, studies):
    both = next(study for study in studies if study.images and study.report)
    image = Study("image", "p", both.images, None)
    text = Study("text", "p", (), both.report)
    predictions = loaded.predict([both, image, text])
    assert predictions.present.tolist() == [[1, 1], [1, 0], [0, 1]]
    logits = predictions.logits["joint"][:, 0]
    assert np.isfinite(logits).all() and len(set(logits.round(6))) == 3


@pytest.mark.large
def test_evaluate_leaves_training_out_and_repeats_the_run(loaded, studies, tiny_run):
    results, problems = evaluate_studies(loaded, studies)
    assert not problems
    for part in ("validation", "test"):
        assert results[part]["n"] == tiny_run[0].metrics[part]["n"]
        for row in ("joint", "tfidf", "image-linear", "linear-sum"):
            assert results[part][row]["roc_auc"] == pytest.approx(tiny_run[0].metrics[part][row]["roc_auc"])


def test_a_broken_film_is_set_aside(loaded, studies, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    bad = Study("bad", "p", (ImageFile(broken, view="frontal"),))
    predictions = loaded.predict([studies[0], bad, studies[1]])
    assert [study.id for study in predictions.studies] == [studies[0].id, studies[1].id]
    assert "broken.png" in str(predictions.problems[0])


@pytest.fixture
def in_threads(monkeypatch):
    """Decodes every film in threads, as large ones are."""
    monkeypatch.setattr("kmm.image.decoding.LARGE_BYTES", 1)
    monkeypatch.setattr("kmm.image.decoding.count_threads", lambda: 3)


def spoil(studies, tmp_path):
    """Studies of which some cannot be used, for different reasons, and what is said of each."""
    (tmp_path / "cut.png").write_bytes(studies[0].frontal.path.read_bytes()[:70])
    (tmp_path / "words.png").write_text("no film")
    bad = {
        "cut": (ImageFile(tmp_path / "cut.png", view="frontal"),),
        "gone": (ImageFile(tmp_path / "gone.png", view="frontal"),),
        "none": (),
        "words": (ImageFile(tmp_path / "words.png", view="frontal"),),
    }
    given = list(studies[:40])
    for place, (name, images) in zip((0, 7, 8, 39), bad.items()):
        given.insert(place, Study(name, name, images))
    return given


def test_films_decoded_in_threads_give_the_same_predictions_and_problems_in_the_same_order(
    loaded, studies, tmp_path, request
):
    given = spoil(studies, tmp_path)
    before = loaded.predict(given, parts=loaded.models)
    with pytest.raises(ImageError) as one:
        loaded.predict(given, strict=True)
    request.getfixturevalue("in_threads")
    after = loaded.predict(given, parts=loaded.models)
    assert [problem.source.removeprefix("study ") for problem in after.problems] == ["cut", "gone", "none", "words"]
    assert after.problems == before.problems and after.studies == before.studies
    np.testing.assert_array_equal(after.present, before.present)
    for part in loaded.models:
        np.testing.assert_array_equal(after.logits[part], before.logits[part])
    with pytest.raises(ImageError) as other:
        loaded.predict(given, strict=True)
    assert str(other.value) == str(one.value) and str(one.value).startswith("study cut: ")


def test_a_failure_of_the_model_ends_the_threads(loaded, studies, in_threads, monkeypatch):
    def fail(*_):
        raise MemoryError("the model")

    monkeypatch.setattr("kmm.classifier.pad_rows", fail)
    with pytest.raises(MemoryError):
        loaded.predict(studies[:40], batch_size=4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("kmm-decode")]


@pytest.mark.large
@pytest.mark.parametrize("threaded", [False, True])
def test_the_memory_of_a_prediction_does_not_grow_with_the_films(hand_made, studies, threaded, request):
    if threaded:
        request.getfixturevalue("in_threads")
    filmed = [study for study in studies if study.images]
    peaks = []
    for count in (64, 64, 640):  # the first also traces the model
        given = [filmed[number % len(filmed)] for number in range(count)]
        tracemalloc.start()
        hand_made.predict(given)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    held = 576 * 32 * 32 * 4
    assert peaks[2] - peaks[1] < 0.2 * held, peaks


@pytest.mark.large
def test_parts_that_share_encoders_predict_what_they_do_alone(hand_made, studies):
    """The parts of a classifier whose encoders training did not change."""
    sizes = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 8, "fusion_units": 16}
    joint, words = hand_made.models["joint"], len(hand_made.batches.vocabulary)
    models = {"joint": joint}
    for part, sides in {"image": {"image_encoder": "small-cnn"}, "text": {"text_encoder": "text-cnn"}}.items():
        models[part] = build_model(ModelSpec(**sides, **sizes), label_count=3, vocabulary_size=words, seed=3)
        copy_encoder_weights(joint, models[part])
    rows = {name: dict.fromkeys(models, getattr(hand_made, name)["joint"]) for name in ("temperatures", "thresholds")}
    parts = replace(hand_made, models=models, **rows)
    apart = {part: parts.predict(studies[:40], parts=[part]).logits[part] for part in models}
    together = parts.predict(studies[:40], parts=models).logits
    for part in models:
        np.testing.assert_allclose(together[part], apart[part], atol=1e-6)
    assert find_shared(parts.models) == {"image": [("joint", "image")], "text": [("joint", "text")]}


def test_rows_of_predictions_are_json(loaded, studies):
    rows = describe_predictions(loaded, loaded.predict(studies[:2]))
    assert json.loads(json.dumps(rows)) == rows
    probability, decision = rows[0]["probabilities"]["abnormal"], rows[0]["decisions"]["abnormal"]
    assert decision == (probability >= loaded.thresholds_for([[1, 1]])[0, 0])


def test_a_prediction_is_the_type_of_the_client(loaded, studies):
    predictions = loaded.predict(studies[:2])
    found = list_predictions(loaded, predictions)
    assert [type(one) for one in found] == [kmm.client.Prediction] * 2
    for one, row, logits in zip(found, describe_predictions(loaded, predictions), predictions.logits["joint"]):
        assert row.items() >= one.as_dict().items() and one.model is one.version is None
        assert one.logits == {"abnormal": float(logits[0])}
        assert one.thresholds == {"abnormal": loaded.thresholds_for([[1, 1]])[0, 0]}


def test_no_study_gives_no_rows(loaded):
    assert describe_predictions(loaded, loaded.predict([])) == []


def test_an_altered_file_is_refused(tiny_run, tmp_path):
    folder = tmp_path / "altered"
    shutil.copytree(tiny_run[2], folder)
    with open(folder / "vocabulary.txt", "a", encoding="utf-8") as file:
        file.write("word\n")
    with pytest.raises(ArtefactError, match=r"vocabulary\.txt.*digest differs"):
        Classifier.load(folder)
    (folder / "vocabulary.txt").unlink()
    with pytest.raises(ArtefactError, match=r"lacks the file vocabulary\.txt"):
        Classifier.load(folder)


@pytest.mark.large
@pytest.mark.parametrize("name", ["joint.keras", "mean_image.npy", "conformal.npy"])
def test_a_file_that_its_library_cannot_read_is_one_line_that_names_the_folder(tiny_run, tmp_path, name):
    folder = tmp_path / "other"
    shutil.copytree(tiny_run[2], folder)
    (folder / name).write_bytes(b"nothing")
    description = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    description["files"][name] = digest_file(folder / name)
    (folder / "classifier.json").write_text(json.dumps(sign_description(description)), encoding="utf-8")
    with pytest.raises(ArtefactError) as caught:
        Classifier.load(folder)
    assert str(caught.value).startswith(f"{folder} is not a valid classifier") and "\n" not in str(caught.value)


def test_an_array_is_not_allocated_by_what_its_header_says(tiny_run, tmp_path):
    folder = tmp_path / "other"
    shutil.copytree(tiny_run[2], folder)
    path = folder / "conformal.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<i4", "fortran_order": False, "shape": (10**13,)})
        file.write(bytes(100))
    description = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))
    description["files"]["conformal.npy"] = digest_file(path)
    (folder / "classifier.json").write_text(json.dumps(sign_description(description)), encoding="utf-8")
    with pytest.raises(ArtefactError, match="is not a valid classifier as `kmm fit` saves it"):
        Classifier.load(folder, main_only=True)


BROKEN = ["", "[]", "{}", '{"format": 99}', '{"format": 1}', '{"format": 1, "files": {"../x": "0"}}']


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_description_is_refused(tmp_path, text):
    (tmp_path / "classifier.json").write_text(text)
    with pytest.raises(ArtefactError) as caught:
        Classifier.load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.large
@pytest.mark.parametrize("name", ["thresholds", "temperatures", "preparation", "prevalence", "provenance", "digest"])
def test_an_edited_description_is_refused(tiny_run, tmp_path, name):
    folder = tmp_path / "edited"
    shutil.copytree(tiny_run[2], folder)
    path = folder / "classifier.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said))  # other spacing is no edit
    Classifier.load(folder, main_only=True)
    changes = {
        "thresholds": {"joint": [0.9], "image": [0.5], "text": [0.5]},
        "temperatures": {"joint": [9.0], "image": [1.0], "text": [1.0]},
        "preparation": {**said["preparation"], "label_names": ["normal"]},
        "prevalence": [0.99],
        "provenance": {},
        "digest": "0" * 64,
    }
    path.write_text(json.dumps({**said, name: changes[name]}))
    with pytest.raises(ArtefactError, match=r"classifier\.json was altered after it was saved; its digest differs"):
        Classifier.load(folder, main_only=True)
    del said["digest"]
    path.write_text(json.dumps(said))
    with pytest.raises(ArtefactError, match=r"classifier\.json lacks its digest"):
        Classifier.load(folder, main_only=True)


def test_a_folder_without_a_classifier_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match=r"classifier\.json is missing"):
        Classifier.load(tmp_path)


def test_nothing_is_overwritten_and_nothing_half_written(tiny_run, tmp_path):
    trained = tiny_run[0]
    trained.save(tmp_path / "one")
    with pytest.raises(InputError, match="already exists"):
        trained.save(tmp_path / "one")

    def fail(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        trained.save(tmp_path / "two", extra=fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]
    trained.save(tmp_path / "one", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one"]


def test_the_folder_holds_what_its_readme_says(tiny_run):
    names = {path.name for path in tiny_run[2].iterdir()}
    assert {
        "classifier.json",
        "joint.keras",
        "image.keras",
        "text.keras",
        "vocabulary.txt",
        "tfidf.npz",
        "linear.npz",
        "mean_image.npy",
        "conformal.npy",
        "seen_train.npy",
        "seen_train_records.npy",
        "seen_validation.npy",
        "seen_validation_records.npy",
        "settings.json",
        "split.csv",
        "metrics.json",
        "history.json",
        "pictures",
        "model_card.md",
    } == names
    assert not list(tiny_run[2].rglob("*.pkl"))


@pytest.mark.large
def test_only_a_classifier_is_overwritten_and_its_exports_stay(tiny_run, tmp_path):
    trained = tiny_run[0]
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a saved classifier and is not overwritten"):
        trained.save(tmp_path / "documents", overwrite=True)
    assert (tmp_path / "documents" / "letter.txt").read_text() == "mine"
    trained.save(tmp_path / "one")
    (tmp_path / "one" / "3").mkdir()
    trained.save(tmp_path / "one", overwrite=True)
    assert (tmp_path / "one" / "3").is_dir() and Classifier.load(tmp_path / "one", main_only=True).main == "joint"


def test_a_study_is_known_again_under_another_name_or_in_another_layout(loaded, studies):
    parts = part_studies(loaded, studies)
    assert {name: len(some) for name, some in parts.items()} == loaded.provenance["parts"]
    renamed = [replace(study, id=f"x{study.id}", patient=f"x{study.patient}") for study in parts["train"]]
    assert all(study in part_studies(loaded, renamed)["train"] for study in renamed if study.images)
    without_films = [replace(study, images=()) for study in parts["train"]]
    assert len(part_studies(loaded, without_films)["train"]) == len(without_films)


def bare(number, name, film=None, **report):
    """A study `number` of a patient of the same number."""
    images = (ImageFile(film, view="frontal"),) if film else ()
    return Study(number, number, images, Report(**report) if report else None, labels={name: 1.0})


def gather(classifier, *studies):
    """What is kept of some studies, as a fit keeps it."""
    known, _ = identify_films(studies)
    films = [study.frontal and study.frontal.path for study in known]
    digests = [digest_file(film) if film else "" for film in films]
    sketches = [sketch_film(classifier.batches.image.apply(read_image(film))) if film else 0 for film in films]
    return gather_seen(known, digests, sketches, classifier.batches.text)


def remember(classifier, *studies):
    """The classifier, trained on some studies alone."""
    return replace(classifier, seen={"train": gather(classifier, *studies)})


def test_ids_alone_do_not_make_a_study_of_another_hospital_one_of_training(loaded, studies):
    one, two = [study.frontal.path for study in studies if study.images][:2]
    for known, other in (
        (bare("17", "abnormal", one), bare("17", "abnormal", two)),
        (bare("17", "abnormal", one, indication="Cough."), bare("17", "abnormal", two, indication="Cough.")),
        (bare("17", "abnormal", indication="Cough."), bare("17", "abnormal", indication="Fever.")),
        (bare("17", "abnormal"), bare("17", "abnormal")),
    ):
        assert part_studies(remember(loaded, known), [other])["test"] == [other]
        found = part_studies(remember(loaded, known), [known])
        assert found["train" if known.images or known.report else "test"] == [known]


def list_rows(*rows):
    """Studies of a table without ids; each row is a report and a patient, or None."""
    table = {"text": [text for text, _ in rows], "mrn": [patient for _, patient in rows]}
    return list(kmm.studies(table, report="text", patient="mrn"))


def test_a_report_of_a_table_is_known_again_in_any_row_and_part(loaded):
    known = list_rows(("A mass.", "p"), ("Clear.", None), ("Clear lungs.", 2))
    again = list_rows(("Clear lungs.", 2), ("Clear.", None), ("A mass.", "p"))[::-1]
    for trained in (known, [study.with_id(f"train-{study.id}") for study in known]):
        classifier = remember(loaded, *trained)
        assert part_studies(classifier, known)["train"] == known
        assert part_studies(classifier, again)["train"] == again
        others = list_rows(("A mass.", "q"), ("Clear lungs.", "3"), ("Clear lungs. No mass.", None))
        assert part_studies(classifier, others)["test"] == others


def test_the_body_alone_is_known_again_in_a_table_without_ids_and_patients(loaded, tmp_path):
    named = bare("17", "abnormal", findings="Clear lungs.", impression="A mass.")
    filmed = bare("18", "abnormal", make_film(tmp_path / "1.png"), findings="A nodule.")
    classifier = remember(loaded, named, filmed, bare("19", "abnormal", indication="Cough."))
    same = list_rows(("clear lungs.  A MASS.", None), ("A nodule.", None))  # equal bodies, as in a split
    assert part_studies(classifier, same)["train"] == same
    film = (ImageFile(make_film(tmp_path / "2.png", seed=1), view="frontal"),)
    others = [
        *list_rows(("Clear lungs.", None), ("A mass.", None), ("Clear lungs. A mass.", "p")),
        replace(same[1], id="20", images=film),  # another film speaks against it
        Study("21", "21", report=Report(indication="Cough."), made_up=frozenset({"id", "patient"})),  # has no body
        bare("22", "abnormal", findings="Clear lungs. A mass."),  # a named study of another hospital
    ]
    assert part_studies(classifier, others)["test"] == others


def test_a_report_is_known_again_that_was_kept_by_its_row_number(loaded):
    known = list_rows(("A mass.", "p"), ("Clear.", None))
    old = [replace(study, patient=patient, made_up=frozenset()) for study, patient in zip(known, ("p", "1"))]
    assert part_studies(remember(loaded, *old), known)["train"] == known


def test_films_with_equal_reports_keep_a_sketch_each(loaded, tmp_path):
    x = np.tile(np.arange(160), (200, 1))
    known = []
    for number, film in enumerate((x * 1.5, 255 - x * 1.5)):
        Image.fromarray(film.astype(np.uint8)).save(tmp_path / f"{number}.png")
        with Image.open(tmp_path / f"{number}.png") as image:
            image.resize((80, 100), Image.Resampling.BILINEAR).save(tmp_path / f"half-{number}.png")
        one = bare(str(number), "abnormal", tmp_path / f"{number}.png", findings="Clear.")
        known.append(replace(one, made_up=frozenset({"id", "patient"})))
    halves = [
        replace(study, id=f"9{study.id}", images=(ImageFile(tmp_path / f"half-{study.id}.png", view="frontal"),))
        for study in known
    ]
    assert part_studies(remember(loaded, *known), halves)["train"] == halves


def make_film(place, seed=0):
    """A film of noise in a file of any format."""
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 40), dtype=np.uint8)).save(place)
    return place


def test_a_film_is_known_again_by_its_pixels_in_another_file_and_under_another_id(loaded, tmp_path):
    known = bare("17", "abnormal", make_film(tmp_path / "a.png"), findings="A mass.")
    trained = remember(loaded, known)
    for name in ("b.bmp", "c.tif"):
        copy = bare("18", "abnormal", make_film(tmp_path / name), findings="Clear.")
        assert part_studies(trained, [copy])["train"] == [copy]
    other = bare("18", "abnormal", make_film(tmp_path / "d.png", seed=1), findings="Clear.")
    assert part_studies(trained, [other])["test"] == [other]


def test_a_film_that_is_decoded_in_another_way_is_known_again_by_its_bytes(loaded, tmp_path, monkeypatch):
    known = bare("17", "abnormal", make_film(tmp_path / "a.png"), findings="A mass.")
    trained, copy = remember(loaded, known), replace(known, id="18", patient="18")
    monkeypatch.setattr("kmm.image.source.decode_image", lambda *_: pytest.fail("decoded"))
    assert part_studies(trained, [copy])["train"] == [copy]


def test_any_evidence_of_training_wins_over_evidence_of_validation(loaded, tmp_path):
    film = make_film(tmp_path / "a.png")
    one, other = bare("1", "abnormal", film), bare("2", "abnormal", findings="A mass.")
    both = replace(other, images=one.images)
    kept = gather(loaded, one), gather(loaded, other)
    for train, validation in (kept, kept[::-1]):
        found = part_studies(replace(loaded, seen={"train": train, "validation": validation}), [both])
        assert found["train"] == [both]
    assert part_studies(replace(loaded, seen={"validation": kept[0]}), [both])["validation"] == [both]


def test_two_films_are_not_one_because_id_patient_and_report_agree(loaded, tmp_path):
    template = {"findings": "The lungs are clear."}
    known = bare("17", "abnormal", make_film(tmp_path / "1.png"), **template)
    trained = remember(loaded, known)
    other = bare("17", "abnormal", make_film(tmp_path / "2.png", seed=1), **template)  # of another hospital
    assert part_studies(trained, [other])["test"] == [other]
    for same in (known, replace(known, images=())):  # without a film nothing speaks against it
        assert part_studies(trained, [same])["train"] == [same]
    assert part_studies(remember(loaded, replace(known, images=())), [other])["train"] == [other]


def test_a_resized_or_compressed_copy_with_id_patient_and_report_is_known_again(loaded, tmp_path):
    y, x = np.mgrid[:200, :160]
    film = 120 + 60 * np.sin(x / 23) * np.cos(y / 31) + 40 * ((x - 90) ** 2 + (y - 70) ** 2 < 900)
    Image.fromarray(film.astype(np.uint8)).save(tmp_path / "film.png")
    known = bare("17", "abnormal", tmp_path / "film.png", findings="A mass.")
    trained = remember(loaded, known)
    with Image.open(tmp_path / "film.png") as image:
        image.save(tmp_path / "lossy.jpg", quality=60)
        image.resize((80, 100), Image.Resampling.BILINEAR).save(tmp_path / "half.png")
    for name in ("lossy.jpg", "half.png"):
        copy = replace(known, images=(ImageFile(tmp_path / name, view="frontal"),))
        assert part_studies(trained, [copy])["train"] == [copy]
        stranger = replace(copy, id="18", patient="18")  # neither the film's identity nor the record is known
        assert part_studies(trained, [stranger])["test"] == [stranger]


@pytest.mark.large
def test_the_description_does_not_grow_with_the_studies(hand_made, tmp_path):
    count = 1_600_000  # format 1 could not be read again with as many
    prints = np.arange(0, 3 * count, 3, np.uint64)
    seen = SeenStudies(prints, np.stack([prints, prints[::-1]], axis=1))
    replace(hand_made, seen={"train": seen, "validation": seen}).save(tmp_path / "large")
    replace(hand_made, seen={}).save(tmp_path / "small")
    sizes = [(tmp_path / name / "classifier.json").stat().st_size for name in ("large", "small")]
    assert sizes[0] - sizes[1] < 500  # four more files with their digests
    assert (tmp_path / "large" / "seen_train.npy").stat().st_size == 8 * count + 128
    large = Classifier.load(tmp_path / "large")
    for kept in large.seen.values():
        assert isinstance(kept.prints, np.memmap) and isinstance(kept.records, np.memmap)
        assert kept.holds({3 * count - 3}) and not kept.holds({3 * count, 4})
        assert kept.holds_record(6, sketch=3 * count - 9) and not kept.holds_record(7, sketch=None)
    with open(tmp_path / "large" / "seen_train.npy", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    with pytest.raises(ArtefactError, match=r"seen_train\.npy.*digest differs"):
        Classifier.load(tmp_path / "large")


@pytest.mark.large
def test_prints_of_another_kind_are_refused(hand_made, tmp_path):
    for number, wrong in enumerate((np.zeros(3), np.zeros((2, 2), "<u8"), np.array(["a"]), np.array([None]))):

        def write(folder, wrong=wrong):
            np.save(folder / "seen_train.npy", wrong)
            np.save(folder / "seen_train_records.npy", np.zeros((0, 2), "<u8"))

        replace(hand_made, seen={}).save(tmp_path / str(number), extra=write)
        with pytest.raises(ArtefactError, match=r"seen_train\.npy must be an array"):
            Classifier.load(tmp_path / str(number))


@pytest.mark.large
def test_each_pattern_has_its_own_numbers_in_predictions_and_on_disk(hand_made, studies, tmp_path):
    hand_made.save(tmp_path / "saved")
    again = Classifier.load(tmp_path / "saved")
    both = next(study for study in studies if study.images and study.report)
    alone = [both, replace(both, report=None), replace(both, images=())]
    predictions = again.predict(alone)
    assert predictions.present.tolist() == [[1, 1], [1, 0], [0, 1]]
    logits = predictions.logits["joint"]
    temperatures, cuts = hand_made.temperatures["joint"], [0.5, 0.47, 0.53]
    for row, said in enumerate(describe_predictions(again, predictions)):
        expected = 1 / (1 + np.exp(-logits[row].astype(float) / temperatures[row]))
        np.testing.assert_allclose(list(said["probabilities"].values()), expected, atol=1e-12)
        assert list(said["decisions"].values()) == (expected >= cuts[row]).tolist()


def test_numbers_without_a_pattern_hold_for_every_one(hand_made):
    one = replace(hand_made, temperatures={"joint": [1.0, 2.0, 3.0]}, thresholds={"joint": np.full(3, 0.4)})
    for present in ([1, 1], [1, 0], [0, 1]):
        np.testing.assert_allclose(one.probabilities([[1.0, 2.0, 3.0]], [present]), 1 / (1 + np.exp(-1)))
        assert one.thresholds_for([present]).tolist() == [[0.4] * 3]
    with pytest.raises(InputError, match=r"temperatures must be \(3, n_labels\) numbers"):
        replace(hand_made, temperatures={"joint": np.ones((2, 3))})


@pytest.mark.large
def test_evaluate_says_how_many_studies_it_left_out(loaded, studies):
    notes = []
    progress = Progress()
    progress.note = notes.append
    evaluate_studies(loaded, studies, progress=progress)
    counts = loaded.provenance["parts"]
    assert notes == [
        f"60 studies: 0 without a known label and {counts['train']} that the classifier was trained on are left out, "
        f"{counts['validation']} that it was calibrated on are validation, {counts['test']} are test"
    ]


@pytest.mark.large
def test_evaluate_sets_films_aside_that_cannot_be_read_and_says_why_nothing_is_left(loaded, studies):
    parts = part_studies(loaded, studies)
    films = [replace(study, report=None) for study in parts["test"] if study.images]
    missing = (ImageFile(Path("gone.png"), view="frontal"),)
    gone = [replace(study.with_id(f"gone-{study.id}"), images=missing) for study in films]
    results, problems = evaluate_studies(loaded, [*films, *gone])
    assert results["test"]["n"] == len(films) == len(problems)
    with pytest.raises(InputError, match=rf"that can be used\. All {len(films)} were set aside") as caught:
        evaluate_studies(loaded, gone)
    assert len(caught.value.problems) == len(films) and "gone.png" in str(caught.value.problems[0])
    with pytest.raises(InputError, match=rf"not trained on\. Received: {len(parts['train'])} labelled studies, all us"):
        evaluate_studies(loaded, parts["train"])
    with pytest.raises(InputError, match="Received: no labelled studies"):
        evaluate_studies(loaded, [])


def test_a_study_whose_image_is_lateral_is_told_so(loaded, tiny_folder):
    film = ImageFile(tiny_folder / "images" / "1.png", view="lateral", evidence="projections table")
    predictions = loaded.predict([Study("a", "a", (film,)), Study("b", "b", (film, film)), Study("c", "c")])
    expected = "study {}: expected a frontal image or a report with words. Found neither{}."
    assert [str(problem) for problem in predictions.problems] == [
        expected.format("a", ": its only image is lateral (projections table)"),
        expected.format("b", ": its images are all lateral (projections table)"),
        expected.format("c", ""),
    ]


@pytest.mark.large
def test_the_public_names_are_few_and_lazy():
    """`import kmm` loads no framework; `kmm.Classifier` loads Keras and registers what saved models name."""
    code = """
import sys, kmm
assert kmm.__all__ == [
    "Classifier", "Client", "KmmError", "__version__", "compare", "fit", "load", "read", "read_film",
    "register_image_encoder", "register_text_encoder", "studies",
]
assert not {"keras", "numpy"} & set(sys.modules) and set(kmm.__all__) <= set(dir(kmm))
try:
    kmm.Nothing
except AttributeError as error:
    assert "Nothing" in str(error)
from kmm import Client, KmmError, read, read_film, studies
assert KmmError.__module__ == "kmm.errors" and read_film.__module__ == "kmm.batches"
assert not {"keras", "tensorflow", "pandas", "sklearn"} & set(sys.modules)
from kmm import Classifier, fit, load
import kmm.api.classifier
assert Classifier is kmm.api.classifier.Classifier and callable(Classifier.load)
assert "keras" in sys.modules and kmm.sklearn.StudyClassifier.__module__ == "kmm.sklearn"
"""
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
    assert done.stdout == done.stderr == b""  # no log of a framework in a notebook's first cell


def test_a_public_film_is_gray_levels(tmp_path, tiny_folder):
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(16, 64)).save(tmp_path / "film.png")
    for place in (tmp_path / "film.png", str(tmp_path / "film.png")):
        film = np.asarray(kmm.read_film(place))
        assert film.dtype == np.float32
        np.testing.assert_array_equal(film, np.arange(1024).reshape(16, 64) % 256)
    film = tiny_folder / "images" / "1.png"
    np.testing.assert_array_equal(kmm.read_film(film), read_image(film))
    Image.new("L", (16, 16), 7).save(tmp_path / "blank.png")
    (tmp_path / "words.png").write_text("no film")
    for name, says in (
        ("blank.png", "Every pixel is the same gray"),
        ("words.png", "none of these"),
        ("gone", "No such"),
    ):
        with pytest.raises(kmm.KmmError, match=rf"{name}: .*{says}") as caught:
            kmm.read_film(tmp_path / name)
        assert isinstance(caught.value, ImageError)


@pytest.mark.parametrize("part", ("joint", "image", "text"))
def test_saved_models_open_in_keras(tiny_run, loaded, part):
    """Compiled as they were trained."""
    model = keras.models.load_model(tiny_run[2] / f"{part}.keras")
    assert model.loss.name == "masked_crossentropy"
    for one, other in zip(model.get_weights(), loaded.models[part].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
