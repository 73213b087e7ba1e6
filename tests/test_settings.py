import dataclasses
import json

import pytest

from kmm.data.study import Report
from kmm.errors import InputError
from kmm.presets import PRESETS, gather_settings, make_settings
from kmm.settings import SECTIONS, FitSettings, read_settings
from kmm.storage.files import write_json


def test_settings_survive_json():
    settings = FitSettings(seed=7, sections=("findings",), image_weights="w.h5", augment=False)
    assert FitSettings.from_dict(json.loads(json.dumps(settings.as_dict()))) == settings


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_makes_settings_that_bear_its_name(name):
    settings = make_settings(name)
    assert settings.preset == name
    assert all(getattr(settings, key) == value for key, value in PRESETS[name].settings.items())


def test_sections_are_the_fields_of_a_report():
    assert tuple(field.name for field in dataclasses.fields(Report)) == SECTIONS


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"colour": 1}, "Unknown setting 'colour'"),
        ({"seed": 1.5}, "`seed` must be a whole number"),
        ({"seed": -1}, "`seed` must be in 0..4294967294"),
        ({"seed": 2**33}, "`seed` must be in 0..4294967294"),
        ({"seed": True}, "`seed` must be a whole number"),
        ({"learning_rate": "fast"}, "`learning_rate` must be a number"),
        ({"learning_rate": 0}, "`learning_rate` must be a number above 0"),
        ({"learning_rate": float("inf")}, "`learning_rate` must be a number above 0"),
        ({"learning_rate": float("nan")}, "`learning_rate` must be a number above 0"),
        ({"weight_decay": float("nan")}, "`weight_decay` must not be negative"),
        ({"rate_decay": 0}, "`rate_decay` must be above 0 and at most 1"),
        ({"modality_dropout": 0.6}, "`modality_dropout` must be at most 0.5"),
        ({"pixels": float("inf")}, "`pixels` must be a whole number"),
        ({"pixels": float("nan")}, "`pixels` must be a whole number"),
        ({"shares": [float("nan"), 0.5, 0.5]}, "three numbers"),
        ({"min_word_patients": 0}, "`min_word_patients` must be at least 1"),
        ({"max_words": 0}, "`max_words` must be at least 1"),
        ({"fusion_units": 1}, "`fusion_units` must be at least 2"),
        ({"fusion_layers": 0}, "`fusion_layers` must be at least 1"),
        ({"fusion_adapter": -1}, "`fusion_adapter` must not be negative"),
        ({"fusion_heads": 3}, "`fusion_width` must be a multiple of `fusion_heads`. Received: 128 and 3"),
        ({"stochastic_depth": 1}, "`stochastic_depth` must be in [0, 1)"),
        ({"strict": "perhaps"}, "`strict` must be true or false"),
        ({"sections": "history"}, "`sections` must be one of"),
        ({"shares": [0.5, 0.5]}, "three numbers"),
        ({"shares": [0.9, 0.2, 0.1]}, "sum to 1"),
        ({"fusion_dropout": 1}, "[0, 1)"),
        ({"batch_size": 0}, "at least 1"),
        ({"image_encoder": "none", "text_encoder": None}, "must not both be none"),
        ({"labels": 3}, "`labels` must be text"),
    ],
)
def test_a_wrong_setting_is_named(values, said):
    with pytest.raises(InputError) as caught:
        FitSettings.from_dict(values)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_strings_from_variables_become_the_fields_type():
    values = {"seed": "3", "augment": "no", "shares": "0.6,0.2,0.2", "sections": "pre-read", "text_encoder": "none"}
    settings = FitSettings.from_dict(values)
    assert (settings.seed, settings.augment, settings.shares) == (3, False, (0.6, 0.2, 0.2))
    assert settings.sections == ("indication", "comparison") and settings.text_encoder is None


def test_the_command_line_wins_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("preset: paper\nseed: 5\nfusion-units: 64\n", encoding="utf-8")
    settings = gather_settings({"seed": 6, "labels": None}, more=["pixels=96"], config=read_settings(file))
    assert (settings.preset, settings.seed, settings.fusion_units, settings.pixels) == ("paper", 6, 64, 96)
    assert settings.image_encoder == "densenet121"


def test_epochs_bound_every_stage():
    settings = gather_settings({"epochs": 2})
    assert (settings.text_epochs, settings.image_epochs, settings.joint_epochs, settings.tune_epochs) == (2, 2, 2, 2)


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"image_encoder": "none", "text_epochs": 0}, "`text_epochs`"),
        ({"text_encoder": "none", "image_epochs": 0}, "`image_epochs`"),
        (
            {"text_encoder": "none", "image_epochs": 0, "tune_epochs": 0, "image_weights": "w.h5"},
            "`image_epochs`, `tune_epochs`",
        ),
        (
            dict.fromkeys(("text_epochs", "image_epochs", "joint_epochs", "tune_epochs"), 0),
            "`text_epochs`, `image_epochs`, `joint_epochs`, `tune_epochs`",
        ),
    ],
)
def test_a_fit_that_trains_nothing_is_refused(values, names):
    with pytest.raises(InputError, match=f"One of the settings {names} must be at least 1"):
        gather_settings({}, more=[f"{name}={value}" for name, value in values.items()])
    first = names.split("`")[1]
    assert getattr(gather_settings({}, more=[f"{n}={v}" for n, v in {**values, first: 1}.items()]), first) == 1


@pytest.mark.parametrize("text", ["seed: [", "- a\n- b", "seed: !!python/object/apply:os.getcwd []"])
def test_a_broken_settings_file_is_one_line(tmp_path, text):
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        read_settings(file)
    assert "run.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_or_binary_settings_file_is_one_line(tmp_path):
    with pytest.raises(InputError, match="readable settings file"):
        read_settings(tmp_path / "none.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="UTF-8"):
        read_settings(tmp_path / "b.yaml")


def test_an_empty_settings_file_says_nothing(tmp_path):
    (tmp_path / "run.yaml").touch()
    assert read_settings(tmp_path / "run.yaml") == {}


def test_json_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["a.json"]
