"""The 14 findings of ChestX-ray14 as kmm's own rules read them. Sentences are written for these tests."""

import math

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from kmm.data.labels import find_heads, label_studies
from kmm.data.layouts.chestxray14 import FINDINGS
from kmm.data.layouts.kaggle import read_kaggle
from kmm.data.study import Report, Study
from kmm.rules.rule_file import read_rules
from kmm.rules.rule_matches import apply_rule, split_sources
from kmm.rules.rule_scheme import open_scheme

RULES = {rule.label: rule for rule in read_rules("chestxray14").rules}
NAN = math.nan
SENTENCES = [
    ("Atelectasis", "Bibasilar atelectatic changes.", 1),
    ("Atelectasis", "No atelectasis.", 0),
    ("Cardiomegaly", "The heart is mildly enlarged.", 1),
    ("Cardiomegaly", "Stable cardiomegaly.", 1),
    ("Cardiomegaly", "Heart size is normal.", 0),
    ("Cardiomegaly", "No cardiomegaly.", 0),
    ("Cardiomegaly", "Borderline heart size.", NAN),
    ("Cardiomegaly", "The cardiac silhouette appears enlarged.", 1),
    ("Consolidation", "Consolidation in the left base.", 1),
    ("Consolidation", "No focal airspace consolidation.", 0),
    ("Edema", "Findings of congestive heart failure.", 1),
    ("Edema", "No pulmonary edema.", 0),
    ("Edema", "Soft tissue edema.", 0),
    ("Effusion", "Small bilateral pleural effusions.", 1),
    ("Effusion", "No effusion.", 0),
    ("Effusion", "Pericardial effusion.", 0),
    ("Effusion", "A small effusion cannot be excluded.", NAN),
    ("Emphysema", "Changes of COPD.", 1),
    ("Emphysema", "Subcutaneous emphysema.", 0),
    ("Emphysema", "Hyperexpanded lungs.", 0),
    ("Fibrosis", "Biapical scarring.", 1),
    ("Hernia", "Large hiatal hernia.", 1),
    ("Infiltration", "Right lower lobe infiltrate.", 1),
    ("Infiltration", "No infiltrates or effusions.", 0),
    ("Mass", "A 3 cm mass in the right hilum.", 1),
    ("Mass", "No mass effect.", 0),
    ("Nodule", "Calcified granuloma.", 1),
    ("Nodule", "No nodules or masses.", 0),
    ("Pleural_Thickening", "Apical pleural thickening.", 1),
    ("Pneumonia", "Possible pneumonia.", NAN),
    ("Pneumonia", "No evidence of pneumonia.", 0),
    ("Pneumothorax", "Small left pneumothorax.", 1),
    ("Pneumothorax", "No pneumothorax or pleural effusion.", 0),
]


@pytest.mark.parametrize(("label", "sentence", "value"), SENTENCES)
def test_sentence(label, sentence, value):
    found = apply_rule(RULES[label], (sentence,)).value
    assert found == value or (math.isnan(found) and math.isnan(value))


HEADINGS = {
    "Atelectasis": {"Pulmonary Atelectasis"},
    "Cardiomegaly": {"Cardiomegaly"},
    "Effusion": {"Pleural Effusion"},
    "Hernia": {"Hernia, Hiatal"},
    "Emphysema": {"Pulmonary Emphysema", "Emphysema", "Bullous Emphysema", "Pulmonary Disease, Chronic Obstructive"},
}


@pytest.mark.openi
@pytest.mark.large
def test_labels_of_real_reports_agree_with_their_index_terms(openi_folder):
    """The terms were assigned by readers of the same reports. Cohen's kappa over the studies that both know."""
    studies = [study for study in read_kaggle(openi_folder).studies if study.mesh_major]
    for name, headings in HEADINGS.items():
        rule = RULES[name]
        found = np.array([apply_rule(rule, split_sources(study, rule.read)).value for study in studies])
        known = np.isfinite(found)
        terms = np.array([bool(headings & find_heads(study)) for study in studies])
        assert known.mean() > 0.95
        assert cohen_kappa_score(found[known] == 1, terms[known]) > 0.9


def test_labels_are_those_of_the_collection():
    assert tuple(RULES) == FINDINGS
    assert {rule.read for rule in RULES.values()} == {("findings", "impression")}
    assert {rule.unmentioned for rule in RULES.values()} == {0.0}


def test_a_normal_report_has_no_finding():
    text = (
        "The heart size is normal. The lungs are clear without focal consolidation, pneumothorax or pleural effusion. "
        "No acute bony abnormality."
    )
    study = Study("1", "1", report=Report(findings=text, impression="No acute disease."))
    (labelled,), _ = label_studies([study], open_scheme("rules:chestxray14"), names=FINDINGS)
    assert set(labelled.labels.values()) == {0.0}
