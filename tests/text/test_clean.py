import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmm.errors import InputError, ReportError
from kmm.text.characters import LETTERS, UNICODE, WORD_CHARACTERS
from kmm.text.clean import CLEANING_MODES, STOP_WORDS, compose, find_words

LETTER_MODES = ("standard", "paper")  # in the others signs are words too


def read_words(text, *args, **kwargs):
    return [word.text for word in find_words(text, *args, **kwargs)]


def test_negations_and_numbers_stay():
    text = "No acute disease; heart NOT enlarged. 3.5 cm x-XXXX, T8/T9 without_change"
    assert " ".join(read_words(text)) == "no acute disease heart not enlarged 3 5 cm x xxxx t8 t9 without change"


def test_spans_point_into_the_original():
    text = "Émphysème,  NO\tRib-fracture."
    words = find_words(text)
    assert [text[word.start : word.end] for word in words] == ["Émphysème", "NO", "Rib", "fracture"]
    assert [word.text for word in words] == ["émphysème", "no", "rib", "fracture"]


def test_lower_case_is_made_after_cutting():
    # The dotted capital I becomes two characters, the second a mark: it must not cut the word, and the span stays.
    assert find_words("aİb c")[0] == ("ai̇b", 0, 3)
    assert read_words("ΟΔΟΣ ΣΟΣ") == ["οδος", "σος"]  # sigma at the end of a word


def test_paper_mode_deletes_inside_chunks():
    text = " (T-spine), 2 mm.\n no Heart's 1st. --- 42"
    words = find_words(text, "paper")
    assert [word.text for word in words] == ["tspine", "mm", "hearts", "st"]
    assert [text[word.start : word.end] for word in words] == ["T-spine", "mm", "Heart's", "st"]


def test_paper_mode_drops_stop_words_with_their_known_defect():
    assert len(STOP_WORDS) == 179 - 26  # NLTK's list without the forms with an apostrophe
    assert {"no", "not", "nor", "without"} & STOP_WORDS == {"no", "not", "nor"}
    assert read_words("There is no effusion and the heart is not enlarged", "paper") == [
        "effusion",
        "heart",
        "enlarged",
    ]


@pytest.mark.parametrize("mode", CLEANING_MODES)
def test_deidentified_words_are_kept_or_dropped(mode):
    text = "Seen XXXX, xxx XXXX-old by Dr. XXXX."
    assert "xxxx" in [word.lower() for word in read_words(text, mode)]
    dropped = read_words(text, mode, deidentified="drop")
    assert dropped == [word for word in read_words(text, mode) if word.lower() != "xxxx"]
    assert "xxx" in dropped


LETTERS_AND_MARKS = st.text(
    st.one_of(
        st.sampled_from("aeEOou.- \u0301\u0308\u0323\u0302\u0327\u0345\u1100\u1161\u11a8\uac00\u212b\u0958\u1dc4İΣ"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=30,
)


@pytest.mark.parametrize("mode", CLEANING_MODES)
@given(text=st.one_of(st.text(), LETTERS_AND_MARKS))
def test_spans_are_in_order_and_hold_the_word(mode, text):
    end = 0
    for word in find_words(text, mode):
        assert end <= word.start < word.end <= len(text)
        assert word.text and word.text.split() == [word.text] and ("[" not in word.text or word.text == "[")
        if mode == "standard" and compose(text) == text:
            assert word.text == text[word.start : word.end].lower()
        elif mode == "standard":  # what stands there is this word again, whatever stands around it
            assert [other.text for other in find_words(text[word.start : word.end])] == [word.text]
        end = word.end


@pytest.mark.parametrize("mode", CLEANING_MODES)
@given(text=LETTERS_AND_MARKS)
def test_composed_and_decomposed_text_have_the_same_words(mode, text):
    text = text.translate({code: None for code in range(0x1100, 0x1200)})  # alone, these are no letters of any text
    text = "".join(letter for letter in text if UNICODE.category(letter) != "Cn")  # of younger ones it knows no order
    forms = [UNICODE.normalize(form, compose(text)) for form in ("NFC", "NFD")]
    assert read_words(forms[0], mode) == read_words(forms[1], mode)


def test_spans_of_decomposed_text_point_into_it():
    text = unicodedata.normalize("NFD", "Épanchement à droite, cœur Ǻngström; Việt 각막 normal.")
    words = find_words(text)
    said = [text[word.start : word.end] for word in words]
    assert [unicodedata.normalize("NFC", piece).lower() for piece in said] == [word.text for word in words]
    assert said[0] == "E\u0301panchement" and said[1] == "a\u0300" and said[-1] == "normal"
    assert [word.text for word in words][-3:] == ["việt", "각막", "normal"]


def test_composing_is_that_of_unicode_and_leaves_younger_characters_alone():
    # The published examples of the standard, https://www.unicode.org/reports/tr15/, and marks in another order
    for text, composed in {
        "\u1e9b\u0323": "\u1e9b\u0323",
        "A\u030a": "\u00c5",
        "\u212b": "\u00c5",
        "s\u0323\u0307": "\u1e69",
        "s\u0307\u0323": "\u1e69",
        "\u1e0b\u0323": "\u1e0d\u0307",
        "q\u0307\u0323": "q\u0323\u0307",
        "\u1100\u1161\u11a8": "\uac01",
        "e\u1dc4\u0301": "e\u1dc4\u0301",  # U+1DC4 came with Unicode 4.1
        "\U00011099\U000110ba": "\U00011099\U000110ba",  # a pair of Unicode 5.2
    }.items():
        assert compose(text) == composed
        assert unicodedata.normalize("NFC", text) == composed or "\u1dc4" in text or len(text) == 2


@pytest.mark.large
def test_a_long_text_of_marks_is_read_in_time():
    text = "e\u0301panchement " * 60_000
    words = find_words(text)
    assert len(words) == 60_000 and text[words[-1].start : words[-1].end] == "e\u0301panchement"


def test_classes_are_those_of_unicode_and_need_no_escapes():
    # Only a letter or digit can stand in them, so the patterns hold in every dialect of regular expressions.
    for characters, kinds in ((WORD_CHARACTERS, "LN"), (LETTERS, "L")):
        ends = characters[0::3] + characters[2::3]
        assert {unicodedata.ucd_3_2_0.category(c)[0] for c in ends} == set(kinds)
        assert set(characters[1::3]) == {"-"}


@pytest.mark.parametrize("mode", LETTER_MODES)
@pytest.mark.parametrize("text", ["", " \n\t ", "...", "\ud800", "🙂", "\x00"])
def test_no_words(mode, text):
    assert find_words(text, mode) == []


@pytest.mark.large
@pytest.mark.parametrize("mode", LETTER_MODES)
def test_a_hundred_thousand_words_are_found(mode):
    words = find_words("Heart size, normal! " * 33_334, mode)
    assert len(words) == 100_002 and words[-1].text == "normal" and words[-1].end == 33_334 * 20 - 2


def test_too_long_a_report_is_refused_without_quoting_it():
    with pytest.raises(ReportError, match=r"at most 1000000 characters. Received: 1050000") as caught:
        find_words("secret " * 150_000)
    assert "secret" not in str(caught.value)


def test_unknown_settings():
    with pytest.raises(
        InputError, match=r"Unknown cleaning mode 'stem'. Known: standard, paper, bert-cased, bert-uncased"
    ):
        find_words("a", "stem")
    with pytest.raises(InputError, match=r"keep or drop. Received: 'hide'"):
        find_words("a", deidentified="hide")
