"""Scores of rows on the characters of the report."""

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kmm.data.study import Report
from kmm.explain.words import ReadWord, score_words, sum_words, warn_of_cut, weigh_words
from kmm.text.clean import find_words

REPORT = Report(
    indication="Cough, for 2 weeks.",
    findings="Heart size is normal. There is a T-spine fracture; no X-ray of 2019. Heart size is 1.5 cm more.",
    impression="No acute disease",
)
TEXT, SECTIONS = REPORT.text(), REPORT.spans()


def read_words(text, *, mode="standard", deidentified="keep", first=0, length=None):
    """The words of a text as a model of one row a word reads them."""
    words = find_words(text, mode, deidentified)[first:]
    return [ReadWord(word.start, word.end, slice(row, row + 1)) for row, word in enumerate(words[:length])]


def rows(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, 4))


def score(text=TEXT, sections=SECTIONS, **reading):
    read = read_words(text, **reading)
    return score_words(text, sections, read, rows(len(read) + 3))


def test_every_word_of_the_report_is_there_once_with_its_characters():
    words = score()
    assert [word.text.lower() for word in words] == [word.text for word in find_words(TEXT)]
    assert all(TEXT[word.start : word.end] == word.text and word.seen for word in words)
    assert {word.section for word in words} == {"indication", "impression", "findings"}
    repeated = [word for word in words if word.text == "Heart"]
    assert len(repeated) == 2 and repeated[0].start != repeated[1].start and repeated[0].share != repeated[1].share


def test_shares_are_squares_and_signs_are_sums():
    read = read_words("no mass seen")
    values = np.array([[1.0, -1], [2, 0], [0, 0], [9, 9]])  # the last row is padding
    no, mass, seen = score_words("no mass seen", [("findings", 0, 12)], read, values)
    assert (no.share, mass.share, seen.share) == pytest.approx((2 / 6, 4 / 6, 0))
    assert (no.signed, mass.signed, seen.signed) == (0, 2, 0)


WORDS = st.text(st.sampled_from("aB7é ß.,-'’\n中²İx"), max_size=60)


@given(WORDS, st.sampled_from(["standard", "paper"]), st.integers(0, 4), st.integers(0, 6), st.integers(0, 99))
@settings(max_examples=150)
def test_laws_of_any_text(text, mode, first, length, seed):
    """Shares sum to 1; places index the text, in order, and do not overlap; each written letter read is in a word."""
    read = read_words(text, mode=mode, first=first, length=length)
    values = rows(max(len(read), 1), seed)
    words = score_words(text, [("findings", 0, len(text))], read, values)
    assert [word for word in words if word.seen and word.share] == [word for word in words if word.seen]
    assert sum(word.share for word in words) == pytest.approx(1 if read else 0)
    assert sum(word.signed for word in words) == pytest.approx(values.sum() if read else 0)
    assert all(text[word.start : word.end] == word.text != "" for word in words)
    assert all(one.end <= other.start for one, other in pairwise(words))
    assert [(word.start, word.end) for word in words if word.seen] == [(word.start, word.end) for word in read]
    inside = {place for word in words for place in range(word.start, word.end)}
    assert {place for place, letter in enumerate(text) if letter.isalnum()} <= inside


def test_letters_of_any_alphabet_keep_their_places():
    text = "Größe \U0001f600 Кардиомегалия, 肺炎 İç."
    words = score_words(text, [("findings", 0, len(text))], read_words(text), rows(4))
    assert [word.text for word in words] == ["Größe", "Кардиомегалия", "肺炎", "İç"]


def test_hyphens_cut_words_in_standard_mode_and_join_them_in_the_papers():
    assert [word.text for word in score() if "spine" in word.text] == ["spine"]
    paper = {word.text: word for word in score(mode="paper")}
    assert paper["T-spine"].seen and paper["X-ray"].seen


def test_the_papers_cleaning_shows_what_it_dropped():
    dropped = [word.text for word in score(mode="paper") if not word.seen]
    assert dropped == ["for", "2", "No", "is", "There", "is", "a", "no", "of", "2019", "is", "1", "5", "more"]
    assert all(word.share == word.signed == 0 for word in score(mode="paper") if not word.seen)


