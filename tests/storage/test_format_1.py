"""A classifier of format 1, saved by kmm 0.1.0, gives the numbers that it gave then.

`format_1` beside this file holds one with a minimal network (three filters per layer), trained on 60 studies of the
built-in phantom set at 64 pixels, and what that version said of the studies below. Its files were compressed again,
no more.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kmm.classifier import Classifier, describe_predictions
from kmm.data.study import ImageFile, Report, Study
from kmm.evaluate.report import evaluate_studies
from kmm.evaluate.seen import film_prints, part_studies

FOLDER = Path(__file__).parent / "format_1"


@pytest.fixture(scope="module")
def expected():
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def classifier():
    return Classifier.load(FOLDER / "classifier")


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    """Four films drawn in whole numbers, the second without a report, then a report alone."""
    folder = tmp_path_factory.mktemp("films")
    y, x = np.mgrid[:40, :48]
    texts = [
        "There is a small nodule in the left lung.",
        "",
        "No acute disease. The lungs are clear.",
        "Heart size is normal.",
    ]
    made = []
    for k, text in enumerate(texts):
        disk = 40 * ((x - 20) ** 2 + (y - 15 - k) ** 2 < 50)
        film = (x * (3 + k) + y * (2 + k % 3) * 2 + disk) % 256
        Image.fromarray(film.astype(np.uint8)).save(folder / f"{k}.png")
        image = ImageFile(folder / f"{k}.png", view="frontal")
        made.append(Study(f"s{k}", f"p{k}", (image,), Report(findings=text) if text else None))
    return [*made, Study("s4", "p4", (), Report(findings=texts[0]))]


def seen_studies(expected, part):
    """Studies of the phantom set that the classifier saw, by their reports."""
    sections = ("indication", "findings", "impression")
    return [
        Study(row["id"], row["patient"], report=Report(**{name: row[name] for name in sections}), mesh_major=mesh(row))
        for row in expected["studies"][part]
    ]


def mesh(row):
    return ("Nodule/lung",) if row["label"] else ("normal",)


def test_the_words_of_one_patient_were_kept_then(classifier):
    assert classifier.settings.min_word_patients == 1
    assert "word_patients" not in classifier.provenance.get("text", {})


def test_it_predicts_what_it_did(classifier, studies, expected):
    predictions = classifier.predict(studies, parts=classifier.models)
    assert predictions.present.tolist() == expected["present"]
    for part, logits in expected["logits"].items():
        np.testing.assert_allclose(predictions.logits[part][:, 0], logits, atol=2e-5)
    rows = describe_predictions(classifier, predictions)
    assert [row["probabilities"]["abnormal"] for row in rows] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert [row["decisions"]["abnormal"] for row in rows] == expected["decisions"]


def test_its_numbers_hold_for_every_pattern(classifier):
    said = json.loads((FOLDER / "classifier" / "classifier.json").read_text(encoding="utf-8"))
    assert said["format"] == 1
    for name in ("temperatures", "thresholds"):
        for part, numbers in said[name].items():
            assert getattr(classifier, name)[part].tolist() == [numbers] * 3
    assert classifier.prevalence.tolist() == [said["prevalence"]] * 3


def test_it_knows_its_studies_again(classifier, studies, expected):
    known = {part: seen_studies(expected, part) for part in ("train", "validation")}
    parts = part_studies(classifier, [*known["train"], *studies, *known["validation"]])
    assert parts == {**known, "test": studies}
    assert film_prints(file_digest="0" * 64) == {int(expected["film_print"][0], 16)}  # byte digests are compared still


def test_it_is_evaluated_on_studies_that_it_did_not_train_on(classifier, expected):
    known = {part: seen_studies(expected, part) for part in ("train", "validation")}
    results, problems = evaluate_studies(classifier, [*known["train"], *known["validation"]])
    assert not problems and list(results) == ["validation"]
    assert results["validation"]["n"] == len(known["validation"]) == 4
    assert results["validation"]["image"]["n"] == 0 and results["validation"]["text"]["n"] == 4


def test_saved_again_it_has_this_format_and_the_same_numbers(classifier, studies, expected, tmp_path):
    classifier.save(tmp_path / "again")
    said = json.loads((tmp_path / "again" / "classifier.json").read_text(encoding="utf-8"))
    assert said["format"] == 2 and "studies_by_part" not in said["provenance"]
    again = Classifier.load(tmp_path / "again")
    rows = describe_predictions(again, again.predict(studies))
    assert [row["probabilities"]["abnormal"] for row in rows] == pytest.approx(expected["probabilities"], abs=1e-5)
    train = seen_studies(expected, "train")
    assert part_studies(again, train)["train"] == train


def test_it_is_exported(classifier, studies, expected, tmp_path):
    tf = pytest.importorskip("tensorflow")
    from kmm.export.write import export_classifier

    place = export_classifier(FOLDER / "classifier", out=tmp_path, explanation=None, warmup=())
    signature = tf.saved_model.load(str(place)).signatures["serving_bytes"]
    files = [study.frontal.path.read_bytes() if study.frontal else b"" for study in studies]
    reports = [study.report.findings if study.report else "" for study in studies]
    found = signature(image_bytes=tf.constant(files), report=tf.constant(reports))
    np.testing.assert_allclose(found["probabilities"].numpy()[:, 0], expected["probabilities"], atol=1e-5)
    assert found["decisions"].numpy()[:, 0].tolist() == expected["decisions"]
