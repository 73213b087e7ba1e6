"""Whole runs on tiny studies."""

import json
import pickle
import re
import zipfile
from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image

from kmm.batches import BatchMaker, TextPreparation
from kmm.classifier import Classifier, StudyLogits, run_model
from kmm.data.collection import read_collection
from kmm.data.modalities import hide_sides
from kmm.data.study import Collection, ImageFile, Report, Study
from kmm.errors import InputError, LeakError
from kmm.evaluate.decisions.part_calibration import select_hidden
from kmm.models.build import ModelSpec, build_model
from kmm.models.views.parts import embed_of, fusion_of, text_encoder_of
from kmm.presets import make_settings
from kmm.progress import Progress
from kmm.text.word_pieces import WordPieces
from kmm.text.word_vectors import embedding_matrix, load_word_vectors
from kmm.training.fit import fit_classifier
from kmm.training.preparation.prepared_studies import note_labels, prepare_studies
from kmm.training.preparation.token_ids import encode_reports
from kmm.training.run_calibration import describe_calibration
from kmm.training.save_run import save_run
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.recipe import FEATURES, Stage
from tests.factories.studies import TINY

FAST = {**TINY, "text_epochs": 1, "image_epochs": 1, "joint_epochs": 1, "tune_epochs": 1}


def fit(folder, work, **settings):
    collection = read_collection(folder)
    return fit_classifier(collection, make_settings("small", {**FAST, **settings}), work=work, cache=work / "cache")


def numbers(classifier):
    return json.dumps(classifier.metrics)


def test_a_run_reports_every_row_on_validation_and_test(tiny_run):
    classifier, _, _ = tiny_run
    for part in ("validation", "test"):
        result = classifier.metrics[part]
        for row in ("joint", "image", "text", "tfidf", "image-linear", "linear-sum", "majority", "chance"):
            assert 0 <= result[row]["accuracy"] <= 1, row
    assert classifier.metrics["test"]["text"]["roc_auc"] is not None


def test_parts_are_disjoint_and_complete(tiny_run):
    _, run, _ = tiny_run
    rows = [run.rows(part) for part in ("train", "validation", "test")]
    np.testing.assert_array_equal(np.sort(np.concatenate(rows)), np.arange(len(run.prepared.studies)))


def count_users(run):
    """dict of each word of the training reports to the set of patients that use it."""
    users = {}
    for row in run.rows("train"):
        study = run.prepared.studies[row]
        for word in run.maker.text.words(study):
            users.setdefault(word, set()).add(study.patient)
    return users


def test_the_vocabulary_knows_words_of_two_training_patients_only(tiny_run):
    classifier, run, _ = tiny_run
    users = count_users(run)
    common = {word for word, patients in users.items() if len(patients) > 1}
    assert set(classifier.batches.vocabulary.words[2:]) == common < set(users)
    said = classifier.provenance["text"]["word_patients"]
    assert said == {
        "min_word_patients": 2,
        "words": len(common),
        "of_one_patient": 0,
        "of_fewer_than_5": sum(len(users[word]) < 5 for word in common),
        "left_out": len(users) - len(common),
    }


