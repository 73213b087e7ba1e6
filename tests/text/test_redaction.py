"""Redaction: what it removes and keeps, where it says that something was, and what its files may contain."""

import copy

import pytest

from kmm.errors import InputError
from kmm.text.clean import find_words
from kmm.text.redaction import DEFAULT, MAX_ENTRIES, Redaction, check_entry, describe_redaction, read_redaction


def read_words(text, *entries, mode="standard"):
    return [word.text for word in find_words(text, mode, redaction=Redaction(entries))]


@pytest.mark.parametrize(
    ("entries", "text", "left"),
    [
        (["normal"], "Normal heart, abnormal lung. NORMAL_x normal", "heart abnormal lung x"),
        (["no acute"], "No\n\t acute disease. Not acute.", "disease not acute"),
        (["no acute", "no acute disease"], "No acute disease.", ""),  # the longest phrase wins, in any order
        (["a b", "b c"], "a b c", "c"),  # the first in the text wins
        (["no acute", "normal"], "no normal acute", "no acute"),  # what is left never becomes a phrase
        (["within_normal"], "within normal, __within_normal__", ""),
        ([r"/\bnormal\b/"], "___normal_heart", "heart"),
        (["x-ray"], "X-ray x ray x - ray", "x ray x ray"),
        (["ödem"], "O\N{COMBINING DIAERESIS}dem, Lungenödem, ÖDEM.", "lungenödem"),
        (["normal"], "normalé énormal normal", "normalé énormal"),  # letters outside of ASCII are letters
        (["t 4"], "T\N{NO-BREAK SPACE}4 T4", "t4"),
        (["/un(?:remark|event)able/"], "Unremarkable.", ""),
        (["/remarkable/"], "Unremarkable.", "un"),
        (["normal", "/size (is )?normal/"], "size normal", "size"),  # phrases first
        (["normal", r"/is\s{1,3}in/"], "is normal in size", "is in size"),  # no match across a removed one
        (["/a b/", "/b c/"], "a b c b c", "c"),
    ],
)
def test_what_is_left(entries, text, left):
    assert read_words(text, *entries) == left.split()


def test_words_that_a_redaction_separates_stay_apart():
    assert read_words("un-remarkable-t", "remarkable", mode="paper") == ["un"]  # "t" is a stop word
    assert read_words("lung-clear-spine", "clear", mode="paper") == ["lung", "spine"]


def test_spans_are_those_of_the_original_text():
    text = "O\N{COMBINING DIAERESIS}dem: no\N{NO-BREAK SPACE}acute e\N{COMBINING ACUTE ACCENT}tat, normal."
    redaction = Redaction(("no acute", "état", "normal"))
    assert [text[start:end] for start, end in redaction.find(text)] == [
        "no\N{NO-BREAK SPACE}acute",
        "e\N{COMBINING ACUTE ACCENT}tat",
        "normal",
    ]
    (word,) = find_words(text, redaction=redaction)
    assert (word.text, text[word.start : word.end]) == ("ödem", "O\N{COMBINING DIAERESIS}dem")


def test_the_reserved_characters_of_a_text_are_spaces():
    assert read_words("a\ue000b \ue002normal\ue001", "normal") == ["a", "b"]


def test_entries_are_kept_in_normal_form_and_once():
    redaction = Redaction(("no  acute", "no acute", "O\N{COMBINING DIAERESIS}dem"))
    assert redaction.entries == ("no acute", "Ödem")
    assert redaction == Redaction(redaction.entries) and redaction.digest == Redaction(redaction.entries).digest
    assert redaction.digest != Redaction(("no acute",)).digest
    assert copy.deepcopy(redaction) == redaction


def test_a_redaction_does_not_show_its_entries():
    assert "acute" not in repr(Redaction(("acute",))) and "1 entries" in repr(Redaction(("acute",)))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("clear.", "a phrase begins and ends with a letter or a digit; for other signs write /clear\\./"),
        ("-negative", "a phrase begins and ends with a letter or a digit"),
        ("clear # lungs", "a comment has a line of its own"),
        ("/clear", "an expression stands between two slashes"),
        ("/", "an expression stands between two slashes"),
        ("//", "an expression stands between two slashes"),
        ("/clear.*/", "`*` has no upper bound"),
        ("/a\tb/", "a character that cannot be printed"),
        ("a\ue000b", "a character that cannot be printed"),
        ("x" * 201, "an entry has 1 to 200 characters. It has 201"),
        ("", "an entry has 1 to 200 characters. It has 0"),
    ],
)
def test_an_entry_that_cannot_be_used(entry, said):
    with pytest.raises(InputError) as caught:
        check_entry(entry)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_redaction_has_an_end():
    with pytest.raises(InputError, match=f"1 to {MAX_ENTRIES} entries"):
        Redaction(())
    with pytest.raises(InputError, match=f"1 to {MAX_ENTRIES} entries"):
        Redaction(tuple(f"word{number}" for number in range(MAX_ENTRIES + 1)))
    with pytest.raises(InputError, match="too large together"):
        Redaction(tuple(f"/{'x' * number}.{{1,999}}/" for number in range(1, 9)))
    with pytest.raises(InputError, match="phrases of the redaction are too large together"):
        Redaction(tuple(" ".join(f"{number:03d}{'a' * 96}") for number in range(MAX_ENTRIES)))


def test_a_file(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("\ufeff# label words\r\n\r\n  Normal \r\nno   acute\n  # more\n/clear(ed)?/\n", encoding="utf-8")
    assert read_redaction(str(path)).entries == ("Normal", "no acute", "/clear(ed)?/")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"normal\n\n/clear.*/\n", "words.txt, line 3: `*` has no upper bound"),
        (b"# nothing\n", "words.txt: A redaction has 1 to 1000 entries. Received: 0"),
        (b"\xff\xfe", "words.txt: expected a redaction in UTF-8"),
        (b"x" * 200_001, "words.txt: expected a redaction of at most 200000 bytes"),
        (None, "words.txt: expected a readable redaction, or `default`. Received: No such file"),
    ],
)
def test_a_file_that_cannot_be_used(tmp_path, content, said):
    path = tmp_path / "words.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_redaction(str(path))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("report", "left"),
    [
        ("Heart size is within normal limits.", "heart size is"),
        ("The lungs are clear. No acute cardiopulmonary process.", "the lungs are"),
        ("Mediastinum unremarkable; no active disease.", "mediastinum"),
        ("Stable cardiomegaly. No evidence of pneumothorax.", "cardiomegaly pneumothorax"),
        ("Opacity in the right lower lobe, nodule of 8 mm.", "opacity in the right lower lobe nodule of 8 mm"),
    ],
)
def test_the_published_list(report, left):
    words = [word.text for word in find_words(report, redaction=read_redaction(DEFAULT))]
    assert words == left.split()


def test_the_published_list_has_comments_and_no_entry_twice():
    redaction = read_redaction(DEFAULT)
    assert len(redaction.entries) > 80 and redaction.entries[-1] == "follow up"


def test_counts_of_a_redaction():
    facts = describe_redaction(Redaction(("normal", "no acute")), ["Heart normal.", "No acute disease.", ""])
    assert (facts["entries"], facts["removed"]) == (2, 0.6)
    assert describe_redaction(Redaction(("normal",)), [])["removed"] == 0
