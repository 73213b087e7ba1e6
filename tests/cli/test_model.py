"""`kmm model pack` and `kmm model verify`."""

import csv
import json
import shutil
import zipfile

import keras
import numpy as np
import pytest

from kmm.classifier import Classifier
from kmm.errors import InputError
from kmm.evaluate.report import UNRECOGNISED, evaluate_studies
from kmm.storage.archive import write_archive
from kmm.storage.classifier_folder import DESCRIPTION, digest_file, sign_description
from kmm.storage.known_answers import ANSWER_TOLERANCE, compare_answers, compute_answers
from tests.factories.commands import run


@pytest.fixture(scope="module")
def packed(tiny_run, tmp_path_factory):
    """The tiny classifier as an archive, and what the command said of it."""
    path = tmp_path_factory.mktemp("packed") / "tiny.zip"
    result = run("model", "pack", tiny_run[2], "--out", path, "--json", "-")
    assert result.exit_code == 0, result.output
    return path, json.loads(result.stdout)


@pytest.fixture(scope="module")
def opened(packed):
    return Classifier.load(packed[0])


@pytest.fixture
def copied(tiny_run, tmp_path):
    """A copy of the saved classifier, to be spoiled."""
    return shutil.copytree(tiny_run[2], tmp_path / "copied")


def sign_again(folder, **changes):
    """Lets a changed folder look untouched: digests of its files and of its description as they are now."""
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8")) | changes
    description["files"] = {name: digest_file(folder / name) for name in description["files"]}
    (folder / DESCRIPTION).write_text(json.dumps(sign_description(description)), encoding="utf-8")


def test_an_archive_holds_no_id_no_hash_and_no_text_of_a_study(tiny_run, packed, tiny_folder):
    path, said = packed
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert sorted(members) == said["files"]
    assert {"joint.keras", "image.keras", "text.keras", "model_card.md", "vocabulary.txt"} <= set(members)
    assert not {"split.csv", "tfidf.npz", "linear.npz", "history.json"} & set(members)
    assert not [name for name in members if name.startswith(("seen_", "pictures"))]
    assert said["words_of_one_patient"] == 0
    assert said["left_out"] == [
        "split.csv",
        "hashes of training studies",
        "TF-IDF baseline",
        "linear baselines of films",
    ]
    with open(tiny_folder / "indiana_reports.csv", newline="", encoding="utf-8") as file:
        reports = [row["findings"] for row in csv.DictReader(file)]
    everything = b"\n".join(members.values())
    assert not [report for report in reports if report and report.encode() in everything]
    assert str(tiny_run[2].parent).encode() not in everything


def test_a_packed_classifier_predicts_as_the_saved_one(packed, opened, loaded, tiny_run):
    studies = tiny_run[1].prepared.studies[:8]
    one, other = loaded.predict(studies), opened.predict(studies)
    np.testing.assert_allclose(one.logits["joint"], other.logits["joint"], atol=1e-6)
    present = one.present
    np.testing.assert_array_equal(
        loaded.probabilities(one.logits["joint"], present), opened.probabilities(one.logits["joint"], present)
    )
    assert opened.provenance["packed_from"] != packed[1]["digest"]
    np.testing.assert_array_equal(opened.mean_image, loaded.mean_image)
    np.testing.assert_array_equal(opened.conformal, loaded.conformal)


@pytest.mark.large
def test_evaluate_on_a_packed_classifier_says_that_training_studies_cannot_be_recognised(
    packed, opened, loaded, tiny_folder, tiny_run, monkeypatch
):
    monkeypatch.setattr(Classifier, "load", lambda folder, main_only=False: opened)
    result = run("evaluate", packed[0], tiny_folder, "--json", "-")
    assert result.exit_code == 0, result.output
    assert UNRECOGNISED in result.stderr
    results = json.loads(result.stdout)
    assert results["test"]["caution"] == UNRECOGNISED and results["test"]["n"] == 60
    assert results["test"]["tfidf"] is None
    assert UNRECOGNISED in " ".join(run("evaluate", packed[0], tiny_folder).stdout.split())
    known, _ = evaluate_studies(loaded, tiny_run[1].prepared.studies)
    assert "caution" not in known["test"]


