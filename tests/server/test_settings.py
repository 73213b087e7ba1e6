"""Settings of a server: which values are valid, and what the others are called."""

import math

import pytest

from kmm.errors import InputError
from kmm.server.settings import ServeSettings


@pytest.mark.parametrize(
    "settings",
    [
        {"port": -1},
        {"rest_port": 65536},
        {"threads": 0},
        {"explain_threads": 0},
        {"max_queue": -1},
        {"max_message_mb": 0},
        {"max_message_mb": 2048},
        {"grace_seconds": -1},
        {"rest_timeout_seconds": 0},
        {"poll_seconds": math.nan},
        {"models_poll_seconds": -1},
        {"max_load_retries": -1},
        {"load_retry_seconds": math.inf},
    ],
)
def test_what_no_server_can_do_is_refused(settings):
    with pytest.raises(InputError, match=f"`{next(iter(settings))}` must be"):
        ServeSettings(**settings)


def test_the_ends_of_the_ranges_are_taken():
    ServeSettings(port=0, rest_port=None, threads=1, max_queue=0, max_message_mb=2047, grace_seconds=0, poll_seconds=0)
