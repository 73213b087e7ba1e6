"""The recipe of a fit: its stages by the settings."""

import dataclasses

import pytest

from kmm.errors import InputError
from kmm.experiments.planning.protocols import PROTOCOLS
from kmm.image.augment import STRENGTHS, Augmentation
from kmm.presets import gather_settings
from kmm.settings import FitSettings
from kmm.training.stages.recipe import FEATURES, TRAINED, Stage, make_augmentation, make_recipe


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


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (1, [("all", 1)]),
        (2, [("1/2", 1), ("all", 1)]),
        (3, [("1/3", 1), ("2/3", 1), ("all", 1)]),
        (4, [("1/4", 1), ("2/4", 1), ("3/4", 1), ("all", 1)]),
        (11, [("1/4", 2), ("2/4", 3), ("3/4", 3), ("all", 3)]),
    ],
)
def test_gradual_unfreezing_divides_the_epochs_of_tuning(epochs, expected):
    stages = list_stages(image_weights="w.h5", tune_image="gradual", tune_epochs=epochs)
    tuning = [
        (f"image tuning {number}", count, 1e-4, {"image": part}) for number, (part, count) in enumerate(expected, 1)
    ]
    assert [stage for stage in stages if stage[0].startswith("image tuning")] == tuning
    assert stages[-1] == ("joint tuning", epochs, 1e-4, {"image": "all", "text": "all"})
    assert sum(count for _, count in expected) == epochs and {part for part, _ in expected} <= set(TRAINED)


def test_gradual_unfreezing_without_epochs_or_weights_has_no_stage_of_its_own():
    assert list_stages(image_weights="w.h5", tune_image="gradual", tune_epochs=0)[1:] == [
        ("image head", 30, 1e-3, {"image": FEATURES}),
        FROM_SCRATCH[2],
    ]
    assert list_stages(tune_image="gradual") == FROM_SCRATCH


def test_only_encoders_from_weights_are_tuned_with_stored_statistics():
    def list_norms(**settings):
        stages = [stage for group in make_recipe(FitSettings(**settings)).values() for stage in group]
        return {stage.name: stage.batch_norm for stage in stages if stage.trained and "image" in stage.sides}

    assert list_norms(image_weights="w.h5") == {"image tuning": "inference", "joint tuning": "inference"}
    assert list_norms(image_weights="w.h5", batch_norm="train") == {"image tuning": "train", "joint tuning": "train"}
    assert list_norms() == {"image": "train", "joint tuning": "train"}
    for protocol in PROTOCOLS.values():
        settings = protocol.settings(pretrained=True, tune=True)
        assert list_norms(image_weights="w.h5", **settings) == {"image tuning": "train", "joint tuning": "train"}


def test_a_side_alone_has_its_own_stages_and_no_tuning_means_no_stage():
    assert list_stages(image_encoder=None) == FROM_SCRATCH[:1]
    assert list_stages(text_encoder=None) == FROM_SCRATCH[1:2]
    assert list_stages(tune_epochs=0) == FROM_SCRATCH[:3]


def test_every_stage_trains_as_the_settings_say():
    settings = FitSettings(
        loss="hybrid", focal_gamma=1.0, focal_share=0.4, positive_weight_limit=3.0, sampling="balanced",
        optimizer="adamw", weight_decay=0.2, schedule="cosine", patience=7, clip_norm=0.5, batch_size=9,
        class_weights=True, modality_dropout=0.2, word_dropout=0.1, image_weights="w.h5", augment_zoom=0.2,
        warmup=0.1, rate_decay=0.8, batch_norm="inference", weight_average=0.9, label_smoothing=0.1, mixup=0.2,
    )  # fmt: skip
    own = {"name", "epochs", "learning_rate", "side", "image", "text", "augmentation", "rate_decay", "batch_norm"}
    own |= {name for name in vars(Stage) if name.startswith("contrastive")}  # of the joint model alone
    own |= {name for name in vars(Stage) if name.startswith("auxiliary")}  # of the image side alone
    names = {field.name for field in dataclasses.fields(Stage)} - own
    for stages in make_recipe(settings).values():
        for stage in stages:
            assert {name: getattr(stage, name) for name in names} == {name: getattr(settings, name) for name in names}
            assert stage.augmentation == Augmentation(zoom=0.2)
            tuned = "tuning" in stage.name
            assert (stage.rate_decay, stage.batch_norm) == ((0.8, "inference") if tuned else (1.0, "train"))


def test_a_stage_says_what_it_reads_and_what_it_changes():
    stage = Stage("x", 2, 0.1, image=FEATURES, text="top")
    assert (stage.sides, stage.features, stage.trained) == (("image", "text"), ("image",), ("text",))
    assert Stage("x", 0, 0.1, side="text").trained == ()
    assert Stage("x", 2, 0.1, side="image", image="none").trained == ()
    assert {name: TRAINED[name] for name in TRAINED if "/" not in name} == {
        **{FEATURES: False, "none": False, "top": "top", "all": True, "lora": "lora"}
    }


EARLIER = {
    **{"rotation": 5.0, "shift": 0.04, "zoom": 0.08, "contrast": 0.1, "brightness": 0.05, "gamma": 0.1, "noise": 0.01},
    "flip": False,
}
FIELDS = {
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
    assert set(FIELDS) == {field.name for field in dataclasses.fields(Augmentation)}
    assert make_augmentation(FitSettings()) == Augmentation()
    assert make_augmentation(FitSettings(augment=False)) is None
    for field, name in FIELDS.items():
        value = True if field == "horizontal_flip" else 0.5
        settings = gather_settings({}, more=[f"{name}={value}"])
        assert make_augmentation(settings) == Augmentation(**{field: value})
        assert settings.as_dict()[name] == value


def test_a_strength_sets_all_ranges_and_a_setting_replaces_one_of_them():
    assert set(STRENGTHS) == {"none", "mild", "strong"} and STRENGTHS["mild"] == Augmentation()
    assert make_augmentation(FitSettings(augmentation="strong")) == STRENGTHS["strong"]
    for field in FIELDS:
        mild, strong = (getattr(STRENGTHS[name], field) for name in ("mild", "strong"))
        assert strong == mild is False if field == "horizontal_flip" else strong > mild
    expected = dataclasses.replace(STRENGTHS["strong"], noise=0.0)
    assert make_augmentation(FitSettings(augmentation="strong", augment_noise=0.0)) == expected
    assert make_augmentation(FitSettings(augmentation="none")) is None
    assert make_augmentation(FitSettings(augmentation="none", augment_flip=True)).horizontal_flip
    assert make_augmentation(FitSettings(augmentation="none", augment_zoom=0.2)) == dataclasses.replace(
        STRENGTHS["none"], zoom=0.2
    )
    assert make_augmentation(FitSettings(augmentation="strong", augment=False)) is None
    with pytest.raises(InputError, match="Setting `augmentation` must be one of none, mild, strong"):
        FitSettings(augmentation="wild")


def test_ranges_as_earlier_versions_saved_them_mean_what_they_did():
    saved = {f"augment_{name}": value for name, value in EARLIER.items()}
    settings = FitSettings.from_dict({**saved, "augment": True})
    assert make_augmentation(settings) == Augmentation()
    assert make_augmentation(FitSettings.from_dict({**saved, "augment": False})) is None


@pytest.mark.parametrize("name", [name for name in FIELDS.values() if name != "augment_flip"])
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
