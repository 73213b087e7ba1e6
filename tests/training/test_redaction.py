"""A fit with a redaction: what the model never reads, what is saved, and which runs can be resumed."""

import dataclasses
import json

import numpy as np
import pytest

from kmm.classifier import Classifier
from kmm.data.collection import read_collection
from kmm.errors import InputError
from kmm.export.pack import pack_classifier
from kmm.presets import make_settings
from kmm.text.redaction import Redaction
from kmm.training.fit import fit_classifier
from kmm.training.preparation.prepared_studies import prepare_studies
from kmm.training.resume import check_data, check_settings
from kmm.training.save_run import save_run
from tests.factories.studies import TINY

pytestmark = pytest.mark.large
WORDS = "# the words that decide the label\nno\na\n/cases?/\n"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text(WORDS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def fitted(tiny_folder, words, tmp_path_factory):
    """The classifier, its run and its folder; it reads reports alone."""
    out = tmp_path_factory.mktemp("redacted")
    settings = make_settings("small", {**TINY, "text_epochs": 1, "image_encoder": None, "redact": str(words)})
    classifier, run = fit_classifier(read_collection(tiny_folder), settings, work=out / "work", cache=out / "cache")
    save_run(classifier, run, out / "redacted")
    return classifier, run, out / "redacted"


def test_the_model_and_its_baseline_never_read_redacted_words(fitted):
    classifier, run, _ = fitted
    assert {"mass", "there"} <= set(classifier.batches.vocabulary.words)
    assert not {"no", "a", "case"} & set(classifier.batches.vocabulary.words)
    assert not any("no" in term.split() for term in classifier.tfidf.terms)
    assert any("no" in term.split() for term in classifier.tfidf_before.terms)
    assert run.facts["text"]["redaction"]["entries"] == 3 and run.facts["text"]["redaction"]["removed"] == 0.25


def test_the_leak_probe_tells_what_the_words_gave_away(fitted):
    for result in fitted[0].metrics.values():
        probe = result["leak_probe"]
        assert probe["before"]["roc_auc"] == 1 and probe["after"]["roc_auc"] == result["tfidf"]["roc_auc"] < 0.9


def test_the_words_are_saved_and_the_file_is_needed_no_more(fitted, words):
    classifier, run, folder = fitted
    loaded = Classifier.load(folder)
    assert loaded.batches.text == classifier.batches.text
    assert loaded.batches.text.redaction == Redaction(("no", "a", "/cases?/"))
    assert json.loads((folder / "classifier.json").read_text())["preparation"]["text"]["redact"] == [
        "no",
        "a",
        "/cases?/",
    ]
    studies = run.prepared.studies[:5]
    np.testing.assert_allclose(loaded.predict(studies).logits["text"], classifier.predict(studies).logits["text"])
    np.testing.assert_array_equal(loaded.tfidf_before.coef, classifier.tfidf_before.coef)
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    assert "- redaction: words.txt, 3 entries (" in card and "Leak probe: TF-IDF reaches ROC AUC 1.000" in card
    assert str(words.parent) not in card


def test_an_archive_keeps_the_words_and_leaves_out_path_and_baselines(fitted, words, tmp_path):
    result = pack_classifier(fitted[2], tmp_path / "shared.zip")
    assert not [name for name in result["files"] if name.endswith(".npz")]
    shared = Classifier.load(tmp_path / "shared.zip")
    assert shared.settings.redact == "words.txt" and len(shared.batches.text.redaction.entries) == 3


def test_a_run_goes_on_only_with_the_same_words(tiny_folder, words, tmp_path):
    collection = read_collection(tiny_folder)
    path = tmp_path / "words.txt"
    path.write_text(WORDS, encoding="utf-8")
    settings = make_settings("small", {**TINY, "image_encoder": None, "redact": str(path)})

    def check(settings):
        work = tmp_path / "work"
        work.mkdir(exist_ok=True)
        check_settings(work, settings, collection)
        check_data(work, settings, prepare_studies(collection, settings, films=tmp_path / "cache"), None)

    check(settings)
    path.write_text(f"# another comment\n{WORDS}", encoding="utf-8")
    check(settings)
    path.write_text(f"{WORDS}mass\n", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be resumed: redact changed since this run started"):
        check(settings)
    with pytest.raises(InputError, match="cannot be resumed: redact changed since this run started"):
        check(dataclasses.replace(settings, redact="default"))


def test_shared_studies_have_the_redaction_of_the_fit(tiny_folder, words, tmp_path):
    collection = read_collection(tiny_folder)
    settings = make_settings("small", {**TINY, "image_encoder": None})
    prepared = prepare_studies(collection, settings, films=tmp_path / "cache")
    wanted = dataclasses.replace(settings, redact=str(words))
    with pytest.raises(InputError, match="prepared with other settings of the text") as caught:
        fit_classifier(collection, wanted, work=tmp_path / "work", cache=tmp_path / "cache", prepared=prepared)
    assert "cases" not in str(caught.value)
