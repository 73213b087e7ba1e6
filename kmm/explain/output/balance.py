"""Rounding of the terms of a sum, so that the printed numbers add up to the printed total."""

from collections.abc import Iterable, Sequence
from math import floor, log10


def choose_decimals(values: Iterable[float]) -> int:
    """Chooses the decimals that show the largest of some numbers with three digits; at least 2 and at most 6.

    Example:
        >>> choose_decimals([-8.7, 3.5]), choose_decimals([0.042]), choose_decimals([])
        (2, 4, 2)
    """
    largest = max(map(abs, values), default=0.0)
    return min(max(2 - floor(log10(largest)), 2), 6) if largest else 2


def round_to_sum(values: Sequence[float], total: float, decimals: int) -> tuple[list[float], float, float]:
    """Rounds numbers and their total so that the rounded numbers add up.

    Args:
        values: list of float.
        total: float, near the sum of `values`.
        decimals: int >= 0.

    Returns:
        `(list of float, float, float)`: the rounded values, the rounded total, and the rest, the total minus the sum of
        the rounded values. The rest is 0 if the sum of `values` is within one unit of the last decimal of `total`; each
        value is then off by less than a unit. Otherwise each value is simply rounded.

    Example:
        >>> round_to_sum([1.04, 1.04, 1.04], 3.12, 1)
        ([1.1, 1.0, 1.0], 3.1, 0.0)
        >>> round_to_sum([-4.983, 3.243, -4.728], -6.410, 2)
        ([-4.98, 3.24, -4.73], -6.41, 0.06)
    """
    unit = 10.0**-decimals
    scaled = [value / unit for value in values]
    units, whole = [round(value) for value in scaled], round(total / unit)
    rest = whole - sum(units)
    if abs(total / unit - sum(scaled)) < 1 and abs(rest) <= len(values):
        step = 1 if rest > 0 else -1
        order = sorted(range(len(values)), key=lambda place: step * (units[place] - scaled[place]))
        for place in order[: abs(rest)]:
            units[place] += step
        rest = 0
    return (
        [round(value * unit, decimals) for value in units],
        round(whole * unit, decimals),
        round(rest * unit, decimals),
    )


def format_signed(value: float, decimals: int) -> str:
    """Formats a number with its sign and fixed decimals, with a typographic minus sign; 0 has no sign.

    Example:
        >>> format_signed(3.5, 1), format_signed(-1.5, 2), format_signed(0, 1)
        ('+3.5', '−1.50', '0.0')
    """
    return format(value or 0.0, f"{'+' if value else ''}.{decimals}f").replace("-", "−")
