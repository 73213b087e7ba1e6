"""The page of a study: valid, safe, offline, and saying what the explanation says."""

import base64
import dataclasses
import hashlib
import html
import re
import time
from importlib.resources import files

import cv2
import html5lib
import jinja2
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.explain.attribution.result import Attribution
from kmm.explain.explanation import Explanation
from kmm.explain.output.draw import CIRCLE
from kmm.explain.output.heat import AGAINST, FOR, color_heat
from kmm.explain.output.markup import FORBIDDEN, format_number, render_template, replace_forbidden_characters
from kmm.explain.output.page import render_page
from kmm.explain.output.page_text import describe_report
from kmm.explain.output.pictures import shrink_film, smooth_heat
from kmm.explain.regions.find import Region
from kmm.explain.settings import ExplainSettings
from kmm.explain.words import WordScore

NAMESPACES = {"h": "http://www.w3.org/1999/xhtml", "s": "http://www.w3.org/2000/svg"}
INDICATION = "Cough for 3 weeks."
FINDINGS = "Patchy opacity in the right lower lobe. The heart is not enlarged."
UNSEEN = {"3", "in"}


def draw_film(height=600, width=480):
    """A dark oval on grey with a bright disk, as uint8."""
    y, x = np.mgrid[:height, :width]
    film = 170 - 110 * np.exp(-(((x / width - 0.3) / 0.14) ** 2) - ((y / height - 0.5) / 0.3) ** 2)
    film -= 110 * np.exp(-(((x / width - 0.7) / 0.14) ** 2) - ((y / height - 0.5) / 0.3) ** 2)
    film[(x - 0.28 * width) ** 2 + (y - 0.65 * height) ** 2 < (0.06 * width) ** 2] += 50
    return film.clip(0, 255).astype(np.uint8)


def draw_heat(size=56):
    y, x = np.mgrid[:size, :size] / size
    heat = np.exp(-((x - 0.28) ** 2 + (y - 0.65) ** 2) / 0.005) - 0.6 * np.exp(
        -((x - 0.6) ** 2 + (y - 0.3) ** 2) / 0.004
    )
    return heat.astype(np.float32)


def score_words(sections):
    """Every run of letters as a word, with a share that falls off with its place and alternating signs."""
    text = " ".join(sections.values())
    spans, words, start = [], [], 0
    for name, part in sections.items():
        spans.append((name, start, start + len(part)))
        start += len(part) + 1
    found = [match for match in re.finditer(r"\w+", text)]
    raw = np.array(
        [0.0 if m.group() in UNSEEN else 5.0 if m.group() == "opacity" else 1 / (1 + m.start()) for m in found]
    )
    for place, match in enumerate(found):
        section = next(name for name, start, end in spans if start <= match.start() < end)
        seen = match.group() not in UNSEEN
        signed = (0.8 if place % 3 else -0.4) * float(raw[place])
        sentence = text[: match.start()].count(". ")
        share = float(raw[place] / raw.sum())
        read = seen or match.group() == "in"
        words.append(WordScore(*match.span(), match.group(), section, sentence, share, signed, seen, read))
    return text, spans, words


SIDES = {"image": np.full((2, 2, 1), 2.0), "rows": np.full((3, 2), -1.0)}  # +8 and -6


def make_explanation(parts=None, **changes):
    """A made-up study with everything a page can show."""
    text, spans, words = score_words({"indication": INDICATION, "findings": FINDINGS} if parts is None else parts)
    values = {
        "study": "study-1",
        "image": "folder/film.png",
        "target": "opacity",
        "attribution": Attribution(SIDES, 1, 2.5, np.array([-2.0, 2.5]), -1.25, 0.004, 0.021, 24),
        "probabilities": {"normal": 0.12, "opacity": 0.88},
        "thresholds": {"normal": 0.5, "opacity": 0.61},
        "film": draw_film(),
        "heat": draw_heat(),
        "regions": [Region(134.4, 390.0, 40.5, 0.71), Region(288.25, 180.0, 20.0, 0.09)],
        "text": text,
        "sections": spans,
        "words": words,
        "modality_share": {"image": 0.63, "text": 0.37},
        "settings": ExplainSettings(),
        "model": "sha256:0123abcd",
        "warnings": ("map error 6.1 % after 216 steps, tolerance 5 %",),
    }
    return Explanation(**{**values, **changes})


