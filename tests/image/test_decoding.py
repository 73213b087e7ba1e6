"""Films are decoded in order and only a few ahead; large ones in threads, which end with the iteration."""

import contextlib
import os
import signal
import threading
import time

import numpy as np
import pytest

from kmm.image.decoding import LARGE_BYTES, count_cores, count_threads, decode_ahead


def large(item):
    return LARGE_BYTES


def find_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("kmm-decode")]


def test_the_order_is_that_of_the_items_whatever_finishes_first():
    delays = np.random.default_rng(0).uniform(0, 0.004, 60).tolist()

    def decode(number):
        time.sleep(delays[number])
        return number * number

    for size in (large, lambda item: 0, lambda item: LARGE_BYTES * (item % 3 > 0)):
        found = list(decode_ahead(decode, range(60), size=size, ahead=7, threads=4))
        assert found == [(number, number * number) for number in range(60)]
    assert list(decode_ahead(decode, [], size=large, threads=4)) == [] and not find_threads()


def test_small_files_stay_in_the_calling_thread_and_large_ones_do_not():
    here, items = threading.get_ident(), [LARGE_BYTES - 1, LARGE_BYTES, 0, 10 * LARGE_BYTES]
    at = dict(decode_ahead(lambda item: threading.get_ident(), items, size=int, threads=2))
    assert [at[item] == here for item in items] == [True, False, True, False]
    alone = dict(decode_ahead(lambda item: threading.get_ident(), items, size=int, threads=1))
    assert set(alone.values()) == {here}


def test_only_a_few_items_are_read_ahead():
    read, decoded, lock = [], [], threading.Lock()

    def items():
        for number in range(50):
            read.append(number)
            yield number

    def decode(number):
        with lock:
            decoded.append(number)

    for size in (large, lambda item: 0):
        read.clear()
        decoded.clear()
        for number, _ in decode_ahead(decode, items(), size=size, ahead=5, threads=3):
            assert len(read) <= number + 5 and len(decoded) <= number + 5


def test_an_error_is_raised_at_its_turn_and_the_threads_end():
    def decode(number):
        if number == 3:
            raise ValueError("three")
        return number

    found = []
    with pytest.raises(ValueError, match="three"):
        for number, _ in decode_ahead(decode, range(9), size=large, threads=3):
            found.append(number)
    assert found == [0, 1, 2] and not find_threads()


def test_whoever_stops_early_leaves_no_thread_and_no_work_behind():
    started = []

    def decode(number):
        started.append(number)
        time.sleep(0.01)

    with contextlib.closing(decode_ahead(decode, range(100), size=large, ahead=40, threads=2)) as found:
        assert next(found)[0] == 0 and find_threads()
    assert not find_threads()
    count = len(started)
    time.sleep(0.05)
    assert len(started) == count < 20


def test_ctrl_c_ends_the_wait_for_a_film_and_the_threads():
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            list(decode_ahead(lambda item: time.sleep(0.3), range(100), size=large, ahead=40, threads=2))
    finally:
        timer.join()
        signal.signal(signal.SIGINT, handler)
    assert not find_threads()


@pytest.mark.parametrize("said, share", [(None, 1.0), ("1", 0), ("2", 0.5), ("2,1", 0.5), ("900", 1.0), ("many", 1.0)])
def test_the_threads_are_the_share_of_the_cores_that_the_process_has(monkeypatch, said, share):
    monkeypatch.setattr("kmm.image.decoding.count_cores", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert count_threads() == max(1, 4 * share) and count_cores() >= 1
