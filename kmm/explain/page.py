"""One explained study as one self-contained HTML page.

It can be read without script, which only adds the slider, the toggles and the zoom. The circles of every sensitivity
stand in the page as the library computed them: the page computes nothing by itself.
"""

from kmm.explain.heat import color_heat
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
from kmm.explain.page_text import name_side, write_text

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
        decision=_say_decision(explanation),
        scores=_write_scores(explanation),
        modality=_write_modality(explanation),
        film=_write_film(explanation, sweep),
        text=write_text(explanation),
        facts=_write_facts(explanation),
    )


def _list_warnings(warnings):
    if not warnings:
        return ""
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<div class="warnings" role="note" aria-label="Warnings"><ul>{items}</ul></div>'


def _say_decision(explanation):
    """The decision on the explained label in plain words, and why this label was explained."""
    probability, decision = explanation.probabilities[explanation.target], explanation.decision
    limit = format_probability(explanation.thresholds.get(explanation.target))
    said = {
        True: f"at or above its threshold of {limit}. Decision: <strong>yes</strong>.",
        False: f"below its threshold of {limit}. Decision: <strong>no</strong>. Circles and words show what spoke for "
        "the label all the same, not that it is there.",
        None: "its threshold is not known. Decision: none.",
    }[decision]
    chosen = explanation.settings.target is None and len(explanation.probabilities) > 1
    why = " No label was asked for: this is the study's most probable one." if chosen else ""
    return f"<p>Probability {format_probability(probability)}, {said}{why}</p>"


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


def _write_modality(explanation):
    shares, sums = explanation.modality_share, explanation.modality_sum
    if None in sums.values():
        return "<p>What film and report each moved the score by is not known by this method.</p>"
    if not any(sums.values()):
        return "<p>Neither film nor report moved the score from the baseline's: both sums are 0.</p>"
    lines = "".join(
        f'<tr><th scope="row">{title}</th>'
        f'<td class="wide">{draw_bar(shares.get(name, 0.0), name_side(sums[name]))}</td>'
        f'<td class="number">{format_percent(shares.get(name, 0.0))}</td>'
        f'<td class="number">{format_number(sums[name], "+")} {name_side(sums[name])}</td></tr>'
        for name, title in (("image", "film"), ("text", "report"))
    )
    return (
        "<table><caption>What film and report moved the score by, from the baseline's</caption><thead><tr>"
        '<th scope="col">side</th><th scope="col" colspan="2">share of both sizes</th>'
        f'<th scope="col" class="number">sum ({escape(explanation.settings.output)})</th></tr></thead>'
        f"<tbody>{lines}</tbody></table>"
    )


def _write_film(explanation, sweep):
    if explanation.film is None:
        return "<p>This study was explained without a film.</p>"
    film = encode_png(shrink_film(explanation.film, LONGEST_SIDE))
    height, width = explanation.film.shape
    chosen = round(explanation.settings.regions.sensitivity, 4)
    steps = sorted({**{round(level, 4): regions for level, regions in sweep}, chosen: explanation.regions}.items())
    area = f'x="-0.5" y="-0.5" width="{width}" height="{height}" preserveAspectRatio="none"'
    whole = _name_whole(explanation.settings.regions)
    circles = "".join(
        f'<g class="step rove{"" if level == chosen else " off"}" data-step="{step}">'
        + "".join(
            _draw_region(region, rank, step, shape=explanation.film.shape, whole=whole)
            for rank, region in enumerate(regions, 1)
        )
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
        '<p class="soft">Circles: where attribution is strong, the heaviest with the thickest line; no outline of a '
        "finding. Heat: orange speaks for the label, blue against it. x, y, radius: pixels of the film. Weight: share "
        f"of {whole} that the points of a circle hold.</p>"
        + "".join(_list_regions(regions, step, level == chosen) for step, (level, regions) in enumerate(steps))
    )


def _write_film_controls(steps, chosen):
    options = "".join(f'<option value="{step}" label="{level:g}"></option>' for step, (level, _) in enumerate(steps))
    position = [level for level, _ in steps].index(chosen)
    return (
        '<div class="controls" hidden><label>Sight sensitivity (higher: fewer circles) '
        f'<input type="range" id="sensitivity" list="levels" min="0" max="{len(steps) - 1}" step="1" '
        f'value="{position}" aria-valuetext="{chosen:g}">'
        f'<output id="level" for="sensitivity">{chosen:g}</output></label><datalist id="levels">{options}</datalist>'
        '<label><input type="checkbox" id="show-circles" checked> Circles</label>'
        '<label><input type="checkbox" id="show-heat"> Heat</label></div>'
    )


def _name_whole(settings):
    """What weights are shares of."""
    return "the map's grey values" if settings.rule == "paper" else "the smoothed map's positive sum"


def _draw_region(region, rank, step, *, shape, whole):
    say = (
        f"{format_percent(region.weight)} of {whole}, centre {region.x:.1f}, {region.y:.1f}, radius {region.radius:.1f}"
    )
    circle = f'cx="{region.x:.2f}" cy="{region.y:.2f}" r="{max(region.radius, 0.5):.2f}"'
    size = _letter_size(shape)  # the number stands at the circle's upper right, inside the film
    x = min(region.x + 0.75 * region.radius, shape[1] - size)
    y = max(region.y - 0.75 * region.radius, size)
    return (
        f'<g class="region{" heaviest" if rank == 1 else ""}" tabindex="{0 if rank == 1 else -1}" role="img" '
        f'aria-label="Circle {rank}: {say}" '
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
