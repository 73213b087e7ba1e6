"""One offline page of an audit: classes, words, terms, label schemes, views and copies of a collection."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kmm.audit.figures import list_figures
from kmm.audit.page_sections import list_sections
from kmm.audit.terms import Terms
from kmm.data.study import Collection
from kmm.errors import InputError
from kmm.explain.output.markup import replace_forbidden_characters
from kmm.pages.render import render_sections
from kmm.storage.files import replace_file
from kmm.storage.output_mark import marking_file

SUFFIXES = (".html", ".htm")


def check_page(path: Path | str) -> None:
    """Checks before any work that a page may be written to a path.

    Args:
        path: of the page.

    Raises:
        InputError: if its suffix is not that of a page; a film or a table of studies is never overwritten.

    Example:
        >>> check_page("summary.html")
        >>> check_page("manifest.csv")
        Traceback (most recent call last):
        kmm.errors.InputError: manifest.csv: the name of a page must end with .html or .htm.
    """
    if Path(path).suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: the name of a page must end with {' or '.join(SUFFIXES)}.")


def render_audit(audit: Mapping[str, Any], terms: Terms) -> str:
    """Renders an audit as a page.

    Args:
        audit: of `kmm.audit.collection_audit.audit_collection`.
        terms: `Terms`.

    Returns:
        str. HTML, without a script and without a request to any address. Beside numbers it has the layout, the names of
        labels, and terms; equal numbers give equal pages.
    """
    drawings = list_figures(choose_classes(audit), audit["report_words"], terms)
    return render_sections(
        "Summary of a collection of studies",
        "Counts of studies, labels, words, views and copies, made before any model is trained.",
        list_sections(audit, terms, choose_classes(audit)),
        drawings,
    )


def choose_classes(audit: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Returns the labels whose classes the page shows: those asked for, or of the scheme that was chosen; or None."""
    if labels := audit.get("labels"):
        return labels
    rows = {row["scheme"]: row for row in audit["label_schemes"]}
    return rows.get(audit["copies"]["labels"])


def write_page(path: Path | str, collection: Collection, audit: Mapping[str, Any], terms: Terms) -> None:
    """Writes the page of an audit, whole or not at all. In the folder of the studies it is marked as a result.

    Args:
        path: of the page, in an existing folder.
        collection: `Collection` that was audited.
        audit, terms: as in `render_audit`.

    Raises:
        InputError: as `check_page`.
        OSError: if the page cannot be written.
    """
    check_page(path)
    page = replace_forbidden_characters(render_audit(audit, terms)).encode("utf-8")
    with replace_file(path) as place:
        place.write_bytes(page)
    if Path(path).resolve().is_relative_to(Path(collection.folder).resolve()):
        with marking_file(path):
            pass
