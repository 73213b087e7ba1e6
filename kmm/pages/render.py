"""Render sections and figures as one HTML page that needs no other file."""

from collections.abc import Mapping, Sequence
from typing import Any

from kmm.explain.output.markup import render_template
from kmm.pages.drawing import Drawing
from kmm.pages.parts import Link, Section


def render_sections(
    title: str,
    about: str,
    sections: Sequence[Section],
    drawings: Mapping[str, Drawing],
    *,
    folder: str = "",
    template: str = "page.html",
    package: str = "kmm.pages",
    **values: Any,
) -> str:
    """Renders a page: its title, links to the sections, and the sections.

    Args:
        title, about: str. The title, and the sentence below it.
        sections: sequence of `Section`, in their order.
        drawings: mapping of name to `Drawing`. A figure of a section that has none here is left out.
        folder: str. Folder beside the page that has the figures as SVG files; empty if there is none.
        template, package: str. A template that extends `page.html`, and its package.
        **values: further values for it.

    Returns:
        str. HTML, without a script and without a request to any address.

    Example:
        >>> page = render_sections("Ward", "Made up.", [Section("films", "Films", ["No film."])], {})
        >>> "<h1>Ward</h1>" in page, "<p>No film.</p>" in page, "<script" in page
        (True, True, False)
    """
    return render_template(
        template,
        None,
        package=package,
        sheet="kmm.pages/page.css",
        title=title,
        about=about,
        sections=sections,
        figures={name: one.embed(f"{folder}/{name}.svg" if folder else "") for name, one in drawings.items()},
        is_link=lambda cell: isinstance(cell, Link),
        **values,
    )
