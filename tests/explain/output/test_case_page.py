"""The page of similar cases: valid, offline, escaped, and saying what was found."""

import dataclasses
import re

import numpy as np
import pytest

from kmm.explain.attribution.result import Attribution
from kmm.explain.output.case_page import SimilarCase, render_cases
from kmm.explain.output.findings import Findings, compare_findings
from kmm.explain.regions.find import Region
from kmm.explain.settings import ExplainSettings
from kmm.explain.similarity.pair import ComparedStudy, Similarity
from kmm.explain.words import ReadWord, score_words
from tests.factories.pages import check_page, find_section, parse, read_all, read_text

EVIL = '<script>alert("1")</script>'
TEXT = "No effusion. Small mass <b>left</b>."
QUERY = Findings({"mass": 1.0, "cyst": 1.0, "edema": float("nan")}, {"edema": 0.9}, {"edema": 0.5})
FOUND = Findings({"mass": 1.0, "cyst": 0.0, "edema": 1.0}, {"mass": 0.7}, {"mass": 0.5})


def make_side(study="7", *, film=True, report=True, reads="both", start=0.2, sums=(0.3, 0.25), **changes):
    """A study whose film moves the cosine by the first sum and whose report by the second, spread over five words."""
    read, text = [], TEXT if report else ""
    for place, match in enumerate(re.finditer(r"\b[A-Za-z]{2,}\b", text)):
        read.append(ReadWord(*match.span(), slice(place, place + 1)))
    rows = np.zeros((8, 1), np.float32)
    rows[: len(read), 0] = sums[1] / max(len(read), 1)
    rows[1] += 0.2 if report else 0
    rows[2] -= 0.2 if report else 0
    heat = np.full((4, 3, 1), sums[0] / 12, np.float32)
    values = {"image": heat if film else 0 * heat, "rows": rows}
    total = float(sum(value.sum() for value in values.values()))
    found = Attribution(
        values, 0, start + total, np.array([start + total]), start, completeness_gap=0.004, map_error=0.03, steps=25
    )
    sections = [("findings", 0, len(text))] if text else []
    side = ComparedStudy(
        study=study,
        image=f"{study}.png" if film else None,
        reads=reads,
        attribution=found,
        length_held=False,
        film=np.arange(12 * 30 * 40, dtype=np.uint8).reshape(120, 120) if film else None,
        heat=heat[..., 0] if film else None,
        regions=[Region(x=20, y=40, radius=8, weight=0.4), Region(x=90, y=70, radius=5, weight=0.1)] if film else [],
        text=text,
        sections=sections,
        words=score_words(text, sections, read, rows),
        settings=ExplainSettings(),
    )
    return dataclasses.replace(side, **changes)


def make_case(one, other, **changes):
    pair = Similarity(one, other, "joint", ExplainSettings())
    return SimilarCase(**{"study": other.study, "cosine": pair.cosine, "pair": pair, "findings": FOUND} | changes)


@pytest.fixture(scope="module")
def page():
    query = make_side("query-1")
    cases = [make_case(query, make_side("8")), make_case(query, make_side("9", start=0.1))]
    cases.append(SimilarCase("10", 0.4, problem="10.png: no such file", facts={"view": "PA"}, findings=FOUND))
    return render_cases("query-1", cases, findings=QUERY, about=["Searched 60 studies."], facts={"view": "AP"})


def test_the_page_is_valid_and_asks_for_nothing(page):
    check_page(page)


def test_text_from_outside_is_escaped():
    side = make_side(EVIL, film=False)
    evil = Findings({EVIL: 1.0})
    case = make_case(side, side, findings=evil, facts={EVIL: EVIL})
    broken = SimilarCase(EVIL, 0.1, problem=EVIL)
    page = render_cases(EVIL, [case, broken], findings=evil, about=[EVIL], facts={EVIL: EVIL})
    check_page(page)
    assert "<script" not in page and "<b>left" not in page and page.count("&lt;script&gt;") > 10
    assert TEXT in " ".join(read_text(part) for part in read_all(parse(page), "h:div"))


