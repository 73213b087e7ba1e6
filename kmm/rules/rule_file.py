"""Rules for labels: what each label is read from, and the words and expressions that state, deny or leave it open.

A file is YAML or JSON. `docs/labels.md` describes it.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from kmm.data.study import SECTIONS
from kmm.errors import InputError, look_up
from kmm.text.characters import WORD_CHARACTERS
from kmm.text.expressions import translate_expression
from kmm.text.redaction import check_entry, write_phrase

OWN = ("chestxray14",)  # names of kmm's own files
MESH, TEXT = "mesh", "text:"  # what a rule may read beside sections: MeSH terms, and a column of a table
MAX_BYTES = 200_000
MAX_LABELS = 200
MAX_ENTRIES = 2000  # of all labels together
READ = ("findings", "impression")
UNMENTIONED = {"0": 0.0, "unknown": math.nan}
KINDS = ("mentions", "except", "absent", "unknown")


@dataclass(frozen=True)
class Rule:
    """The rule of one label. An entry is a word, a phrase or an expression between slashes, as in a redaction.

    Attributes:
        label: str.
        read: tuple of sections of the report, `"mesh"`, or `"text:<name>"`, a column of the table.
        entries: dict of `"mentions"`, `"except"`, `"absent"` and `"unknown"` to tuples of entries: those that state the
            label unless their sentence denies or doubts them; those inside which nothing counts as a mention; those
            that state that the label is 0; and those that leave it open.
        unmentioned: float, 0.0 or NaN: the label of a study whose text has none of them.
    """

    label: str
    read: tuple[str, ...]
    entries: Mapping[str, tuple[str, ...]]
    unmentioned: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Returns the rule as a JSON-compatible dict, as in a file."""
        found = {kind: list(self.entries[kind]) for kind in KINDS if self.entries[kind]}
        return {"read": list(self.read), **found, "unmentioned": "unknown" if math.isnan(self.unmentioned) else "0"}


@dataclass(frozen=True)
class LabelRules:
    """Rules for several labels.

    Attributes:
        name: str. File name without its folder, or a name in `OWN`.
        rules: tuple of `Rule`, each with a label of its own.
    """

    name: str
    rules: tuple[Rule, ...]

    @property
    def digest(self) -> str:
        """The SHA-256 of the rules, 64 hexadecimal digits; comments, spacing and the name do not matter."""
        return hashlib.sha256(json.dumps(self.as_dict()["labels"], sort_keys=True).encode()).hexdigest()

    def as_dict(self) -> dict[str, Any]:
        """Returns a JSON-compatible dict that `from_dict` reads back."""
        return {"name": self.name, "labels": {rule.label: rule.as_dict() for rule in self.rules}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], name: str = "") -> "LabelRules":
        """Makes rules from the content of a file.

        Args:
            values: mapping of `labels`, and of `read` and `unmentioned`, the defaults of all labels.
            name: str; left out, the `name` among the values.

        Raises:
            InputError: if something in it cannot be used; it names the label and the entry.

        Example:
            >>> rules = LabelRules.from_dict({"labels": {"Mass": ["mass", "masses"]}}, "mine.yaml")
            >>> rules.rules[0].entries["mentions"], rules.rules[0].read
            (('mass', 'masses'), ('findings', 'impression'))
        """
        _check_keys(values, ("name", "labels", "read", "unmentioned"), "The file")
        labels = values.get("labels")
        if not isinstance(labels, Mapping) or not 0 < len(labels) <= MAX_LABELS:
            raise InputError(f"expected `labels:` with 1 to {MAX_LABELS} labels.")
        defaults = {key: values[key] for key in ("read", "unmentioned") if key in values}
        rules = tuple(_read_rule(label, content, defaults) for label, content in labels.items())
        count = sum(len(found) for rule in rules for found in rule.entries.values())
        if count > MAX_ENTRIES:
            raise InputError(f"it has {count} entries, of at most {MAX_ENTRIES}.")
        return cls(name or str(values.get("name", "")), rules)


