"""The table of a folder: typed, strict, and the same whatever its kind."""

import csv
import json
import re
from math import nan
from pathlib import Path

import pytest

from kmm.data.study import Study
from kmm.errors import InputError
from kmm.explain.output.table import TABLE_COLUMNS, TABLES, choose_table, describe_failure, drop_unknown
from kmm.explain.regions.find import Region
from kmm.explain.words import WordScore

GOOD = {
    **dict.fromkeys(TABLE_COLUMNS),
    "study": "1",
    "image": 'films/"1", left\udcff.png'.encode("utf-8", "backslashreplace").decode(),
    "target": "Größe, klein",
    "probability": 0.1 + 0.2,
    "score": -1.5,
    "steps": 24,
    "regions": 0,
    "warnings": "a; b",
    "error": "",
}
ROWS = [GOOD, describe_failure(Study("2", "2"), ValueError("expected\n a  film."))]


def test_csv_holds_all_digits_and_leaves_the_unknown_empty(tmp_path):
    choose_table("csv").write(tmp_path / "t.csv", ROWS)
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as file:
        good, bad = csv.DictReader(file)
    assert list(good) == list(TABLE_COLUMNS)
    assert float(good["probability"]) == 0.1 + 0.2 and good["steps"] == "24" and good["map_error"] == ""
    assert good["image"] == GOOD["image"] and good["target"] == GOOD["target"]
    assert bad["error"] == "expected a film." and {bad[name] for name in list(TABLE_COLUMNS)[1:-1]} == {""}


def test_parquet_is_typed(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    choose_table("parquet").write(tmp_path / "t.parquet", ROWS)
    table = parquet.read_table(tmp_path / "t.parquet")
    types = {"string": str, "double": float, "int64": int}
    assert {field.name: types[str(field.type)] for field in table.schema} == TABLE_COLUMNS
    assert table.to_pylist() == ROWS


def read_documented(heading):
    """Names in the first column of the tables below a heading of `docs/explanation.md`, up to the next heading."""
    text = (Path(__file__).parents[3] / "docs" / "explanation.md").read_text(encoding="utf-8")
    part = text.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_column_and_every_field_of_the_json_is_documented():
    assert read_documented("The table of a folder") >= set(TABLE_COLUMNS)
    word = WordScore(0, 1, "a", "findings", 0, 1.0, 1.0)
    assert read_documented("`<id>.json`") >= {*word.as_dict(), *Region(0, 0, 1, 1).as_dict()}


def test_an_unknown_kind_is_refused():
    with pytest.raises(InputError, match=f"Known: {', '.join(TABLES)}"):
        choose_table("xlsx")


def test_nothing_unknown_is_left_for_json():
    value = drop_unknown({"a": [nan, (1.0, -float("inf"))], "b": {"c": nan, "d": True, "e": 2}})
    assert json.dumps(value, allow_nan=False) == '{"a": [null, [1.0, null]], "b": {"c": null, "d": true, "e": 2}}'
