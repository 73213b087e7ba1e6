"""One explained study as one self-contained HTML page.

It can be read without script, which only adds the slider, the toggles and the zoom. The circles of every sensitivity
stand in the page as the library computed them: the page computes nothing by itself.
"""

import numpy as np

from kmm.explain.draw import AGAINST, FOR, FULL
from kmm.explain.markup import (
    draw_bar,
    encode_png,
    escape,
    fill_template,
    format_number,
    format_percent,
    format_probability,
    is_known,
    shrink_film,
)
from kmm.explain.page_text import write_text

LONGEST_SIDE = 1024  # pixels of the film that a page holds


def render_page(explanation, sweep=()):
    """Writes one study as one HTML page that needs nothing else.

    Args:
        explanation: `Explanation`. Its film may be None and its text empty.
        sweep: list of `(sensitivity, list of Region)` for the slider, in any order. The explanation's own sensitivity
            and regions are added, and are what the page shows first.

    Returns:
        str. HTML, to be written as UTF-8. It holds the study's film and report: keep it where those may be kept.
    """
    return fill_template(
        "page.html",
        "page.js",
        study=escape(explanation.study),
        target=escape(explanation.target),
        layout="no-film" if explanation.film is None else "with-film",
        warnings=_list_warnings(explanation.warnings),
        scores=_write_scores(explanation),
        modality=_write_modality(explanation.modality_share),
        film=_write_film(explanation, sweep),
        text=write_text(explanation),
        facts=_write_facts(explanation),
    )


def _list_warnings(warnings):
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<div class="warnings" role="note" aria-label="Warnings"><ul>{items}</ul></div>'


