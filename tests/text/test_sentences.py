"""Sentences of reports: what ends one, and what only looks so."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.text.sentences import find_sentence_ends


def cut(text):
    ends = [0, *find_sentence_ends(text), len(text)]
    return [part for start, end in itertools.pairwise(ends) if (part := text[start:end].strip())]


@pytest.mark.parametrize(
    "sentences",
    [
        ["No acute disease.", "Heart size is stable."],
        ["1. No acute disease.", "2. Heart size is stable."],
        ["1. No acute disease.", "2. Heart size is stable.", "3. No mass"],
        ["1) No acute disease.", "2) Heart size is stable."],
        ["(1) No acute disease.", "(2) Heart size is stable."],
        ["1.) No acute disease.", "2.) Heart size is stable."],
        ["1. No acute disease", "2. Heart size is stable"],
        ["1) No acute disease", "2) Stable"],
        ["i. No acute disease.", "ii. Stable."],
        ["I. No acute disease.", "II. Stable.", "IV. Old."],
        ["A. No acute disease.", "B. Stable."],
        ["Impression: 1. No acute disease.", "2. Stable."],
        ["1. Nodule between ribs 1 and 2.", "2. Stable."],
        ["1 . No acute disease.", "2 . Heart size is stable ."],
        ["#1. No acute disease.", "#2. Stable."],
        ["Stable since 2012.", "2. No effusion."],
        ["Stable since Jan. 3, 2012.", "No effusion."],
        ["Unchanged at T8.", "2. No effusion."],
        ["Discussed with Dr. XXXX at noon.", "No mass."],
        ["Discussed with Dr. A. B. Jones.", "No mass."],
        ["Signed J. Smith.", "No mass."],
        ["Read by John F. Kennedy.", "No mass."],
        ["J.P. Smith was called.", "No mass."],
        ["Read by Mr. Smith and Mrs. Jones."],
        ["Atelectasis vs. pneumonia.", "No mass."],
        ["Fracture of rib No. 3 on the left.", "No mass."],
        ["No. of ribs is normal.", "No mass."],
        ["Effusion? ", "No.", "Mass? ", "No."],
        ["Heart is 1.5 cm more, e.g. at the apex.", "No mass."],
        ["Nodule of 1. 5 cm.", "No mass."],
        ["History of hepatitis C.", "No mass."],
        ["Hepatitis C.", "No mass."],
        ["Kerley B. lines are seen.", "No mass."],
        ["Seen at 5 p.m. on the ward.", "No mass."],
        ["Seen at 5 p.m.", "No mass."],
        ["Tubes, wires etc. are in place.", "No mass."],
        ["Tubes, wires, etc.", "No mass."],
        ["A nodule of 5 mm.", "No mass."],
        ["A nodule of 5 mm.", "2. No mass."],
        ["See fig. 2 of the prior.", "No mass!", "Why?"],
        ['He said "no pain."', "No mass."],
        ["Clear (no mass.)", "Stable."],
        ["Approx. 2 weeks.", "No mass."],
        ["Smith et al. describe it.", "No mass."],
        ["XXXX.", "No mass."],
        ["Clear... and stable.", "No mass..."],
        ["Größe normal.", "Keine Stauung."],
        ["2019."],
        ["no stop"],
    ],
)
def test_sentences(sentences):
    text = " ".join(sentence.strip() for sentence in sentences)
    assert cut(text) == [sentence.strip() for sentence in sentences]
    assert cut(text.replace(" ", "\n")) == [sentence.strip().replace(" ", "\n") for sentence in sentences]


def test_nothing_ends_in_nothing():
    assert find_sentence_ends("") == find_sentence_ends(" \n") == []


@given(st.text(st.sampled_from("aBX1 2.!?)('\n"), max_size=60))
def test_ends_are_in_order_and_cut_no_word(text):
    ends = find_sentence_ends(text)
    assert ends == sorted(set(ends)) and all(0 < end <= len(text) for end in ends)
    assert all(text[end - 1 : end].isspace() or text[end : end + 1].isspace() or end == len(text) for end in ends)


def test_time_grows_with_the_text():
    def measure(count):
        text = "1. No mass vs. cyst of Dr. A. Jones " * count
        start = time.process_time()
        find_sentence_ends(text)
        return (time.process_time() - start) / count

    assert min(measure(8000) for _ in range(3)) < 4 * min(measure(500) for _ in range(3))


@pytest.mark.large
@pytest.mark.openi
def test_no_sentence_of_open_i_is_a_number_of_a_list(openi_folder):
    from kmm.data.collection import read_collection

    bare = rows = 0
    for study in read_collection(openi_folder).studies:
        for _, start, end in study.report.spans() if study.report else ():
            parts = cut(study.report.text()[start:end])
            rows += len(parts)
            bare += sum(part.strip("().").isdecimal() for part in parts)
    assert rows > 15_000 and bare <= 2  # 881 of 19,338 where every stop before white space ends a sentence