def make_sweep(count=16):
    """Fewer and smaller circles as the sensitivity rises, none at the end."""
    sweep = []
    for level in np.linspace(0, 0.95, count):
        number = max(0, round(6 * (1 - level / 0.9)))
        circles = [Region(134.4 + 40 * i, 390.0 - 60 * i, 60 * (1.05 - level), 0.7 / (i + 1)) for i in range(number)]
        sweep.append((float(level), circles))
    return sweep


def parse(page):
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=True).parse(page)


def read_all(tree, path):
    return tree.findall(f".//{path}", NAMESPACES)


def read_text(element):
    return "".join(element.itertext())


def find_reports(tree):
    """The parts of the report, one per section."""
    return [part for part in read_all(tree, "h:div") if part.get("class") == "report"]


def find_section(tree, name):
    return next(section for section in read_all(tree, "h:section") if section.get("class") == name)


FILM_ALONE = Attribution({"image": SIDES["image"]}, 1, 2.5, np.array([-2.0, 2.5]), steps=1)
KINDS = {
    "all": {},
    "no film": {"film": None, "heat": None, "image": None, "regions": [], "modality_share": {"text": 1.0}},
    "no scored words": {"settings": ExplainSettings(method="grad-cam"), "attribution": FILM_ALONE},
    "no text": {"parts": {}, "modality_share": {"image": 1.0, "text": 0.0}},
    "no words": {"words": []},
    "no sections": {"parts": {"": "Clear lungs"}},
    "no circles": {"regions": [], "warnings": ()},
    "one pixel": {"film": np.zeros((1, 1), np.uint8), "heat": np.zeros((1, 1), np.float32)},
    "nothing known": {
        "attribution": Attribution({}, 1, float("nan"), np.full(2, np.nan)),
        "modality_share": {},
        "thresholds": {},
        "model": "",
    },
}


@pytest.mark.parametrize("kind", KINDS)
def test_is_strictly_valid_html_without_duplicate_ids(kind):
    tree = parse(render_page(make_explanation(**KINDS[kind]), make_sweep()))
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))


HOSTILE = (
    '<script>alert("1")</script> </style> --> &amp; \'q\' "q" ${study} $study \x00\x1b \ud800 '
    "\u202eabc שלום עולם 🫁 <img src=x>"
)


def test_hostile_text_stays_text():
    plain = parse(render_page(make_explanation()))
    evil = make_explanation(
        {"findings": HOSTILE},
        study="<b>&\"'",
        target='<img src="x" onerror="y">',
        image="dir\\<u>.png",
        probabilities={'<img src="x" onerror="y">': 0.5},
        thresholds={},
        model="<i>",
        warnings=("<script>w</script>",),
    )
    page = render_page(evil)
    tree = parse(page)
    page.encode("utf-8")
    for name in ("script", "style", "img", "b", "u"):
        assert len(read_all(tree, f"h:{name}")) == len(read_all(plain, f"h:{name}")), name
    (paragraph,) = find_reports(tree)
    assert read_text(paragraph) == FORBIDDEN.sub("\ufffd", HOSTILE)
    assert paragraph.get("dir") == "auto"
    assert not [attribute for element in tree.iter() for attribute in element.attrib if attribute.startswith("on")]


def test_asks_for_nothing_outside_itself():
    page = render_page(make_explanation(), make_sweep())
    tree = parse(page)
    for element in tree.iter():
        for attribute in ("src", "href", "srcset", "action", "data", "style"):
            value = element.get(attribute)
            assert value is None or value.startswith("data:"), (element.tag, attribute)
    assert not re.search(r"https?:|@import|url\((?!#)|fetch\(|XMLHttpRequest|WebSocket|import\(", page)


def test_policy_names_the_hash_of_its_own_script_and_style_only():
    tree = parse(render_page(make_explanation()))
    policy = next(m.get("content") for m in read_all(tree, "h:meta") if m.get("http-equiv"))
    assert policy.startswith("default-src 'none'; ") and "unsafe" not in policy
    for name in ("script", "style"):
        (element,) = read_all(tree, f"h:{name}")
        digest = base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}';" in policy


