"""Arrays come back as they were added, from any process, and damage costs one shard."""

import copy
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import kmm.training.cache.array_store
import kmm.training.cache.stored_arrays
from kmm.training.cache.array_store import SHARD_RECORDS, ArrayStore

SHAPES = [((3,), "float32"), ((4, 4, 1), "uint8"), ((6, 5), "float16"), ((), "int64")]


def make_arrays(count, shape=(3,), dtype="float32"):
    return (np.random.default_rng(0).normal(size=(count, *shape)) * 100).astype(dtype)


def names(numbers):
    return [f"{number:064x}" for number in numbers]


def fill(folder, arrays, first=0):
    store = ArrayStore(folder)
    for number, array in enumerate(arrays, first):
        store.add(*names([number]), array, {"number": number})
    store.flush()
    return store


@pytest.mark.parametrize(("shape", "dtype"), SHAPES)
def test_arrays_of_any_shape_and_type_are_read_by_position(tmp_path, shape, dtype):
    arrays = make_arrays(SHARD_RECORDS + 5, shape, dtype)
    fill(tmp_path / "store", arrays)
    store = ArrayStore(tmp_path / "store")
    assert len(store.shards) == 2 and store.facts(names([3])[0]) == {"number": 3}
    column = store.column([*names(range(len(arrays))), ""])
    rows = np.array([SHARD_RECORDS + 1, 0, len(arrays), 0, 17])
    found = column[rows]
    assert (column.shape, column.dtype, found.dtype) == ((len(arrays) + 1, *shape), dtype, dtype)
    expected = np.concatenate([arrays, np.zeros((1, *shape), dtype)])
    np.testing.assert_array_equal(found, expected[rows])
    np.testing.assert_array_equal(np.asarray(column), expected)
    np.testing.assert_array_equal(store.column(names([4]), np.float32)[[0]], expected[[4]].astype(np.float32))
    assert column[np.zeros(0, int)].shape == column[[]].shape == (0, *shape)
    np.testing.assert_array_equal(column[-3:-1], expected[-3:-1])


def test_numpy_reads_a_shard(tmp_path):
    arrays = make_arrays(7)
    fill(tmp_path / "store", arrays)
    (path,) = (tmp_path / "store").glob("*.zip")
    with np.load(path) as shard:
        np.testing.assert_array_equal(shard["arrays"], arrays)


def test_an_array_of_another_shape_or_type_is_refused(tmp_path):
    store = fill(tmp_path / "store", make_arrays(2))
    for array in (np.zeros(4, np.float32), np.zeros(3)):
        with pytest.raises(ValueError, match="expected"):
            store.add("x", array)


def test_large_arrays_are_written_in_smaller_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(kmm.training.cache.array_store, "SHARD_BYTES", 100)
    store = fill(tmp_path / "store", make_arrays(10))
    assert len(store.shards) == 2  # of 12 bytes each, eight in a shard
    monkeypatch.setattr(kmm.training.cache.array_store, "SHARD_BYTES", 1)
    assert len(fill(tmp_path / "single", make_arrays(3)).shards) == 3


DAMAGE = {
    "cut": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "one bit of an array": lambda data: data[:-300] + bytes([data[-300] ^ 1]) + data[-299:],
    "no zip": lambda data: b"x" * len(data),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_shard_is_removed_and_the_others_stay(tmp_path, kind):
    arrays = make_arrays(SHARD_RECORDS + 30, (16,))
    fill(tmp_path / "store", arrays)
    path = max((tmp_path / "store").glob("*.zip"), key=lambda path: path.stat().st_size)
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    store, digests = ArrayStore(tmp_path / "store"), names(range(len(arrays)))
    store.check(digests)
    assert [digest in store for digest in digests] == [False] * SHARD_RECORDS + [True] * 30
    assert len(list((tmp_path / "store").glob("*.zip"))) == 1
    np.testing.assert_array_equal(store.column(digests[-30:])[range(30)], arrays[-30:])


def test_a_file_that_was_removed_or_cut_under_a_reader_is_an_error(tmp_path):
    column = fill(tmp_path / "store", make_arrays(3)).column(names(range(3)))
    (path,) = (tmp_path / "store").glob("*.zip")
    os.truncate(path, 300)
    with pytest.raises(OSError, match="truncated"):
        column[[2]]
    path.unlink()
    with pytest.raises(FileNotFoundError):
        copy.deepcopy(column)[[2]]


def test_what_a_killed_writer_left_is_removed_later(tmp_path):
    fill(tmp_path / "store", make_arrays(3))
    for name, age in ((".1-old.zip", 7200), (".2-new.zip", 0)):
        (tmp_path / "store" / name).write_bytes(b"x")
        os.utime(tmp_path / "store" / name, (time.time() - age,) * 2)
    assert len(ArrayStore(tmp_path / "store").places) == 3
    assert not (tmp_path / "store" / ".1-old.zip").exists() and (tmp_path / "store" / ".2-new.zip").exists()


def read_sum(column, rows, answers):
    answers.put(float(np.float64(column[rows]).sum()))


def test_a_spawned_process_reads_the_column_of_its_parent(tmp_path):
    arrays = make_arrays(40)
    column = fill(tmp_path / "store", arrays).column(names(range(40)))
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    child = context.Process(target=read_sum, args=(column, [3, 9], answers))
    child.start()
    assert answers.get(timeout=60) == float(np.float64(arrays[[3, 9]]).sum())
    child.join()


def test_threads_and_other_writers_do_not_conflict(tmp_path):
    """Eight writers of overlapping arrays, each with its own store, and readers of what is there already."""
    arrays = make_arrays(400)
    column = fill(tmp_path / "store", arrays[:100]).column(names(range(100)))
    with ThreadPoolExecutor(16) as pool:
        written = [pool.submit(fill, tmp_path / "store", arrays[at : at + 300], at) for at in (0, 50, 100, 0) * 2]
        read = [pool.submit(column.__getitem__, range(100)) for _ in range(40)]
        for future in read:
            np.testing.assert_array_equal(future.result(), arrays[:100])
        [future.result() for future in written]
    store = ArrayStore(tmp_path / "store")
    store.check(names(range(400)))
    np.testing.assert_array_equal(store.column(names(range(400)))[range(400)], arrays)


def test_many_files_are_read_with_few_open(tmp_path, monkeypatch):
    monkeypatch.setattr(kmm.training.cache.array_store, "SHARD_BYTES", 12)
    monkeypatch.setattr(kmm.training.cache.stored_arrays, "OPEN_FILES", 5)
    arrays = make_arrays(60)
    column = fill(tmp_path / "store", arrays).column(names(range(60)))
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        np.testing.assert_array_equal(column[range(60)], arrays)
    assert len(os.listdir("/proc/self/fd")) <= before + 5


def test_nothing_is_left_of_a_store_whose_first_shard_cannot_be_written(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        fill(tmp_path / "cache" / "store", make_arrays(2))
    assert not list(tmp_path.iterdir())