def read_rules(name: str) -> LabelRules:
    """Reads a file of rules in YAML or JSON, or one of kmm's own.

    Args:
        name: str, path of a file in UTF-8, or a name in `OWN`.

    Returns:
        `LabelRules`.

    Raises:
        InputError: if the file cannot be read or used; it names the file.

    Example:
        >>> [rule.label for rule in read_rules("chestxray14").rules][:3]
        ['Atelectasis', 'Cardiomegaly', 'Consolidation']
    """
    place = files("kmm.rules").joinpath(f"{name}.yaml") if name in OWN else Path(name)
    try:
        with place.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InputError(f"expected a file of rules of at most {MAX_BYTES} bytes.")
        values = yaml.load(data.decode("utf-8-sig"), _Loader)  # noqa: S506  a safe loader
        if not isinstance(values, Mapping):
            raise InputError("expected `labels:` and the rules of each label.")
        return LabelRules.from_dict(values, Path(name).name)
    except OSError as error:
        known = ", ".join(OWN)
        raise InputError(f"{name}: expected a readable file of rules, or {known}. Received: {error.strerror}") from None
    except UnicodeDecodeError:
        raise InputError(f"{name}: not valid UTF-8.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = "" if mark is None else f" at line {mark.line + 1}"
        raise InputError(
            f"{name}: not valid YAML or JSON{at}: {getattr(error, 'problem', '') or 'unreadable'}."
        ) from None
    except RecursionError:
        raise InputError(f"{name}: its parts are nested too deeply.") from None
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


@lru_cache(maxsize=4096)
def compile_entry(entry: str) -> re.Pattern[str]:
    """Compiles an entry of a rule to a pattern that ignores case; a phrase matches whole words.

    Example:
        >>> [bool(compile_entry("pleural fluid").search(text)) for text in ("Pleural  fluid.", "Pleural fluids")]
        [True, False]
    """
    if entry.startswith("/"):
        return re.compile(translate_expression(entry[1:-1]).pattern, re.ASCII)
    letters = f"[{WORD_CHARACTERS}]"
    return re.compile(f"(?<!{letters})(?:{write_phrase(entry)})(?!{letters})")


class _Loader(yaml.SafeLoader):
    """Reads YAML without references, which can repeat a part without end, and without keys that occur twice."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(None, None, "references (*name) are not supported", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise yaml.MarkedYAMLError(None, None, f"{key!r} occurs twice", node.value[place][0].start_mark)
        return super().construct_mapping(node, deep)


def _read_rule(label: Any, content: Any, defaults: Mapping[str, Any]) -> Rule:
    if not isinstance(label, str) or not label.strip() or not label.isprintable():
        raise InputError(f"expected a label in words. Received: {label!r}. Write it in quotes.")
    where = f"label {label!r}"
    content = {"mentions": content} if isinstance(content, Sequence) and not isinstance(content, str) else content
    if not isinstance(content, Mapping):
        raise InputError(f"{where}: expected a list of entries, or `mentions:` with one.")
    _check_keys(content, (*KINDS, "read", "unmentioned"), where)
    entries = {kind: _read_entries(content.get(kind, ()), f"{where}, `{kind}`") for kind in KINDS}
    if not entries["mentions"]:
        raise InputError(f"{where}: expected at least one entry of `mentions`.")
    merged = {**defaults, **content}
    unmentioned = str(merged.get("unmentioned", "0"))
    if unmentioned not in UNMENTIONED:
        raise InputError(f"{where}: `unmentioned` must be 0 or unknown. Received: {unmentioned}.")
    return Rule(label.strip(), _read_sources(merged.get("read", READ), where), entries, UNMENTIONED[unmentioned])


def _read_entries(content: Any, where: str) -> tuple[str, ...]:
    if isinstance(content, str) or not isinstance(content, Sequence):
        raise InputError(f"{where}: expected a list of entries.")
    found = []
    for entry in content:
        if not isinstance(entry, str):
            raise InputError(f"{where}: expected text. Received: {entry!r}. Write it in quotes.")
        try:
            found.append(check_entry(entry))
        except InputError as error:
            raise InputError(f"{where}, {entry!r}: {error}") from None
    return tuple(dict.fromkeys(found))


def _read_sources(content: Any, where: str) -> tuple[str, ...]:
    names = [content] if isinstance(content, str) else content
    if not isinstance(names, Sequence) or not names or not all(isinstance(name, str) for name in names):
        raise InputError(f"{where}: `read` must name at least one section, mesh, or text:<column>.")
    for name in names:
        if not (name.startswith(TEXT) and name != TEXT):
            look_up(dict.fromkeys((*SECTIONS, MESH, f"{TEXT}<column>")), name, "source of a rule")
    return tuple(dict.fromkeys(names))


def _check_keys(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    try:
        for key in values:
            look_up(dict.fromkeys(known), key, "key")
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
