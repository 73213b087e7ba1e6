import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kmm.data.names import (
    choose_file_names,
    find_image_id,
    is_safe_id,
    make_printable,
    resolve_inside,
    sort_key,
    strip_suffixes,
)
from kmm.data.views.terms import name_view
from kmm.errors import InputError


@given(st.lists(st.integers(0, 10**6), max_size=20))
def test_numbers_are_sorted_as_numbers(numbers):
    assert sorted(map(str, numbers), key=sort_key) == [str(number) for number in sorted(numbers)]


@given(st.lists(st.text(max_size=8), max_size=8))
def test_any_texts_can_be_sorted(texts):
    assert sorted(sorted(texts, key=sort_key), key=sort_key) == sorted(texts, key=sort_key)


@given(st.text(max_size=120))
def test_a_safe_id_is_one_plain_file_name(text):
    if is_safe_id(text):
        assert text.isascii() and "/" not in text and "\\" not in text and not text.startswith(".") and len(text) <= 100


@pytest.mark.parametrize("text", ["", ".", "..", "../a", "a/b", "a b", ".hidden", "a\n", "ä", "a" * 101])
def test_unsafe_ids(text):
    assert not is_safe_id(text)


@pytest.mark.parametrize(
    ("name", "image_id"),
    [
        ("CXR1_1_IM-0001-3001", "1_IM-0001-3001"),
        ("CXR1_1_IM-0001-4001.png", "1_IM-0001-4001"),
        ("CXR12_IM-0133-1001", "12_IM-0133-1001"),
        ("CXR3_IM-1384-1001-0002.png", "3_IM-1384-1001-0002"),
        ("1_IM-0001-4001.dcm.png", "1_IM-0001-4001"),
        ("1_IM-0001-4001.dcm.jpg", "1_IM-0001-4001"),
        ("11_IM-0067-1001.dcm", "11_IM-0067-1001"),
        ("film.v2.PNG", "film.v2"),
        ("CXRAY.png", "CXRAY"),
    ],
)
def test_one_image_has_one_id_in_all_layouts(name, image_id):
    assert find_image_id(name) == image_id


def test_suffixes_that_are_no_images_stay():
    assert strip_suffixes("report.txt") == "report.txt"


@pytest.mark.parametrize(
    "name",
    ["../a.png", "a/../../b.png", "/etc/hostname", "..\\a.png", "C:\\a.png", "C:a.png", "\\a.png", "", ".", "a\0.png"],
)
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="file name"):
        resolve_inside(tmp_path, name)


def test_an_endless_name_is_refused(tmp_path):
    with pytest.raises(InputError, match="not valid"):
        resolve_inside(tmp_path, "a" * 300 + ".png")


def test_links_may_not_lead_out_but_the_folder_may_be_one(tmp_path):
    real, films = tmp_path / "real", tmp_path / "films"
    real.mkdir()
    films.symlink_to(real)
    (tmp_path / "secret.png").write_bytes(b"x")
    (real / "out.png").symlink_to(tmp_path / "secret.png")
    (real / "in.png").symlink_to(real / "film.png")
    (real / "loop.png").symlink_to(real / "loop.png")
    assert resolve_inside(films, "film.png") == films / "film.png"
    assert resolve_inside(films, "in.png") == films / "in.png"
    assert resolve_inside(films, "loop.png") == films / "loop.png"
    with pytest.raises(InputError, match="link that leads out"):
        resolve_inside(films, "out.png")


def test_what_is_shown_fits_on_one_line():
    assert make_printable("a\r\n\x1b[31m\udcffb") == "a???[31m?b"


def test_views_by_any_name():
    assert [name_view(text) for text in (" ap ", "LL", "LARGE LATERAL", "", "oblique")] == [
        "frontal", "lateral", "lateral", None, "other",
    ]  # fmt: skip


@given(st.lists(st.text(max_size=120), unique=True), st.booleans())
@example(["CON", "con.1", "nul", "Lpt9.txt", "a.", "a ", "A", "a", "Index", ".hidden", "", "ä", "x" * 300], True)
def test_file_names_are_those_of_any_file_system_and_differ_in_any_letter_case(texts, dots):
    names = choose_file_names(texts, ["index"], dots=dots)
    assert names.keys() == set(texts)
    folded = [name.casefold() for name in names.values()]
    assert len(set(folded)) == len(folded) and "index" not in folded
    for name in names.values():
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) and len(name) < 120 and not name.endswith(".")
        assert not re.fullmatch(r"(con|prn|aux|nul|com\d|lpt\d)", name.partition(".")[0].casefold())
        assert dots or "." not in name


def test_ids_that_are_safe_keep_their_names_whatever_comes_first():
    ids = ["a.", "CXR1_1_IM-0001-3001", "7", "B", "1.2.840.10008", "b"]
    assert [choose_file_names(ids)[name] for name in ids[1:5]] == ids[1:5]
    assert choose_file_names(["b", "B"])["b"] == "b" and choose_file_names(["B", "b"])["B"] == "B"
    assert choose_file_names(["b"], ["B"]) == {"b": "b-3e23e816"}
