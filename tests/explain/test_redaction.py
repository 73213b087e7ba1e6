"""An explanation of a classifier with a redaction: what it did not read has no score, and its place is given."""

import pytest

from kmm.data.study import Report, Study
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.text.redaction import Redaction

REPORT = Report(indication="e\u0301tat: mass?", findings="No small effusion,\nno mass. Word1 word2.")


@pytest.fixture(scope="module")
def found(build_classifier):
    classifier = build_classifier(None, "text-cnn", redaction=Redaction(("état", "no mass", r"/small (?:eff|cyst)/")))
    (one,) = Explainer(classifier, ExplainSettings(method="gradient-x-input")).explain([Study("1", "1", report=REPORT)])
    return one


def test_places_are_those_of_the_whole_report(found):
    assert found.text == REPORT.text()
    assert [found.text[start:end] for start, end in found.redacted] == ["e\u0301tat", "small eff", "no mass"]
    assert found.as_dict()["redacted"] == [list(span) for span in found.redacted]


def test_words_that_were_read_have_their_characters_and_all_of_the_score(found):
    assert [(word.text, word.read, word.redacted) for word in found.words] == [
        ("e\u0301tat", False, True),
        ("mass", True, False),
        ("No", True, False),
        ("small", False, True),
        ("eff", False, True),
        ("usion", True, False),
        ("no", False, True),
        ("mass", False, True),
        ("Word1", True, False),
        ("word2", True, False),
    ]
    assert all(found.text[word.start : word.end] == word.text for word in found.words)
    assert sum(word.share for word in found.words) == pytest.approx(1)
    assert sum(word.signed for word in found.words) == pytest.approx(found.attribution.values["rows"].sum(), abs=1e-6)
    assert not any(word.share or word.signed for word in found.words if word.redacted)
