"""Auxiliary targets of a fit: what they are, that only the training part decides them, and what a fit leaves behind."""

from dataclasses import replace
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from kmm.data.collection import read_collection
from kmm.data.study import Report
from kmm.errors import InputError
from kmm.image.prepare import ImagePreparation
from kmm.models.build import ModelSpec, build_model
from kmm.presets import make_settings
from kmm.progress import Progress
from kmm.settings import FitSettings
from kmm.training.auxiliary import weight_choice
from kmm.training.auxiliary.report_targets import reduce_reports
from kmm.training.auxiliary.targets import AUXILIARY_TARGETS, AuxiliaryTarget, make_auxiliary
from kmm.training.auxiliary.terms import AUXILIARY, LABELS, NUMBERS
from kmm.training.auxiliary.weight_choice import train_weights
from kmm.training.fit import fit_classifier
from kmm.training.members import divide_context
from kmm.training.preparation.prepared_studies import prepare_studies
from kmm.training.run_context import RunContext
from kmm.training.stages.dataset import StudyDataset
from kmm.training.stages.recipe import FEATURES, Stage, make_recipe
from kmm.training.stages.stage_state import describe_stage
from kmm.training.stages.terms import view_stage
from kmm.training.teacher import READERS
from tests.checks import to_numpy
from tests.factories.studies import TINY

BOTH = ("findings", "report-vectors")
STAGE = Stage("image", 2, 0.1, side="image", auxiliary=BOTH, auxiliary_weight=0.5)


def make(**settings):
    shared = {"label_min_count": 5, "text_teacher": 0, "image_auxiliary": BOTH}
    return make_settings("small", {**TINY, **shared, **settings})


class Notes(Progress):
    """Keeps the notes."""

    def __init__(self):
        self.lines = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture(scope="module")
def prepared(tiny_folder, tmp_path_factory):
    """The tiny studies; one of training has neither report nor headings."""
    films = tmp_path_factory.mktemp("films")
    found = prepare_studies(read_collection(tiny_folder), make(), films=films)
    row = int(found.rows("train")[3])
    studies = list(found.studies)
    studies[row] = replace(studies[row], report=None, mesh_major=())
    return replace(found, studies=tuple(studies))


@pytest.fixture(scope="module")
def made(prepared):
    return make_auxiliary(prepared, make(), Notes())


def test_findings_are_the_headings_of_training_studies(prepared, made):
    target, train = made[0]["findings"], prepared.rows("train")
    known = np.delete(train, 3)
    expected = np.full((60, 1), np.nan, np.float32)
    expected[known, 0] = [float("Mass/lung" in prepared.studies[row].mesh_major) for row in known]
    np.testing.assert_array_equal(target.values, expected)
    positive = np.nansum(expected)
    assert target.kind == LABELS and target.start == pytest.approx(
        np.log((positive + 0.5) / (len(known) - positive + 0.5)), rel=1e-5
    )
    assert made[1]["findings"] == {"headings": ["Mass"], "studies": len(known)}


def test_report_vectors_are_centred_and_cost_1_where_the_mean_is_predicted(prepared, made):
    target, train = made[0]["report-vectors"], np.delete(prepared.rows("train"), 3)
    settings = make()
    texts, worded = READERS["image"](prepared, settings)
    vectors = reduce_reports(prepared, texts, worded, settings)[train].astype(float)
    centred = vectors - vectors.mean(axis=0)
    np.testing.assert_allclose(target.values[train], centred / np.sqrt(np.mean(centred**2)), atol=1e-5)
    assert np.mean(target.values[train].astype(float) ** 2) == pytest.approx(1, rel=1e-5)
    assert np.isnan(np.delete(target.values, train, axis=0)).all()
    assert target.kind == NUMBERS and not target.start.any()
    assert made[1]["report-vectors"] == {"dimensions": vectors.shape[1], "studies": len(train)}


