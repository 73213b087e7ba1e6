"""The recipe of a fit: its stages by the settings."""

import dataclasses

import pytest

from kmm.errors import InputError
from kmm.image.augment import Augmentation
from kmm.presets import gather_settings
from kmm.settings import FitSettings
from kmm.training.recipe import FEATURES, TRAINED, Stage, make_augmentation, make_recipe


def list_stages(**settings):
    """Name, side, epochs, rate, and how each encoder of the side takes part."""
    return [
        (stage.name, stage.epochs, stage.learning_rate, {side: stage.encoder(side) for side in stage.sides})
        for stages in make_recipe(FitSettings(**settings)).values()
        for stage in stages
    ]


FROM_SCRATCH = [
    ("text", 15, 1e-3, {"text": "all"}),
    ("image", 30, 1e-3, {"image": "all"}),
    ("joint head", 20, 1e-3, {"image": FEATURES, "text": FEATURES}),
    ("joint tuning", 4, 1e-4, {"image": "all", "text": "all"}),
]


def test_an_encoder_without_weights_is_trained_at_once():
    assert list_stages() == FROM_SCRATCH


@pytest.mark.parametrize("tuned", ("top", "all"))
def test_an_encoder_with_weights_is_trained_after_its_head(tuned):
    assert list_stages(image_weights="w.h5", tune_image=tuned) == [
        FROM_SCRATCH[0],
        ("image head", 30, 1e-3, {"image": FEATURES}),
        ("image tuning", 4, 1e-4, {"image": tuned}),
        FROM_SCRATCH[2],
        ("joint tuning", 4, 1e-4, {"image": tuned, "text": "all"}),
    ]


def test_a_frozen_encoder_is_read_as_features_in_every_stage():
    assert list_stages(image_weights="w.h5", tune_image="none") == [
        FROM_SCRATCH[0],
        ("image head", 30, 1e-3, {"image": FEATURES}),
        FROM_SCRATCH[2],
        ("joint tuning", 4, 1e-4, {"image": FEATURES, "text": "all"}),
    ]


def test_a_side_alone_has_its_own_stages_and_no_tuning_means_no_stage():
    assert list_stages(image_encoder=None) == FROM_SCRATCH[:1]
    assert list_stages(text_encoder=None) == FROM_SCRATCH[1:2]
    assert list_stages(tune_epochs=0) == FROM_SCRATCH[:3]


def test_every_stage_trains_as_the_settings_say():
    settings = FitSettings(
        loss="focal", optimizer="adamw", weight_decay=0.2, schedule="cosine", patience=7, clip_norm=0.5, batch_size=9,
        class_weights=True, modality_dropout=0.2, word_dropout=0.1, image_weights="w.h5", augment_zoom=0.2,
    )  # fmt: skip
    own = {"name", "epochs", "learning_rate", "side", "image", "text", "augmentation"}
    names = {field.name for field in dataclasses.fields(Stage)} - own
    for stages in make_recipe(settings).values():
        for stage in stages:
            assert {name: getattr(stage, name) for name in names} == {name: getattr(settings, name) for name in names}
            assert stage.augmentation == Augmentation(zoom=0.2)


def test_a_stage_says_what_it_reads_and_what_it_changes():
    stage = Stage("x", 2, 0.1, image=FEATURES, text="top")
    assert (stage.sides, stage.features, stage.trained) == (("image", "text"), ("image",), ("text",))
    assert Stage("x", 0, 0.1, side="text").trained == ()
    assert Stage("x", 2, 0.1, side="image", image="none").trained == ()
    assert set(TRAINED) == {FEATURES, "none", "top", "all"}


STRENGTHS = {
    "rotation_degrees": "augment_rotation",
    "shift": "augment_shift",
    "zoom": "augment_zoom",
    "contrast": "augment_contrast",
    "brightness": "augment_brightness",
    "gamma": "augment_gamma",
    "noise": "augment_noise",
    "horizontal_flip": "augment_flip",
}


def test_each_strength_of_augmentation_is_a_setting_with_its_default():
    assert set(STRENGTHS) == {field.name for field in dataclasses.fields(Augmentation)}
    assert make_augmentation(FitSettings()) == Augmentation()
    assert make_augmentation(FitSettings(augment=False)) is None
    for field, name in STRENGTHS.items():
        value = True if field == "horizontal_flip" else 0.5
        settings = gather_settings({}, more=[f"{name}={value}"])
        assert make_augmentation(settings) == Augmentation(**{field: value})
        assert settings.as_dict()[name] == value


@pytest.mark.parametrize("name", [name for name in STRENGTHS.values() if name != "augment_flip"])
@pytest.mark.parametrize("value", ("-0.1", "nan", "inf"))
def test_a_strength_out_of_range_is_refused_by_its_name(name, value):
    with pytest.raises(InputError, match=rf"^Setting `{name}` must be .*Received: {value}$"):
        gather_settings({}, more=[f"{name}={value}"])


def test_settings_saved_before_strengths_existed_mean_the_defaults():
    saved = {name: value for name, value in FitSettings().as_dict().items() if not name.startswith("augment_")}
    assert FitSettings.from_dict(saved) == FitSettings()


def test_the_share_of_test_may_be_0():
    assert FitSettings(shares=(0.8, 0.2, 0.0)).shares[2] == 0
    for shares in ((0.8, 0.2), (0, 0.8, 0.2), (0.8, 0, 0.2), (0.9, 0.2, -0.1), (0.5, 0.2, 0.2)):
        with pytest.raises(InputError, match="Setting `shares` must be three numbers that sum to 1"):
            FitSettings(shares=shares)
