"""The folder of a shared stage is named after what decides its result: the same for the same, another for other."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from kmm.image.augment import Augmentation
from kmm.image.prepare import ImagePreparation
from kmm.models.build import ModelSpec, build_model
from kmm.models.views.parts import fusion_of, set_trainable
from kmm.training.stages.recipe import FEATURES, Stage
from kmm.training.stages.stage_state import describe_stage, hold_state

COUNT = 12
TEXT = ModelSpec(None, "text-cnn", length=6, embedding_size=4, text_filters=3, fusion_units=8)
STAGE = Stage("text", 3, 1e-3, side="text", augmentation=Augmentation(), word_dropout=0.1)


@pytest.fixture
def context(tmp_path):
    """What the description of a stage needs of a run: 12 studies, the last two of which are in the test part."""
    rng = np.random.default_rng(0)
    parts = {"train": np.arange(7), "validation": np.arange(7, 10), "test": np.arange(10, 12)}
    return SimpleNamespace(
        settings=SimpleNamespace(image_encoder="small-cnn", text_encoder="text-cnn", precision="float32", seed=3),
        prepared=SimpleNamespace(
            films=None,
            film_digests=[f"film {row}" for row in range(COUNT)],
            present=np.ones((COUNT, 2), np.float32),
            labels=rng.integers(0, 2, (COUNT, 1)).astype(np.float32),
        ),
        maker=SimpleNamespace(image=ImagePreparation(32)),
        token_ids=rng.integers(2, 9, (COUNT, 6)).astype(np.int32),
        rows=parts.__getitem__,
        work=tmp_path,
        shared=True,
    )


def build(seed=3, **changed):
    return build_model(replace(TEXT, **changed), label_count=1, vocabulary_size=9, seed=seed)


def describe(context, stage=STAGE, model=None):
    return describe_stage(context, stage, model or build(), context.prepared.labels)


def test_what_a_text_stage_does_not_read_does_not_count(context):
    first = describe(context)
    context.prepared.film_digests = ["another film"] * COUNT
    context.settings.image_encoder, context.maker.image = "densenet121", ImagePreparation(64, "stretch")
    context.token_ids[10:], context.prepared.labels[10:] = 5, 0  # of the test part
    unread = {"augmentation": None, "augmentation_device": "accelerator", "image": FEATURES, "mixup": 0.2}
    again = describe(context, replace(STAGE, name="words", **unread))
    assert again == first


@pytest.mark.large
@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 4},
        {"learning_rate": 2e-3},
        {"loss": "focal"},
        {"batch_size": 16},
        {"word_dropout": 0.2},
        {"modality_dropout": 0.2},
        {"patience": 9},
        {"text": "top"},
        {"warmup": 0.1},
        {"rate_decay": 0.9},
        {"batch_norm": "inference"},
        {"weight_average": 0.9},
        {"label_smoothing": 0.1},
    ],
)
def test_settings_of_the_stage_count(context, change):
    assert describe(context, replace(STAGE, **change)) != describe(context)


def test_the_size_of_factors_counts_where_there_are_some(context):
    for change in ({"lora_rank": 3}, {"lora_alpha": 1.0}):
        assert describe(context, replace(STAGE, **change)) == describe(context)
        factors = replace(STAGE, text="lora")
        assert describe(context, replace(factors, **change)) != describe(context, factors) != describe(context)


@pytest.mark.large
def test_data_labels_seed_precision_and_parts_count(context):
    found = [describe(context)]
    context.prepared.labels[0] = 0.4  # a soft target
    found.append(describe(context))
    context.token_ids[0, 0] += 1
    found.append(describe(context))
    context.prepared.labels[8] = 1 - context.prepared.labels[8]
    found.append(describe(context))
    context.prepared.present[2, 1] = 0
    found.append(describe(context))
    context.settings.seed = 4
    found.append(describe(context))
    context.settings.precision = "mixed_float16"
    found.append(describe(context))
    moved = {"train": np.arange(1, 7), "validation": np.array([7, 8, 9, 0])}
    context.rows = moved.__getitem__
    found.append(describe(context))
    assert len({repr(one) for one in found}) == len(found)


@pytest.mark.large
def test_the_network_its_weights_and_what_is_trained_count(context):
    first, frozen = describe(context), build()
    set_trainable(frozen, replace(TEXT, train_embedding=False))
    others = [build(seed=4), build(text_dropout=0.2), build(fusion_units=6), build(head="linear"), frozen]
    found = [describe(context, model=model) for model in others]
    assert len({repr(one) for one in [first, *found]}) == 6
    fixed = build(head="linear")
    fusion_of(fixed).get_layer("standard").trainable = False  # its statistics stay as they are
    assert describe(context, model=fixed) not in found
    assert describe(context, model=build()) == first


def test_augmentation_and_films_count_for_a_stage_that_reads_films(context):
    spec = ModelSpec("small-cnn", None, pixels=32, fusion_units=8)
    model = build_model(spec, label_count=1, seed=3)
    stage = replace(STAGE, side="image")
    first = describe(context, stage, model)
    assert describe(context, replace(stage, word_dropout=0.3), model) == first
    assert describe(context, replace(stage, augmentation=None), model) != first
    assert describe(context, replace(stage, augmentation_device="accelerator"), model) != first
    frozen = [
        describe(context, replace(stage, image=FEATURES, augmentation=one), model) for one in (None, Augmentation())
    ]
    assert frozen[0] == frozen[1] != first
    assert describe(context, replace(stage, mixup=0.2), model) != first
    context.maker.image = ImagePreparation(32, "stretch")
    other = describe(context, stage, model)
    context.prepared.film_digests[3] = "another film"
    assert len({repr(one) for one in (first, other, describe(context, stage, model))}) == 3


def test_a_folder_that_is_not_shared_is_named_after_the_stage_alone(context):
    context.shared = False
    with hold_state(context, replace(STAGE, name="text head"), None, None) as folder:
        assert folder == context.work / "stages" / "text-head"
    context.shared = True
    with hold_state(context, STAGE, build(), context.prepared.labels) as folder:
        assert folder.name.startswith("text-") and folder.with_name(f".{folder.name}.lock").exists()
    with hold_state(context, STAGE, build(), context.prepared.labels) as again:
        assert again == folder and not again.exists()
