"""Recognize addresses that only this machine can reach."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach an address, so that no traffic crosses a network.

    Only the name `localhost` and literal addresses count. Any other name goes through a resolver, which may point it
    elsewhere later. Short and decimal forms of IPv4 (`127.1`, `2130706433`) count as names.

    Args:
        host: str. A name, an IPv4 address, or an IPv6 address with or without brackets.

    Returns:
        bool. False for any name other than `localhost`.

    Example:
        >>> is_loopback("Localhost"), is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("0.0.0.0")
        (True, True, True, False)
        >>> is_loopback("127.0.0.1.nip.io"), is_loopback("[::ffff:127.0.0.1]")
        (False, True)
    """
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.isascii() and host.lower() == "localhost"
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