def test_validation_and_test_change_nothing(prepared, made):
    train = set(prepared.rows("train"))
    other = {"report": Report(findings="Ossified diaphragm without a precedent."), "mesh_major": ("Opacity/lung",)}
    studies = tuple(study if row in train else replace(study, **other) for row, study in enumerate(prepared.studies))
    flipped = np.where(np.isin(np.arange(60), list(train))[:, None], prepared.labels, 1 - prepared.labels)
    again, facts = make_auxiliary(replace(prepared, studies=studies, labels=flipped), make(), Notes())
    assert facts == made[1] and set(again) == set(made[0]) == set(BOTH) == set(AUXILIARY_TARGETS)
    for name, target in again.items():
        np.testing.assert_array_equal(target.values, made[0][name].values)
        assert target.digest() == made[0][name].digest()
    changed = tuple(replace(study, mesh_major=()) if row in train else study for row, study in enumerate(studies))
    assert set(make_auxiliary(replace(prepared, studies=changed), make(), Notes())[0]) == {"report-vectors"}


def test_vectors_are_of_the_whole_report_after_the_redaction(tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "words.txt").write_text("mass\n", encoding="utf-8")
    settings = make(
        sections="pre-read", redact=str(tmp_path / "words.txt"), text_encoder="none", image_auxiliary="report-vectors"
    )
    read, reduce = [], reduce_reports

    def note(prepared, texts, worded, settings):
        read.extend(texts)
        return reduce(prepared, texts, worded, settings)

    monkeypatch.setattr("kmm.training.auxiliary.targets.reduce_reports", note)
    make_auxiliary(prepare_studies(read_collection(tiny_folder), settings, films=tmp_path), settings, Notes())
    assert any("Cough" in text and "in case" in text for text in read) and not any("mass" in text for text in read)


def test_what_the_data_lack_is_noted(prepared):
    notes = Notes()
    found, facts = make_auxiliary(prepared, make(label_min_count=50), notes)
    assert set(found) == set(facts) == {"report-vectors"}
    assert notes.lines[0].startswith("No auxiliary target findings: ")
    assert notes.lines[1].startswith("Auxiliary target report-vectors: ")
    frozen = make(image_weights="random", tune_image="none", head="linear")
    assert make_auxiliary(prepared, frozen, notes) == ({}, {}) and "change" in notes.lines[-1]
    assert make_auxiliary(prepared, make(image_auxiliary="none"), notes) == ({}, {}) and len(notes.lines) == 3


def test_each_member_has_targets_of_its_own(prepared, made):
    context = RunContext(
        settings=make(members=2),
        prepared=prepared,
        maker=prepared.maker,
        token_ids=np.zeros((60, 1), np.int32),
        vectors=None,
        work=None,
        cache=None,
        progress=Notes(),
        auxiliary=made[0],
    )
    for own in divide_context(context):
        for target in own.auxiliary.values():
            known = np.isfinite(target.values).any(axis=1)
            assert known.any() and not known[own.rows("validation")].any()


