"""Count the words of reports as models read them, and the reports that are cut."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kmm.batches import TextPreparation, gather_words
from kmm.data.study import Study
from kmm.presets import PRESETS, make_settings
from kmm.settings import FitSettings

MOST_BINS = 40
WIDTHS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of a bin, in words


def count_report_words(studies: Sequence[Study]) -> list[dict[str, Any]]:
    """Counts the words per report for each way in which a preset reads reports.

    Args:
        studies: sequence of `Study`.

    Returns:
        list of dicts for JSON, one per way: `presets` (names), `sections`, `cleaning` and `length` (words to which a
        report is cut) of their settings; `reports`: those with a word; `median`, `p99`, `most`: words of a report, None
        without reports; `cut`: reports of more than `length` words; `histogram`: `width` of a bin in words, and
        `counts`, the reports in each bin, the first of which begins at 0; `unreadable`: reports that are too long to
        be read.

    Example:
        >>> from kmm.data.study import Report
        >>> count_report_words([Study("1", "1", report=Report(findings="No mass, no cyst."))])[0]["most"]
        4
    """
    ways: dict[TextPreparation, list[str]] = {}
    for name in PRESETS:
        ways.setdefault(read_as(make_settings(name)), []).append(name)
    return [{"presets": names, **_count_words(studies, text)} for text, names in ways.items()]


def read_as(settings: FitSettings) -> TextPreparation:
    """Returns how a fit with these settings reads reports, without its redaction."""
    names = ("sections", "cleaning", "deidentified", "length", "truncate")
    return TextPreparation(**{name: getattr(settings, name) for name in names})


def _count_words(studies, text):
    documents, problems = gather_words(studies, text)
    counts = np.array([len(words) for words in documents], int)
    some = len(counts) > 0
    width = next((width for width in WIDTHS if counts.max(initial=0) < MOST_BINS * width), WIDTHS[-1])
    return {
        "sections": list(text.sections),
        "cleaning": text.cleaning,
        "length": text.length,
        "reports": len(counts),
        "median": float(np.median(counts)) if some else None,
        "p99": float(np.percentile(counts, 99)) if some else None,
        "most": int(counts.max()) if some else None,
        "cut": int((counts > text.length).sum()),
        "histogram": {"width": width, "counts": np.bincount(counts // width).tolist()},
        "unreadable": len(problems),
    }
