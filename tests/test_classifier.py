"""What a saved classifier is, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kmm.artefact import digest_file
from kmm.classifier import Classifier, describe_predictions, probabilities
from kmm.data.collection import read_collection
from kmm.data.study import ImageFile, Report, Study
from kmm.errors import ArtefactError, InputError
from kmm.evaluate.report import evaluate_studies
from kmm.evaluate.seen import gather_prints, part_studies
from kmm.identity import identify_films
from kmm.progress import Progress


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


def test_a_prediction_does_not_depend_on_the_company(loaded, studies):
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


def test_evaluate_leaves_training_out_and_repeats_the_run(loaded, studies, tiny_run):
    results, problems = evaluate_studies(loaded, studies)
    assert not problems
    for part in ("validation", "test"):
        assert results[part]["n"] == tiny_run[0].metrics[part]["n"]
        for row in ("joint", "tfidf"):
            assert results[part][row]["roc_auc"] == pytest.approx(tiny_run[0].metrics[part][row]["roc_auc"])


def test_a_broken_film_is_set_aside(loaded, studies, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"nothing")
    bad = Study("bad", "p", (ImageFile(broken, view="frontal"),))
    predictions = loaded.predict([studies[0], bad, studies[1]])
    assert [study.id for study in predictions.studies] == [studies[0].id, studies[1].id]
    assert "broken.png" in str(predictions.problems[0])


def test_rows_of_predictions_are_json(loaded, studies):
    rows = describe_predictions(loaded, loaded.predict(studies[:2]))
    assert json.loads(json.dumps(rows)) == rows
    probability, decision = rows[0]["probabilities"]["abnormal"], rows[0]["decisions"]["abnormal"]
    assert decision == (probability >= loaded.thresholds_for([[1, 1]])[0, 0])


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
    with pytest.raises(ArtefactError, match=r"vocabulary\.txt.*missing"):
        Classifier.load(folder)


BROKEN = ["", "[]", "{}", '{"format": 99}', '{"format": 1}', '{"format": 1, "files": {"../x": "0"}}']


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_description_is_refused(tmp_path, text):
    (tmp_path / "classifier.json").write_text(text)
    with pytest.raises(ArtefactError) as caught:
        Classifier.load(tmp_path)
    assert "\n" not in str(caught.value)


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
    with pytest.raises(
        ArtefactError, match=r"classifier\.json: expected the file as it was saved\. Its digest differs"
    ):
        Classifier.load(folder, main_only=True)
    del said["digest"]
    path.write_text(json.dumps(said))
    with pytest.raises(ArtefactError, match=r"classifier\.json: expected a description with its digest"):
        Classifier.load(folder, main_only=True)


def test_a_folder_without_a_classifier_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match=r"classifier\.json is missing"):
        Classifier.load(tmp_path)


def test_nothing_is_overwritten_and_nothing_half_written(tiny_run, tmp_path):
    trained = tiny_run[0]
    trained.save(tmp_path / "one")
    with pytest.raises(InputError, match="free"):
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
        "mean_image.npy",
        "seen_train.npy",
        "seen_validation.npy",
        "settings.json",
        "split.csv",
        "metrics.json",
        "history.json",
        "pictures",
        "model_card.md",
    } == names
    assert not list(tiny_run[2].rglob("*.pkl"))


def test_only_a_classifier_is_overwritten_and_its_exports_stay(tiny_run, tmp_path):
    trained = tiny_run[0]
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "letter.txt").write_text("mine")
    with pytest.raises(InputError, match="saved classifier to overwrite"):
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


def remember(classifier, *studies):
    """The classifier, trained on some studies alone."""
    train, _ = identify_films(studies)
    digests = [digest_file(study.frontal.path) if study.images else "" for study in train]
    seen = gather_prints(
        {"train": train, "validation": [], "test": []},
        {"train": digests, "validation": [], "test": []},
        classifier.batches.text,
    )
    return replace(classifier, seen=seen)


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
    again = bare("17", "abnormal", two, findings="A mass.")  # another copy of the film: the body tells
    trained = remember(loaded, bare("17", "abnormal", one, findings="A mass."))
    assert part_studies(trained, [again])["train"] == [again]


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


def test_evaluate_sets_films_aside_that_cannot_be_read_and_says_why_nothing_is_left(loaded, studies, monkeypatch):
    def fail(path):
        raise PermissionError(13, "Permission denied", str(path))

    parts = part_studies(loaded, studies)
    films = [replace(study, report=None) for study in parts["test"] if study.images]
    monkeypatch.setattr("kmm.evaluate.seen.digest_file", fail)
    results, problems = evaluate_studies(loaded, films)
    assert results["test"]["n"] == len(films) and not problems
    gone = [replace(study, images=(ImageFile(Path("gone.png"), view="frontal"),)) for study in films]
    with pytest.raises(InputError, match=rf"that can be used\. All {len(films)} were set aside") as caught:
        evaluate_studies(loaded, gone)
    assert len(caught.value.problems) == len(films) and "gone.png" in str(caught.value.problems[0])
    monkeypatch.undo()
    with pytest.raises(InputError, match=rf"not trained on\. Received: {len(parts['train'])} labelled ones, all of tr"):
        evaluate_studies(loaded, parts["train"])
    with pytest.raises(InputError, match="Received: no labelled ones"):
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
