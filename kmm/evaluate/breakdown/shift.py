"""Compare the studies of an evaluation with those that the classifier was trained on."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.spatial.distance import jensenshannon
from scipy.stats import norm

from kmm.evaluate.breakdown.profile import GRAY, Profile, Share
from kmm.evaluate.output.p_values import state_p
from kmm.evaluate.statistics.multiplicity import adjust_holm
from kmm.evaluate.statistics.proportions import newcombe_interval

LEVEL = 0.05  # of the adjusted p below which a share is called shifted
LEAST_DIFFERENCE = 0.01  # of a share that is called shifted
LEAST_WITHOUT_INTERVAL = 0.05  # the same, if the number of training studies is not known
# Bits of the Jensen-Shannon divergence. For small shifts it is 1 / (8 ln 2) of the population stability index, of which
# 0.1 is the usual limit.
LEAST_DIVERGENCE = 0.018
NO_PROFILE = (
    "This classifier was saved without a profile of its training studies: only the prevalence and the share of unknown "
    "words are compared. A new fit saves one."
)


def compare_profiles(training: Profile, found: Profile) -> dict[str, Any]:
    """Compares the studies of an evaluation with the training studies.

    A share is shifted if its difference is at least 0.01 and its p, adjusted by Holm over all shares, is below 0.05:
    without the correction one of ten shares would often seem shifted by chance. A histogram, which is not tested, is
    shifted if its Jensen-Shannon divergence is at least 0.018 bits, and at least twice what as many films would give by
    chance.

    Source: https://doi.org/10.1109/18.61115 (divergence); the interval is Newcombe's with the effective number of
    clustered studies, the test is of two proportions with the same numbers.

    Args:
        training, found: `Profile`.

    Returns:
        dict for JSON: `training` and `found`, the profiles; `items`: a dict of name to a dict of `shifted` (bool),
        `text` (str, one line) and, of a share, `training`, `found`, `difference` (found minus training), `interval` (of
        this share alone), `p` and `p_holm` (None if the number of training studies is not known), or, of a histogram,
        `divergence` (bits, 0 for equal histograms, 1 for those that share no class) and `by_chance` (its expected value
        without a shift). What only one profile has is left out.

    Example:
        >>> sites = [Profile(100, 0, {"studies without a report": Share(share, 100, 100)}, {}) for share in (0.1, 0.4)]
        >>> shift = compare_profiles(*sites)["items"]["studies without a report"]
        >>> shift["shifted"], shift["text"]
        (True, 'Studies without a report: 0.400 here, 0.100 in training (+0.300 [+0.183, +0.408], p < 0.001)')
    """
    shares = [name for name, share in found.shares.items() if name in training.shares and share.n]
    p = {name: _test_shares(found.shares[name], training.shares[name]) for name in shares}
    adjusted = adjust_holm(p)
    items = {
        name: _compare_shares(name, training.shares[name], found.shares[name], p[name], adjusted[name])
        for name in shares
    }
    for name, histogram in found.histograms.items():
        if name in training.histograms:
            numbers = (training.films, found.films)
            items[name] = _compare_histograms(name, training.histograms[name], histogram, numbers)
    return {"training": training.as_dict(), "found": found.as_dict(), "items": items}


def _compare_shares(name: str, training: Share, found: Share, p: float | None, p_holm: float | None) -> dict[str, Any]:
    difference, interval = found.share - training.share, None
    if p_holm is None:
        shifted = abs(difference) >= LEAST_WITHOUT_INTERVAL
    else:
        interval = newcombe_interval(*((one.share * one.effective, one.effective) for one in (found, training)))
        shifted = abs(difference) >= LEAST_DIFFERENCE and p_holm < LEVEL
    ends = "" if interval is None else f" [{interval[0]:+.3f}, {interval[1]:+.3f}], {state_p(p_holm)}"
    text = f"{_begin(name)}: {found.share:.3f} here, {training.share:.3f} in training ({difference:+.3f}{ends})"
    shares = {"training": training.share, "found": found.share, "difference": difference}
    return {**shares, "interval": interval, "p": p, "p_holm": p_holm, "shifted": shifted, "text": text}


def _test_shares(first: Share, second: Share) -> float | None:
    """Returns the two-sided p of the score test that two proportions are equal; None if a number is not known."""
    if not (first.effective and second.effective):
        return None
    total = first.effective + second.effective
    pooled = (first.share * first.effective + second.share * second.effective) / total
    error = math.sqrt(pooled * (1 - pooled) * (1 / first.effective + 1 / second.effective))
    return float(2 * norm.sf(abs(first.share - second.share) / error)) if error else 1.0


def _compare_histograms(
    name: str, training: Mapping[str, float], found: Mapping[str, float], films: tuple[int, int]
) -> dict[str, Any]:
    classes = list(dict.fromkeys([*training, *found]))
    tables = [np.array([one.get(key, 0.0) for key in classes]) for one in (training, found)]
    divergence = float(np.nan_to_num(jensenshannon(*tables, base=2)) ** 2)
    filled = int(sum((tables[0] + tables[1]) > 0))
    by_chance = (filled - 1) / (8 * math.log(2)) * sum(1 / max(count, 1) for count in films)
    shifted = divergence >= max(LEAST_DIVERGENCE, 2 * by_chance)
    said = f"{_describe(name, found)} here, {_describe(name, training)} in training"
    text = f"{_begin(name)}: {said} (Jensen-Shannon divergence {divergence:.3f} bits)"
    return {"divergence": divergence, "by_chance": by_chance, "shifted": bool(shifted), "text": text}


def _begin(name):
    return name[:1].upper() + name[1:]


def _describe(name, histogram):
    """Describes a histogram by one number: the mean gray level, or the most frequent class."""
    if name == GRAY:
        width = 256 / len(histogram)
        return f"mean {sum((float(low) + width / 2) * share for low, share in histogram.items()):.0f}"
    most = max(histogram, key=lambda key: histogram[key])
    return f"mostly {most} ({histogram[most]:.0%})"


def describe_shift(shift: Mapping[str, Any]) -> list[str]:
    """Describes the result of `compare_profiles` in lines: what shifted, or that nothing did.

    Args:
        shift: dict of `compare_profiles`, with `note` (str) if something could not be compared.

    Returns:
        list of str.

    Example:
        >>> describe_shift({"items": {"film sizes": {"shifted": False, "text": "..."}}})
        ['Compared with the training studies, nothing shifted (film sizes).']
    """
    items = shift["items"]
    shifted = [item["text"] for item in items.values() if item["shifted"]]
    note = [shift["note"]] if "note" in shift else []
    if not items:
        return note
    if not shifted:
        return [*note, f"Compared with the training studies, nothing shifted ({', '.join(items)})."]
    tested = any(item["shifted"] and item.get("p_holm") is not None for item in items.values())
    holm = ", p after Holm's correction over all shares" if tested else ""
    return [*note, f"Compared with the training studies, {len(shifted)} of {len(items)} shifted{holm}:", *shifted]
