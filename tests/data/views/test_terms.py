import pytest
from pydicom.sr.codedict import codes

from kmm.data.views.terms import VIEW_CODES, VIEW_NAMES, judge_code, judge_orientation, judge_term, name_view

FRONTAL = [
    *("PA", " ap ", "FRONTAL", "AP AXIAL", "AP LLD", "AP RLD", "PA LLD", "PA RLD", "AP SUPINE", "CHEST AP PORTABLE"),
    *(
        "postero-anterior",
        "PosteroAnterior",
        "antero-posterior projection",
        "Anterior to posterior",
        "A-P",
        "P.A.",
        "P/A",
    ),
    *("AP (Mobile) Semi-Erect", "AP_ERECT", "PA1", "AP LORDOTIC", "AP left lateral decubitus"),
]
LATERAL = [
    *("LL", "RL", "LATERAL", "lat", "L", "LARGE LATERAL", "XTABLE LATERAL", "X-TABLE LAT", "cross table lateral"),
    *("left lateral", "lateral projection", "Sagittal", "LAT ERECT"),
]
OTHER = [
    *("LLD", "RLD", "LAO", "RAO", "LPO", "RPO", "LLO", "RLO", "SWIMMERS", "Swimmer's view", "SWIMMERS LATERAL"),
    *("OBLIQUE", "PA OBLIQUE", "left anterior oblique", "lateral oblique", "LEFT LATERAL DECUBITUS", "AXIAL"),
    *("PA AND LATERAL", "PA/LAT", "medio-lateral", "LORDOTIC", "tangential", "other"),
]


@pytest.mark.parametrize(
    ("text", "view"),
    [(text, view) for view, texts in (("frontal", FRONTAL), ("lateral", LATERAL), ("other", OTHER)) for text in texts],
)
def test_terms_are_read_word_by_word(text, view):
    assert name_view(text) == judge_term(text) == view
    assert name_view(text.lower()) == view


@pytest.mark.parametrize("text", ["", "  ", "ERECT", "CHEST, PORTABLE", "UNKNOWN", "N/A", "none", "1"])
def test_words_that_say_nothing_of_the_view_state_none(text):
    assert name_view(text) is None and judge_term(text) is None


@pytest.mark.parametrize("text", ["ODD", "L5 S1", "RIGHT HAND", "R"])
def test_a_stated_term_that_is_not_known_is_neither(text):
    assert name_view(text) is None and judge_term(text) == "other"


def test_the_names_that_errors_offer_are_known():
    assert all(name_view(name) for name in VIEW_NAMES)


def test_published_codes_mean_what_their_names_say():
    """Every concept of the published list: a code in the table agrees with the words of its meaning."""
    known = {name: getattr(codes.cid4010, name) for name in codes.cid4010.dir()}
    assert len(known) > 40
    for concept in known.values():
        assert judge_code(concept.value) == judge_code(concept.value, concept.meaning) != None  # noqa: E711
        if concept.value in VIEW_CODES:
            assert VIEW_CODES[concept.value] == judge_term(concept.meaning), concept.meaning
        else:
            assert judge_term(concept.meaning) == "other", concept.meaning
    assert [VIEW_CODES[known[name].value] for name in ("PosteroAnterior", "AnteroPosterior", "Frontal")] == [
        "frontal"
    ] * 3
    assert [VIEW_CODES[known[name].value] for name in ("LateralProjection", "LeftLateral", "RightLateral")] == [
        "lateral"
    ] * 3


def test_codes_of_snomed_rt_are_those_of_snomed_ct():
    from pydicom.sr._snomed_dict import mapping

    misused = {"R-10218", "R-10222"}  # earlier editions gave them a meaning that they do not have in SNOMED
    pairs = {old: mapping["SRT"][old] for old in VIEW_CODES if old in mapping["SRT"] and old not in misused}
    assert len(pairs) > 15 and all(VIEW_CODES[old] == VIEW_CODES[new] for old, new in pairs.items())


def test_a_code_of_an_unknown_scheme_is_read_by_its_meaning():
    assert judge_code("V7", "Postero-anterior") == "frontal"
    assert judge_code("", "Left lateral") == "lateral"
    assert judge_code("V8", "") == "other" and judge_code("V8", "erect") == "other"


def test_a_code_that_is_a_term_is_read_as_one():
    assert [judge_code(value) for value in ("PA", "Lateral", "RAO", "L-3", "ERECT")] == [
        "frontal", "lateral", "other", "other", "other",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "view"), [("POSTERO_ANTERIOR", "frontal"), ("AP_AXIAL", "frontal"), ("P_A", "frontal")]
)
def test_underscores_separate_words(text, view):
    assert judge_term(text) == view


@pytest.mark.parametrize(
    ("text", "view"),
    [
        ("A\\F", "lateral"), ("P\\F", "lateral"), ("F\\A", "lateral"), ("A", "lateral"), ("AL\\F", "lateral"),
        ("L\\F", None), ("R\\F", None), ("F\\L", None), ("LA\\F", None), ("", None),
        ("L\\P", "other"), ("R\\A", "other"),
    ],
)  # fmt: skip
def test_the_plane_of_the_film(text, view):
    assert judge_orientation(text) == view
