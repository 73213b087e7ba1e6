"""Sentences with a right answer: what they affirm, deny and doubt. Written for these tests."""

import re
import time

import pytest

from kmm.rules.negation import AFFIRMED, NEGATED, UNCERTAIN, judge_mentions

SENTENCES = [
    # denied by what precedes, in lists of any length
    ("No effusion.", "effusion", NEGATED),
    ("There is no pleural effusion.", "effusion", NEGATED),
    ("No pneumothorax, large pleural effusion, or focal consolidation.", "consolidation", NEGATED),
    (
        "No focal consolidation, suspicious opacity, pneumothorax, or definite large pleural effusion.",
        "effusion",
        NEGATED,
    ),
    ("Without evidence of pneumonia.", "pneumonia", NEGATED),
    ("Negative for pneumothorax.", "pneumothorax", NEGATED),
    ("The lungs are free of focal infiltrates.", "infiltrates", NEGATED),
    ("The lungs are clear of edema and consolidation.", "consolidation", NEGATED),
    ("Neither effusion nor pneumothorax.", "pneumothorax", NEGATED),
    ("Nothing to suggest pneumonia.", "pneumonia", NEGATED),
    ("No findings suspicious for pneumonia.", "pneumonia", NEGATED),
    ("No suspicious nodules.", "nodules", NEGATED),
    ("The film does not show a mass.", "mass", NEGATED),
    ("Interval resolution of the left effusion.", "effusion", NEGATED),
    ("NO  EFFUSION", "EFFUSION", NEGATED),
    ("No visualized pneumothorax or large effusion.", "effusion", NEGATED),
    # denied by what follows
    ("Pneumothorax is not seen.", "Pneumothorax", NEGATED),
    ("Effusion and pneumothorax are not identified.", "Effusion", NEGATED),
    ("The effusion is no longer present.", "effusion", NEGATED),
    ("The edema has resolved.", "edema", NEGATED),
    ("Pneumonia has been ruled out.", "Pneumonia", NEGATED),
    ("Pneumothorax: none.", "Pneumothorax", NEGATED),
    # affirmed, although a denial is near
    ("Effusion without pneumothorax.", "Effusion", AFFIRMED),
    ("No pneumothorax, but a small effusion.", "effusion", AFFIRMED),
    ("No pneumothorax; small effusion.", "effusion", AFFIRMED),
    ("No pneumothorax is seen, effusion is small.", "effusion", AFFIRMED),
    ("No pneumothorax. There is cardiomegaly.", "cardiomegaly", AFFIRMED),
    ("Aside from a granuloma, no nodule.", "granuloma", AFFIRMED),
    ("No acute disease except for an effusion.", "effusion", AFFIRMED),
    ("Cardiomegaly is present, effusion is not seen.", "Cardiomegaly", AFFIRMED),
    ("No change in the right effusion.", "effusion", AFFIRMED),
    ("No significant interval change in cardiomegaly.", "cardiomegaly", AFFIRMED),
    ("Effusion has not increased.", "Effusion", AFFIRMED),
    ("Not only effusion.", "effusion", AFFIRMED),
    ("The heart is normal, and there is an effusion.", "effusion", AFFIRMED),
    ("Stable effusion.", "effusion", AFFIRMED),
    ("Known nodule, northern zone.", "nodule", AFFIRMED),  # "no" and "not" are words of their own
    # doubted
    ("Possible effusion.", "effusion", UNCERTAIN),
    ("Opacity may represent atelectasis or pneumonia.", "pneumonia", UNCERTAIN),
    ("Cannot exclude a small effusion.", "effusion", UNCERTAIN),
    ("A small effusion cannot be excluded.", "effusion", UNCERTAIN),
    ("Effusion is not excluded.", "Effusion", UNCERTAIN),
    ("Pneumonia is unlikely.", "Pneumonia", UNCERTAIN),
    ("Atelectasis versus infiltrate.", "Atelectasis", UNCERTAIN),
    ("Atelectasis versus infiltrate.", "infiltrate", UNCERTAIN),
    ("Findings suggestive of edema.", "edema", UNCERTAIN),
    ("No pneumothorax, possible small effusion.", "effusion", UNCERTAIN),
    ("Questionable nodule.", "nodule", UNCERTAIN),
    ("Rule out pneumonia.", "pneumonia", UNCERTAIN),
    ("Opacities, possibly due to atelectasis.", "atelectasis", UNCERTAIN),
    ("Differential diagnosis includes pneumonia.", "pneumonia", UNCERTAIN),
    # doubt that belongs to another finding
    ("Cardiomegaly, possible effusion.", "Cardiomegaly", AFFIRMED),
    ("Possible infiltrate without effusion.", "effusion", NEGATED),
]


@pytest.mark.parametrize(("sentence", "mention", "expected"), SENTENCES)
def test_sentence(sentence, mention, expected):
    (match,) = re.finditer(rf"\b{mention}\b", sentence)
    assert judge_mentions(sentence.rstrip("."), [match.span()]) == [expected]


def test_mentions_are_judged_one_by_one():
    text = "No pneumothorax but effusion"
    assert judge_mentions(text, [(3, 15), (20, 28)]) == [NEGATED, AFFIRMED]
    assert judge_mentions(text, []) == []


def test_words_inside_a_mention_do_not_judge_it():
    text = "lungs without consolidation are clear"
    assert judge_mentions(text, [(0, len(text))]) == [AFFIRMED]


def test_time_grows_with_the_length_of_a_sentence():
    def measure(count):
        text = "no not " * count + "effusion"
        start = time.process_time()
        assert judge_mentions(text, [(len(text) - 8, len(text))]) == [NEGATED]
        return time.process_time() - start

    measure(10)
    short = min(measure(2000 + number) for number in range(3))  # of other texts: the last ones are remembered
    assert min(measure(20_000 + number) for number in range(3)) < 40 * short  # 10 times as long; 100 times if squared
