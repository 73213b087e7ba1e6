import math

import pytest

from kmm.data.labels import LABEL_SCHEMES, label_studies
from kmm.data.study import Report, Study
from kmm.errors import InputError
from kmm.rules.rule_audit import audit_rules, describe_rules
from kmm.rules.rule_file import LabelRules
from kmm.rules.rule_scheme import KEPT, find_mined, make_scheme, open_scheme, saved_scheme

RULES = LabelRules.from_dict(
    {
        "labels": {
            "Mass": ["mass"],
            "Effusion": {"mentions": ["effusion", "fluid"], "absent": ["sharp angles"], "read": "impression"},
        }
    },
    "mine.yaml",
)
TEXTS = [
    ("A mass.", "Effusion."),
    ("No mass.", "No effusion, no fluid."),
    ("Possible mass.", "Sharp angles."),
    ("Clear.", "Clear."),
    ("Mass.", ""),
]
STUDIES = [
    Study(str(number), str(number), report=Report(findings=findings, impression=impression))
    for number, (findings, impression) in enumerate(TEXTS)
]


def test_scheme_labels_studies():
    labelled, names = label_studies(STUDIES, make_scheme(RULES))
    assert names == ("Mass", "Effusion")
    expected = {"Mass": [1, 0, math.nan, 0, 1], "Effusion": [1, 0, 0, 0, math.nan]}
    for name in names:
        for study, value in zip(labelled, expected[name], strict=True):
            assert study.labels[name] == value or (math.isnan(study.labels[name]) and math.isnan(value))


def test_labels_of_a_classifier_are_used_as_they_are():
    labelled, names = label_studies(STUDIES[3:4], make_scheme(RULES), names=("Effusion",))
    assert names == ("Effusion",) and labelled[0].labels == {"Effusion": 0.0}


def test_name_of_a_scheme(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("labels: {Mass: [mass]}", encoding="utf-8")
    scheme = open_scheme(f"rules:{path}")
    assert scheme.name == "rules:mine.yaml" and str(tmp_path) not in scheme.description
    assert open_scheme("findings") is LABEL_SCHEMES["findings"]
    with pytest.raises(InputError, match=r"Unknown label scheme 'finding'. Known: .*rules:FILE"):
        open_scheme("finding")


def test_saved_rules_need_no_file():
    scheme = saved_scheme("rules:gone.yaml", {KEPT: RULES.as_dict()})
    assert scheme.sources == {"Mass": ("findings", "impression"), "Effusion": ("impression",)}
    assert saved_scheme("columns", {}) is LABEL_SCHEMES["columns"]


def test_source_of_each_label_is_recorded():
    assert make_scheme(RULES).list_sources("Effusion") == ("impression",)
    assert LABEL_SCHEMES["findings"].list_sources("Opacity") == ("mesh",)
    assert LABEL_SCHEMES["columns-uncertain-ones"].list_sources("mass") == ("columns",)


@pytest.mark.parametrize(
    ("names", "read", "mined"),
    [
        (("Mass", "Effusion"), ("indication", "impression", "findings"), ("findings", "impression")),
        (("Effusion",), ("indication", "impression", "findings"), ("impression",)),
        (("Mass", "Effusion"), ("indication", "comparison"), ()),
        (("Mass",), (), ()),
    ],
)
def test_sections_that_are_read_and_mined(names, read, mined):
    assert find_mined(make_scheme(RULES), read, names) == mined
    assert find_mined(LABEL_SCHEMES["findings"], read, names) == ()


def test_audit():
    mass, effusion = audit_rules(STUDIES, RULES)
    counts = ("positive", "negative", "unknown", "unmentioned", "without_text")
    assert [mass[count] for count in counts] == [2, 2, 1, 1, 0]
    assert [effusion[count] for count in counts] == [1, 3, 1, 1, 1]
    assert effusion["read"] == ["impression"]
    keys = ("kind", "entry", "studies", "affirmed", "negated", "uncertain", "decided")
    assert [tuple(entry[key] for key in keys) for entry in effusion["entries"]] == [
        ("mentions", "effusion", 2, 1, 1, 0, 2),
        ("mentions", "fluid", 1, 0, 1, 0, 1),
        ("absent", "sharp angles", 1, 0, 0, 0, 1),
    ]
    for row in (mass, effusion):  # every study is counted once
        assert row["positive"] + row["negative"] + row["unknown"] == len(STUDIES)
    labelled, _ = label_studies(STUDIES, make_scheme(RULES))
    assert mass["positive"] == sum(study.labels["Mass"] == 1 for study in labelled)


def test_audit_in_one_line():
    rows = audit_rules(STUDIES, LabelRules.from_dict({"labels": {"Mass": ["mass", "tumor"]}}, "mine.yaml"))
    line = describe_rules(rows, "mine.yaml")
    assert line == "Labels by the rules of mine.yaml: Mass 2 of 1, 2 of 0, 1 unknown. Entries that no study has: tumor"