def test_an_archive_that_would_hold_an_id_is_not_written(tiny_run, loaded, tmp_path, monkeypatch):
    import dataclasses

    from kmm.export.pack import pack_classifier

    folder = tmp_path / "of-ward"
    folder.mkdir()
    (folder / "split.csv").write_text("study,patient,part\nward7-0042,p,train\n", encoding="utf-8")
    named = dataclasses.replace(loaded, provenance={**loaded.provenance, "name": "film of ward7-0042"})
    monkeypatch.setattr("kmm.export.pack.Classifier.load", lambda folder: named)
    monkeypatch.setattr("kmm.export.pack.digest_classifier", lambda place: "0" * 64)
    with pytest.raises(InputError, match="contains an id of a study or patient"):
        pack_classifier(folder, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_pack_takes_the_name_of_an_archive_alone(tiny_run, tmp_path):
    for name in ("tiny", "tiny.tar", "."):
        result = run("model", "pack", tiny_run[2], "--out", tmp_path / name)
        assert result.exit_code == 2 and not list(tmp_path.iterdir())


def test_settings_and_facts_of_an_archive_name_files_without_their_folders(loaded, tmp_path, monkeypatch):
    import dataclasses

    from kmm.export.pack import pack_classifier

    of_ward = dataclasses.replace(
        loaded,
        settings=dataclasses.replace(loaded.settings, image_weights="/home/ann/ward7/w.h5"),
        provenance={**loaded.provenance, "image_weights": {"source": "C:\\ward7\\w.h5", "sha256": "0" * 64}},
    )
    monkeypatch.setattr("kmm.export.pack.Classifier.load", lambda folder: of_ward)
    monkeypatch.setattr("kmm.export.pack.digest_classifier", lambda place: "0" * 64)
    pack_classifier(tmp_path / "any", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        texts = [archive.read(name) for name in archive.namelist() if not name.endswith((".keras", ".npy"))]
    assert not [text for text in texts if b"ward7" in text] and any(b"w.h5" in text for text in texts)


def test_verify_of_a_sound_classifier_and_its_archive(tiny_run, packed):
    for place in (tiny_run[2], packed[0]):
        result = run("model", "verify", place, "--json", "-")
        assert result.exit_code == 0, result.output
        checks = json.loads(result.stdout)["checks"]
        assert [(check["name"], check["result"]) for check in checks] == [("files", "passed"), ("answers", "passed")]


def test_verify_finds_an_altered_file(copied):
    (copied / "vocabulary.txt").write_text("mass\n", encoding="utf-8")
    result = run("model", "verify", copied)
    assert result.exit_code == 1 and result.stdout.startswith("failed: files: ")
    assert "vocabulary.txt" in result.stdout


@pytest.mark.large
def test_verify_finds_weights_that_answer_otherwise_though_every_digest_fits(copied):
    model = keras.models.load_model(copied / "joint.keras", compile=False)
    for weight in model.trainable_weights:
        weight.assign(weight * 1.5)
    model.save(copied / "joint.keras")
    sign_again(copied)
    result = run("model", "verify", copied)
    assert result.exit_code == 1 and "passed: files" in result.stdout and "failed: answers: " in result.stdout


def test_verify_says_where_no_answers_were_kept(copied):
    sign_again(copied, known_answers=None)
    result = run("model", "verify", copied)
    assert result.exit_code == 0 and "not known: answers: " in result.stdout


def test_verify_of_something_else_is_one_line(tmp_path):
    for place in (tmp_path / "nothing", tmp_path):
        result = run("model", "verify", place)
        assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1


def test_known_answers_tell_every_part_and_every_pattern(loaded):
    answers = compute_answers(loaded)
    assert {part: np.shape(rows) for part, rows in answers.items()} == {
        part: (3, 1) for part in ("joint", "image", "text")
    }
    worst, most = compare_answers(loaded, answers)
    assert worst == 0 and most == ANSWER_TOLERANCE
    answers["image"][0][0] += 2 * ANSWER_TOLERANCE
    assert compare_answers(loaded, answers)[0] == pytest.approx(2 * ANSWER_TOLERANCE)
    assert compare_answers(loaded, {**answers, "image": [[float("nan")]] * 3})[0] == np.inf
    assert compare_answers(loaded, {"joint": answers["joint"]})[0] == np.inf


def test_an_archive_is_exported_to_a_folder_that_is_named(tiny_run, tmp_path):
    write_archive(tiny_run[2], tmp_path / "tiny.zip")
    result = run("export", tmp_path / "tiny.zip")
    assert result.exit_code == 2 and "is an archive, which cannot hold" in result.stderr


def test_the_card_of_a_folder_and_of_its_archive(tiny_run, packed, tmp_path):
    result = run("model", "card", tiny_run[2])
    assert result.exit_code == 0 and result.stderr == ""
    assert result.stdout == (tiny_run[2] / "model_card.md").read_text(encoding="utf-8")
    out = tmp_path / "card.md"
    result = run("model", "card", packed[0], "--out", out)
    assert result.exit_code == 0 and result.stdout == f"{out}\n"
    with zipfile.ZipFile(packed[0]) as archive:
        assert out.read_bytes() == archive.read("model_card.md")


def test_a_card_that_was_altered_or_is_missing_is_one_line(copied, tmp_path):
    (copied / "model_card.md").write_text("# perfect\n", encoding="utf-8")
    result = run("model", "card", copied)
    assert result.exit_code == 2 and "model_card.md was altered" in result.stderr and result.stdout == ""
    (copied / "model_card.md").unlink()
    for place in (copied, tmp_path, tmp_path / "none.zip"):
        result = run("model", "card", place)
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and result.stdout == ""


def test_a_card_cannot_steer_the_terminal(copied):
    (copied / "model_card.md").write_text("# \x1b[2Jdemo\n", encoding="utf-8")
    sign_again(copied)
    assert run("model", "card", copied).stdout == "# ?[2Jdemo\n"
