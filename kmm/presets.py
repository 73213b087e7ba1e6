"""Presets: named sets of settings, among them those of published systems."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kmm.errors import InputError, look_up
from kmm.settings import FitSettings

SETTING_NAMES = (*(field.name for field in dataclasses.fields(FitSettings)), "epochs")


@dataclass(frozen=True)
class Preset:
    """Settings that differ from the defaults of `FitSettings`.

    Attributes:
        about: str. One sentence on what the preset is for.
        source: str. Link to the published system; empty if there is none.
        settings: dict of setting name to value.
    """

    about: str
    source: str
    settings: dict[str, Any]


PRESETS = {
    "small": Preset(
        about="A small CNN on 64 px films and a text CNN: trains in a minute or two on a laptop.",
        source="",
        settings={
            "pixels": 64,
            "text_epochs": 40,
            "image_epochs": 20,
            "learning_rate": 0.003,
            "text_learning_rate": 0.003,
            "schedule": "cosine",
            "patience": 20,
        },
    ),
    "paper": Preset(
        about="DenseNet121 and a text CNN over 300-dimensional word vectors, 224 px, 140 words, concatenated.",
        source="https://arxiv.org/abs/1902.08888",
        settings={
            "image_encoder": "densenet121",
            "image_weights": "imagenet",
            "image_depths": 4,
            "image_grid": 3,
            "head": "linear",
            "pixels": 224,
            "length": 140,
            "embedding_size": 300,
            "text_filters": 100,
            "fusion_units": 512,
            "text_epochs": 12,
            "image_epochs": 15,
            "joint_epochs": 8,
            "learning_rate": 0.003,
            "schedule": "cosine",
            "patience": 15,
            "tune_image": "none",
        },
    ),
    "biobert-resnet18": Preset(
        about="ResNet-18 and BioBERT, 224 px, 256 word pieces, concatenated; words that state the label are removed. "
        "Needs the folder of BioBERT (--text-weights) and a file of ResNet-18 (--image-weights).",
        source="",
        settings={
            "image_encoder": "resnet18",
            "pixels": 224,
            "text_encoder": "bert",
            "length": 256,
            "redact": "default",
            "head": "decoder",
            "fusion_units": 512,
            "text_teacher": 0.0,
            "class_weights": True,
            "optimizer": "adamw",
            "schedule": "cosine",
            "warmup": 0.1,
            "batch_size": 16,
            "text_epochs": 20,
            "image_epochs": 20,
            "joint_epochs": 20,
            "tune_epochs": 20,
            "patience": 5,
            "text_dropout": 0.1,
            "word_dropout": 0.1,
            "tune_learning_rate": 3e-5,
        },
    ),
    "clinicalbert-swin": Preset(
        about="Swin-B and ClinicalBERT, 224 px, 256 word pieces, attention between film and report, many findings. "
        "Both encoders stay as they are, so a laptop can train it. "
        "Needs the folder of ClinicalBERT (--text-weights) and a file of Swin-B (--image-weights).",
        source="",
        settings={
            "seed": 2709,
            "labels": "findings",
            "image_encoder": "swin-base",
            "pixels": 224,
            "tune_image": "none",
            "text_encoder": "bert",
            "length": 256,
            "tune_text": "none",
            "fusion": "cross-attention",
            "fusion_layers": 3,
            "fusion_heads": 8,
            "fusion_width": 256,
            "fusion_adapter": 128,
            "stochastic_depth": 0.1,
            "head": "mlp",
            "fusion_units": 512,
            "fusion_dropout": 0.1,
            "text_dropout": 0.1,
            "word_dropout": 0.1,
            "text_teacher": 0.0,
            "loss": "hybrid",
            "focal_gamma": 1.0,
            "focal_share": 0.3,
            "positive_weight_limit": 5.0,
            "contrastive": "infonce",
            "contrastive_weight": 0.07,
            "contrastive_temperature": 0.125,
            "sampling": "balanced",
            "optimizer": "adamw",
            "learning_rate": 5e-4,
            "text_learning_rate": 5e-4,
            "tune_learning_rate": 2e-5,
            "schedule": "cosine",
            "warmup": 0.1,
            "clip_norm": 1.0,
            "batch_size": 8,
            "text_epochs": 50,
            "image_epochs": 50,
            "joint_epochs": 50,
            "tune_epochs": 50,
            "monitor": "f1-auc",
            "patience": 10,
            "threshold_policy": "f1",
        },
    ),
}


# Settings of fits with a text encoder, which those of a preset are not made for: its words, and a rate to tune BERT at.
TEXT_ENCODER_SETTINGS: dict[str, dict[str, Any]] = {
    "bert": {"length": 192, "text_dropout": 0.1, "word_dropout": 0.1, "tune_learning_rate": 3e-5},
    "transformer-small": {"text_dropout": 0.1},
}


def make_settings(preset: str = "small", values: Mapping[str, Any] | None = None) -> FitSettings:
    """Makes the settings of a run from a preset and values that replace the preset's.

    Args:
        preset: str, a name in `PRESETS`.
        values: mapping of setting names to values, or None. A text encoder has settings of its own, such as `length`,
            which replace those of the preset.

    Returns:
        `FitSettings`.

    Raises:
        InputError: for an unknown preset, setting or value.

    Example:
        >>> make_settings("paper", {"image_encoder": "xception"}).image_encoder
        'xception'
        >>> make_settings("small", {"text_encoder": "bert", "text_weights": "biobert"}).length
        192
    """
    entry, values = look_up(PRESETS, preset, "preset"), values or {}
    own = TEXT_ENCODER_SETTINGS.get(str(values.get("text_encoder")), {})
    return FitSettings.from_dict({**entry.settings, **own, **values, "preset": preset})


def gather_settings(
    values: Mapping[str, Any],
    *,
    more: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> FitSettings:
    """Makes the settings of a run from the command line: options win over `NAME=VALUE`, a file, a protocol, and the
    preset.

    Args:
        values: mapping of `SETTING_NAMES` to values; None means not given. `epochs` bounds the epochs of every stage.
        more: sequence of `"NAME=VALUE"`.
        config: mapping of `SETTING_NAMES` to values from a file, or None.
        protocol: mapping of `SETTING_NAMES` to values of the protocol of a comparison, or None.

    Returns:
        `FitSettings`.

    Raises:
        InputError: for an unknown name or a value of the wrong kind.

    Example:
        >>> gather_settings({"seed": 4, "epochs": 2}, more=["fusion-units=64"]).joint_epochs
        2
    """
    gathered = {**(protocol or {}), **(config or {})}
    for item in more:
        name, equals, value = item.partition("=")
        if not equals:
            raise InputError(f"Expected NAME=VALUE. Received: {item!r}")
        gathered[name.strip().replace("-", "_")] = value
    gathered.update({name: value for name, value in values.items() if value is not None})
    most = gathered.pop("epochs", None)
    settings = make_settings(gathered.pop("preset", "small"), gathered)
    if most is None:
        return settings
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InputError(f"Setting `epochs` must be a whole number of at least 1. Received: {most!r}")
    stages = ("text_epochs", "image_epochs", "joint_epochs", "tune_epochs")
    return dataclasses.replace(settings, **{name: min(most, getattr(settings, name)) for name in stages})


def check_setting(name: str, value: Any) -> None:
    """Checks one value of a setting, apart from the other settings.

    Args:
        name: str, one of `SETTING_NAMES`.
        value: its value.

    Raises:
        InputError: for an unknown name or a value of the wrong kind.

    Example:
        >>> check_setting("seed", "three")
        Traceback (most recent call last):
        kmm.errors.InputError: Setting `seed` must be a whole number. Received: 'three'
    """
    gather_settings({}, config={name: value})
