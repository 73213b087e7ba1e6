"""Say on the page of a comparison why a measure is missing."""

from kmm.experiments.schema import Summary
from kmm.experiments.titles import title_variant


def list_unmeasured(summary: Summary, measure: str) -> list[str]:
    """Says why a measure is missing in some or all splits, one line per variant and reason.

    Args:
        summary: `Summary`.
        measure: str, as in `not_measured` of the summary.

    Example:
        >>> row = {"variant": "", "measure": "shapley", "reason": "No film.", "splits": ["1", "4"]}
        >>> list_unmeasured({"not_measured": [row]}, "shapley")
        ['Not measured in splits 1, 4: No film.']
    """
    lines = []
    for found in summary.get("not_measured") or ():
        if found["measure"] == measure:
            where = f"With {title_variant(found['variant'])}: not" if found["variant"] else "Not"
            several = "s" * (len(found["splits"]) > 1)
            lines.append(f"{where} measured in split{several} {', '.join(found['splits'])}: {found['reason']}")
    return lines
