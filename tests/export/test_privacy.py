"""What an export tells of patients and of the machine, and what is refused."""

import json
import re

import pytest

from kmm.data.phantom.report import compose_report
from kmm.errors import InputError
from kmm.export.privacy import describe_privacy, report_privacy, require_privacy
from kmm.export.samples import make_reports
from kmm.export.traces import PathSearch
from kmm.export.warmup import read_warmup_reports
from tests.factories.commands import run

COUNTED = {"min_word_patients": 2, "words": 14, "of_one_patient": 0, "of_fewer_than_5": 3, "left_out": 7}


def describe_classifier(folder, counts=None, split=""):
    """A folder with the description of a classifier, as far as a report reads it, and a split."""
    folder.mkdir()
    text = {} if counts is None else {"word_patients": counts}
    (folder / "classifier.json").write_text(json.dumps({"provenance": {"text": text}}))
    if split:
        (folder / "split.csv").write_text("study,patient,part\n" + split, encoding="utf-8")
    return folder


def test_an_export_holds_no_path_of_the_machine(exported, saved):
    search = PathSearch([saved, saved.parent])
    assert [path.name for path in exported.rglob("*") if path.is_file() and search.count_in(path)] == []
    assert str(saved.parent).encode() not in (exported / "saved_model.pb").read_bytes()


def test_warmup_requests_hold_words_of_the_phantom_set_alone(exported, hand_made):
    count, reports = read_warmup_reports(exported)
    assert count == 2 * 9 - 2 and reports and reports <= set(make_reports(8))
    data = (exported / "assets.extra" / "tf_serving_warmup_requests").read_bytes()
    own = [word for word in hand_made.batches.vocabulary.words[2:] if word.startswith("word")]
    assert len(own) == 9 and not re.search("|".join(own).encode(), data)


def test_reports_are_those_that_the_phantom_set_is_made_of():
    import numpy as np

    assert make_reports(2)[1] == compose_report([], np.random.default_rng(1), abnormal=False)[0].text()


def test_an_export_of_counted_words_without_ids_is_let_through(exported, tmp_path):
    folder = describe_classifier(tmp_path / "m", COUNTED, "study-77,patient-9,train\n2010,12,test\n")
    report = report_privacy(exported, folder, {"name": "tiny", "labels": ["mass"], "digest": "ab", "explain": None})
    require_privacy(report)
    assert report["words"] == {
        "vocabulary": 14,
        "with_digits": 9,
        "trained": 14,
        "of_one_patient": 0,
        "of_fewer_than_5": 3,
        "min_word_patients": 2,
    }
    assert report["ids"] == {"searched": 2, "short": 1, "plain_numbers": 1, "found": {}}
    assert report["warmup"] == {"requests": 16, "made_up": True} and not report["mean_film"] and not report["card"]
    assert (report["name"], report["labels"], report["digest"]) == ("tiny", ["mass"], "ab")
    assert json.loads(json.dumps(report)) == report
    lines = describe_privacy(report)
    assert "words: 14, 14 seen in training: 0 of one patient, 3 of fewer than 5 (min_word_patients 2); 9 of" in str(
        lines
    )
    assert lines[-1] == "finding: none"


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (None, "the number of patients that use each word of the vocabulary is unknown: train again"),
        (
            COUNTED | {"of_one_patient": 5},
            "the vocabulary contains 5 words that only one patient uses: train again with --min-word",
        ),
    ],
)
def test_rare_words_known_or_not_are_refused(exported, tmp_path, counts, said):
    report = report_privacy(exported, describe_classifier(tmp_path / "m", counts))
    with pytest.raises(InputError) as caught:
        require_privacy(report)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_an_id_in_an_asset_is_refused_and_not_repeated(exported, tmp_path):
    folder = describe_classifier(tmp_path / "m", COUNTED, "s-1,Word5,train\nword3,word33,test\n")
    report = report_privacy(exported, folder)
    assert report["ids"]["found"] == {"assets/vocabulary.txt": 2}
    with pytest.raises(InputError, match=r"assets/vocabulary\.txt contains ids of studies or patients \(2\)") as caught:
        require_privacy(report)
    assert "ord5" not in str(caught.value) and "word3" not in json.dumps(report)


def test_paths_and_foreign_reports_are_found(exported, tmp_path):
    import shutil

    copy = tmp_path / "1"
    shutil.copytree(exported, copy)
    (copy / "assets.extra" / "model_card.md").write_text("kmm predict /home/ann/models/tiny")
    place = copy / "assets.extra" / "tf_serving_warmup_requests"
    write_foreign_request(place)
    report = report_privacy(copy, describe_classifier(tmp_path / "m", COUNTED))
    assert report["paths"] == {"assets.extra/model_card.md": 1} and report["card"]
    assert report["warmup"] == {"requests": 1, "made_up": False}
    assert len(report["findings"]) == 2 and "quixley" not in json.dumps(report).lower()


def write_foreign_request(place):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["report"].string_val.append(b"Mr Quixley has a mass.")
    with tf.io.TFRecordWriter(str(place)) as writer:
        writer.write(log.SerializeToString())


@pytest.mark.large
@pytest.mark.usefixtures("one_signature")
def test_a_refused_export_leaves_nothing(saved_reader, tmp_path):
    result = run("export", saved_reader, "--out", tmp_path / "new" / "deep", "--without", "explain", "--strict-privacy")
    assert result.exit_code == 2 and result.stdout == "" and result.stderr.count("kmm: ") == 1
    assert "kmm: Not exported: the number of patients that use each word" in result.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.large
def test_a_trained_classifier_passes_and_its_export_holds_no_word_of_one_patient(tiny_run, tmp_path):
    """The tiny reports each hold a number of their own."""
    classifier, prepared, folder = tiny_run[0], tiny_run[1].prepared, tiny_run[2]
    result = run(
        "export", folder, "--out", tmp_path, "--without", "explain", "--strict-privacy", "--json", tmp_path / "e.json"
    )
    assert result.exit_code == 0 and result.stdout == "" and (tmp_path / "1").is_dir(), result.stderr
    report = json.loads((tmp_path / "e.json").read_text())["privacy"]
    counts = classifier.provenance["text"]["word_patients"]
    assert report["findings"] == [] and report["words"]["trained"] == counts["words"] and report["card"]
    assert report["words"]["vocabulary"] == len(classifier.batches.vocabulary) - 2
    numbers = [study.report.findings.rstrip(".").split()[-1] for study in prepared.studies if study.report]
    assert len(numbers) > 40
    found = re.compile(rf"(?<![\w.])({'|'.join(numbers)})(?!\w)".encode())
    files = [path for path in (tmp_path / "1").rglob("*") if path.is_file()]
    assert [path.name for path in files if found.search(path.read_bytes())] == []
    assert {path.name for path in files} & {path.name for path in folder.iterdir()} == {
        "vocabulary.txt",
        "model_card.md",
    }


def test_an_export_repeats_source_and_licence_of_the_weights(exported, tmp_path):
    weights = {"source": "rad-dino", "sha256": "5ea95516" * 8, "licence": "mit", "origin": "", "random": []}
    folder = describe_classifier(tmp_path / "m", COUNTED)
    (folder / "classifier.json").write_text(json.dumps({"provenance": {"text": {}, "image_weights": weights}}))
    report = report_privacy(exported, folder)
    assert report["image_weights"] == "rad-dino (5ea955165ea95516), licence mit"
    assert f"weights of the image encoder: {report['image_weights']}" in describe_privacy(report)