def test_an_unknown_name_ends_a_fit_before_a_study_is_read(tmp_path):
    with pytest.raises(InputError, match=r"^Unknown auxiliary target 'mesh'. Known: findings, report-vectors\.$"):
        fit_classifier(None, FitSettings(image_auxiliary=("mesh",)), work=tmp_path / "work", cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("weights", [(), (-0.1,), (float("nan"),), (float("inf"),), (0.3, 1.0, 0.3)])
def test_weights_are_different_numbers_of_at_least_0(weights):
    with pytest.raises(InputError, match="Setting `image_auxiliary_weights` must be one or more different numbers"):
        FitSettings(image_auxiliary_weights=weights)


def list_auxiliary(**settings):
    """The stages of each side that learn auxiliary targets, and whether all stages else are those of a plain fit."""
    recipe, plain = (make_recipe(FitSettings(**settings, **more)) for more in ({"image_auxiliary": BOTH}, {}))
    for side, stages in recipe.items():
        bare = [replace(stage, auxiliary=(), auxiliary_weight=0.0) for stage in stages]
        assert side == "image" or bare == list(plain[side]) == list(stages)
    assert [replace(stage, auxiliary=(), auxiliary_weight=0.0) for stage in recipe["image"]] == list(plain["image"])
    return [stage.name for stage in recipe["image"] if stage.auxiliary == BOTH]


def test_stages_that_train_what_is_before_the_logits_learn_them():
    pretrained = {"image_weights": "film.h5"}
    assert list_auxiliary() == ["image"] and list_auxiliary(head="linear") == ["image"]
    assert list_auxiliary(**pretrained, tune_image="top") == ["image head", "image tuning"]
    assert list_auxiliary(**pretrained, tune_image="top", head="linear") == ["image tuning"]
    assert list_auxiliary(**pretrained, tune_image="none", head="linear") == []
    assert list_auxiliary(**pretrained, tune_image="none", head="decoder") == ["image head"]
    assert list_auxiliary(image_auxiliary_weights=(0.0,)) == []


def test_each_weight_has_stages_of_its_own():
    settings = FitSettings(image_weights="film.h5", image_auxiliary=BOTH, image_auxiliary_weights=(0.0, 0.5))
    stages = make_recipe(settings)["image"]
    assert [(stage.name, stage.auxiliary_weight, stage.auxiliary) for stage in stages] == [
        ("auxiliary 0 image head", 0.0, ()),
        ("auxiliary 0 image tuning", 0.0, ()),
        ("auxiliary 0.5 image head", 0.5, BOTH),
        ("auxiliary 0.5 image tuning", 0.5, BOTH),
    ]
    names = [stage.name for stage in make_recipe(replace(settings, members=2))["image"]]
    assert names == [f"member {number} {stage.name}" for number in (1, 2) for stage in stages]


def make_context(count=5):
    """What a stage needs of a run of films alone, the last of which is in validation."""
    generator = np.random.default_rng(0)
    findings = generator.integers(0, 2, (count, 2)).astype(np.float32)
    findings[1] = np.nan
    vectors = generator.normal(size=(count, 3)).astype(np.float32)
    vectors[2] = np.nan
    return SimpleNamespace(
        settings=SimpleNamespace(image_encoder="small-cnn", precision="float32", seed=3),
        prepared=SimpleNamespace(
            films=None,
            film_digests=[f"film {row}" for row in range(count)],
            present=np.ones((count, 2), np.float32),
            labels=np.ones((count, 1), np.float32),
        ),
        maker=SimpleNamespace(image=ImagePreparation(32)),
        rows={"train": np.arange(count - 1), "validation": np.array([count - 1])}.__getitem__,
        auxiliary={
            "findings": AuxiliaryTarget(LABELS, findings, np.float32([0.2, -0.4]), {}),
            "report-vectors": AuxiliaryTarget(NUMBERS, vectors, np.zeros(3, np.float32), {}),
        },
    )


def build(head="mlp"):
    spec = ModelSpec("small-cnn", pixels=32, fusion_units=8, head=head)
    return build_model(spec, label_count=1, seed=0)


@pytest.mark.parametrize("image", ["all", FEATURES])
def test_the_model_with_terms_has_the_same_logits_and_the_exact_loss(image):
    context, model, stage = make_context(), build(), replace(STAGE, image=image)
    plain, none = view_stage(context, replace(stage, auxiliary=()), model)
    trained, added = view_stage(context, stage, model)
    assert not none and set(added) == {AUXILIARY}
    generator = np.random.default_rng(1)
    columns = {tensor.name: generator.normal(size=(5, *tensor.shape[1:])) for tensor in plain.inputs}
    columns["present"] = np.ones((5, 2))
    logits = to_numpy(trained({**columns, **added}))
    np.testing.assert_allclose(logits, to_numpy(plain(columns)), rtol=1e-5, atol=1e-6)
    findings, vectors = (target.values.astype(float) for target in context.auxiliary.values())
    start = np.float32([0.2, -0.4]).astype(float)
    expected = np.nanmean(np.log1p(np.exp(start)) - findings * start) + np.nanmean(vectors**2)
    assert float(to_numpy(sum(trained.losses))) == pytest.approx(0.5 * expected, rel=1e-5)
    own = {weight.path for weight in trained.weights} - {weight.path for weight in plain.weights}
    assert own == {"auxiliary/prediction/kernel", "auxiliary/prediction/bias"}


def test_a_stage_without_any_of_its_targets_is_a_plain_one():
    context, model = make_context(), build()
    context.auxiliary = {}
    trained, added = view_stage(context, STAGE, model)
    assert trained is model and not added


def test_studies_that_fill_up_a_batch_have_no_targets():
    columns = {"x": np.zeros((5, 2)), AUXILIARY: np.ones((5, 3), np.float32)}
    data = StudyDataset(columns, np.zeros((5, 1), np.float32), rows=range(5), batch_size=4)
    inputs, _, weights = data[1]
    np.testing.assert_array_equal(np.isnan(inputs[AUXILIARY]).all(axis=1), weights == 0)
    assert np.isfinite(columns[AUXILIARY]).all()


def test_targets_and_their_weight_decide_what_a_stage_is():
    model = build()

    def describe(stage=STAGE, **targets):
        context = make_context()
        context.auxiliary |= targets
        return repr(describe_stage(context, stage, model, context.prepared.labels))

    first, findings = describe(), make_context().auxiliary["findings"]
    assert describe() == first
    other = replace(findings, values=1 - findings.values)
    found = [
        describe(findings=other),
        describe(findings=replace(findings, start=findings.start + 1)),
        describe(replace(STAGE, auxiliary_weight=0.4)),
        describe(replace(STAGE, auxiliary=BOTH[:1])),
        describe(replace(STAGE, auxiliary=())),
    ]
    assert len({first, *found}) == 6
    assert describe(replace(STAGE, auxiliary=BOTH[1:]), findings=other) == describe(replace(STAGE, auxiliary=BOTH[1:]))
    assert describe(replace(STAGE, auxiliary=(), auxiliary_weight=0.0), findings=other) == found[-1]


@pytest.mark.parametrize(
    ("losses", "kept"), [([0.5, 0.4, 0.4], 0.3), ([0.3, 0.4, 0.4], 0.1), ([None, None, None], 0.1)]
)
def test_the_weight_of_the_lowest_loss_of_the_labels_is_kept(losses, kept, monkeypatch):
    weights, notes, branches, marked = (0.1, 0.3, 1.0), Notes(), [], []
    stages = [Stage(f"image {weight}", 1, 0.1, side="image", auxiliary_weight=weight) for weight in weights]
    known = dict(zip(stages, losses, strict=True))
    context = SimpleNamespace(
        targets_of=lambda side: np.ones((2, 1)), rows=lambda part: np.arange(2), progress=notes, auxiliary={"a": 1}
    )
    features = SimpleNamespace(ahead={}, probes={"digest": "probe"}, mark_trained=marked.append)

    def train(own, branch):
        branches.append(branch)
        return own[0], {"image": {"kept": own[0].name}}

    def measure(context, side, model, branch, class_weights):
        return np.zeros(0) if known[model] is None else np.full(4, known[model])

    monkeypatch.setattr(weight_choice, "measure_model", measure)
    model, chosen, facts = train_weights(context, stages, features, train)
    assert model.auxiliary_weight == facts["kept"] == kept and chosen == {"image": {"kept": model.name}}
    assert facts["losses"] == dict(zip(("0.1", "0.3", "1"), losses, strict=True))
    assert facts["studies"] == (0 if losses[0] is None else 4)
    assert len(notes.lines) == 1 and f"weight {kept:g} is kept" in notes.lines[0]
    assert features not in branches and all(branch.probes is features.probes for branch in branches)
    assert marked == ["image"]
    context.auxiliary = {}
    assert train_weights(context, stages, features, train) == (stages[0], {"image": {"kept": "image 0.1"}}, {})
    assert branches[-1] is features


@pytest.mark.large
def test_a_fit_chooses_a_weight_resumes_and_leaves_no_layer(tiny_folder, tmp_path):
    collection = read_collection(tiny_folder)
    short = {"text_encoder": "none", "image_epochs": 2, "bootstrap_repeats": 2}

    def fit(name, callbacks=(), **changes):
        settings = make(**short, **changes)
        return fit_classifier(collection, settings, work=tmp_path / name, cache=tmp_path / "cache", callbacks=callbacks)

    weights = "0,2"
    whole, run = fit("whole", image_auxiliary_weights=weights)
    stopped = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if AUXILIARY in {tensor.name for tensor in self.model.inputs} and epoch == 0:
                stopped.append(epoch)
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit("parts", callbacks=[Stop()], image_auxiliary_weights=weights)
    again, continued = fit("parts", image_auxiliary_weights=weights)
    assert stopped and continued.history == run.history
    for one, other in zip(whole.models["image"].get_weights(), again.models["image"].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)

    plain, bare = fit("plain", image_auxiliary="none")
    assert run.history["auxiliary 0 image"] == bare.history["image"] != run.history["auxiliary 2 image"]
    choice = whole.provenance["auxiliary_choice"]["image"]
    kept, losses = f"{choice['kept']:g}", choice["losses"]
    assert set(losses) == {"0", "2"} and losses[kept] == min(losses.values())
    assert losses["0"] == plain.provenance["head_choice"]["image"]["losses"][_kept(plain)]["loss"]
    assert losses[kept] == whole.provenance["head_choice"]["image"]["losses"][_kept(whole)]["loss"]
    assert set(whole.provenance["auxiliary"]) == set(BOTH) and "auxiliary" not in plain.provenance
    assert _list_shapes(whole.models["image"]) == _list_shapes(plain.models["image"])


@pytest.mark.large
def test_each_member_tries_the_weights_on_targets_of_its_own(tiny_folder, tmp_path, monkeypatch):
    """The stages change nothing here, so that all weights are equal and the first is kept."""
    seen = []

    def note(context, stage, model, features, *more):
        features.compute(model, stage.features)
        seen.append((stage.name, context.auxiliary["findings"].digest()))
        return {}

    monkeypatch.setattr("kmm.training.train.run_stage", note)
    short = {"text_encoder": "none", "image_epochs": 1, "bootstrap_repeats": 2, "tune_image": "top", "head": "decoder"}
    settings = make(**short, image_weights="random", members=2, image_auxiliary_weights="0.1,1")
    work, cache = tmp_path / "work", tmp_path / "cache"
    classifier, _ = fit_classifier(read_collection(tiny_folder), settings, work=work, cache=cache)
    assert [name for name, _ in seen] == [stage.name for stage in make_recipe(settings)["image"]]
    digests = [digest for _, digest in seen]
    assert digests[0] != digests[4] and digests == [digests[0]] * 4 + [digests[4]] * 4
    found = classifier.provenance["auxiliary_choice"]
    assert set(found) == {"image_member_1", "image_member_2"}
    for choice in found.values():
        assert choice["kept"] == 0.1 and choice["losses"]["0.1"] == choice["losses"]["1"] and choice["studies"] > 0
    # of the encoders as they started, whose random weights each member has of its own
    assert len(list(cache.glob("features-small-cnn-vector-*"))) == 2


def _kept(classifier):
    return classifier.provenance["head_choice"]["image"]["kept"]


def _list_shapes(model):
    return [(weight.path, tuple(weight.shape)) for weight in model.weights]
