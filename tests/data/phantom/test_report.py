import re

import numpy as np
import pytest

from kmm.data.phantom.report import FINDINGS, KEPT, MISSPELLINGS, Lesion, compose_report, name_mesh

ALL = [
    Lesion(finding, side, zone) for finding in FINDINGS for side in ("left", "right") for zone in ("upper", "middle")
]


def write(lesions, seed):
    return compose_report(lesions, np.random.default_rng(seed), abnormal=bool(lesions))


@pytest.mark.parametrize("lesion", ALL)
def test_a_report_names_its_lesion_in_its_own_words(lesion):
    named = {word for sentence in FINDINGS[lesion.finding].stated for part in re.findall(r"\[(.+?)\]", sentence)
             for word in part.lower().split()}  # fmt: skip
    named |= {MISSPELLINGS.get(word, word) for word in named}
    for seed in range(30):
        report, words = write([lesion], seed)
        assert words and set(words) <= named
        assert all(re.search(rf"\b{word}\b", report.body) for word in words)


def test_no_mark_of_the_tables_is_left_in_a_report():
    for seed in range(200):
        report, _ = write([ALL[seed % len(ALL)]] if seed % 2 else [], seed)
        text = report.text(("indication", "comparison", "findings", "impression"))
        assert not re.search(r"[\[\]{}]|  ", text)
        assert all(sentence[0].isupper() or sentence[0].isdigit() for sentence in text.split(". ") if sentence)


def test_a_normal_report_names_nothing_but_denies_much():
    reports = [write([], seed) for seed in range(200)]
    assert all(words == () for _, words in reports)
    denied = [
        report
        for report, _ in reports
        if re.search("nodule|mass|effusion|consolidation|atelectasis|cardi.*g", report.body)
    ]
    assert len(denied) > 100


def test_denials_keep_their_negation_and_their_own_finding_is_never_denied():
    for seed in range(300):
        report, _ = write([Lesion("Nodule", "left", "upper")], seed)
        for sentence in report.findings.lower().split("."):
            if re.search(r"\b(no|neither|without|negative)\b", sentence):
                assert "nodule" not in sentence and "mass" not in sentence
            elif "pneumothorax" in sentence or "adenopathy" in sentence:
                raise AssertionError(f"seed {seed}: a denial lost its negation")


def test_sections_are_empty_at_times_but_what_is_told_is_told():
    reports = [write([ALL[seed % len(ALL)]], seed)[0] for seed in range(400)]
    for name in ("indication", "comparison", "findings", "impression"):
        share = np.mean([not getattr(report, name) for report in reports])
        assert 0.01 < share < 0.3, name
    assert all(report.body for report in reports)


def test_reports_vary_in_words_length_and_spelling():
    reports = [write([], seed)[0] for seed in range(300)]
    lengths = [len(report.text().split()) for report in reports]
    assert min(lengths) < 15 and max(lengths) > 60
    text = " ".join(report.text() for report in reports)
    assert "XXXX" in text
    assert any(wrong in text.lower().split() for wrong in MISSPELLINGS.values())
    bodies = [report.body for report in reports]
    assert 0.7 < len(set(bodies)) / len(bodies) < 1


def test_no_negation_is_misspelt():
    assert not KEPT & set(MISSPELLINGS) - {"normal"}


@pytest.mark.large
def test_the_indication_is_only_weakly_informative():
    def share(abnormal):
        reports = [compose_report([], np.random.default_rng(seed), abnormal=abnormal)[0] for seed in range(1500)]
        acute = r"cough|breath|fever|chest pain|weakness|dyspnea"
        return np.mean([bool(re.search(acute, report.indication.lower())) for report in reports])

    assert 0.05 < share(True) - share(False) < 0.25


def test_mesh_terms_carry_place_and_side():
    assert name_mesh(Lesion("Nodule", "right", "upper")) == "Nodule/lung/upper lobe/right"
    assert name_mesh(Lesion("Effusion", "left", "upper")) == "Pleural Effusion/left/small"
    assert name_mesh(Lesion("Cardiomegaly", "left", "upper")) == "Cardiomegaly/mild"
