"""Which addresses are this machine's own."""

import ipaddress


def is_loopback(host):
    """Whether only this machine can reach an address, so that nothing travels over a network.

    Args:
        host: str. A name, or an IPv4 or IPv6 address, the last perhaps in brackets.

    Example:
        >>> is_loopback("Localhost"), is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("0.0.0.0")
        (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"
