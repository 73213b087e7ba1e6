import math

import pytest

from kmm.data.study import Report, Study
from kmm.rules.rule_file import LabelRules
from kmm.rules.rule_matches import apply_rule, split_sources

NAN = math.nan


def make_rule(**content):
    (rule,) = LabelRules.from_dict({"labels": {"Effusion": {"mentions": ["effusion", "effusions"], **content}}}).rules
    return rule


def label(text, **content):
    rule = make_rule(**content)
    return apply_rule(rule, split_sources(Study("1", "1", report=Report(findings=text)), rule.read)).value


def is_same(found, expected):
    return found == expected or (math.isnan(found) and math.isnan(expected))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Small effusion.", 1),
        ("No effusion.", 0),
        ("Possible effusion.", NAN),
        ("Clear lungs.", 0),  # nothing mentioned
        ("", NAN),
        ("No effusion on the right. Small effusion on the left.", 1),
        ("Possible effusion. No effusion on the left.", NAN),
        ("Possible effusion on the right. Effusion on the left.", 1),
        ("No pneumothorax. Effusions.", 1),  # a denial ends with its sentence
        ("1. No mass. 2. Effusion.", 1),
        ("no_effusion", 0),  # an underscore is a space
        ("No e\N{COMBINING ACUTE ACCENT}panchement, no effusion", 0),
    ],
)
def test_label_of_a_report(text, value):
    assert is_same(label(text), value)


def test_lists_of_a_rule():
    assert label("Pericardial effusion.", **{"except": ["pericardial effusion"]}) == 0
    assert label("Pericardial effusion, pleural effusion.", **{"except": ["pericardial effusion"]}) == 1
    assert label("Angles are sharp.", absent=["angles are sharp"], unmentioned="unknown") == 0
    assert math.isnan(label("No angles are sharp.", absent=["angles are sharp"], unmentioned="unknown"))
    assert math.isnan(label("Bases were not assessed.", unknown=["not assessed"]))
    assert label("Effusion. Bases were not assessed.", unknown=["not assessed"]) == 1
    assert math.isnan(label("Clear.", unmentioned="unknown"))


def test_a_word_for_normal_does_not_mean_a_denied_finding():
    """System B's word list called "no effusion", "no pneumothorax" and "stable chest" normal."""
    (rule,) = LabelRules.from_dict({"labels": {"Normal": ["normal", "unremarkable"]}}).rules

    def judge(text):
        return apply_rule(rule, (text,)).value

    assert [judge(text) for text in ("No effusion.", "No pneumothorax.", "Stable chest.", "Abnormal heart.")] == [0] * 4
    assert [judge(text) for text in ("Normal chest.", "The chest is not normal.")] == [1, 0]


def test_sources_are_read_apart():
    study = Study(
        "1",
        "1",
        report=Report(findings="Clear.", impression="Effusion."),
        mesh_major=("Pleural Effusion/left/small", "normal"),
        texts={"diagnosis": "effusion; COPD"},
    )
    for source, expected in (("findings", 0), ("impression", 1), ("mesh", 1), ("text:diagnosis", 1)):
        assert apply_rule(make_rule(read=source), split_sources(study, (source,))).value == expected
    assert split_sources(study, ("mesh",)) == ("Pleural Effusion left small", "normal")
    none = apply_rule(make_rule(), split_sources(study, ("comparison", "text:other")))
    assert math.isnan(none.value) and not none.read


def test_found_entries():
    rule = make_rule(**{"except": ["pericardial effusion"], "unknown": ["poor film"]})
    found = apply_rule(rule, ("No effusion", "Pericardial effusion", "poor film")).found
    assert found == {
        ("mentions", "effusion", "negated"),
        ("except", "pericardial effusion", "except"),
        ("unknown", "poor film", "unknown"),
    }
