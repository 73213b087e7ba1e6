"""Ids and paths are found wherever they lie in a file, and nothing else is."""

import re
import tracemalloc

import numpy as np
import pytest

from kmm.export import traces
from kmm.export.traces import IdSearch, PathSearch, read_ids, strip_paths


def find_slowly(data, ids):
    """The ids in bytes, by a regular expression each."""

    def edge(letter):
        return "[0-9]" if letter.isdigit() else "[A-Za-z]" if letter.isalpha() else "(?!)"

    forms = {one: {one, one.lower()} for one in ids}
    return {
        one
        for one, written in forms.items()
        for form in written
        if re.search(f"(?<!{edge(form[0])}){re.escape(form)}(?!{edge(form[-1])})".replace("(?<!(?!))", ""), data)
    }


@pytest.mark.parametrize("chunk", [7, 16, 64, 1 << 20])
def test_ids_are_found_as_a_regular_expression_finds_them(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(traces, "CHUNK", chunk)
    random = np.random.default_rng(chunk)
    ids = ["".join(random.choice(list("aB1-"), random.integers(4, 12))) for _ in range(60)] + ["1234567", "aaaa"]
    ids = [one for one in ids if not traces.PLAIN_NUMBER.fullmatch(one)]
    hits = 0
    for number in range(30):
        noise = "".join(random.choice(list("aB1- ."), 150))
        at = random.integers(0, 150)
        data = noise[:at] + ids[number] + noise[at:]
        path = tmp_path / "file"
        path.write_text(data)
        assert IdSearch(ids).count_in(path) == len(find_slowly(data, ids)), data
        hits += len(find_slowly(data, ids))
    assert hits > 15


def test_ids_at_both_ends_of_a_file_and_in_lower_case(tmp_path):
    path = tmp_path / "file"
    path.write_text("P-001x7 mass p-002")
    assert IdSearch(["P-001x7", "P-002", "P-003", "x7 masses"]).count_in(path) == 2
    for data in (b"", b"P", b"P-0"):
        path.write_bytes(data)
        assert IdSearch(["P-001x7"]).count_in(path) == 0


def test_ids_that_nothing_tells_from_numbers_are_counted_and_not_searched(tmp_path):
    path = tmp_path / "card.md"
    path.write_text("Of 2010 studies 1234567 and 20.5 %")
    search = IdSearch(["2010", "20.5", "7", "ab", "1234567", "123456"])
    assert (search.count, search.plain_numbers, search.short) == (1, 3, 2)
    assert search.count_in(path) == 1 and search.count_in(path, shortest=8) == 0


@pytest.mark.large
def test_memory_does_not_grow_with_the_file(tmp_path):
    path = tmp_path / "weights"
    with open(path, "wb") as file:
        file.truncate(24 << 20)
        file.seek(13 << 20)
        file.write(b"patient-0007")
    ids, paths = IdSearch([f"patient-{number:04d}" for number in range(50)]), PathSearch([tmp_path])
    tracemalloc.start()
    try:
        assert ids.count_in(path) == 1 and paths.count_in(path) == 0
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("chunk", [5, 1 << 20])
def test_paths_of_this_machine_and_of_users(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(traces, "CHUNK", chunk)
    file, search = tmp_path / "graph", PathSearch([tmp_path / "model", "/m"])
    told = [f"hash_table_{tmp_path}/model/vocabulary.txt", "/home/ann/x", "C:\\Users\\ann", "/tmp/x", "/m/demo"]
    for text in told:
        file.write_text(f"\n\x12{text}")
        assert search.count_in(file) == 1, text
    file.write_text("\n".join(told))
    assert search.count_in(file) == len(told)
    file.write_text("^core/home/while /map_1/while /mass and/or https://tensorflow.org/tmp/x /homes model/tmp/x")
    assert search.count_in(file) == 0


def test_only_the_last_part_of_a_path_stays():
    assert strip_paths("kmm predict '/data/my models/one' --report x.txt") == "kmm predict 'one' --report x.txt"
    for text in ("and/or", "a film / a report", "saved_models/openi", "https://arxiv.org/abs/1902.08888", "1/2/3"):
        assert strip_paths(text) == text


def test_ids_of_a_split_are_those_of_studies_and_patients(tmp_path):
    (tmp_path / "split.csv").write_text('study,patient,part\ns-1,"Müller, A",train\ns-2,p-2,test\n', encoding="utf-8")
    assert read_ids(tmp_path / "split.csv") == {"s-1", "Müller, A", "s-2", "p-2"}
    assert read_ids(tmp_path / "none.csv") == set()
