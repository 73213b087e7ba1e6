"""Which addresses are this machine's own."""

import ipaddress


def is_loopback(host):
    """Whether only this machine can reach an address, so that nothing travels over a network.

    Only the name `localhost` and literal addresses count. Any other name goes through a resolver, which may point it
    elsewhere later, and short or decimal forms of IPv4 (`127.1`, `2130706433`) are names too.

    Args:
        host: str. A name, or an IPv4 or IPv6 address, the last perhaps in brackets.

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