def test_removed_names_that_are_dropped_are_marked():
    text = "Seen by Dr. XXXX today"
    words = score_words(text, [("findings", 0, len(text))], read_words(text, deidentified="drop"), rows(4))
    assert [(word.text, word.seen) for word in words if not word.seen] == [("XXXX", False)]


@pytest.mark.parametrize("first, length, lost", [(0, 5, slice(5, None)), (3, None, slice(None, 3))])
def test_words_cut_off_at_either_end_are_marked(first, length, lost):
    words = score(first=first, length=length)
    assert [word for word in words if not word.seen] == words[lost]
    assert sum(word.share for word in words) == pytest.approx(1)


def test_half_of_a_compound_that_was_cut_off_is_marked():
    words = score_words("a T-spine", [("findings", 0, 9)], read_words("a T-spine", length=2), rows(2))
    assert [(word.text, word.seen) for word in words] == [("a", True), ("T", True), ("spine", False)]


def test_a_compound_of_which_nothing_was_read_is_one_word():
    words = score_words("a T-spine don't", [("findings", 0, 15)], read_words("a T-spine", length=1), rows(2))
    assert [(word.text, word.seen) for word in words] == [("a", True), ("T-spine", False), ("don't", False)]


def test_an_unknown_word_is_marked_and_keeps_its_score():
    read = [ReadWord(0, 2, slice(0, 1)), ReadWord(3, 7, slice(1, 2), known=False)]
    no, mass = score_words("no mass", [("findings", 0, 7)], read, np.array([[1.0], [-2]]))
    assert no.seen and not mass.seen and (mass.share, mass.signed) == (0.8, -2)
    assert no.read and mass.read


def test_an_unknown_word_that_was_read_is_told_from_one_that_was_not_even_without_scores():
    read = [ReadWord(0, 2, slice(0, 1)), ReadWord(3, 7, slice(1, 2), known=False)]
    words = score_words("no zyxw cut", [("findings", 0, 11)], read, None)
    assert [(word.seen, word.read) for word in words] == [(True, True), (False, True), (False, False)]


def test_a_report_of_many_words_takes_as_long_for_each_as_a_short_one():
    def measure(count):
        text = " ".join(f"word{place}{'.' if place % 8 == 7 else ''}" for place in range(count))
        read, values = read_words(text), rows(count)
        seconds = []
        for _ in range(3):
            start = time.process_time()
            words = score_words(text, [("findings", 0, len(text))], read, values)
            seconds.append(time.process_time() - start)
        assert words[-1].sentence == (count - 1) // 8
        return min(seconds) / count

    assert measure(20_000) < 5 * measure(1000)


def test_pieces_are_summed_to_words():
    read = [ReadWord(0, 14, slice(1, 4)), ReadWord(15, 19, slice(4, 5))]  # row 0 stands for the start of the text
    values = np.array([[9.0, 9], [1, 0], [0, 2], [-1, 0], [3, 0]])
    long, short = score_words("pneumothoraces seen", [("findings", 0, 19)], read, values)
    assert (long.signed, short.signed) == (2, 3) and (long.share, short.share) == pytest.approx((6 / 15, 9 / 15))


def test_sums_by_sentence_and_by_section_are_those_of_all_words():
    words = score()
    for by in ("sentence", "section"):
        sums = sum_words(words, by)
        assert sum(share for share, _ in sums.values()) == pytest.approx(1)
        assert sum(signed for _, signed in sums.values()) == pytest.approx(sum(word.signed for word in words))
        for key, (share, signed) in sums.items():
            own = [word for word in words if getattr(word, by) == key]
            assert (share, signed) == pytest.approx((sum(w.share for w in own), sum(w.signed for w in own)))
    assert list(sum_words(words, "section")) == ["indication", "impression", "findings"]
    assert sum_words([], "sentence") == {}


def test_sentences_end_at_a_stop_and_with_their_section():
    numbers = {}
    for word in score():
        numbers.setdefault(word.sentence, []).append(word.text)
    said = [" ".join(words) for words in numbers.values()]
    assert said == [
        "Cough for 2 weeks",
        "No acute disease",  # no stop: the section ends it
        "Heart size is normal",
        "There is a T spine fracture no X ray of 2019",
        "Heart size is 1 5 cm more",  # the point of a number ends nothing
    ]
    assert list(numbers) == [0, 1, 2, 3, 4]


