"""Numbers of a comparison as text: means with intervals, differences with their sign."""

from kmm.experiments.schema import Estimate, Interval
from kmm.explain.output.markup import is_known

NOTHING = "–"
LEAST_SPREAD = 0.0005  # of three decimals


def show_number(value: float | None, digits: int = 3) -> str:
    """Formats a number with fixed decimals; an en dash when it is unknown.

    Example:
        >>> show_number(0.98765), show_number(-0.5, 1), show_number(None)
        ('0.988', '−0.5', '–')
    """
    return f"{value:.{digits}f}".replace("-", "−") if is_known(value) else NOTHING


def show_interval(between: Interval) -> str:
    """Formats an interval in brackets; empty when there is none.

    Example:
        >>> show_interval([0.5, 1.0]), show_interval(None)
        ('[0.500, 1.000]', '')
    """
    return "" if between is None else f"[{show_number(between[0])}, {show_number(between[1])}]"


def show_estimate(found: Estimate | None) -> str:
    """Formats a mean over splits with its interval, or its standard deviation if there is no interval.

    Example:
        >>> show_estimate({"mean": 0.9, "interval": [0.88, 0.92]}), show_estimate({"mean": 0.9, "sd": 0.01})
        ('0.900 [0.880, 0.920]', '0.900 (SD 0.010)')
    """
    if not found or not is_known(found.get("mean")):
        return NOTHING
    text, between, sd = show_number(found["mean"]), found.get("interval"), found.get("sd")
    if between is not None:
        return f"{text} {show_interval(between)}"
    return f"{text} (SD {show_number(sd)})" if is_known(sd) and sd >= LEAST_SPREAD else text


def show_value(value: float | None, between: Interval, *, signed: bool = False) -> str:
    """Formats a number with its interval; a difference with signs.

    Example:
        >>> show_value(0.9, [0.88, 0.92]), show_value(None, None), show_value(0.01, [-0.02, 0.04], signed=True)
        ('0.900 [0.880, 0.920]', '–', '+0.010 [−0.020, +0.040]')
    """
    if signed and between is not None:
        return f"{show_signed(value)} [{', '.join(map(show_signed, between))}]"
    return f"{show_signed(value) if signed else show_number(value)} {show_interval(between)}".strip()


def show_signed(value: float | None) -> str:
    """Formats a difference with its sign and three decimals; an en dash when it is unknown.

    Example:
        >>> show_signed(0.0123), show_signed(-0.5), show_signed(-0.0001), show_signed(None)
        ('+0.012', '−0.500', '0.000', '–')
    """
    if not is_known(value):
        return NOTHING
    text = f"{value:+.3f}".replace("-", "−")
    return text if text[1:] != "0.000" else text[1:]


def show_between(between: Interval) -> str:
    """Formats an interval of a difference.

    Example:
        >>> show_between([-0.01, 0.02])
        '−0.010 to +0.020'
    """
    return f"{show_signed(between[0])} to {show_signed(between[1])}" if between is not None else "–"
