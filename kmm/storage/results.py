"""Results as JSON: every file and every output of `--json` names the schema that docs/results.md describes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm.storage.files import write_json

SCHEMA = "kmm-results-1"


def mark_results(values: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the name of the schema as the first key.

    Args:
        values: mapping of str to JSON-compatible values. A schema that it names already is kept.

    Example:
        >>> mark_results({"ok": True})
        {'schema': 'kmm-results-1', 'ok': True}
    """
    return {"schema": SCHEMA, **values}


def unmark_results(values: Mapping[str, Any]) -> dict[str, Any]:
    """Removes the name of the schema, the inverse of `mark_results`; results of kmm 0.1 have none.

    Example:
        >>> unmark_results({"schema": "kmm-results-1", "ok": True})
        {'ok': True}
    """
    return {name: value for name, value in values.items() if name != "schema"}


def write_results(path: Path | str, values: Mapping[str, Any]) -> None:
    """Writes results with the name of their schema to a JSON file, completely or not at all."""
    write_json(path, mark_results(values))
