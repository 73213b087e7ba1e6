"""The cache stays within its limit: entries that were unused for the longest time go first, those in use never."""

import os
import shutil
import time

import pytest

from kmm.training.cache.cache_folder import GONE, MARK, Use, claim_entry, list_entries, make_room, name_entry


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Entries of 1,000 bytes, used 1, 2 and 3 days ago, and a limit of 3,500 bytes."""
    monkeypatch.setenv("KMM_CACHE_GB", "3.5e-6")
    for days, name in enumerate(("one", "two", "three"), 1):
        (tmp_path / name).mkdir()
        for file, size in ((MARK, 0), ("a.zip", 1000)):
            (tmp_path / name / file).write_bytes(bytes(size))
            os.utime(tmp_path / name / file, (time.time() - days * 86_400,) * 2)
    return tmp_path


def list_names(cache):
    return [entry.path.name for entry in list_entries(cache)]


def test_entries_have_size_and_age(cache):
    assert [(entry.path.name, entry.bytes, entry.days) for entry in list_entries(cache)] == [
        ("one", 1000, 1.0),
        ("three", 1000, 3.0),
        ("two", 1000, 2.0),
    ]
    assert list_entries(cache / "none") == [] and make_room(cache / "none", 10**9) == []


@pytest.mark.parametrize(
    ("need", "removed"), [(500, []), (501, ["three"]), (1500, ["three"]), (2000, ["three", "two"]), (10**9, "all")]
)
def test_as_many_go_as_are_needed(cache, need, removed):
    removed = ["three", "two", "one"] if removed == "all" else removed
    assert make_room(cache, need) == removed
    assert set(list_names(cache)) == {"one", "two", "three"} - set(removed)


def test_an_entry_in_use_stays(cache):
    use = Use(cache / "two")
    assert make_room(cache, 10**9) == ["three", "one"] and list_names(cache) == ["two"]
    del use
    assert make_room(cache, 10**9) == ["two"]


def test_a_use_is_a_new_age(cache):
    Use(cache / "three")
    assert make_room(cache, 1000) == ["two"]


def test_several_may_use_an_entry_but_one_claims_it(cache):
    uses = [Use(cache / "one"), Use(cache / "one")]
    with claim_entry(cache / "one") as free:
        assert not free
    uses.pop()
    with claim_entry(cache / "one") as free:
        assert not free
    uses.pop()
    with claim_entry(cache / "one") as free, claim_entry(cache / "one") as twice:
        assert free and not twice
    with claim_entry(cache / "none") as free:
        assert not free


def test_an_entry_can_be_made_again_while_it_is_removed(cache, monkeypatch):
    """The files go after the entry has lost its name, so another process never meets half an entry."""
    remove, uses = shutil.rmtree, []

    def remove_slowly(path, **options):
        uses.append(Use(cache / "three"))
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", remove_slowly)
    assert make_room(cache, 1000) == ["three"]
    assert [path.name for path in (cache / "three").iterdir()] == [MARK] and list_names(cache) == [
        "one",
        "three",
        "two",
    ]


def test_what_an_interrupted_removal_left_is_neither_listed_nor_kept(cache):
    (cache / "three").rename(cache / f"{GONE}1-three")
    assert list_names(cache) == ["one", "two"]
    assert make_room(cache, 2500) == ["two"] and [path.name for path in cache.iterdir()] == ["one"]


def test_every_fact_is_in_the_name_of_an_entry():
    facts = {"pixels": 224, "weights": "ab"}
    assert name_entry("films", facts) == name_entry("films", dict(reversed(facts.items())))
    assert len({name_entry("films", {**facts, "pixels": pixels}) for pixels in range(10)}) == 10