def test_report_is_whole_and_words_carry_their_numbers():
    explanation = make_explanation()
    tree = parse(render_page(explanation))
    assert [read_text(part) for part in find_reports(tree)] == [INDICATION, FINDINGS]
    marks = [mark for part in find_reports(tree) for mark in part.findall("h:mark", NAMESPACES)]
    assert [m.text for m in marks] == [word.text for word in explanation.words]
    for mark, word in zip(marks, explanation.words):
        side = "for" if word.signed > 0 else "against"
        assert ("unseen" in mark.get("class")) == (word.read and not word.seen)
        assert (mark.get("class") == "unread") == (not word.read)
        if word.seen:
            assert mark.get("class", "").split(" ")[0] in ("", side)
            assert f", {100 * word.share:.1f} % of the report's squared" in mark.get("title")
            assert mark.get("title").startswith(f"{format_number(word.signed, '+')} {side} opacity, ")
    darkest = max(zip(marks, explanation.words), key=lambda pair: abs(pair[1].signed))[0]
    assert darkest.text == "opacity" and darkest.get("class") == "for l10 p10"
    strip = next(element for element in tree.iter() if element.get("id") == "strip")
    assert [m.text for m in strip] == [word.text for word in explanation.words]
    assert [m.get("tabindex") for m in strip] == ["0"] + ["-1"] * (len(marks) - 1)


def test_words_that_the_model_does_not_know_say_how_they_were_read():
    words = [
        WordScore(0, 4, "Mass", "findings", 0, 1.0, 0.5),
        WordScore(5, 9, "zyxw", "findings", 0, 0.6, -0.25, seen=False),
        WordScore(10, 12, "is", "findings", 0, 0.0, 0.0, seen=False, read=False),
    ]
    page = render_page(make_explanation(text="Mass zyxw is", sections=[("findings", 0, 12)], words=words))
    (report,) = find_reports(parse(page))
    assert [(mark.get("class"), mark.get("title")) for mark in report] == [
        ("for l10 p10", "+0.5 for opacity, 100.0 % of the report's squared attribution"),
        (
            "unseen against l5 p6",
            "not in the vocabulary: read as an unknown word, "
            "−0.25 against opacity, 60.0 % of the report's squared attribution",
        ),
        ("unread", "not read by the model: dropped by the cleaning"),
    ]


def test_a_method_that_scores_no_words_says_so_and_gives_none_a_number():
    words = [
        WordScore(0, 4, "Mass", "findings", 0, 0.0, 0.0),
        WordScore(5, 9, "zyxw", "findings", 0, 0.0, 0.0, seen=False),
        WordScore(10, 12, "is", "findings", 0, 0.0, 0.0, seen=False, read=False),
    ]
    given = {"text": "Mass zyxw is", "sections": [("findings", 0, 12)], "words": words}
    tree = parse(render_page(make_explanation(**given, **KINDS["no scored words"])))
    section = find_section(tree, "text")
    assert "grad-cam explains only the film and gives words no scores" in read_text(section)
    (report,) = find_reports(tree)
    assert [(mark.get("class"), mark.get("title")) for mark in report] == [
        ("", "read by the model"),
        ("unseen", "not in the vocabulary: read as an unknown word"),
        ("unread", "not read by the model: dropped by the cleaning"),
    ]
    for said in ("%", "+0", "Sentences", "for the label", "Zoom"):
        assert said not in read_text(section), said


def make_additive(signed, shares=None, sentences=None, start=-8.7, film=3.5):
    """A study whose words, film and start add up to its score exactly, as integrated gradients do."""
    text = " ".join(f"w{place}" for place in range(len(signed)))
    words = [
        WordScore(text.index(f"w{place}"), text.index(f"w{place}") + 2, f"w{place}", "findings", sentence, share, value)
        for place, (value, share, sentence) in enumerate(
            zip(signed, shares or [1 / len(signed)] * len(signed), sentences or range(len(signed)))
        )
    ]
    values = {"image": np.full((1, 1, 1), film), "rows": np.array(signed)[:, None]}
    score = start + film + sum(signed)
    return make_explanation(
        attribution=Attribution(values, 1, score, np.array([-2.0, score]), start, 0.0, 0.02, 24),
        text=text,
        sections=[("findings", 0, len(text))],
        words=words,
    )


def read_sentences(tree):
    table = next(t for t in read_all(tree, "h:table") if t.get("class") == "sentences")
    return [[read_text(cell) for cell in row] for row in table.find("h:tbody", NAMESPACES)]


def read_sum(text):
    """The number that is printed with a minus sign."""
    return float(text.replace("−", "-"))


def test_the_page_adds_up_in_words_and_numbers():
    tree = parse(render_page(make_additive([-0.9, -0.6])))
    account = next(p for p in read_all(tree, "h:p") if p.get("class") == "account")
    assert read_text(account) == "start −8.70 + film 3.50 − report 1.50 = −6.70"
    said = " ".join(read_text(find_section(tree, "summary")).split())
    assert (
        "An empty study scores −8.70; the film raises the score by 3.50; the report lowers the score by 1.50." in said
    )
    assert "This study scores −6.70 (logit, before calibration)." in said


