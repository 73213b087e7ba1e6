"""Classifiers and explanations that earlier versions saved are read, and give the answers that they gave then.

`tests/golden` holds one of each format, with what the version that wrote it answered; its README says how they were
made.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from kmm.classifier import Classifier, describe_predictions
from kmm.data.study import Report, Study
from kmm.engines.runners import run_here
from kmm.errors import InputError
from kmm.evaluate.decisions.abstention import check_abstention
from kmm.evaluate.report import evaluate_studies
from kmm.evaluate.seen import film_prints, part_studies
from kmm.explain.explainer import Explainer
from kmm.explain.folder.explain_folder import REDRAW, explain_folder
from kmm.explain.folder.maps import read_map
from kmm.explain.settings import RegionSettings
from kmm.export.verification import PASSED, UNKNOWN, verify_classifier
from kmm.storage.classifier_folder import READABLE
from kmm.storage.output_mark import read_mark
from tests.golden.make_saved import OUTPUTS, SETTINGS, list_studies

GOLDEN = Path(__file__).parents[1] / "golden"
FORMATS = {"format-1": 1, "format-2-first": 2, "format-2": 2}
FILMS = GOLDEN / "films"


@pytest.fixture(scope="module", params=FORMATS)
def saved(request):
    """The folder of a fixture."""
    return GOLDEN / request.param


@pytest.fixture(scope="module")
def known(saved):
    return json.loads((saved / "known.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def classifier(saved):
    return Classifier.load(saved / "classifier")


@pytest.fixture(scope="module")
def studies():
    return list_studies(FILMS)


def read_description(folder):
    return json.loads((folder / "classifier.json").read_text(encoding="utf-8"))


def seen_studies(known, part):
    """Studies of the phantom set that the classifier saw, by their reports."""
    sections = ("indication", "findings", "impression")
    return [
        Study(row["id"], row["patient"], report=Report(**{name: row[name] for name in sections}), mesh_major=mesh(row))
        for row in known["studies"][part]
    ]


def mesh(row):
    return ("Nodule/lung",) if row["label"] else ("normal",)


def test_every_readable_format_has_a_fixture():
    assert set(FORMATS.values()) == set(READABLE)
    assert {name: read_description(GOLDEN / name / "classifier")["format"] for name in FORMATS} == FORMATS


def test_it_predicts_what_it_did(classifier, studies, known):
    predictions = classifier.predict(studies, parts=classifier.models)
    assert predictions.present.tolist() == known["present"]
    for part, logits in known["logits"].items():
        np.testing.assert_allclose(predictions.logits[part][:, 0], logits, atol=2e-5)
    rows = describe_predictions(classifier, predictions)
    assert [row["probabilities"]["abnormal"] for row in rows] == pytest.approx(known["probabilities"], abs=1e-5)
    assert [row["decisions"]["abnormal"] for row in rows] == known["decisions"]


def test_it_has_the_head_and_the_targets_of_its_time(classifier):
    assert classifier.settings.head == "decoder" and classifier.settings.text_teacher == 0
    assert classifier.linear is None and classifier.settings.image_teacher == 0


def test_it_cannot_abstain_and_says_why(classifier):
    with pytest.raises(InputError, match="no validation scores and cannot abstain"):
        check_abstention(classifier, 0.1)


@pytest.mark.large
def test_it_is_explained_as_it_was(classifier, studies, known):
    found = {one.study: one for one in Explainer(classifier, SETTINGS).explain(studies)}
    assert set(found) == set(known["attribution_sums"])
    for study, sums in known["attribution_sums"].items():
        values = found[study].attribution.values
        assert all(np.isfinite(value).all() for value in values.values())
        assert {name: float(values[name].sum()) for name in sums} == pytest.approx(sums, abs=1e-4)


def test_it_knows_its_studies_again(classifier, studies, known):
    seen = {part: seen_studies(known, part) for part in ("train", "validation")}
    parts = part_studies(classifier, [*seen["train"], *studies, *seen["validation"]])
    assert parts == {**seen, "test": studies}


@pytest.mark.large
def test_it_is_evaluated_on_studies_that_it_did_not_train_on(classifier, known):
    seen = {part: seen_studies(known, part) for part in ("train", "validation")}
    results, problems = evaluate_studies(classifier, [*seen["train"], *seen["validation"]])
    assert not problems and list(results) == ["validation"]
    assert results["validation"]["n"] == len(seen["validation"]) >= 4
    assert results["validation"]["image"]["n"] == 0
    assert results["validation"]["text"]["n"] == len(seen["validation"])


@pytest.mark.large
def test_it_is_verified_by_its_known_answers_where_it_has_them(saved):
    results = {check.name: check.result for check in verify_classifier(saved / "classifier")}
    has_answers = "known_answers" in read_description(saved / "classifier")
    assert results == {"files": PASSED, "answers": PASSED if has_answers else UNKNOWN}


@pytest.mark.large
def test_saved_again_it_has_the_format_of_this_version_and_the_same_numbers(classifier, studies, known, tmp_path):
    classifier.save(tmp_path / "again")
    description = read_description(tmp_path / "again")
    assert description["format"] == READABLE[-1] and "studies_by_part" not in description["provenance"]
    again = Classifier.load(tmp_path / "again")
    rows = describe_predictions(again, again.predict(studies))
    assert [row["probabilities"]["abnormal"] for row in rows] == pytest.approx(known["probabilities"], abs=1e-5)
    train = seen_studies(known, "train")
    assert part_studies(again, train)["train"] == train


@pytest.mark.large
def test_it_is_exported(saved, studies, known, tmp_path):
    tf = pytest.importorskip("tensorflow")
    from kmm.export.write import export_classifier

    place = export_classifier(saved / "classifier", out=tmp_path, explanation=None, warmup=())
    signature = tf.saved_model.load(str(place)).signatures["serving_bytes"]
    files = [study.frontal.path.read_bytes() if study.frontal else b"" for study in studies]
    reports = [study.report.findings if study.report else "" for study in studies]
    found = signature(image_bytes=tf.constant(files), report=tf.constant(reports))
    np.testing.assert_allclose(found["probabilities"].numpy()[:, 0], known["probabilities"], atol=1e-5)
    assert found["decisions"].numpy()[:, 0].tolist() == known["decisions"]


@pytest.fixture
def explained(saved, tmp_path):
    """A copy of the folder of explanations of a fixture."""
    return shutil.copytree(saved / "explanations", tmp_path / "explanations")


def read_explanations(folder):
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("s?.json")]
    return {one["study"]: one for one in found}


def test_explanations_are_marked_as_written_by_kmm(explained):
    files = {path.name for path in explained.iterdir() if not path.name.startswith(".")}
    assert files and all(read_mark(explained).owns(name) for name in files)


@pytest.mark.large
def test_a_folder_of_explanations_goes_on_with_the_same_answers(saved, explained, studies):
    before, done = read_explanations(explained), []

    def run(worker, cut, begin, tell):
        done.extend(study.id for batch in cut(1) for study in batch.studies)
        return run_here(worker, cut, begin, tell)

    assert {one["schema"] for one in before.values()} == {"kmm-explanation-1"}
    options = {"settings": SETTINGS, "outputs": OUTPUTS, "runner": run}
    rows = explain_folder(saved / "classifier", studies, explained, **options)
    assert [row["study"] for row in rows] == [study.id for study in studies]
    assert not any(row["error"] for row in rows)
    kept = set(before) if (explained / "maps").exists() and saved.name != "format-1" else set()
    assert set(done) == {study.id for study in studies} - kept
    after = read_explanations(explained)
    for study, one in before.items():
        assert one["score"] == pytest.approx(after[study]["score"], abs=1e-4)
        assert one["probabilities"] == pytest.approx(after[study]["probabilities"], abs=1e-5)
        assert [word["text"] for word in one["words"]] == [word["text"] for word in after[study]["words"]]


@pytest.mark.parametrize("name", ["format-2-first", "format-2"])
def test_kept_maps_are_drawn_again_without_the_model(name, studies, tmp_path):
    explained = shutil.copytree(GOLDEN / name / "explanations", tmp_path / "explanations")
    regions = RegionSettings(rule="quantile", sensitivity=0.5)
    (first,) = read_map(explained / "maps" / "s0.npz", regions, str(studies[0].frontal.path))
    assert first.study == "s0" and first.heat.shape[1] == 32
    chosen = [study for study in studies if study.id in read_explanations(explained)]
    options = {"settings": replace(SETTINGS, regions=regions), "outputs": OUTPUTS, "mode": REDRAW}
    rows = explain_folder(GOLDEN / name / "classifier", chosen, explained, **options)
    assert len(rows) == 2 and not any(row["error"] for row in rows)


@pytest.fixture(scope="module")
def oldest():
    """The classifier of format 1 and its description, which said some things otherwise."""
    folder = GOLDEN / "format-1" / "classifier"
    return Classifier.load(folder), read_description(folder)


def test_format_1_kept_the_words_of_one_patient(oldest):
    assert oldest[0].settings.min_word_patients == 1
    assert "word_patients" not in oldest[0].provenance.get("text", {})


def test_numbers_of_format_1_hold_for_every_pattern(oldest):
    classifier, description = oldest
    for name in ("temperatures", "thresholds"):
        for part, numbers in description[name].items():
            assert getattr(classifier, name)[part].tolist() == [numbers] * 3
    assert classifier.prevalence.tolist() == [description["prevalence"]] * 3


def test_films_of_format_1_are_compared_by_the_bytes_of_their_files():
    known = json.loads((GOLDEN / "format-1" / "known.json").read_text(encoding="utf-8"))
    assert film_prints(file_digest="0" * 64) == {int(known["film_print"][0], 16)}
