"""Addresses of this machine."""

import pytest

from kmm.protocol.addresses import is_loopback


@pytest.mark.parametrize(
    "host", ["localhost", "Localhost", "127.0.0.2", "::1", "[::1]", "::ffff:127.0.0.1", "LOCALHOST"]
)
def test_this_machine(host):
    assert is_loopback(host)


NAMES = [
    "127.0.0.1.nip.io",
    "2130706433",
    "127.1",
    "0x7f.0.0.1",
    "127.0.0.01",
    "[::1",
    "::1]",
    "localhost:8500",
    "\uff4cocalhost",
]


@pytest.mark.parametrize(
    "host", ["example.org", "0.0.0.0", "::", "192.168.0.1", "localhost.example.org", "", "::ffff:10.0.0.1", *NAMES]
)
def test_other_machines(host):
    assert not is_loopback(host)