def test_what_is_not_attributed_is_a_term_of_the_sum():
    tree = parse(render_page(make_explanation()))  # -1.25 + 8 - 6 is 0.75, the score 2.5
    account = next(p for p in read_all(tree, "h:p") if p.get("class") == "account")
    assert read_text(account) == "start −1.25 + film 8.00 − report 6.00 + not attributed 1.75 = 2.50"


def test_a_side_that_is_absent_is_no_term_of_the_sum():
    found = Attribution({"image": np.full((1, 1, 1), 2.0), "rows": np.zeros((1, 1))}, 1, 1, np.ones(2), -1.0, 0.0)
    tree = parse(render_page(make_explanation({}, attribution=found)))
    account = next(p for p in read_all(tree, "h:p") if p.get("class") == "account")
    assert read_text(account) == "start −1.00 + film 2.00 = 1.00"


def test_sums_of_sentences_and_sections_add_up():
    """0.004 each round to 0.00, three of them to 0.01: what is printed adds up all the same."""
    tree = parse(render_page(make_additive([0.504, -2.004, 0.004, 0.004], sentences=[0, 1, 2, 3])))
    lines = read_sentences(tree)
    assert sum(read_sum(line[2]) for line in lines) == pytest.approx(-1.49, abs=1e-9)
    foot = next(t for t in read_all(tree, "h:tfoot"))
    assert "−1.49" in read_text(foot) and "no word" not in read_text(foot)
    heading = next(h for h in read_all(tree, "h:h3") if read_text(h).startswith("Findings"))
    assert read_text(heading) == "Findings −1.49, 100.0 % of the squared attribution"


def test_shade_and_order_follow_the_signed_sum_and_the_papers_share_is_an_option():
    """A word of large squares that cancel has a large share and a small sum."""
    explanation = make_additive([0.1, -1.0, 0.5], shares=[0.7, 0.2, 0.1])
    tree = parse(render_page(explanation))
    (report,) = find_reports(tree)
    assert [mark.get("class") for mark in report] == ["for l1 p10", "against l10 p3", "for l5 p1"]
    lines = read_sentences(tree)
    assert [line[0] for line in lines] == ["w1", "w2", "w0"]
    assert [read_sum(line[2]) for line in lines] == [-1.0, 0.5, 0.1]
    table = next(t for t in read_all(tree, "h:tbody") if t.get("id") == "sentences")
    by_share = sorted(table, key=lambda row: -float(row.get("data-share")))
    assert [read_text(row[0]) for row in by_share] == ["w0", "w1", "w2"]
    assert next(e for e in tree.iter() if e.get("id") == "shade") is not None
    assert "by-share" not in next(iter(read_all(tree, "h:body"))).get("class")


def test_methods_whose_values_do_not_add_up_are_shaded_by_the_squared_share():
    found = Attribution(SIDES, 1, 2.5, np.array([-2.0, 2.5]), steps=1)  # completeness is not known
    tree = parse(render_page(dataclasses.replace(make_additive([0.1, -1.0], shares=[0.8, 0.2]), attribution=found)))
    assert "by-share" in next(iter(read_all(tree, "h:body"))).get("class")
    (report,) = find_reports(tree)
    assert [mark.get("title") for mark in report] == [
        "80.0 % of the report's squared attribution, for opacity",
        "20.0 % of the report's squared attribution, against opacity",
    ]
    assert [line[0] for line in read_sentences(tree)] == ["w0", "w1"]


def make_cut(truncate="end"):
    """Ten words in two sections, six of which were cut off."""
    text = "a1 b2, c3 d4. e5 f6 g7 h8 i9 j0"
    cut = range(4, 10) if truncate == "end" else range(6)
    words = [
        WordScore(match.start(), match.end(), match.group(), "findings", int(place > 3), 0.0 if place in cut else 0.25,
                  0.0 if place in cut else 0.5, place not in cut, place not in cut, place in cut)
        for place, match in enumerate(re.finditer(r"\w\d", text))
    ]  # fmt: skip
    return make_explanation(text=text, sections=[("findings", 0, len(text))], words=words)


REDACTED = "Heart is normal. No acute disease of the lungs."


