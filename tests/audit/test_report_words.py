"""Words per report: numbers that can be counted by hand."""

import pytest

from kmm.audit import report_words
from kmm.audit.report_words import count_report_words
from kmm.data.inputs import MAX_REPORT_WORDS
from kmm.data.study import Report, Study
from kmm.presets import PRESETS, Preset


@pytest.fixture(autouse=True)
def presets(monkeypatch):
    """Two presets that read reports alike."""
    for name in [name for name in reversed(PRESETS) if name not in ("small", "paper")]:  # put back in their order
        monkeypatch.delitem(PRESETS, name)


def make_studies(sizes, **sections):
    return [Study(str(i), str(i), report=Report(findings="word " * size, **sections)) for i, size in enumerate(sizes)]


def test_sizes_cuts_and_bins_are_those_of_the_reports():
    (found,) = count_report_words([*make_studies((0, 3, 4, 140, 141, 200)), Study("none", "none")])
    assert (found["reports"], found["median"], found["most"], found["cut"]) == (5, 140, 200, 2)
    assert found["p99"] == pytest.approx(141 + 0.96 * (200 - 141))  # of 5 numbers, at place 0.99 * 4 = 3.96
    bins = found["histogram"]
    assert bins["width"] == 10 and sum(bins["counts"]) == 5
    assert {place: count for place, count in enumerate(bins["counts"]) if count} == {0: 2, 14: 2, 20: 1}


def test_a_preset_that_reads_otherwise_has_numbers_of_its_own(monkeypatch):
    settings = {"sections": ("indication",), "length": 2, "cleaning": "paper"}
    monkeypatch.setitem(PRESETS, "brief", Preset("", "", settings))
    found = {
        tuple(one["presets"]): one for one in count_report_words(make_studies((9,), indication="Is not a big mass"))
    }
    brief = found.pop(("brief",))
    assert (brief["most"], brief["cut"], brief["sections"]) == (2, 0, ["indication"])  # stop words are dropped
    ((_, rest),) = found.items()
    assert rest["most"] == 9 + 5


def test_a_report_that_no_model_reads_is_counted_apart():
    (found,) = count_report_words(make_studies((MAX_REPORT_WORDS + 1, 2)))
    assert (found["reports"], found["most"], found["unreadable"]) == (1, 2, 1)


def test_without_reports_sizes_are_unknown():
    (found,) = count_report_words([Study("1", "1")])
    assert (found["reports"], found["median"], found["p99"], found["most"], found["cut"]) == (0, None, None, None, 0)
    assert found["histogram"]["counts"] == []


@pytest.mark.parametrize("most", [1, 39, 40, 399, 400, 19_000])
def test_bins_are_few_and_the_last_one_has_the_longest_report(most):
    bins = count_report_words(make_studies((most,)))[0]["histogram"]
    assert len(bins["counts"]) <= report_words.MOST_BINS and bins["counts"][-1] == 1
    assert (len(bins["counts"]) - 1) * bins["width"] <= most < len(bins["counts"]) * bins["width"]