def test_without_attribution_all_scores_are_zero():
    read = read_words(TEXT)
    for values in (None, np.zeros((len(read), 3))):
        assert all(word.share == word.signed == 0 and word.seen for word in score_words(TEXT, SECTIONS, read, values))
    assert score_words("", [], [], None) == [] and score_words("", [], [], rows(3)) == []


def test_a_word_is_a_row_of_json():
    (word,) = score_words("mass", [("findings", 0, 4)], [ReadWord(0, 4, slice(0, 1))], np.array([[2.0]]))
    assert word.as_dict() == {
        "start": 0,
        "end": 4,
        "text": "mass",
        "section": "findings",
        "sentence": 0,
        "share": 1.0,
        "signed": 2.0,
        "seen": True,
        "read": True,
        "cut": False,
        "redacted": False,
    }


def test_redacted_words_are_words_that_were_not_read():
    text = "No acute-looking mass 5 is seen"
    read = [ReadWord(9, 16, slice(0, 1)), ReadWord(17, 21, slice(1, 2))]
    words = score_words(text, [("findings", 0, len(text))], read, rows(2), [(0, 8), (22, 23)])
    assert [(word.text, word.read, word.redacted) for word in words] == [
        ("No", False, True),
        ("acute", False, True),
        ("looking", True, False),
        ("mass", True, False),
        ("5", False, True),
        ("is", False, False),
        ("seen", False, False),
    ]
    assert all(text[word.start : word.end] == word.text for word in words)
    assert sum(word.share for word in words) == pytest.approx(1) and words[0].share == words[0].signed == 0


def test_a_warning_counts_redacted_words_apart():
    read = [ReadWord(3, 7, slice(0, 1)), ReadWord(8, 12, slice(1, 1))]
    words = score_words("no mass seen", [("findings", 0, 12)], read, rows(1), [(0, 2)])
    (said,) = warn_of_cut(words)
    assert said.startswith("2 of 3 words were not read (1 cut off, 1 redacted): ")


def test_words_beyond_the_length_that_is_read_are_cut_and_warned_of():
    """As the tokenizer finds them, words beyond the length have no rows."""
    text = "no acute mass seen today"
    found = find_words(text, "standard", "keep")
    read = [ReadWord(word.start, word.end, slice(row, min(row + 1, 3))) for row, word in enumerate(found[:3])]
    read += [ReadWord(word.start, word.end, slice(3, 3)) for word in found[3:]]
    words = score_words(text, [("findings", 0, len(text))], read, rows(3))
    assert [(word.text, word.read, word.seen, word.cut) for word in words[2:]] == [
        ("mass", True, True, False),
        ("seen", False, False, True),
        ("today", False, False, True),
    ]
    assert sum(word.share for word in words) == pytest.approx(1) and words[3].signed == 0
    assert warn_of_cut(words) == ("2 of 5 words were not read: the report is longer than the model reads",)
    assert warn_of_cut(words[:3]) == () == warn_of_cut([])


def test_a_warning_tells_words_that_were_cut_from_words_that_the_cleaning_dropped():
    read = [ReadWord(3, 7, slice(0, 1)), ReadWord(8, 12, slice(1, 1))]
    words = score_words("no mass seen", [("findings", 0, 12)], read, rows(1))
    assert [(word.read, word.cut) for word in words] == [(False, False), (True, False), (False, True)]
    (said,) = warn_of_cut(words)
    assert said.startswith("2 of 3 words were not read (1 cut off, 1 dropped by the cleaning): ")
    dropped = score_words("no mass", [("findings", 0, 7)], read[:1], rows(1))
    assert not dropped[0].read and warn_of_cut(dropped) == ()


def test_weights_agree_with_the_numbers_that_stand_beside_them():
    scores = [(0.7, 0.1), (0.2, -1.0), (0.1, 0.5)]
    assert weigh_words(scores, by_sum=True) == pytest.approx([0.1, 1.0, 0.5])
    assert weigh_words(scores, by_sum=False) == pytest.approx([1.0, 2 / 7, 1 / 7])
    assert weigh_words([(0.0, 0.0)] * 2, by_sum=True) == [0, 0] and weigh_words([], by_sum=True) == []