def make_redacted(cut_from=99):
    """A report of which "normal" and "No acute disease" were redacted, and words from `cut_from` on cut off."""
    spans = [(9, 15), (17, 33)]
    words = []
    for match in re.finditer(r"[A-Za-z]+", REDACTED):
        gone = any(start <= match.start() < end for start, end in spans)
        cut = not gone and match.start() >= cut_from
        share, read = 0.0 if gone or cut else 0.2, not gone and not cut
        words.append(
            WordScore(*match.span(), match.group(), "findings", int(match.start() > 16), share, share, read, read, cut)
        )
        words[-1] = dataclasses.replace(words[-1], redacted=gone)
    return make_explanation(text=REDACTED, sections=[("findings", 0, len(REDACTED))], words=words, redacted=spans)


def test_redacted_places_are_struck_and_the_report_stays_whole():
    explanation = make_redacted()
    tree = parse(render_page(explanation))
    (report,) = find_reports(tree)
    assert read_text(report) == REDACTED
    struck = report.findall("h:del", NAMESPACES)
    assert [read_text(one) for one in struck] == ["normal", "No acute disease"]
    assert {one.get("title") for one in struck} == {"redacted: removed before the model read the report"}
    marks = [mark for one in struck for mark in one.findall("h:mark", NAMESPACES)]
    assert [mark.text for mark in marks] == ["normal", "No", "acute", "disease"]
    assert {(mark.get("class"), mark.get("title")) for mark in marks} == {
        ("unread redacted", "not read by the model: redacted")
    }
    section = find_section(tree, "text")
    assert "redacted: removed before the model read the report (4 words)." in read_text(section)
    sentences = [read_text(cell) for cell in read_all(tree, "h:td") if cell.get("class") == "sentence"]
    assert sorted(sentences) == ["Heart is normal", "No acute disease of the lungs"]
    assert len([cell for cell in read_all(section, "h:td") if cell.findall("h:del", NAMESPACES)]) == 2
    strip = next(element for element in tree.iter() if element.get("id") == "strip")
    assert [mark.text for mark in strip] == [word.text for word in explanation.words]


def test_redacted_places_do_not_break_a_fold():
    tree = parse(render_page(make_redacted(cut_from=6)))
    (details,) = [one for one in read_all(tree, "h:details") if one.get("class") == "folded"]
    summary = details[0]
    assert read_text(summary) == "4 words were cut off and not read"
    assert read_text(details).removeprefix(read_text(summary)) == "is normal. No acute disease of the lungs."
    assert len(details.findall("h:del", NAMESPACES)) == 2


def test_without_a_redaction_a_page_says_nothing_of_one():
    assert "redacted" not in render_page(make_explanation()).partition("</style>")[2]


@pytest.mark.parametrize(("truncate", "folded"), [("end", "e5 f6 g7 h8 i9 j0"), ("start", "a1 b2, c3 d4. e5 f6")])
def test_text_that_was_cut_off_is_folded_and_the_report_stays_whole(truncate, folded):
    tree = parse(render_page(make_cut(truncate)))
    (details,) = [d for d in read_all(tree, "h:details") if d.get("class") == "folded"]
    summary, *marks = details
    assert read_text(summary) == "6 words were cut off and not read"
    assert read_text(details).removeprefix(read_text(summary)) == folded
    assert {mark.get("title") for mark in marks} == {"not read by the model: cut off"}
    (report,) = find_reports(tree)
    assert read_text(report).replace(read_text(summary), "") == make_cut().text
    strip = next(element for element in tree.iter() if element.get("id") == "strip")
    assert len(strip) == 4 and strip[0].get("tabindex") == "0"
    assert "1 sentence is left out because none of its words was read." in read_text(find_section(tree, "text"))


def test_the_decision_and_the_warnings_stand_above_both_columns_and_sentences_before_the_strip():
    page = render_page(make_explanation())
    places = [
        page.index(said)
        for said in ('id="decision"', 'aria-label="Warnings"', 'class="column"', 'class="sentences"', 'id="strip"')
    ]
    assert places == sorted(places)


def test_circles_of_a_label_below_its_threshold_are_dashed():
    def find_view(**changes):
        tree = parse(render_page(make_explanation(**changes)))
        return next(s for s in read_all(tree, "s:svg") if s.get("class", "").startswith("view")).get("class")

    assert find_view() == "view" and find_view(thresholds={}) == "view"
    assert find_view(probabilities={"normal": 0.02, "opacity": 0.05}) == "view below"
    assert ".view.below .ring" in read_style() and "stroke-dasharray" in read_style()


def read_image(element):
    held = element.get("{http://www.w3.org/1999/xlink}href") or element.get("href")
    return cv2.imdecode(np.frombuffer(base64.b64decode(held.partition(",")[2]), np.uint8), cv2.IMREAD_UNCHANGED)


