"""Who runs, who waits and who is refused."""

import threading
import time

import pytest

from kmm.server.requests.admission import AdmissionGate, Caller
from kmm.server.status import ServingError


def hold(gate, entered, leave, call=None):
    try:
        with gate.enter(call or Caller()):
            entered.append(threading.current_thread().name)
            leave.wait(10)
    except ServingError as error:
        entered.append(error.code)


def start(gate, entered, leave, name, call=None):
    thread = threading.Thread(target=hold, args=(gate, entered, leave, call), name=name)
    waiting = gate.running + gate.waiting
    thread.start()
    while gate.running + gate.waiting == waiting:
        time.sleep(0.001)
    return thread


def test_first_come_first_served():
    gate, entered, leave = AdmissionGate(running=1, waiting=9), [], threading.Event()
    threads = [start(gate, entered, leave, str(number)) for number in range(10)]
    assert (gate.running, gate.waiting) == (1, 9)
    with pytest.raises(ServingError, match="9 requests are waiting") as caught, gate.enter(Caller()):
        pass
    assert caught.value.code == "UNAVAILABLE"
    leave.set()
    for thread in threads:
        thread.join()
    assert entered == [str(number) for number in range(10)]
    assert (gate.running, gate.waiting) == (0, 0)


def test_who_goes_gives_up_a_place_in_the_line():
    gate, entered, leave = AdmissionGate(running=1, waiting=2), [], threading.Event()
    call = Caller()
    threads = [start(gate, entered, leave, name, call if name == "gone" else None) for name in ("a", "gone", "b")]
    call.cancel()
    threads[1].join()
    assert entered == ["a", "CANCELLED"] and gate.waiting == 1
    leave.set()
    threads[2].join()
    assert entered[-1] == "b"
    threads[0].join()
    assert gate.running == 0


def test_time_that_is_over_before_or_while_waiting():
    gate, leave = AdmissionGate(running=1, waiting=2), threading.Event()
    for seconds, occupied in ((0, False), (0.05, True)):
        thread = start(gate, [], leave, "a") if occupied else None
        with pytest.raises(ServingError) as caught, gate.enter(Caller(seconds)):
            pass
        assert caught.value.code == "DEADLINE_EXCEEDED" and gate.waiting == 0
    leave.set()
    thread.join()


def test_a_client_that_was_gone_before():
    call = Caller()
    call.cancel()
    with pytest.raises(ServingError) as caught, AdmissionGate(running=1, waiting=1).enter(call):
        pass
    assert caught.value.code == "CANCELLED"
