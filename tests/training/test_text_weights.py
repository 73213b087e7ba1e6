"""Fits whose text encoder starts from the folder of a BERT."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from kmm.classifier import Classifier
from kmm.data.collection import read_collection
from kmm.data.study import Report, Study
from kmm.errors import InputError
from kmm.evaluate.result_files import describe_for_card
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.export.explanation import ExplainSignature
from kmm.export.pack import pack_classifier
from kmm.export.write import export_classifier
from kmm.models.views.parts import embed_of, text_encoder_of
from kmm.presets import make_settings
from kmm.settings import FitSettings
from kmm.text.bert_vocabulary import read_bert_vocabulary
from kmm.training.fit import check_names, fit_classifier
from kmm.training.preparation.text_weights import list_text_files, open_text_weights
from kmm.training.resume import check_data
from kmm.training.stages.recipe import FEATURES, make_recipe
from tests.export.cpp_loader import CppModel, open_library
from tests.factories.bert import write_bert
from tests.factories.studies import TINY

pytestmark = pytest.mark.large  # its fixtures train whole classifiers

FAST = {**TINY, "text_encoder": "bert", "image_encoder": None, "text_teacher": 0, "length": 20, "min_word_patients": 1}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder, _ = write_bert(tmp_path_factory.mktemp("weights") / "cased-bert", lower=False, width=12, layers=3)
    return folder


@pytest.fixture(scope="module")
def run(bert, tiny_folder, tmp_path_factory):
    """A fit of reports, whose top is tuned: (classifier, run, folder of the saved classifier)."""
    work = tmp_path_factory.mktemp("fit")
    settings = make_settings("small", {**FAST, "text_weights": str(bert), "tune_text": "top"})
    classifier, made = fit_classifier(read_collection(tiny_folder), settings, work=work / "work", cache=work / "cache")
    classifier.save(work / "saved")
    return classifier, made, work


def test_the_folder_sets_words_cleaning_and_shape(bert, run):
    classifier, _, _ = run
    text = classifier.batches.text
    assert (text.cleaning, text.pieces, text.length) == ("bert-cased", True, 20)
    assert classifier.batches.vocabulary == read_bert_vocabulary(bert).pieces
    facts = classifier.provenance["text_weights"]
    assert (facts["source"], facts["tensors"]) == ("cased-bert", 5 + 3 * 16) and len(facts["sha256"]) == 64
    assert facts["shape"]["layers"] == 3 and facts["extra"] == ("pooler.dense.bias", "pooler.dense.weight")
    assert classifier.provenance["text"]["word_pieces"] == "cased-bert"
    card = json.dumps(describe_for_card(classifier, "saved"), default=str)
    assert f"cased-bert ({facts['sha256'][:16]})" in card


def test_the_head_is_trained_on_features_and_then_the_top(bert, run):
    _, made, work = run
    assert list(made.history) == ["text head", "text tuning"]
    assert any(path.name.startswith("features-bert-vector") for path in (work / "cache").iterdir())
    weights = open_text_weights(made.settings)
    model = made.models["text"]
    np.testing.assert_array_equal(embed_of(model).get_weights()[0], weights.read_rows())
    kept = text_encoder_of(model).get_layer("block1_query").get_weights()[0]
    np.testing.assert_array_equal(kept, weights.folder.read("encoder.layer.0.attention.self.query.weight").T)


STUDY = Study("one", "one", (), Report(indication="Cough, XXXX.", findings="There is a mass; no Cardiomegaly (5 cm)."))


def test_a_saved_classifier_answers_and_explains_alike(run):
    classifier, _, work = run
    loaded = Classifier.load(work / "saved")
    np.testing.assert_allclose(*(one.predict([STUDY]).logits["text"] for one in (classifier, loaded)), atol=1e-6)
    (one,) = Explainer(loaded, ExplainSettings()).explain([STUDY])
    assert one.attribution.completeness_gap <= 0.05
    words = loaded.batches.text.find(loaded.batches.text.text(STUDY))
    pieces = loaded.batches.vocabulary.pieces([word.text for word in words])
    rows = one.attribution.values["rows"]
    assert rows[: len(pieces)].any() and not rows[len(pieces) :].any()
    texts = [word.text for word in one.words]
    assert "Cough" in texts and "[CLS]" not in texts and sum(word.share for word in one.words) == pytest.approx(1)


def test_an_archive_names_the_folder_without_its_place(run, tmp_path):
    _, _, work = run
    pack_classifier(work / "saved", tmp_path / "shared.zip")
    assert Classifier.load(tmp_path / "shared.zip").settings.text_weights == "cased-bert"


def test_a_run_does_not_go_on_with_other_files(bert, run, tmp_path):
    _, made, _ = run
    copy = shutil.copytree(bert, tmp_path / "bert")
    settings = FitSettings.from_dict({**made.settings.as_dict(), "text_weights": str(copy)})
    check_data(tmp_path, settings, made.prepared, None)
    check_data(tmp_path, settings, made.prepared, None)
    assert [path.name for path in list_text_files(settings)] == ["config.json", "vocab.txt", "model.safetensors"]
    (copy / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InputError, match="cannot be resumed: text_weights changed"):
        check_data(tmp_path, settings, made.prepared, None)


def test_factors_are_trained_merged_and_saved_as_the_plain_network_and_a_stopped_run_ends_the_same(
    tiny_folder, tmp_path
):
    folder, _ = write_bert(tmp_path / "bert", layers=1)
    changed = {"text_weights": str(folder), "tune_text": "lora", "lora_rank": 2, "tune_learning_rate": 0.01}
    more = {"tune_epochs": 2, "text_epochs": 1, "head": "decoder", "length": 8}
    settings = make_settings("small", {**FAST, **changed, **more})
    assert FitSettings.from_dict(settings.as_dict()) == settings

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1 and any("/up0" in weight.path for weight in self.model.trainable_variables):
                raise KeyboardInterrupt

    def fit(work, **more):
        collection = read_collection(tiny_folder)
        return fit_classifier(collection, settings, work=work, cache=tmp_path / "cache", **more)

    classifier, made = fit(tmp_path / "whole")
    assert list(made.history) == ["text head", "text tuning"] and len(made.history["text tuning"]["loss"]) == 2
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "stopped", callbacks=[Stop()])
    _, resumed = fit(tmp_path / "stopped")
    assert made.history == resumed.history
    for one, two in zip(made.models["text"].get_weights(), resumed.models["text"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    encoder, weights = text_encoder_of(classifier.models["text"]), open_text_weights(settings)
    assert encoder.count_params() == sum(array.size for array in encoder.get_weights())
    for name, layer, rank in (("query", "attention.self.query", 2), ("key", "attention.self.key", 0)):
        start = weights.folder.read(f"encoder.layer.0.{layer}.weight").T
        changes = encoder.get_layer(f"block1_{name}").get_weights()[0] - start
        assert np.linalg.matrix_rank(changes, tol=1e-5) == rank
    classifier.save(tmp_path / "saved")
    loaded = Classifier.load(tmp_path / "saved")
    np.testing.assert_allclose(*(one.predict([STUDY]).logits["text"] for one in (classifier, loaded)), atol=1e-6)
    assert text_encoder_of(loaded.models["text"]).count_params() == encoder.count_params()


@pytest.mark.parametrize(
    ("tuned", "text", "joint"),
    [
        ("none", [FEATURES], [(FEATURES, FEATURES), ("all", FEATURES)]),
        ("top", [FEATURES, "top"], [(FEATURES, FEATURES), ("all", "top")]),
        ("all", [FEATURES, "all"], [(FEATURES, FEATURES), ("all", "all")]),
        ("gradual", [FEATURES, "1/3", "2/3", "all"], [(FEATURES, FEATURES), ("all", "all")]),
        ("lora", [FEATURES, "lora"], [(FEATURES, FEATURES), ("all", "lora")]),
    ],
)
def test_stages_of_the_text_side(tuned, text, joint):
    recipe = make_recipe(FitSettings(text_encoder="bert", text_weights="bert", tune_text=tuned, tune_epochs=3))
    assert [stage.text for stage in recipe["text"]] == text
    assert [(stage.image, stage.text) for stage in recipe["joint"]] == joint
    frozen = FitSettings(text_weights="bert", image_weights="w.h5", tune_text="none", tune_image="none")
    assert [stage.name for stage in make_recipe(frozen)["joint"]] == ["joint head"]


def test_a_cased_vocabulary_is_read_with_its_capitals_whatever_the_file_says(tmp_path):
    cased, _ = write_bert(tmp_path / "cased", lower=False, tokenizer={"do_lower_case": True})
    found = read_bert_vocabulary(cased)
    assert found.cleaning == "bert-cased" and "Set cleaning=bert-uncased to lower them" in found.note
    lower = {None: "uncased", True: "uncased", False: "cased"}
    for value, expected in lower.items():
        tokenizer = None if value is None else {"do_lower_case": value}
        folder, _ = write_bert(tmp_path / str(tokenizer), tokenizer=tokenizer)
        assert (read_bert_vocabulary(folder).cleaning, read_bert_vocabulary(folder).note) == (f"bert-{expected}", "")
    (cased / "tokenizer_config.json").write_text('{"do_lower_case": false, "strip_accents": true}')
    with pytest.raises(InputError, match="`strip_accents` is True, which kmm does not do"):
        read_bert_vocabulary(cased)


def test_rows_are_mapped_piece_by_piece(bert):
    weights = open_text_weights(FitSettings(text_encoder="bert", text_weights=str(bert)))
    lines = (bert / "vocab.txt").read_text(encoding="utf-8").splitlines()
    table, rows = weights.folder.read("embeddings.word_embeddings.weight"), weights.read_rows()
    for number, piece in enumerate(weights.vocabulary.pieces.words):
        np.testing.assert_array_equal(rows[number], table[lines.index(piece)])
    assert [lines[row] for row in weights.vocabulary.marks] == ["[CLS]", "[SEP]"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"text_encoder": "text-cnn"},
            "'text-cnn' takes no `text_weights`. Choose one that does: bert.",
        ),
        ({"text_weights": None}, "The text encoder 'bert' starts from weights. Pass --text-weights FOLDER"),
        ({"text_weights": "nowhere"}, "nowhere is no file or folder"),
        ({"length": 63}, "reports of at most 62 words"),
        ({"word_pieces": "vocab.txt"}, "`text_weights` brings its own words. Leave out `word_pieces`"),
        ({"cleaning": "paper"}, "must be bert-cased, bert-uncased or left out with `text_weights`"),
        ({"tune_text": "some"}, "`tune_text`"),
    ],
)
def test_settings_that_do_not_fit(bert, settings, said):
    with pytest.raises(InputError, match=said):
        check_names(FitSettings(**{"text_encoder": "bert", "text_weights": str(bert), **settings}))


def test_the_defaults_of_a_bert():
    settings = make_settings("small", {"text_encoder": "bert", "text_weights": "bert"})
    assert (settings.length, settings.text_dropout) == (192, 0.1)
    assert make_settings("small", {"text_encoder": "bert", "length": 256}).length == 256
    assert make_settings("small").length == 140


def test_an_export_reads_and_explains_raw_reports(run):
    classifier, _, work = run
    signature = ExplainSignature(steps=25, baseline="black")
    exported = export_classifier(work / "saved", out=work / "versions", explanation=signature, warmup=())
    reports = [classifier.batches.text.text(STUDY), "E\u0301tat normal; 心!"]
    studies = [STUDY, Study("two", "two", (), Report(findings=reports[1]))]
    expected = classifier.predict(studies).logits["text"]
    signatures = tf.saved_model.load(str(exported)).signatures
    texts = np.array([text.encode() for text in reports], object)
    found = [signatures["serving_bytes"](report=tf.constant(reports))]
    found += [CppModel(exported).run("serving_bytes", {"report": texts})] if open_library() else []
    for answer in found:
        np.testing.assert_allclose(answer["logits"], expected, atol=1e-5)
    explained = signatures["explain_bytes"](report=tf.constant(reports), target=tf.constant([0, 0]))
    count = len(classifier.batches.vocabulary.pieces(word.text for word in classifier.batches.text.find(reports[1])))
    values = explained["token_attribution"].numpy()
    assert values[1, :count].all() and not values[1, count:].any()
    assert explained["completeness_gap"].numpy().max() < 0.05


@pytest.mark.large
def test_the_preset_of_swin_and_clinicalbert_trains_the_fusion_of_many_findings(bert, tiny_folder, tmp_path):
    chosen = {name: TINY[name] for name in ("text_epochs", "image_epochs", "joint_epochs", "bootstrap_repeats")}
    whole = make_settings("clinicalbert-swin", {"text_weights": str(bert)})
    assert (whole.image_encoder, whole.text_encoder) == ("swin-base", "bert")
    assert whole.tune_image == whole.tune_text == "none"
    small = {"image_encoder": "small-cnn", "pixels": 64, "image_weights": "random", "text_weights": str(bert)}
    sizes = {
        "length": 24,
        "fusion_width": 16,
        "fusion_layers": 1,
        "fusion_heads": 2,
        "fusion_adapter": 4,
        "label_min_count": 1,
    }
    settings = make_settings("clinicalbert-swin", {**chosen, **small, **sizes})
    assert (settings.fusion, settings.loss, settings.contrastive) == ("cross-attention", "hybrid", "infonce")
    classifier, made = fit_classifier(
        read_collection(tiny_folder), settings, work=tmp_path / "work", cache=tmp_path / "cache"
    )
    assert {"text head", "image head", "joint head"} <= set(made.history)
    assert "val_f1" in made.history["joint head"]
    assert set(classifier.metrics["test"]) >= {"joint", "image", "text", "tfidf"}


def test_the_preset_of_resnet_and_biobert_removes_label_words_and_measures_what_the_rest_gives_away(
    bert, tiny_folder, tmp_path
):
    chosen = {name: TINY[name] for name in TINY if name not in ("image_encoder", "text_encoder", "redact", "head")}
    small = {**chosen, "pixels": 64, "length": 24, "image_weights": "random", "text_weights": str(bert)}
    settings = make_settings("biobert-resnet18", {**small, "tune_image": "none", "tune_text": "none"})
    assert (settings.image_encoder, settings.text_encoder, settings.redact) == ("resnet18", "bert", "default")
    classifier, made = fit_classifier(
        read_collection(tiny_folder), settings, work=tmp_path / "work", cache=tmp_path / "cache"
    )
    assert {"text head", "image head", "joint head"} <= set(made.history)
    assert classifier.models["joint"].count_params() > 11_000_000
    assert classifier.batches.text.redaction is not None
