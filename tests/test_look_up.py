"""The one message for a name that a table does not hold."""

from pathlib import Path

import pytest

import kmm
from kmm.errors import InputError, look_up

TABLE = {"mass": 1, "effusion": 2}


def test_a_known_name_gives_its_entry():
    assert look_up(TABLE, "effusion", "label") == 2


@pytest.mark.parametrize("name", ["Mass", "", None, 3])
def test_an_unknown_name_is_refused_in_one_line_with_the_known_ones_in_the_order_of_the_table(name):
    with pytest.raises(InputError) as error:
        look_up(TABLE, name, "label")
    assert str(error.value) == f"Unknown label {name!r}. Known: mass, effusion."


def test_this_message_is_written_in_one_place():
    """Docstrings may quote it in an example; commands have an own message for options in a file of settings."""
    root = Path(kmm.__file__).parent
    worded = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for line in path.read_text(encoding="utf-8").splitlines()
        if "Known: {" in line and path.parent.name != "cli"
    }
    assert worded == {"errors.py"}
