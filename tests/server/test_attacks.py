"""Attacks on a server in a process of its own: health is answered all the time, and requests are afterwards."""

import re
import shutil
import sys

import pytest

from tests.server.attacks import ATTACKS
from tests.server.film_classifier import save_film_classifier
from tests.server.victim import Victims, measure

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("openssl") is None, reason="needs /proc of Linux, and openssl"
)
SILENCE_SECONDS = 1.0  # or three times that of a trivial responder, where the machine is busy
TRIES = 3
MOST_LINES, MOST_GROWTH_MB = 99, 200
MOST_PEAK_MB = 1300  # while the attack goes on: sixteen bodies of the largest size, and what one of them becomes


@pytest.fixture(scope="module")
def victims(versions, tmp_path_factory):
    folder = tmp_path_factory.mktemp("attacks")
    save_film_classifier(folder / "film")
    with Victims({"tiny": versions, "film": folder / "film"}, folder / "servers", hold=1.3) as victims:
        yield victims


def is_heard(outcome):
    """Whether health was answered all the time, as far as the machine allows."""
    limit = max(SILENCE_SECONDS, 3 * outcome.control)
    return outcome.grpc_silence < limit and outcome.rest_silence < limit


@pytest.mark.large
@pytest.mark.parametrize("name", sorted(ATTACKS, key=lambda name: ATTACKS[name].kind))
def test_a_server_that_is_attacked_goes_on(victims, name):
    attack = ATTACKS[name]
    for _ in range(TRIES):  # other programs may take the processor meanwhile; an attack that works does so each time
        outcome = measure(victims.find(attack.kind), attack.run)
        if is_heard(outcome):
            break
    assert is_heard(outcome), outcome
    assert outcome.answered == {"grpc": True, "rest": True}, outcome
    assert outcome.lines <= MOST_LINES and not outcome.faults, outcome
    assert outcome.growth < MOST_GROWTH_MB and outcome.peak < MOST_PEAK_MB, outcome
    assert re.search(attack.expected, outcome.said), outcome
