"""Count films by view and by what decided the view."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from kmm.data.study import FRONTAL, LATERAL, OTHER, Study

VIEWS = (FRONTAL, LATERAL, OTHER, "unknown")
# Beginnings of `ImageFile.evidence`. What follows may be text of a table or header, and stays out of the result.
SOURCES = (
    *("view override file", "view column", "projections table"),
    *("View Position", "View Code", "Patient Orientation"),
    "only image of the study",
    *("first image by id with", "first image by id that is not lateral", "first image of the study by id"),
)
TITLES = {"first image by id with": "first image by id with a frontal tag"}
NOTHING, ELSEWHERE = "nothing", "another source"


def count_view_sources(studies: Sequence[Study]) -> dict[str, Any]:
    """Counts films by view and by the source of the view.

    Args:
        studies: sequence of `Study`, views decided.

    Returns:
        dict for JSON: `sources`: dict of the source of a view, in the order of their rank, to a dict of view to number
        of films; `nothing` is the source of views that stay unknown; `conflicts`: films with evidence for another view.

    Example:
        >>> from pathlib import Path
        >>> from kmm.data.study import ImageFile
        >>> film = ImageFile(Path("1.png"), "lateral", "view column LL Smith", ("View Position PA",))
        >>> count_view_sources([Study("1", "1", (film,))])["conflicts"]
        1
    """
    images = [image for study in studies for image in study.images]
    found = Counter((name_source(image.evidence), image.view or "unknown") for image in images)
    names = [TITLES.get(source, source) for source in SOURCES]
    met = [name for name in (*names, ELSEWHERE, NOTHING) if any(source == name for source, _ in found)]
    return {
        "sources": {name: {view: found[name, view] for view in VIEWS} for name in met},
        "conflicts": sum(bool(image.conflicts) for image in images),
    }


def name_source(evidence: str) -> str:
    """Names the kind of evidence, without text of a table or header.

    Example:
        >>> name_source("View Position PA"), name_source("first image by id with View Position AP"), name_source("")
        ('View Position', 'first image by id with a frontal tag', 'nothing')
    """
    source = next((source for source in SOURCES if evidence.startswith(source)), ELSEWHERE)
    return TITLES.get(source, source) if evidence else NOTHING
