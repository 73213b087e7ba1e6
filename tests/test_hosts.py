"""Addresses of this machine."""

import pytest

from kmm.hosts import is_loopback


@pytest.mark.parametrize("host", ["localhost", "Localhost", "127.0.0.2", "::1", "[::1]"])
def test_this_machine(host):
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["example.org", "0.0.0.0", "::", "192.168.0.1", "localhost.example.org", ""])
def test_other_machines(host):
    assert not is_loopback(host)
