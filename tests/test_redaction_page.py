"""The page about redaction: its examples run, and its file is one that kmm reads."""

import doctest
import re
from pathlib import Path

from kmm.text.expressions import MAX_WAYS
from kmm.text.redaction import DEFAULT_FILE, MAX_CHARACTERS, MAX_ENTRIES, MAX_FILE_BYTES, read_redaction

PAGE = Path(__file__).parents[1] / "docs" / "redaction.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_examples_of_the_page_run():
    assert doctest.testfile(str(PAGE), module_relative=False).failed == 0


def test_the_file_of_the_page_is_one(tmp_path):
    (lines,) = re.findall(r"^    # the verdict, in words\n(?:    .*\n|\n)+", TEXT, re.MULTILINE)
    path = tmp_path / "words.txt"
    path.write_text(re.sub(r"^    ", "", lines, flags=re.MULTILINE), encoding="utf-8")
    redaction = read_redaction(str(path))
    assert len(redaction.entries) == 5
    assert redaction.blank("Abnormally, no sign of pneumonia.").split() == [",", "."]


def test_the_limits_of_the_page_are_those_of_the_code():
    assert f"in more than {MAX_WAYS:,} ways" in TEXT and DEFAULT_FILE in TEXT
    assert f"At most {MAX_ENTRIES:,} entries of {MAX_CHARACTERS} characters, in {MAX_FILE_BYTES // 1000} kB" in TEXT
