"""Variants of a comparison: settings that are varied, on the same splits."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmm.errors import InputError, look_up
from kmm.presets import SETTING_NAMES
from kmm.rules.rule_scheme import PREFIX, drop_folder

FIXED = {"shares": "it decides the splits, which variants share"}
PLAIN = (str, int, float, bool, list, tuple, type(None))
MOST = 50  # variants of one comparison


@dataclass(frozen=True)
class Variant:
    """Settings that replace those of the comparison.

    Attributes:
        name: str, `"NAME=VALUE"`, several joined by `;`; empty for the settings of the comparison themselves.
        changes: dict of setting name to value.
    """

    name: str
    changes: Mapping[str, Any]


def parse_variations(options: Sequence[str]) -> dict[str, list[str]]:
    """Reads options of the form `NAME=V1|V2`.

    Returns:
        dict of setting name to its values.

    Raises:
        InputError: if an option has another form, or names a setting twice.

    Example:
        >>> parse_variations(["image-weights=imagenet|none"])
        {'image_weights': ['imagenet', 'none']}
    """
    found: dict[str, list[str]] = {}
    for option in options:
        name, equals, values = option.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values.strip():
            raise InputError(f'Expected "NAME=V1|V2". Received: {option!r}')
        if name in found:
            raise InputError(f"{name} is varied twice. Give all of its values at once: {name}=V1|V2.")
        found[name] = [value.strip() for value in values.split("|")]
    return found


def list_variants(variations: Mapping[str, Sequence[Any]]) -> tuple[Variant, ...]:
    """Lists the variants: every combination of the values of several settings.

    Args:
        variations: mapping of setting name to its values.

    Returns:
        tuple of `Variant`, the first values first; one without changes if nothing is varied.

    Raises:
        InputError: if a setting is unknown or may not vary, has fewer than two different values, or there are too many
            combinations.

    Example:
        >>> for variant in list_variants({"augment": [True, False], "pixels": [64, 128]}):
        ...     print(variant.name)
        augment=true;pixels=64
        augment=true;pixels=128
        augment=false;pixels=64
        augment=false;pixels=128
        >>> list_variants({})
        (Variant(name='', changes={}),)
        >>> list_variants({"image_weights": ["/data/film.h5", "random"]})[0].name
        'image_weights=film.h5'
    """
    for name, values in variations.items():
        look_up(dict.fromkeys(SETTING_NAMES), name, "setting")
        if name in FIXED:
            raise InputError(f"{name} cannot be varied: {FIXED[name]}.")
        if not all(isinstance(value, PLAIN) for value in values):
            raise InputError(
                f"{name} can be varied over text, numbers and lists of them. Received another kind of value."
            )
        if isinstance(values, str) or len(set(map(show_value, values))) != len(values) or len(values) < 2:
            raise InputError(f"{name} needs two or more different values to vary, as in {name}=V1|V2.")
    pairs = [
        [(f"{name}={shown}", name, value) for shown, value in zip(_shorten(values), values, strict=True)]
        for name, values in variations.items()
    ]
    variants = tuple(
        Variant(";".join(title for title, _, _ in chosen), {name: value for _, name, value in chosen})
        for chosen in itertools.product(*pairs)
    )
    if len(variants) > MOST:
        raise InputError(f"There are {len(variants)} variants. Vary fewer settings: at most {MOST} are compared.")
    return variants


def _shorten(values: Sequence[Any]) -> list[str]:
    """Shows values; of absolute paths the last part alone, because pages are shared, unless two are then equal."""
    shown = [show_value(value) for value in values]
    short = [show_shared(value) for value in values]
    return short if len(set(short)) == len(short) else shown


def show_shared(value: Any) -> str:
    """Writes the value of a setting for a page that is shared: of an absolute path its last part alone.

    Example:
        >>> show_shared("/data/film.h5"), show_shared(False), show_shared("rules:/data/mine.yaml")
        ('film.h5', 'false', 'rules:mine.yaml')
    """
    shown = show_value(value)
    return drop_folder(shown) if shown.startswith(PREFIX) else Path(shown).name if Path(shown).is_absolute() else shown


def show_value(value: Any) -> str:
    """Writes the value of a setting as on the command line.

    Example:
        >>> show_value(False), show_value(None), show_value(["findings", "impression"])
        ('false', 'none', 'findings,impression')
    """
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "none"}[value]
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