def read_files(folder):
    """The bytes of all files of a folder by their names, archives unpacked."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                yield from ((f"{path.name}/{name}", archive.read(name)) for name in archive.namelist())
        else:
            yield path.name, path.read_bytes()


def test_no_file_of_a_saved_classifier_holds_a_word_of_one_patient(tiny_run):
    _, run, folder = tiny_run
    rare = [word for word, patients in count_users(run).items() if len(patients) == 1 and len(word) == 10]
    assert len(rare) > 20  # numbers, one in each report
    found = re.compile(rf"(?<![\w.])({'|'.join(rare)})(?!\w)".encode())
    assert [name for name, data in read_files(folder) if found.search(data)] == []
    terms = dict(read_files(folder))["tfidf.npz/terms.npy"].decode("latin-1")
    assert "there is" in terms and "mass in" in terms


@pytest.mark.large
def test_training_reads_words_of_one_patient_as_unknown_where_a_file_brings_them(tiny_folder, tmp_path):
    """A changed row of the embedding would reveal that a word occurs in the reports, and so would a missing one."""
    studies = read_collection(tiny_folder).studies
    numbers = [study.report.findings.rstrip(".").split()[-1] for study in studies if study.report]
    lines = ["mass 0 1 0", "cyst 0 1 1", *(f"{number} 1 0 {row}" for row, number in enumerate(numbers))]
    (tmp_path / "v.txt").write_text("\n".join(lines), encoding="utf-8")
    settings = {"word_vectors": str(tmp_path / "v.txt"), "image_encoder": None}
    classifier, run = fit(tiny_folder, tmp_path / "work", **settings)
    vocabulary = classifier.batches.vocabulary
    assert vocabulary.words[-len(numbers) - 1 :] == ("cyst", *numbers)
    start, _ = embedding_matrix(load_word_vectors(tmp_path / "v.txt"), vocabulary, seed=run.settings.seed)
    rows = keras.ops.convert_to_numpy(embed_of(classifier.models["text"]).get_layer("embedding").embeddings)
    changed = dict(zip(vocabulary.words, (rows != start).any(axis=1), strict=True))
    assert changed["mass"] and not any(changed[word] for word in ("cyst", *numbers))
    used = run.token_ids[run.rows("validation")]
    assert (used > vocabulary.words.index("cyst")).any(axis=1).all()  # elsewhere they are read as any word of the file


def test_pieces_of_too_few_patients_are_hidden_from_training_alone():
    """Of two sides of the same reports: training rows lose the pieces, validation rows keep them."""
    vocabulary = WordPieces(("[PAD]", "[UNK]", "no", "qui", "##xley"))
    studies = [
        Study(str(n), str(n), report=Report(findings=text)) for n, text in enumerate(["no quixley", "no", "quixley no"])
    ]
    maker = BatchMaker(None, TextPreparation(length=3, pieces=True), vocabulary=vocabulary, label_names=())
    prepared = SimpleNamespace(studies=studies, rows=lambda part: np.array([0, 1]))
    hidden = {"##xley", "qui", "[UNK]", "absent"}
    assert encode_reports(prepared, maker).tolist() == [[2, 3, 4], [2, 0, 0], [3, 4, 2]]
    assert encode_reports(prepared, maker, hidden=hidden).tolist() == [[2, 1, 1], [2, 0, 0], [3, 4, 2]]


@pytest.mark.large
def test_a_run_over_word_pieces(tiny_folder, tmp_path):
    pieces = ["no", "m", "##ass", "there", "is", "a", "in", "ca", "##se", "cough", "unmet"]
    lines = "\n".join(["[PAD]", "[unused0]", "[UNK]", "[CLS]", *pieces])
    (tmp_path / "vocab.txt").write_text(lines, encoding="utf-8")
    settings = {"word_pieces": str(tmp_path / "vocab.txt"), "image_encoder": None}
    classifier, run = fit(tiny_folder, tmp_path / "work", **settings)
    save_run(classifier, run, tmp_path / "pieces")
    loaded = Classifier.load(tmp_path / "pieces")
    assert loaded.batches.vocabulary.words == ("[PAD]", "[UNK]", *pieces)
    said = loaded.provenance["text"]
    assert (said["words"], said["word_pieces"]) == (13, "vocab.txt")
    assert said["coverage_of_words"] == pytest.approx(10 / 11)  # of "unmet" there is no vector
    number = run.maker.text.words(run.prepared.studies[0])[-1]
    assert loaded.batches.vocabulary.split(["mass", number]) == [("m", "##ass"), ("[UNK]",)]
    assert "vocab.txt" in (tmp_path / "pieces" / "model_card.md").read_text(encoding="utf-8")
    studies = run.prepared.studies[:5]
    np.testing.assert_allclose(
        loaded.predict(studies).logits["text"], classifier.predict(studies).logits["text"], atol=1e-6
    )


@pytest.mark.large
def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tiny_folder, tmp_path):
    """Of reports alone, which is quick; the stopped run below is the same for both sides."""
    first, second, other = (
        fit(tiny_folder, tmp_path / name, seed=seed, image_encoder=None)[0]
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert numbers(first) == numbers(second) != numbers(other)


@pytest.mark.large
def test_a_run_that_was_stopped_goes_on_to_the_same_numbers(tiny_run, tiny_folder, tmp_path, monkeypatch):
    started = []
    start_epoch = StudyDataset.start_epoch

    def stop_in_the_image_stage(self, epoch):
        started.append(epoch)
        if len(self.columns) == 2 and "image" in self.columns and epoch == 0 and len(started) > 4:
            raise KeyboardInterrupt
        start_epoch(self, epoch)

    monkeypatch.setattr(StudyDataset, "start_epoch", stop_in_the_image_stage)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_folder, tmp_path / "parts", **TINY)
    monkeypatch.undo()
    (path,) = (tmp_path / "parts" / "stages" / "text").iterdir()
    with np.load(path) as stored:
        assert json.loads(stored["state"].tobytes())["done"]
    resumed, _ = fit(tiny_folder, tmp_path / "parts", **TINY)
    assert numbers(resumed) == numbers(tiny_run[0])


def test_a_work_folder_of_other_settings_is_refused(tiny_folder, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"settings": {}, "studies": 1, "layout": "?"}))
    with pytest.raises(InputError, match=r"cannot be resumed: .*seed.* changed"):
        fit(tiny_folder, tmp_path)


def test_a_run_is_not_resumed_with_another_number_of_patients_a_word(tiny_folder, tmp_path):
    collection = read_collection(tiny_folder)
    said = {"settings": make_settings("small", FAST).as_dict(), "studies": 60, "layout": collection.layout}
    (tmp_path / "run.json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=r"cannot be resumed: min_word_patients changed"):
        fit(tiny_folder, tmp_path, min_word_patients=1)


class Prepared(Exception):
    """Ends a run before it trains."""


def prepare(labels, parts, work, films=(), **settings):
    """Prepares a run of studies of a manifest. Returns its label names and what was noted.

    Args:
        labels: dict of name to one value per study.
        parts: one letter per study: t, v or e (test).
        films: path of a film for each study, or None; no films where it is empty.
    """
    columns = [dict(zip(labels, map(float, values), strict=True)) for values in zip(*labels.values(), strict=True)]
    studies = tuple(
        Study(
            str(n), str(n), (ImageFile(film, "frontal"),) if film else (), Report(findings=f"Word {n}."), labels=values
        )
        for n, (values, film) in enumerate(zip(columns, films or [None] * len(columns), strict=True))
    )
    names = {"t": "train", "v": "validation", "e": "test"}
    rows = [f"{n},{n},{names[part]}" for n, part in enumerate(parts)]
    (work / "s.csv").write_text("\n".join(["study,patient,part", *rows]))
    notes, made = [], []
    progress = Progress()
    progress.note = notes.append

    def stop(settings, prepared, *context):
        made.append(prepared.maker.label_names)
        raise Prepared

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Prepared):
        patch.setattr("kmm.training.fit._make_context", stop)
        fit_classifier(
            Collection(work, "test", studies),
            make_settings("small", {**FAST, "labels": "columns", "image_encoder": None, **settings}),
            work=work / "w",
            cache=work,
            split=work / "s.csv",
            progress=progress,
        )
    return made[0], "\n".join(notes)


def test_training_of_one_class_is_refused_by_the_name_of_the_label(tmp_path):
    with pytest.raises(InputError, match=r"label 'odd' lacks a class in the training part \(3 of 0\)\. Give a --split"):
        prepare({"odd": [0, 0, 0, 1, 0, 1, 0]}, "tttvvee", tmp_path)


def test_three_studies_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"label 'odd' lacks a class in the training part \(1 of 0\)\."):
        prepare({"odd": [0, 1, 0]}, "tve", tmp_path)


def test_a_label_of_one_class_in_training_is_left_out_where_another_can_be_trained(tmp_path):
    labels = {"odd": [0, 1, 0, 1, 0, 1, 0, 1], "late": [0, 0, 0, 0, 1, 1, 1, 0], "rare": [0, 0, 1, 0, 0, 0, 0, 0]}
    names, notes = prepare(labels, "ttttvvee", tmp_path)
    assert names == ("odd",)
    assert "Left out: label 'late' lacks a class in the training part (4 of 0)." in notes
    assert "Label 'rare' is left out: 7 of 0, 1 of 1." in notes


def test_one_class_in_validation_or_test_is_said_by_the_name_of_the_label(tmp_path):
    names, notes = prepare({"odd": [0, 1, 0, 1, 1, 0, 0]}, "tttvvee", tmp_path)
    assert names == ("odd",)
    assert "Label 'odd' lacks a class in validation (2 of 1): its threshold and its temperature cannot be" in notes
    assert "Label 'odd' lacks a class in test (2 of 0): ROC AUC" in notes
    again = tmp_path / "again"
    again.mkdir()
    assert "lacks a class" not in prepare({"odd": [0, 1, 0, 1, 0, 1, 0, 1]}, "ttttvvee", again)[1]


def test_films_that_lie_in_other_parts_are_refused_or_said(tmp_path, films):
    (first, second, third), odd = films.values(), {"odd": [0, 1, 0, 1, 0, 1, 0, 1]}
    with pytest.raises(InputError, match="The training part has no study with a film"):
        prepare(odd, "ttttvvee", tmp_path, [None] * 4 + [first, second, third, None], image_encoder="small-cnn")
    again = tmp_path / "again"
    again.mkdir()
    _, notes = prepare(odd, "ttttvvee", again, [first, None, second] + [None] * 5, image_encoder="small-cnn")
    assert "No study of validation has a film: the image part cannot choose its epochs and thresholds." in notes
    assert "No study of test has a film: the image part cannot be evaluated." in notes
    assert "Label 'odd': all training films have the same class (2 of 0)" in notes


def test_a_split_that_leaks_fails_the_run(tiny_folder, tmp_path, tiny_run):
    split = tiny_run[2] / "split.csv"
    collection = read_collection(tiny_folder)
    leaking = replace(collection, studies=tuple(replace(study, patient="one") for study in collection.studies))
    with pytest.raises(LeakError, match="patient"):
        fit_classifier(leaking, make_settings("small", FAST), work=tmp_path / "w", cache=tmp_path, split=split)


def test_a_split_that_parts_two_copies_of_a_film_fails_the_run(tiny_folder, tmp_path, tiny_run):
    split, collection = tiny_run[1].split, read_collection(tiny_folder)
    known = {study.id: study for study in collection.studies}
    train, test = (
        next(known[study] for study in split.part(part) if known[study].images) for part in ("train", "test")
    )
    with Image.open(train.frontal.path) as film:
        film.save(tmp_path / "copy.bmp")
    copy = replace(test, images=(replace(test.frontal, path=tmp_path / "copy.bmp"),))
    leaking = replace(collection, studies=tuple(copy if study is test else study for study in collection.studies))
    with pytest.raises(LeakError, match=rf"Films that cross: 1\. .*{train.id} \(train\), {test.id} \(test\)"):
        fit_classifier(
            leaking, make_settings("small", FAST), work=tmp_path / "w", cache=tmp_path, split=tiny_run[2] / "split.csv"
        )


def test_a_hidden_side_is_a_side_that_is_not_there(hand_made, studies):
    batch, model = hand_made.batches.batch(studies), hand_made.models["joint"]
    assert batch.present.tolist() == [[1, 1], [1, 1], [1, 0], [0, 1]]

    def answer(rows, present=batch.present):
        return run_model(model, {name: column[rows] for name, column in {**batch.inputs(), "present": present}.items()})

    def answer_hidden(part, pattern, rows):
        return answer(rows, hide_sides(batch.present, pattern)[0])

    rows = np.arange(len(studies))
    validation = StudyLogits(studies, batch.present, {"joint": answer(rows)}, batch.labels, [])
    for pattern, kept, lack in (
        ("both", [0, 1], {}),
        ("image", [0, 1, 2], {"report": None}),
        ("text", [0, 1, 3], NO_FILM),
    ):
        logits, labels = select_hidden("joint", pattern, validation, answer_hidden)
        apart = hand_made.predict([replace(studies[row], **lack) for row in kept]).logits["joint"]
        np.testing.assert_allclose(logits, apart, atol=1e-5)
        assert len(labels) == len(kept)
    np.testing.assert_array_equal(validation.logits["joint"], answer(rows))  # the predictions stay as they are


NO_FILM = {"images": ()}


def test_few_validation_studies_get_the_pooled_numbers_and_it_is_said(tiny_run, tiny_folder, tmp_path):
    classifier, run, folder = tiny_run
    for numbers in (classifier.temperatures["joint"], classifier.thresholds["joint"]):
        assert (numbers == numbers[0]).all()
    assert classifier.provenance["calibration"] == run.facts["calibration"]
    assert all(found["pooled"] == ["abnormal"] for found in run.facts["calibration"].values())
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    count = run.facts["calibration"]["image"]["studies"]
    assert (
        f"- film alone: {count} validation studies; the numbers fitted on all validation studies are used for abnormal"
        in card
    )
    facts = {name: {"studies": 7, "pooled": [], "prevalence_pooled": []} for name in ("both", "image", "text")}
    facts["image"]["pooled"], facts["text"]["prevalence_pooled"] = ["abnormal"], ["abnormal", "mass"]
    assert describe_calibration(facts) == [
        "Calibrated on validation studies: film and report 7, film alone 7, report alone 7; a film or report alone "
        "with the other side hidden",
        "Fewer than 20 validation studies of a class for film alone: the calibration of all validation studies is used "
        "for abnormal",
        "Fewer than 20 training studies of a class for report alone: the prevalence among all training studies is used "
        "for abnormal, mass",
    ]


def test_a_prevalence_of_few_training_studies_is_that_of_all_and_it_is_said(tiny_run):
    classifier, run, folder = tiny_run
    labels, present = run.prepared.labels[run.rows("train"), 0], run.prepared.present[run.rows("train")]
    few = min((labels[present.all(axis=1)] == value).sum() for value in (0, 1)) < 20
    assert few and classifier.prevalence[0] == pytest.approx(labels.mean())
    assert run.facts["calibration"]["both"]["prevalence_pooled"] == ["abnormal"]
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert "; the prevalence among all training studies is used for abnormal" in card


@pytest.mark.large
def test_a_split_file_is_used_as_it_is(tiny_folder, tmp_path, tiny_run):
    _, before, folder = tiny_run
    collection = read_collection(tiny_folder)
    settings = make_settings("small", {**FAST, "seed": 9, "image_encoder": None})
    _, run = fit_classifier(collection, settings, work=tmp_path / "w", cache=tmp_path, split=folder / "split.csv")
    assert len(run.split.parts) >= 58
    assert all(before.split.parts[study] == part for study, part in run.split.parts.items())


def test_a_wrong_split_file_is_said_before_a_film_is_read(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "kmm.training.preparation.prepared_studies.read_studies", lambda *_, **__: pytest.fail("films were read")
    )
    collection, settings = read_collection(tiny_folder), make_settings("small", FAST)
    with pytest.raises(InputError, match=r"typo\.csv: the split cannot be read"):
        fit_classifier(collection, settings, work=tmp_path / "w", cache=tmp_path, split=tmp_path / "typo.csv")


def test_a_refused_run_keeps_what_was_set_aside(tiny_folder, tmp_path):
    collection = read_collection(tiny_folder)
    gone = tuple(replace(s, images=(ImageFile(tmp_path / "gone.png", "frontal"),)) for s in collection.studies)
    with pytest.raises(InputError, match="no study with a frontal image") as caught:
        fit_classifier(
            replace(collection, studies=gone), make_settings("small", FAST), work=tmp_path / "w", cache=tmp_path
        )
    assert len(caught.value.problems) == 60 and "gone.png" in str(caught.value.problems[0])


@pytest.mark.large
def test_settings_and_card_tell_the_size_and_the_coverage_of_word_vectors_from_a_file(tiny_folder, tmp_path):
    file = "Heart 1 1 1\nno 1 0 0\nmass 0 1 0\neffusion 0 0 1\nt-spine 1 1 0\ncaf\udce9 1 0 1\ncyst 0 1 1\nrib 2 1 1\n"
    (tmp_path / "v.txt").write_bytes(file.encode("utf-8", "surrogateescape"))
    notes, progress = [], Progress()
    progress.note = notes.append
    fast = {**FAST, "image_encoder": None, "word_vectors": str(tmp_path / "v.txt")}
    settings = make_settings("small", {**fast, "min_word_count": 5})
    classifier, run = fit_classifier(
        read_collection(tiny_folder), settings, work=tmp_path / "w", cache=tmp_path, progress=progress
    )
    save_run(classifier, run, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "settings.json").read_text())["embedding_size"] == 3
    # The file's other words that reports can hold have rows too, and keep their vectors.
    vocabulary = classifier.batches.vocabulary
    words = len(vocabulary) - 3
    assert vocabulary.words[words:] == ("effusion", "cyst", "rib")
    rows = keras.ops.convert_to_numpy(embed_of(classifier.models["text"]).get_layer("embedding").embeddings)
    vectors = load_word_vectors(tmp_path / "v.txt", keep={"no", "mass", "effusion", "cyst", "rib"})
    start, _ = embedding_matrix(vectors, vocabulary)
    np.testing.assert_array_equal(rows[words:], start[words:])
    assert not np.array_equal(
        rows[vocabulary.encode(["no"], 1)], start[vocabulary.encode(["no"], 1)]
    )  # that was trained
    assert run.facts["text"]["words_of_the_vectors_alone"] == 3
    (note,) = [note for note in notes if note.startswith("Words: ")]
    assert note.startswith(
        f"Words: {words} from training and 3 only from the vectors; {2 / (words - 2):.1%} of those from training ("
    )
    assert "of validation are unknown; 1 words of the file are skipped, as they have white space" in note
    card = (tmp_path / "saved" / "model_card.md").read_text(encoding="utf-8")
    assert f"- words with a vector: {2 / (words - 2):.4f}\n- running words with a vector: 0." in card
    for line in ("image encoder", "image weights", "pixels", "fusion"):
        assert f"- {line}:" not in card
    assert "Frontal chest films only" not in card
    assert "kmm predict saved --report REPORT.txt\n" in card and str(tmp_path) not in card


@pytest.mark.large
@pytest.mark.parametrize("missing", ["image", "text"])
def test_a_classifier_of_one_side(tiny_folder, tmp_path, missing):
    classifier, run = fit(tiny_folder, tmp_path / "w", **{f"{missing}_encoder": None})
    there = "text" if missing == "image" else "image"
    if there == "image":
        save_run(classifier, run, tmp_path / "saved")
        card = (tmp_path / "saved" / "model_card.md").read_text(encoding="utf-8")
        assert "- pixels: 32" in card and not any(f"- {word}" in card for word in ("text ", "sections", "fusion"))
        assert "saved FILM.png\n" in card and "nearly seen the answer" not in card
    assert list(classifier.models) == [there] and classifier.main == there
    assert classifier.metrics["test"]["joint"] is None and classifier.metrics["test"][there] is not None


def write_manifest(tiny_folder, folder):
    """The tiny studies as a manifest with two labels, a third of them unknown."""
    folder.mkdir()
    lines = ["id,image,report,label:mass,label:odd"]
    for number, study in enumerate(read_collection(tiny_folder).studies):
        film = study.images[0].path if study.images else ""
        if film:
            (folder / film.name).write_bytes(film.read_bytes())
        mass = "" if number % 3 == 0 else int(study.mesh_major != ("normal",))
        odd = "" if number % 3 == 1 else number % 5 // 3
        lines.append(f"{study.id},{film and film.name},{study.report.findings if study.report else ''},{mass},{odd}")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.large
def test_several_labels_with_unknown_ones(tiny_folder, tmp_path):
    folder = write_manifest(tiny_folder, tmp_path / "set")
    classifier, run = fit(folder, tmp_path / "work", labels="columns", text_epochs=6, image_epochs=2)
    assert classifier.label_names == ("mass", "odd")
    unknown = np.isnan(run.prepared.labels)
    assert 0.2 < unknown.mean() < 0.5
    test = classifier.metrics["test"]
    known = (~unknown)[run.rows("test")].sum(axis=0)
    assert [test["majority"]["per_label"][name]["n"] for name in classifier.label_names] == known.tolist()
    assert all(np.isfinite(weights).all() for weights in run.models["joint"].get_weights())


def test_label_columns_that_are_not_read_and_headings_left_out_are_said_and_kept():
    studies = [
        Study("1", "1", mesh_major=("Lung/hypoinflation", "Opacity"), labels={"mass": 1.0}),
        Study("2", "2", mesh_major=("normal",), labels={"mass": 0.0}),
    ]
    notes = []
    facts = note_labels(studies, make_settings("small", {"labels": "findings", "label_min_count": 1}), notes.append)
    assert notes == [
        "Label columns that the scheme 'findings' does not read: label:mass. --labels columns reads them",
        "Headings left out as non-findings: by 'bare organs' 1 (as labels: Lung 1); by 'technical quality' none",
    ]
    assert facts["not_findings"][0] == {"rule": "bare organs", "heading": "Lung", "studies": 1, "label": True}


def test_a_run_is_not_resumed_on_other_data(tiny_folder, tmp_path, monkeypatch):
    settings = {"image_encoder": None}

    def stop(*arguments, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr("kmm.training.fit.train_models", stop)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_folder, tmp_path, **settings)
    collection = read_collection(tiny_folder)
    study = collection.studies[4]
    changed = replace(study, report=replace(study.report, impression="Changed."))
    studies = tuple(changed if other is study else other for other in collection.studies)
    with pytest.raises(InputError, match="cannot be resumed: data changed"):
        fit_classifier(
            replace(collection, studies=studies),
            make_settings("small", {**FAST, **settings}),
            work=tmp_path,
            cache=tmp_path,
        )


@pytest.mark.large
def test_without_a_test_part_there_are_results_of_validation_and_it_is_said(tiny_folder, tmp_path):
    settings = {"image_encoder": None, "shares": (0.7, 0.3, 0.0)}
    classifier, run = fit(tiny_folder, tmp_path / "work", **settings)
    assert set(classifier.metrics) == set(run.predictions) == {"validation"}
    assert run.facts["parts"]["test"] == 0 and len(run.rows("train")) + len(run.rows("validation")) == 59
    save_run(classifier, run, tmp_path / "saved")
    saved = json.loads((tmp_path / "saved" / "metrics.json").read_text())
    assert set(saved) == {"schema", "validation"}
    card = (tmp_path / "saved" / "model_card.md").read_text(encoding="utf-8")
    assert "## Results on test studies\n\nThe split has none. Measure the classifier on studies" in card
    assert {path.name for path in (tmp_path / "saved" / "pictures").glob("*.png")} == {"learning_curves.png"}
    assert Classifier.load(tmp_path / "saved").metrics == classifier.metrics


@pytest.mark.large
def test_fits_share_prepared_studies(tiny_folder, tmp_path, tiny_run, monkeypatch):
    collection, settings = read_collection(tiny_folder), make_settings("small", {**FAST, "image_encoder": None})
    prepared = prepare_studies(collection, settings, films=tmp_path)
    before = pickle.dumps(prepared)
    monkeypatch.setattr("kmm.training.fit.prepare_studies", lambda *_, **__: pytest.fail("prepared again"))

    def again(work, settings=settings, **options):
        return fit_classifier(
            collection, settings, work=tmp_path / work, cache=tmp_path / "c", prepared=prepared, **options
        )

    epochs = []
    watch = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))
    (first, run), (second, _) = again("a"), again("b", callbacks=[watch])
    assert numbers(first) == numbers(second) and run.split == prepared.split and epochs == [0]
    assert pickle.dumps(prepared) == before and prepared.maker.vocabulary is None
    with pytest.raises(InputError, match="Give either `prepared` or `split`"):
        again("c", split=tiny_run[2] / "split.csv")
    with pytest.raises(InputError, match=r"prepared with other settings of the text: .*length=12.*needs .*length=9"):
        again("d", replace(settings, length=9))
    other = replace(prepared, split=tiny_run[1].split)
    with pytest.raises(InputError, match="cannot be resumed: parts changed"):
        fit_classifier(collection, settings, work=tmp_path / "a", cache=tmp_path / "c", prepared=other)


@pytest.mark.large
@pytest.mark.parametrize(
    "settings, trained",
    [
        ({"joint_epochs": 0, "tune_image": "none"}, ["text", "image head", "joint tuning"]),
        ({"image_epochs": 0, "tune_image": "top"}, ["text", "image tuning", "joint head", "joint tuning"]),
    ],
)
def test_a_stage_without_epochs_is_skipped(tiny_folder, tmp_path, settings, trained):
    _, run = fit(tiny_folder, tmp_path, image_weights="random", **settings)
    assert list(run.history) == trained
    assert len(run.predictions["test"].logits["joint"]) == len(run.rows("test"))


@pytest.mark.large
def test_another_recipe_is_a_change_of_its_stages(tiny_folder, tmp_path, monkeypatch):
    """The head of the text side alone: the encoder and the word vectors stay as they were built."""

    def train_head(settings):
        return {"text": (Stage("text head", 2, 0.01, side="text", text=FEATURES, batch_size=16),)}

    monkeypatch.setattr("kmm.training.train.make_recipe", train_head)
    _, run = fit(tiny_folder, tmp_path, image_encoder=None)
    assert list(run.history) == ["text head"] and len(run.history["text head"]["loss"]) == 2
    model = run.models["text"]
    fresh = build_model(
        ModelSpec(text_encoder="text-cnn", length=12, embedding_size=8, text_filters=8, fusion_units=8, head="mlp"),
        label_count=1, embedding=embed_of(model).get_weights()[0], seed=run.settings.seed,
    )  # fmt: skip
    for part in (text_encoder_of, embed_of):
        for one, other in zip(part(model).get_weights(), part(fresh).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
    head = [fusion_of(built).get_layer("logits").get_weights()[0] for built in (model, fresh)]
    assert not np.array_equal(*head)
    assert [path.name.rpartition("-")[0] for path in (tmp_path / "cache").iterdir()] == ["features-text-cnn-vector"]
