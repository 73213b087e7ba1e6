"""A lock is held by one process at a time, and ends with the process."""

import subprocess
import sys
import threading

from kmm.storage.file_lock import hold_file

HOLD = """
import sys, time
from pathlib import Path
from kmm.storage.file_lock import hold_file
with hold_file(Path(sys.argv[1]), wait=True):
    print("held", flush=True)
    time.sleep(600)
"""


def test_who_waits_gets_the_lock_of_a_process_that_is_killed(tmp_path):
    mark, order = tmp_path / "lock", []
    process = subprocess.Popen([sys.executable, "-c", HOLD, mark], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        with hold_file(mark) as held:
            assert not held and mark.exists()

        def wait():
            with hold_file(mark, wait=True) as held:
                order.append(held)

        thread = threading.Thread(target=wait)
        thread.start()
        thread.join(0.2)
        assert order == [] and thread.is_alive()
    finally:
        process.kill()
        process.communicate()
    thread.join(20)
    assert order == [True] and not mark.exists()


def test_every_waiter_has_the_lock_alone_and_once(tmp_path):
    mark, inside, most, count = tmp_path / "lock", [], [], []

    def work():
        for _ in range(20):
            with hold_file(mark, wait=True) as held:
                inside.append(1)
                most.append(len(inside))
                count.append(held)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert max(most) == 1 and count == [True] * 120 and not mark.exists()
