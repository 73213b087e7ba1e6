"""A process that is killed while it writes an index leaves the old one, which answers; one process writes at a time."""

import signal
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from kmm.errors import ArtefactError, InputError
from kmm.retrieval.index import Index
from kmm.retrieval.index_folder import DESCRIPTION, adding, check_place
from kmm.retrieval.shards import TEXTS, Rows, decode_texts, encode_texts
from tests.factories.commands import ROOT
from tests.factories.indexes import describe, make_rows, write_index

SCRIPT = """
import sys
import numpy as np
from kmm.retrieval.index import Index
from kmm.retrieval.index_folder import adding
from tests.factories.indexes import describe, make_rows

folder, kept, shards = sys.argv[1], sys.argv[2] == "add", int(sys.argv[3])
description = describe(16)
if kept:
    description = {name: value for name, value in Index(folder).description.items() if name != "digest"}
random = np.random.default_rng(0)
with adding(folder, description, "the new rows") as addition:
    print(addition.done, flush=True)
    for number in range(addition.done, shards):
        rows = make_rows([f"new{number}-{row}" for row in range(50)], random.normal(size=(50, 16)))
        addition.write(rows, number + 1)
        print("written", flush=True)
    addition.finish()
"""


def start(folder, kind, shards):
    command = [sys.executable, "-c", SCRIPT, str(folder), kind, str(shards)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["build", "add"])
def test_a_killed_process_leaves_the_old_index_and_the_same_command_continues(tmp_path, kind):
    old = write_index(tmp_path / "index", [make_rows(["a", "b", "c"], np.eye(3, 16))])
    with start(tmp_path / "index", kind, 100_000) as process:
        assert process.stdout.readline() == "0\n"
        for _ in range(5):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    index = Index(tmp_path / "index")
    assert index.description == old.description and len(index) == 3
    assert [hit.study for hit in index.search("a")[0].hits] == ["b", "c"]
    with start(tmp_path / "index", kind, 20) as process:
        assert int(process.stdout.readline()) >= 5
        process.stdout.read()
    assert process.returncode == 0
    index = Index(tmp_path / "index")
    assert len(index) == 1000 + 3 * (kind == "add") and index.find("new19-49") is not None
    assert (index.find("a") is not None) == (kind == "add")
    assert len(list((tmp_path / "index" / "shards").iterdir())) == len(index.shards)


def test_an_index_that_was_never_finished_says_so(tmp_path):
    with adding(tmp_path / "index", describe(4), "key") as addition:
        addition.write(make_rows(["a"], np.eye(1, 4)), 1)
    with pytest.raises(ArtefactError, match="was not finished"):
        Index(tmp_path / "index")
    with adding(tmp_path / "index", describe(4), "key") as addition:
        assert addition.done == 1 and addition.facts == [None]
        addition.finish()
    assert len(Index(tmp_path / "index")) == 1


def test_one_process_writes_at_a_time(tmp_path):
    with (
        adding(tmp_path / "index", describe(4), "key"),
        pytest.raises(InputError, match="another process"),
        adding(tmp_path / "index", describe(4), "key"),
    ):
        pass


def test_a_lost_shard_is_written_again(tmp_path):
    with adding(tmp_path / "index", describe(4), "key") as addition:
        for number in range(3):
            addition.write(make_rows([f"s{number}"], np.eye(1, 4)), number + 1)
        lost = addition.planned[1]["name"]
    for path in (tmp_path / "index" / "shards" / lost).iterdir():
        path.unlink()
    (tmp_path / "index" / "shards" / lost).rmdir()
    with adding(tmp_path / "index", describe(4), "key") as addition:
        assert addition.done == 1


def test_folders_with_other_files_are_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    for place, says in ((tmp_path, r"notes\.txt"), (tmp_path / "notes.txt", "is a file")):
        with pytest.raises(InputError, match=says):
            check_place(place)
    check_place(tmp_path / "new")


def test_an_index_keeps_answering_while_it_is_rebuilt(tmp_path):
    old = write_index(tmp_path / "index", [make_rows(["a", "b"], np.eye(2, 4))])
    before = (tmp_path / "index" / DESCRIPTION).stat().st_mtime_ns
    with adding(tmp_path / "index", describe(4), "other") as addition:
        addition.write(make_rows(["c", "d"], np.eye(2, 4)), 1)
        assert (tmp_path / "index" / DESCRIPTION).stat().st_mtime_ns == before
        assert old.search("a")[0].hits[0].study == "b" and len(Index(tmp_path / "index")) == 2
        addition.finish()
    assert Index(tmp_path / "index").read_texts("id") == ["c", "d"]
    with pytest.raises(ArtefactError, match="was rebuilt"):
        Index.search(old, "a")


def test_texts_keep_their_letters():
    texts = ["", "Größe", "肺", "a" * 300]
    assert decode_texts(encode_texts(texts)) == texts and decode_texts(encode_texts([])) == []


@pytest.mark.large
def test_a_million_vectors_are_searched_in_bounded_memory(tmp_path):
    """The vectors take 64 MB, their similarities to the queries 128 MB; a small part of both is in memory at a time."""
    random, size, count, step = np.random.default_rng(0), 16, 1_000_000, 50_000
    with adding(tmp_path / "index", describe(size), "key") as addition:
        for start in range(0, count, step):
            rows = Rows(
                vectors={"both": random.normal(size=(step, size)).astype(np.float32)},
                predicted={"both": np.zeros((step, 0), np.float32)},
                present=np.ones((step, 2), np.uint8),
                labels=np.zeros((step, 0), np.uint8),
                hashes=(np.arange(start, start + step, dtype=np.uint64)[:, None] // 3 + 1).repeat(3, axis=1),
                texts={**dict.fromkeys(TEXTS, [""] * step), "id": [f"s{row}" for row in range(start, start + step)]},
            )
            addition.write(rows, start + step)
        addition.finish()
    tracemalloc.start()
    index = Index(tmp_path / "index")
    results = index.search([f"s{number}" for number in range(0, count, 31_250)], k=10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(index) == count and all(len(one.hits) == 10 for one in results)
    assert all(hit.row // 3 != one.query.row // 3 for one in results for hit in one.hits)
    assert peak < 2.5e8, peak
