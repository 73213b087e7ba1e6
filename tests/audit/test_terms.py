"""Frequent terms: counted by reports, and none that too few patients share."""

import pytest

from kmm.audit.terms import find_terms
from kmm.data.inputs import MAX_REPORT_WORDS
from kmm.data.study import Report, Study, own_patient
from kmm.errors import InputError


def make(*reports):
    return [Study(str(i), who, report=Report(findings=text)) for i, (who, text) in enumerate(reports)]


WARD = make(
    ("ann", "Effusion, effusion, no mass. XXXX 2019 t l2."),
    ("ann", "Seen by Dr Quaxley. Effusion."),
    ("ann", "Quaxley again: mass."),
    ("ben", "The effusion of the left lung."),
    ("cy", "Left lung clear."),
)


def test_a_report_counts_once_and_the_most_frequent_comes_first():
    found = find_terms(WARD)
    assert list(found.counts.items()) == [("effusion", 3), ("left", 2), ("lung", 2)]
    assert found.reports == 5 and found.words == 3


def test_words_of_too_few_patients_are_withheld_however_often_they_occur():
    withheld = {"quaxley", "mass", "seen", "dr", "clear"}  # `again` is a stop word
    assert not withheld & set(find_terms(WARD).counts) and find_terms(WARD).withheld == len(withheld)
    assert list(find_terms(WARD, min_patients=3).counts) == []
    assert set(find_terms(WARD, min_patients=1).counts) == withheld | {"effusion", "left", "lung"}


def test_stop_words_numbers_letters_and_removed_names_are_no_terms():
    twice = make(("ann", "No the XXXX 2019 t l2 mass"), ("ben", "no The xxxxx 2019 t l2 Mass"))
    assert find_terms(twice).counts == {"mass": 2}


def test_unknown_patients_are_one_each():
    studies = [Study(id, own_patient(id), report=Report(findings="Mass.")) for id in "12"]
    assert find_terms(studies).counts == {"mass": 2}


def test_the_longest_list_is_cut_after_the_most_frequent():
    assert list(find_terms(WARD, most=1).counts) == ["effusion"]


def test_reports_that_cannot_be_read_and_empty_ones_are_left_out():
    long = make(("ann", "mass " * (MAX_REPORT_WORDS + 1)), ("ben", "mass"), ("cy", ""))
    assert find_terms([*long, Study("9", "9")]).reports == 1 and find_terms([]).counts == {}


def test_fewer_than_one_patient_is_refused():
    with pytest.raises(InputError, match="at least 1"):
        find_terms(WARD, min_patients=0)
