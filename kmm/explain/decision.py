"""The decision on a label as one line of text, for pictures and DICOM objects."""

from math import isfinite

DISCLAIMER = "Not for diagnosis. A research tool's account of its own score, not of the patient."


def format_probability(value: float | None) -> str:
    """Formats a probability with three decimals, never rounded to 0 or 1; an en dash when it is unknown.

    Example:
        >>> format_probability(0.5), format_probability(0.0001), format_probability(None)
        ('0.500', '<0.001', '–')
    """
    if value is None or not isfinite(value):
        return "–"
    if 0 < value < 0.0005:
        return "<0.001"
    return ">0.999" if 0.9995 <= value < 1 else f"{value:.3f}"


def state_decision(target: str, probability: float, threshold: float | None) -> str:
    """States a label's probability, its threshold and the decision.

    Args:
        target: str. Name of the label.
        probability: float, calibrated.
        threshold: float or None. NaN and infinities count as unknown.

    Returns:
        str, one line; threshold and decision are left out when the threshold or the probability is unknown.

    Example:
        >>> state_decision("mass", 0.25, 0.5)
        'mass: probability 0.250, threshold 0.500, decision: no'
        >>> state_decision("mass", 0.25, None)
        'mass: probability 0.250'
    """
    line = f"{target}: probability {format_probability(probability)}"
    if threshold is None or not isfinite(threshold) or not isfinite(probability):
        return line
    decision = "yes" if probability >= threshold else "no"
    return f"{line}, threshold {format_probability(threshold)}, decision: {decision}"
