"""One explained study as one self-contained HTML page.

This module prepares the values of a page; wording and layout are in `page.html`, `page.css` and `page.js`. A page can
be read without JavaScript. It contains the circles of every sensitivity, as the library computed them.
"""

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import quote

from kmm.explain.explained_study import ExplainedStudy
from kmm.explain.output.balance import choose_decimals, format_signed, round_to_sum
from kmm.explain.output.markup import is_known, render_template
from kmm.explain.output.page_film import describe_film
from kmm.explain.output.page_text import describe_report, name_side
from kmm.explain.regions.find import Region


def render_page(
    explanation: ExplainedStudy,
    sweep: Iterable[tuple[float, Sequence[Region]]] = (),
    *,
    index: str | None = None,
    others: Mapping[str, str] | None = None,
) -> str:
    """Renders one study as one HTML page that needs no other file.

    Args:
        explanation: `Explanation`. Its film may be None and its text empty.
        sweep: list of `(sensitivity, list of Region)` for the slider, in any order. The explanation's own sensitivity
            and regions are added; the page shows them first.
        index: str or None. Name of the folder's index beside the page, which knows the previous and the next study;
            None: the page has no links to other studies.
        others: mapping of other explained labels of the study to the names of their pages beside this one. The table of
            labels links to them.

    Returns:
        str. HTML, to be written as UTF-8. It contains the study's film and report: keep it where those may be kept.
    """
    account, asked = _add_up(explanation), explanation.settings.as_dict()
    target, probabilities, others = explanation.target, explanation.probabilities, others or {}
    return render_template(
        "page.html",
        "page.js",
        index=index,
        study=explanation.study,
        target=target,
        probability=probabilities[target],
        threshold=explanation.thresholds.get(target),
        decision=explanation.decision,
        chosen=len(probabilities) > 1 and not (asked["target"] or asked.get("targets")),
        warnings=explanation.warnings,
        account=account,
        scores=[
            {
                "label": label,
                "probability": value,
                "threshold": explanation.thresholds.get(label),
                "page": f"./{quote(others[label], safe='')}" if label in others else None,
            }
            for label, value in sorted(probabilities.items(), key=lambda item: -item[1])
        ],
        film=None if explanation.film is None else describe_film(explanation, sweep),
        report=describe_report(explanation, account and account["decimals"]),
        attribution=explanation.attribution,
        image=explanation.image and explanation.image.replace("\\", "/").rpartition("/")[2],
        model=explanation.model,
        settings=explanation.settings,
        all_settings=list(_flatten(asked)),
        signed=format_signed,
        side=name_side,
    )


def _add_up(explanation):
    """Splits the score into the parts of baseline, film and report, rounded so that the printed numbers add up.

    Returns:
        dict of `decimals`, `start`, `sides` (list of `name`, `value`, `share`), `rest` (the part that is not
        attributed), and `score`; None for methods whose values do not promise a sum.
    """
    found, sums = explanation.attribution, explanation.modality_sum
    if None in sums.values() or not is_known(found.baseline_score):
        return None
    present = {"image": explanation.film is not None, "text": bool(explanation.text.strip())}
    names = [name for name in ("image", "text") if present[name] or sums[name]]
    values = [found.baseline_score, *(sums[name] for name in names)]
    decimals = choose_decimals([*values, found.score])
    (start, *parts), score, rest = round_to_sum(values, found.score, decimals)
    return {
        "decimals": decimals,
        "start": start,
        "sides": [
            {
                "name": {"image": "film", "text": "report"}[name],
                "value": value,
                "share": explanation.modality_share.get(name, 0.0),
            }
            for name, value in zip(names, parts, strict=True)
        ],
        "rest": rest,
        "score": score,
    }


def _flatten(settings, prefix=""):
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", ", ".join(value) if isinstance(value, list) else "–" if value is None else value
