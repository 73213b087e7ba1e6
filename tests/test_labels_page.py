"""The page about labels by rules: its example runs, its file can be read, its limits are those of the code."""

import doctest
import re
from pathlib import Path

from kmm.rules.rule_file import KINDS, MAX_BYTES, MAX_ENTRIES, MAX_LABELS, read_rules

PAGE = Path(__file__).parents[1] / "docs" / "labels.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_examples_of_the_page_run():
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0


def test_the_file_of_the_page_is_one(tmp_path):
    (lines,) = re.findall(r"^    read: .*\n(?:    .*\n)+", TEXT, re.MULTILINE)
    path = tmp_path / "mine.yaml"
    path.write_text(re.sub(r"^    ", "", lines, flags=re.MULTILINE), encoding="utf-8")
    mass, effusion = read_rules(str(path)).rules
    assert len(mass.entries["mentions"]) == 3 and effusion.read == ("impression",)
    assert all(effusion.entries[kind] for kind in KINDS)


def test_the_limits_of_the_page_are_those_of_the_code():
    assert f"At most {MAX_LABELS} labels and {MAX_ENTRIES:,} entries in {MAX_BYTES // 1000} kB" in TEXT