def test_heat_is_the_smoothed_map_that_the_circles_come_from():
    explanation = make_explanation(heat=np.eye(56, dtype=np.float32))
    tree = parse(render_page(explanation))
    group = next(g for g in read_all(tree, "s:g") if g.get("id") == "heat")
    shown = cv2.cvtColor(read_image(group[0]), cv2.COLOR_BGRA2RGBA)
    assert np.array_equal(shown, color_heat(smooth_heat(explanation), opacity=255))
    assert not np.array_equal(shown, color_heat(explanation.heat, opacity=255))
    assert next(e for e in tree.iter() if e.get("id") == "opacity").get("type") == "range"


def test_pages_link_to_the_index_alone_and_only_where_there_is_one():
    tree = parse(render_page(make_explanation(), index="index.html"))
    links = {a.get("id"): (a.get("href"), a.get("hidden")) for a in read_all(tree, "h:a")}
    assert links == {"previous": ("index.html", ""), None: ("index.html", None), "next": ("index.html", "")}
    assert not read_all(parse(render_page(make_explanation())), "h:a")


def test_the_table_of_labels_links_to_the_pages_of_other_explained_labels():
    explanation = make_explanation()
    label = next(name for name in explanation.probabilities if name != explanation.target)
    tree = parse(render_page(explanation, others={label: "s 1.x#y.html"}))
    links = {"".join(a.itertext()): a.get("href") for a in read_all(tree, "h:a")}
    assert links == {label: "./s%201.x%23y.html"}


def test_the_enlarged_view_has_zoom_window_level_and_a_way_out():
    tree = parse(render_page(make_explanation()))
    (viewer,) = read_all(tree, "h:dialog")
    inside = {element.get("id"): element.get("type") for element in viewer.iter() if element.get("id")}
    assert inside == {
        "viewer": None,
        "window": "range",
        "level-of-grays": "range",
        "reset": "button",
        "close": "button",
        "stage": None,
    }
    assert "Not for diagnosis" in read_text(viewer) and "opacity: 0.880, yes" in read_text(viewer)
    assert not read_all(parse(render_page(make_explanation(**KINDS["no film"]))), "h:dialog")


def test_a_value_that_a_template_misses_is_an_error():
    with pytest.raises(jinja2.UndefinedError):
        render_template("page.html", "page.js", study="1")


def test_a_report_of_many_sentences_is_written_in_time():
    def measure(count):
        parts = {"findings": " ".join(f"word{place}." for place in range(count))}
        explanation = make_explanation(parts)
        seconds = []
        for _ in range(3):
            start = time.process_time()
            describe_report(explanation)
            seconds.append(time.process_time() - start)
        return min(seconds) / count

    assert measure(4000) < 3 * measure(400)


def test_the_explained_label_its_threshold_and_the_decision_are_said_in_words():
    def read_summary(**changes):
        tree = parse(render_page(make_explanation(**changes)))
        return " ".join(read_text(find_section(tree, "summary")).split())

    said = read_summary()
    assert said.startswith(
        "Explained label: opacity Probability 0.880, at or above its threshold of 0.610. Decision: yes."
    )
    assert "most probable one" in said and "What was decided" not in said
    low = read_summary(probabilities={"normal": 0.02, "opacity": 0.05}, settings=ExplainSettings(target="opacity"))
    assert "Probability 0.050, below its threshold of 0.610. Decision: no." in low and "most probable" not in low
    assert "not that it is present" in low
    assert "its threshold is unknown" in read_summary(thresholds={})


def read_modality(**changes):
    """The lines of the table of both sides; the text where there is no table."""
    tree = parse(render_page(make_explanation(**changes)))
    tables = [t for t in read_all(tree, "h:table") if t.get("class") == "sides"]
    if not tables:
        return read_text(find_section(tree, "summary"))
    return [[read_text(cell).strip() for cell in row] for row in tables[0].find("h:tbody", NAMESPACES)]


def test_sides_that_pull_against_each_other_are_told_by_their_signs():
    assert read_modality() == [["film", "", "63.0 %", "+8.00 for"], ["report", "", "37.0 %", "−6.00 against"]]


def test_sides_that_are_not_known_are_told_from_sides_that_moved_nothing():
    assert "This method does not tell how much" in read_modality(**KINDS["no scored words"])
    still = Attribution({"image": np.zeros((2, 2, 1)), "rows": np.zeros((3, 2))}, 1, 0.0, np.zeros(2), 0.0, 0.0, 0.0, 5)
    said = read_modality(attribution=still, modality_share={"image": 0.0, "text": 0.0})
    assert "both sums are 0" in said and "This method does not tell how much" not in said