def _write_scores(explanation):
    lines = []
    for name, probability in sorted(explanation.probabilities.items(), key=lambda item: -item[1]):
        threshold = explanation.thresholds.get(name)
        decision = ""
        if is_known(threshold):
            limit = format_probability(threshold)
            decision = f"yes (≥\u00a0{limit})" if probability >= threshold else f"no (&lt;\u00a0{limit})"
        kind = "target" if name == explanation.target else "other"
        lines.append(
            f'<tr class="{kind}"><th scope="row"><bdi>{escape(name)}</bdi></th>'
            f'<td class="wide">{draw_bar(probability, tick=threshold)}</td>'
            f'<td class="number">{format_probability(probability)}</td><td class="decision">{decision}</td></tr>'
        )
    return (
        '<table><thead><tr><th scope="col">label</th><th scope="col" colspan="2">probability</th>'
        f'<th scope="col">positive</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )


def _write_modality(shares):
    if not any(shares.values()):
        return "<p>What each side carried of the decision is not known by this method.</p>"
    lines = "".join(
        f'<tr><th scope="row">{title}</th><td class="wide">{draw_bar(shares.get(name, 0.0))}</td>'
        f'<td class="number">{format_percent(shares.get(name, 0.0))}</td></tr>'
        for name, title in (("image", "film"), ("text", "report"))
    )
    return f"<table><caption>What each side carried of the decision</caption><tbody>{lines}</tbody></table>"


def _write_film(explanation, sweep):
    if explanation.film is None:
        return "<p>This study was explained without a film.</p>"
    film = encode_png(shrink_film(explanation.film, LONGEST_SIDE))
    height, width = explanation.film.shape
    chosen = round(explanation.settings.regions.sensitivity, 4)
    steps = sorted({**{round(level, 4): regions for level, regions in sweep}, chosen: explanation.regions}.items())
    area = f'x="-0.5" y="-0.5" width="{width}" height="{height}" preserveAspectRatio="none"'
    circles = "".join(
        f'<g class="step rove{"" if level == chosen else " off"}" data-step="{step}">'
        + "".join(_draw_region(region, rank, step, explanation.film.shape) for rank, region in enumerate(regions, 1))
        + "</g>"
        for step, (level, regions) in enumerate(steps)
    )
    heat = "" if explanation.heat is None else f'<image href="{encode_png(color_heat(explanation.heat))}" {area}/>'
    return (
        f"{_write_film_controls(steps, chosen)}"
        f'<svg class="view" viewBox="-0.5 -0.5 {width} {height}" width="{width}" height="{height}" role="group" '
        f'aria-label="Film, {width} by {height} pixels, with circles"><image href="{film}" {area}/>'
        f'<g id="heat" class="off">{heat}</g>'
        f'<g id="circles" font-size="{_letter_size(explanation.film.shape):.4g}">{circles}</g></svg>'
        '<p class="soft">Heat: orange speaks for the label, blue against it. x, y, radius: pixels of the film.</p>'
        + "".join(_list_regions(regions, step, level == chosen) for step, (level, regions) in enumerate(steps))
    )


def _write_film_controls(steps, chosen):
    options = "".join(f'<option value="{step}" label="{level:g}"></option>' for step, (level, _) in enumerate(steps))
    position = [level for level, _ in steps].index(chosen)
    return (
        '<div class="controls" hidden><label>Sight sensitivity '
        f'<input type="range" id="sensitivity" list="levels" min="0" max="{len(steps) - 1}" step="1" '
        f'value="{position}" aria-valuetext="{chosen:g}">'
        f'<output id="level" for="sensitivity">{chosen:g}</output></label><datalist id="levels">{options}</datalist>'
        '<label><input type="checkbox" id="show-circles" checked> Circles</label>'
        '<label><input type="checkbox" id="show-heat"> Heat</label></div>'
    )


def _draw_region(region, rank, step, shape):
    say = (
        f"{format_percent(region.weight)} of the film's positive attribution, centre {region.x:.1f}, {region.y:.1f}, "
        f"radius {region.radius:.1f}"
    )
    circle = f'cx="{region.x:.2f}" cy="{region.y:.2f}" r="{max(region.radius, 0.5):.2f}"'
    size = _letter_size(shape)  # the number stands at the circle's upper right, inside the film
    x = min(region.x + 0.75 * region.radius, shape[1] - size)
    y = max(region.y - 0.75 * region.radius, size)
    return (
        f'<g class="region" tabindex="{0 if rank == 1 else -1}" role="img" aria-label="Circle {rank}: {say}" '
        f'data-part="r{step}-{rank}" data-name="Circle {rank}" data-say="{say}">'
        f'<circle class="halo" {circle}/><circle class="ring" {circle}/>'
        f'<text x="{x:.2f}" y="{y:.2f}" aria-hidden="true">{rank}</text></g>'
    )


def _letter_size(shape):
    return max(shape) / 28


def _list_regions(regions, step, shown):
    part = f'class="step{"" if shown else " off"}" data-step="{step}"'
    if not regions:
        return f"<p {part}>At this sensitivity no circle is left.</p>"
    lines = "".join(
        f'<tr data-part="r{step}-{rank}" data-name="Circle {rank}" data-say="{format_percent(region.weight)}">'
        f'<td class="number">{rank}</td><td class="number">{region.x:.1f}</td><td class="number">{region.y:.1f}</td>'
        f'<td class="number">{region.radius:.1f}</td><td class="number">{format_percent(region.weight)}</td></tr>'
        for rank, region in enumerate(regions, 1)
    )
    names = "".join(f'<th scope="col" class="number">{name}</th>' for name in ("circle", "x", "y", "radius", "weight"))
    return f"<table {part}><thead><tr>{names}</tr></thead><tbody>{lines}</tbody></table>"


def color_heat(heat, *, opacity=190):
    """A signed map as transparent colours: vermilion for the label, blue against it, clear where it says nothing.

    Args:
        heat: float array `(h, w)`, signed. NaN and infinities count as 0.
        opacity: int in [0, 255]. That of the 99 % quantile of the non-zero magnitudes, as in `draw_heat`.

    Returns:
        uint8 array `(h, w, 4)`, RGBA.

    Example:
        >>> color_heat(np.array([[1.0, 0.0, -1.0]]))[0].tolist()
        [[213, 94, 0, 190], [0, 114, 178, 0], [0, 114, 178, 190]]
    """
    heat = np.nan_to_num(heat, posinf=0.0, neginf=0.0)
    magnitudes = np.abs(heat[heat != 0])
    full = np.quantile(magnitudes, FULL, method="lower") if len(magnitudes) else 1.0
    alpha = np.clip(np.abs(heat) / full, 0, 1) * opacity
    colors = np.where(heat[..., None] > 0, FOR, AGAINST)
    return np.concatenate([colors, alpha.round()[..., None]], axis=-1).astype(np.uint8)


def _write_facts(explanation):
    found, settings = explanation.attribution, explanation.settings
    facts = (
        (f"Score ({settings.output})", format_number(found.score)),
        ("Score of the baseline", format_number(found.baseline_score)),
        ("Map error (estimated, relative)", format_percent(found.map_error)),
        ("Sum of the attribution off by", format_percent(found.completeness_gap)),
        ("Points of the path", str(found.steps)),
        ("Film", explanation.image.replace("\\", "/").rpartition("/")[2] if explanation.image else "none"),
        ("Model", explanation.model or "–"),
    )
    chosen = _list_pairs(_flatten(settings.as_dict()))
    return f"<dl>{_list_pairs(facts)}</dl><details><summary>Settings</summary><dl>{chosen}</dl></details>"


def _list_pairs(pairs):
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)


def _flatten(settings, prefix=""):
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(value) if isinstance(value, list) else "–" if value is None else value
