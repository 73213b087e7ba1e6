"""p values as people read them: three decimals, and never 0."""

import math

SMALLEST = 0.001  # that three decimals can show


def show_p(p: float | None) -> str:
    """Formats a p value for a cell of a table; an en dash when it is unknown.

    Example:
        >>> show_p(0.0124), show_p(1e-9), show_p(0.0), show_p(None)
        ('0.012', '<0.001', '<0.001', '–')
    """
    if p is None or not math.isfinite(p):
        return "–"
    return f"<{SMALLEST}" if p < SMALLEST / 2 else f"{p:.3f}"


def state_p(p: float | None, name: str = "p") -> str:
    """Formats a p value for a sentence.

    Args:
        p: float in [0, 1], or None.
        name: str, what it is called.

    Returns:
        str; empty when p is unknown.

    Example:
        >>> state_p(0.0124), state_p(0.0, "p (Holm)"), state_p(None)
        ('p = 0.012', 'p (Holm) < 0.001', '')
    """
    shown = show_p(p)
    if shown == "–":
        return ""
    return f"{name} < {shown[1:]}" if shown.startswith("<") else f"{name} = {shown}"