def test_weights_are_called_what_they_are():
    regions = ExplainSettings().regions
    for rule, whole in (("mass", "the smoothed map's positive sum"), ("paper", "the map's grey values")):
        settings = ExplainSettings(regions=dataclasses.replace(regions, rule=rule))
        page = html.unescape(render_page(make_explanation(settings=settings)))
        assert f"71.0 % of {whole}, centre" in page and "film's positive attribution" not in page


def test_the_slider_says_which_way_it_goes():
    label = next(e for e in read_all(parse(render_page(make_explanation())), "h:label") if "Sight" in read_text(e))
    assert read_text(label).startswith("Sight sensitivity (higher: fewer circles)")


def read_steps(tree):
    """Circles of every step as `(shown, [(x, y, radius), ...])`."""
    steps = [g for g in read_all(tree, "s:g") if g.get("class", "").startswith("step")]
    rings = [[c for c in read_all(step, "s:circle") if c.get("class") == "ring"] for step in steps]
    return [
        ("off" not in step.get("class"), [tuple(float(c.get(k)) for k in ("cx", "cy", "r")) for c in circles])
        for step, circles in zip(steps, rings)
    ]


def test_every_sensitivity_holds_the_librarys_circles_and_the_own_one_is_shown():
    explanation, sweep = make_explanation(), make_sweep()
    own = explanation.settings.regions.sensitivity
    expected = sorted({**{round(level, 4): regions for level, regions in sweep}, own: explanation.regions}.items())
    tree = parse(render_page(explanation, sweep[::-1]))
    steps = read_steps(tree)
    assert [circles for _, circles in steps] == [
        [(round(r.x, 2), round(r.y, 2), round(r.radius, 2)) for r in regions] for _, regions in expected
    ]
    assert [shown for shown, _ in steps] == [level == own for level, _ in expected]
    slider = next(element for element in tree.iter() if element.get("id") == "sensitivity")
    assert int(slider.get("value")) == [level for level, _ in expected].index(own)
    assert slider.get("aria-valuetext") == str(own) and int(slider.get("max")) == len(expected) - 1
    assert [float(option.get("label")) for option in read_all(tree, "h:datalist/h:option")] == [
        level for level, _ in expected
    ]


def test_circles_keep_film_pixels_when_the_picture_is_smaller():
    tree = parse(render_page(make_explanation(film=draw_film(3000, 2400))))
    view = next(s for s in read_all(tree, "s:svg") if s.get("class") == "view")
    assert view.get("viewBox") == "-0.5 -0.5 2400 3000"
    film = read_all(view, "s:image")[0]
    assert [film.get(k) for k in ("x", "y", "width", "height")] == ["-0.5", "-0.5", "2400", "3000"]
    assert read_image(film).shape == (1024, 819)
    assert read_steps(tree)[0][1][0] == (134.4, 390.0, 40.5)


def test_small_films_are_held_exactly():
    film = draw_film(70, 50)
    assert shrink_film(film, 1024) is film


@pytest.mark.parametrize("film", [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4)), np.zeros((0, 4), np.uint8)])
def test_refuses_what_is_no_film(film):
    with pytest.raises(InputError, match="uint8"):
        render_page(make_explanation(film=film))


def test_sides_and_probabilities_are_said():
    tree = parse(render_page(make_explanation()))
    text = " ".join(" ".join(tree.itertext()).split())
    for said in (
        "Not for diagnosis",
        "63.0 %",
        "37.0 %",
        "0.880",
        "yes (≥ 0.610)",
        "no (< 0.500)",
        "2.1 %",
        "0.4 %",
        "24",
        "sha256:0123abcd",
    ):
        assert said in text, said
    assert "film.png" in text and "folder" not in text
    assert "map error 6.1 % after 216 steps" in text


def test_unknown_numbers_are_dashes_not_nan():
    page = render_page(make_explanation(**KINDS["nothing known"]))
    assert not re.search(r">\s*(nan|None|inf)\b", page, re.I)


def test_heat_of_zeros_or_nan_is_clear():
    for heat in (np.zeros((3, 3)), np.full((3, 3), np.nan)):
        assert not color_heat(heat)[..., 3].any()


def test_one_hot_pixel_does_not_hide_the_rest():
    heat = np.full((100, 100), 0.01)
    heat[5, 5] = 100.0
    assert color_heat(heat)[50, 50].tolist() == [*FOR, 190]