def test_findings_are_sorted_by_who_has_them(page):
    section = find_section(parse(page), "case-1")
    told = [read_text(part) for part in read_all(section, "h:dl")[0]]
    assert told == [
        *("Findings of both", "mass, edema (predicted)"),
        *("Only of the query", "cyst"),
        *("Only of this case", "none"),
    ]
    table = [[read_text(cell) for cell in row] for row in read_all(section, "h:tr")]
    assert table[1:] == [
        ["mass", "yes", "–", "yes", "0.700"],
        ["cyst", "yes", "–", "no", "–"],
        ["edema", "–", "0.900", "yes", "–"],
    ]


def test_findings_of_which_one_side_knows_nothing():
    shared = compare_findings(Findings({"mass": 1.0, "cyst": 0.0}), Findings({"edema": 1.0}))
    assert shared.unsure == ("mass", "edema") and not shared.common
    page = render_cases("1", [make_case(make_side(), make_side("8"))], findings=Findings({"opacity": 1.0}))
    assert "Unknown in one of them" in page


def test_the_account_of_each_study_adds_up(page):
    first = [read_text(part) for part in read_all(find_section(parse(page), "case-1"), "h:p")]
    said = (
        "Without this study (an empty study in its place) the cosine is 0.200; its film raises it by 0.300; its report "
        "raises it by 0.250: 0.750."
    )
    assert first.count(said) == 2
    side = make_side(sums=(-0.1, 0.3))
    page = render_cases("1", [make_case(side, side)])
    assert "its film lowers it by 0.100; its report raises it by 0.300: 0.400." in " ".join(
        read_text(parse(page)).split()
    )


def test_words_that_make_them_alike_are_listed_strongest_first(page):
    texts = [read_text(part) for part in read_all(find_section(parse(page), "case-1"), "h:p")]
    listed = next(text for text in texts if text.startswith("Words that make them alike"))
    assert listed.startswith("Words that make them alike: effusion +0.250, no +0.050") and "Small" not in listed
    marks = [part for part in read_all(parse(page), "h:mark") if part.text == "effusion"]
    assert marks[0].get("class") == "for l10 p10" and "for the similarity" in marks[0].get("title")


def test_each_film_is_in_the_page_once(page):
    tree = parse(page)
    assert len(read_all(tree, "s:image")) == 3  # of the query and of two cases
    used = [part.get("href") for part in read_all(tree, "s:use")]
    assert used == ["#film-0", "#film-1", "#film-2", "#film-0", "#film-1", "#film-0", "#film-2"]
    assert len(read_all(tree, "s:circle")) == 4 * 2 * 2  # ring and halo


def test_a_case_that_was_not_compared_says_why(page):
    section = find_section(parse(page), "case-3")
    assert "This case was not compared: 10.png: no such file." in read_text(section) and "view: PA" in read_text(
        section
    )
    assert not read_all(section, "s:svg")


def test_studies_of_one_side():
    words = make_side("words", film=False, reads="text")
    film = make_side("film", report=False, reads="image")
    page = render_cases("words", [make_case(words, film)])
    check_page(page)
    text = read_text(parse(page))
    assert "No film was compared." in text and "No report was compared." in text
    whole = render_cases("1", [make_case(make_side(reads="image"), make_side("8", reads="text"))])
    check_page(whole)
    assert "The report was not compared: only films were." in whole
    assert "The film was not compared: only reports were." in whole


def test_methods_without_a_sum_and_missed_tolerances_are_said():
    missed = make_side("8").attribution
    missed = dataclasses.replace(missed, completeness_gap=float("nan"), warnings=("map error 0.2 is above",))
    case = make_case(make_side(), make_side("8", attribution=missed, length_held=True, regions=[]))
    page = render_cases("7", [case])
    check_page(page)
    assert "This method does not tell how much" in page and "map error 0.2 is above" in page
    assert "held: the vector of the empty study is near 0" in page and "No place of the film" in page


def test_no_case_at_all():
    page = render_cases("7", [])
    assert "No case was found." in page and "Findings of the query: none." in read_text(parse(page))
