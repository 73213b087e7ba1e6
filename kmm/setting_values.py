"""Values that single settings of a fit may have: choices and ranges, each setting in one table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kmm.errors import InputError

MOST_MEMBERS = 20
MOST_VIEWS = 9  # of a film: as many as `kmm.models.joined.film_views` has
SECTIONS = ("indication", "comparison", "findings", "impression")


@dataclass(frozen=True)
class _Range:
    """A range of settings.

    Attributes:
        names: tuple of str.
        says: str. The range in words, as errors say it.
        low, high: float. The smallest and the largest value.
        open: str. `"low"`, `"high"` or `"both"`: the ends that do not belong to the range.
        optional: bool. Whether None is allowed too.
    """

    names: tuple[str, ...]
    says: str
    low: float = 0
    high: float = math.inf
    open: str = ""
    optional: bool = False

    def holds(self, value: float | None) -> bool:
        """Returns whether a value is in the range."""
        if value is None:
            return self.optional
        above = self.low < value if self.open in ("low", "both") else self.low <= value
        return above and (value < self.high if self.open in ("high", "both") else value <= self.high)


_CHOICES = {
    "truncate": ("end", "start"),
    "deidentified": ("keep", "drop"),
    "image_fit": ("letterbox", "stretch"),
    "augmentation": ("none", "mild", "strong"),
    "augmentation_device": ("auto", "cpu", "accelerator"),
    "tune_image": ("none", "top", "gradual", "all", "lora"),
    "tune_text": ("none", "top", "gradual", "all", "lora"),
    "batch_norm": ("inference", "train"),
    "sampling": ("all", "balanced"),
    "precision": ("float32", "mixed_float16", "mixed_bfloat16"),
}
_CHOICES_OF_ITEMS = {"contrastive_pairs": ("image-text", "image-joint", "text-joint"), "sections": SECTIONS}
_AT_LEAST_ONE = (
    *("length", "embedding_size", "pixels", "image_depths", "image_grid", "batch_size", "patience", "text_filters"),
    *("label_min_count", "min_word_count", "min_word_patients", "max_words"),
    *("fusion_layers", "fusion_heads", "fusion_width", "contrastive_batch", "lora_rank", "word_vector_epochs"),
)
_NOT_NEGATIVE = (
    *("text_epochs", "image_epochs", "joint_epochs", "tune_epochs", "clip_norm", "weight_decay"),
    *("bootstrap_repeats", "fusion_adapter"),
)
_BELOW_ONE = (
    *("text_dropout", "word_dropout", "fusion_dropout", "modality_dropout"),
    *("warmup", "weight_average", "label_smoothing", "stochastic_depth"),
)
_AUGMENT_AT_LEAST_ZERO = ("augment_rotation", "augment_shift", "augment_brightness", "augment_noise")
_AUGMENT_BELOW_ONE = ("augment_zoom", "augment_contrast", "augment_gamma")
_ABOVE_ZERO = (
    *("learning_rate", "text_learning_rate", "tune_learning_rate"),
    *("teacher_temperature", "contrastive_temperature", "lora_alpha"),
)
_RANGES = (
    _Range(_AT_LEAST_ONE, "must be at least 1", low=1),
    _Range(("fusion_units",), "must be at least 2", low=2),
    _Range(_NOT_NEGATIVE, "must not be negative"),
    _Range(("mixup", "focal_gamma", "contrastive_weight"), "must be a number of at least 0", open="high"),
    _Range(_AUGMENT_AT_LEAST_ZERO, "must be a number of at least 0", open="high", optional=True),
    _Range(_BELOW_ONE, "must be in [0, 1)", high=1, open="high"),
    _Range(_AUGMENT_BELOW_ONE, "must be in [0, 1)", high=1, open="high", optional=True),
    _Range(("text_teacher", "image_teacher", "focal_share"), "must be in [0, 1]", high=1),
    _Range(_ABOVE_ZERO, "must be a number above 0", open="both"),
    _Range(("positive_weight_limit",), "must be a number of at least 1", low=1, open="high"),
    _Range(("tta",), f"must be from 0 to {MOST_VIEWS}", high=MOST_VIEWS),
    _Range(("members",), f"must be from 1 to {MOST_MEMBERS}", low=1, high=MOST_MEMBERS),
    _Range(("rate_decay",), "must be above 0 and at most 1", high=1, open="low"),
    _Range(("seed",), "must be in 0..4294967294", high=2**32 - 2),
    _Range(("modality_dropout",), "must be at most 0.5", high=0.5),
)


def check_values(settings: Mapping[str, Any]) -> None:
    """Checks each setting by itself: those with choices, then those with ranges.

    Args:
        settings: mapping of every name in the tables to its value.

    Raises:
        InputError: for the first value that is no choice of its setting, or out of its range.

    Example:
        >>> from kmm.settings import FitSettings
        >>> check_values({**FitSettings().as_dict(), "tta": 10})
        Traceback (most recent call last):
        kmm.errors.InputError: Setting `tta` must be from 0 to 9. Received: 10
    """
    for name, choices in _CHOICES.items():
        check_choice(name, settings[name], choices)
    for name, choices in _CHOICES_OF_ITEMS.items():
        for item in settings[name]:
            check_choice(name, item, choices)
    for allowed in _RANGES:
        for name in allowed.names:
            if not allowed.holds(settings[name]):
                raise InputError(f"Setting `{name}` {allowed.says}. Received: {settings[name]}")


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raises `InputError` if the value of a setting is none of its choices."""
    if value not in choices:
        raise InputError(f"Setting `{name}` must be one of {', '.join(choices)}. Received: {value!r}")
