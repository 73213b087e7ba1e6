"""Results as JSON: every file and every output of `--json` names the schema that docs/results.md describes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm.storage.files import write_json

RESULTS_SCHEMA = "kmm-results-1"


def add_schema(values: Mapping[str, Any]) -> dict[str, Any]:
    """Adds the name of the schema as the first key.

    Args:
        values: mapping of str to JSON-compatible values. A schema that it names already is kept.

    Example:
        >>> add_schema({"ok": True})
        {'schema': 'kmm-results-1', 'ok': True}
    """
    return {"schema": RESULTS_SCHEMA, **values}


def drop_schema(values: Mapping[str, Any]) -> dict[str, Any]:
    """Removes the name of the schema, the inverse of `add_schema`; results of kmm 0.1 have none.

    Example:
        >>> drop_schema({"schema": "kmm-results-1", "ok": True})
        {'ok': True}
    """
    return {name: value for name, value in values.items() if name != "schema"}


def write_with_schema(path: Path | str, values: Mapping[str, Any]) -> None:
    """Writes results with the name of their schema to a JSON file, completely or not at all."""
    write_json(path, add_schema(values))
