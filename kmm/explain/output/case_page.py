"""Similar cases on one page without script: a study beside each of those that were found, and why they are alike.

This module prepares the values of the page; wording and layout are in `cases.html` and `cases.css`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kmm.explain.explained_study import ComparedPair, ComparedSide
from kmm.explain.output.balance import choose_decimals, format_signed, round_to_sum
from kmm.explain.output.findings import Findings, compare_findings, list_labels
from kmm.explain.output.markup import encode_png, is_known, render_template
from kmm.explain.output.page_film import describe_film
from kmm.explain.output.page_text import describe_report
from kmm.explain.output.pictures import shrink_film

LONGEST_SIDE = 640  # pixels of a film in the page
STRONGEST = 6  # words of each study that are listed
NOBODY = Findings()


@dataclass(frozen=True)
class SimilarCase:
    """A study that is like the query.

    Attributes:
        study: str. Its id.
        cosine: float. How similar a search found it.
        pair: `Similarity`, the query first; None if the study could not be compared.
        problem: str. The reason why not.
        facts: mapping of a name to what else is known of the study, such as its view.
        findings: `Findings`.
    """

    study: str
    cosine: float
    pair: ComparedPair | None = None
    problem: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    findings: Findings = NOBODY


def render_cases(
    query: str,
    cases: Sequence[SimilarCase],
    *,
    findings: Findings = NOBODY,
    about: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
) -> str:
    """Renders a study and the cases that are like it as one HTML page that needs no other file.

    Args:
        query: str. Id of the study that was searched with, or a name for it.
        cases: sequence of `SimilarCase`, most similar first.
        findings: `Findings` of the query.
        about: sequence of str. What was searched, each a sentence.
        facts: mapping of a name to what is known of the query.

    Returns:
        str. HTML, to be written as UTF-8, without a script and without a request to any address. It contains films and
        reports of all studies: keep it where those may be kept.
    """
    films = _Films()
    described = [_describe_case(number, case, findings, films) for number, case in enumerate(cases, 1)]
    return render_template(
        "cases.html",
        None,
        sheet=("page.css", "cases.css"),
        query=query,
        cases=described,
        films=films.pictures,
        findings=_list_findings(findings),
        facts=facts or {},
        about=about,
        signed=format_signed,
    )


class _Films:
    """Pictures of the films of a page, each once."""

    def __init__(self):
        self.pictures, self._numbers = [], {}

    def find(self, side: ComparedSide) -> dict[str, Any] | None:
        if side.film is None:
            return None
        number = self._numbers.setdefault(id(side.film), len(self.pictures))
        if number == len(self.pictures):
            height, width = side.film.shape
            picture = encode_png(shrink_film(side.film, LONGEST_SIDE))
            self.pictures.append({"picture": picture, "width": width, "height": height, "kept": side.film})
        return {"number": number, **describe_film(side, pictures=False)}


def _describe_case(number, case, findings, films):
    shared = compare_findings(findings, case.findings)
    pair = case.pair
    return {
        "number": number,
        "study": case.study,
        "cosine": case.cosine,
        "problem": case.problem,
        "facts": case.facts,
        "shared": shared,
        "labels": _tabulate(findings, case.findings),
        "layer": pair and pair.layer,
        "sides": [_describe_side(side, films) for side in (pair.one, pair.other)] if pair else [],
    }


def _describe_side(side, films):
    account = _add_up(side)
    report = describe_report(side, account and account["decimals"])
    return {
        "study": side.study,
        "film": films.find(side),
        "reads": side.reads,
        "report": report,
        "strongest": _list_strongest(report),
        "account": account,
        "held": side.length_held,
        "rule": side.settings.regions.rule,
        "attribution": side.attribution,
        "warnings": side.warnings,
    }


def _add_up(side):
    """Splits the cosine into that without the study and what its film and report add, rounded so that they add up."""
    found, sums = side.attribution, side.modality_sum
    if None in sums.values() or not is_known(found.baseline_score):
        return None
    names = [name for name in ("image", "text") if sums[name]]
    values = [found.baseline_score, *(sums[name] for name in names)]
    decimals = choose_decimals([*values[1:], found.score])
    (start, *parts), score, rest = round_to_sum(values, found.score, decimals)
    return {
        "decimals": decimals,
        "start": start,
        "parts": [
            {"name": {"image": "film", "text": "report"}[name], "value": value}
            for name, value in zip(names, parts, strict=True)
        ],
        "rest": rest,
        "score": score,
    }


def _list_strongest(report):
    """Returns the words that raise the similarity most, each once with the sum of its places."""
    if report is None or not report["scored"] or not report["by_sum"]:
        return []
    sums: dict[str, float] = {}
    for word in report["words"]:
        sums[word["text"].lower()] = sums.get(word["text"].lower(), 0.0) + word["signed"]
    strongest = sorted(sums.items(), key=lambda item: -item[1])[:STRONGEST]
    return [(text, value) for text, value in strongest if value > 0]


def _list_findings(findings):
    decided = [(label, *findings.decide(label)) for label in list_labels([findings])]
    return [f"{label} (predicted)" if guessed else label for label, found, guessed in decided if found]


def _tabulate(one, other):
    return [
        {"label": label, "sides": [_tell(findings, label) for findings in (one, other)]}
        for label in list_labels([one, other])
    ]


def _tell(findings, label):
    known = findings.known.get(label)
    known = known if known is not None and is_known(known) else None
    return {"known": known, "probability": findings.probabilities.get(label)}