def test_cleaning_keeps_every_character_that_html_allows():
    kept = "aé\t\n\u05e9🫁\u202e"
    assert replace_forbidden_characters(kept) == kept
    assert replace_forbidden_characters("\ufdd0\U0001ffff\x85") == "\ufffd" * 3


# --- Colours

DEFICIENCIES = {  # Source: https://doi.org/10.1109/TVCG.2009.113 (Machado et al., severity 1.0), on linear RGB
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def to_linear(color):
    color = np.asarray(color) / 255
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def to_lab(linear):
    """Linear sRGB to CIE L*a*b* under D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ linear
    t = xyz / [0.9505, 1.0, 1.089]
    f = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def measure_contrast(first, second):
    """The WCAG 2 contrast of two colours, 1 to 21."""
    dark, light = sorted(to_linear(color) @ [0.2126, 0.7152, 0.0722] for color in (first, second))
    return (light + 0.05) / (dark + 0.05)


def read_style():
    return files("kmm.explain.output").joinpath("page.css").read_text(encoding="utf-8")


def read_color(name):
    return tuple(map(int, re.search(rf"--{name}: (\d+) (\d+) (\d+)", read_style()).groups()))


def test_words_and_heat_have_one_palette():
    assert (read_color("for"), read_color("against")) == (FOR, AGAINST)


def test_circles_of_pages_and_pictures_have_one_colour():
    style = read_style()
    color = "#" + bytes(CIRCLE).hex()
    assert f".view .ring {{ stroke: {color};" in style and f".view text {{ fill: {color};" in style


@pytest.mark.parametrize("deficiency", [None, *DEFICIENCIES])
@pytest.mark.parametrize("pair", [(FOR, AGAINST), (CIRCLE, FOR), (CIRCLE, AGAINST)])
def test_for_against_and_circles_differ_to_every_eye(deficiency, pair):
    matrix = np.eye(3) if deficiency is None else np.array(DEFICIENCIES[deficiency])
    labs = [to_lab((matrix @ to_linear(color)).clip(0, 1)) for color in pair]
    assert np.linalg.norm(labs[0] - labs[1]) > 30  # 2.3 is just noticeable


def test_words_can_be_read_on_every_shade_in_light_and_dark():
    alphas = [float(a) for a in re.findall(r"\.l\d+ \{ --a: ([.\d]+); \}", read_style())]
    assert len(alphas) == 10 and alphas == sorted(alphas)
    assert [float(a) for a in re.findall(r"\.by-share \.p\d+ \{ --a: ([.\d]+); \}", read_style())] == alphas
    inks, papers = (re.findall(rf"--{name}: (#\w+);", read_style()) for name in ("ink", "paper"))
    assert len(inks) == len(papers) == 2  # light, and dark
    for ink, paper in zip(map(read_hex, inks), map(read_hex, papers)):
        for color in (FOR, AGAINST):
            assert measure_contrast(color, paper) >= 3  # of the underline
            for alpha in alphas:
                shade = alpha * np.array(color) + (1 - alpha) * np.array(paper)
                assert measure_contrast(shade, ink) >= 4.5


def read_hex(color):
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    return tuple(bytes.fromhex(digits))


def test_dark_is_for_the_screen_and_print_is_landscape():
    style = read_style()
    assert "@media screen and (prefers-color-scheme: dark)" in style and style.count("prefers-color-scheme") == 1
    assert "@page { size: A4 landscape" in style


def test_explanation_with_film_is_not_changed():
    explanation = make_explanation()
    before = dataclasses.replace(explanation, film=explanation.film.copy(), heat=explanation.heat.copy())
    render_page(explanation, make_sweep())
    assert np.array_equal(before.film, explanation.film) and np.array_equal(before.heat, explanation.heat)


def test_centres_are_said_in_pixels_of_the_file_and_drawn_on_square_ones():
    regions = [Region(134.4, 390.0, 40.5, 0.71)]
    page = render_page(make_explanation(regions=regions, pixel_scale=(1.0, 2.0)), [])
    (ring,) = re.findall(r'<circle class="ring" cx="([\d.]+)" cy="([\d.]+)"', page)
    assert ring == ("134.40", "390.00")  # the picture has square pixels
    assert "centre 134.4, 194.8, radius 40.5" in page and "<td>390.0</td>" not in page
    assert re.findall(r'<td class="number">([\d.]+)</td>', page)[:4] == ["1", "134.4", "194.8", "40.5"]
    assert "which are not square" in page and "which are not square" not in render_page(make_explanation(), [])
