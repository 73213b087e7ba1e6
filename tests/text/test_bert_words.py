"""Words of BERT's cleaning; `BertNormalizer` and `BertPreTokenizer` of the package `tokenizers` are the reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from kmm.text.characters import UNICODE
from kmm.text.clean import compose, find_words
from kmm.text.word_pieces import WordPieces
from tests.factories.bert import PIECES, read_openi_reports, write_vocabulary

MODES = {"bert-cased": False, "bert-uncased": True}
CODES = (*range(0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE0200))  # planes that have characters
REFERENCES = {
    mode: BertNormalizer(clean_text=True, handle_chinese_chars=True, strip_accents=None, lowercase=lower)
    for mode, lower in MODES.items()
}


def split_by_reference(text, mode):
    return [word for word, _ in BertPreTokenizer().pre_tokenize_str(REFERENCES[mode].normalize_str(text))]


def read_words(text, mode):
    return [word.text for word in find_words(text, mode)]


@pytest.mark.parametrize("mode", MODES)
def test_every_character_of_the_fixed_version_is_read_as_by_the_reference(mode):
    known = [chr(code) for code in CODES if UNICODE.category(chr(code)) != "Cn"]
    for start in range(0, len(known), 2000):
        text = compose(" ".join(f"a{letter}b" for letter in known[start : start + 2000]))
        assert read_words(text, mode) == split_by_reference(text, mode)


@pytest.mark.parametrize("mode", MODES)
def test_characters_of_later_versions_stay_as_they_are(mode):
    young = [chr(code) for code in CODES if UNICODE.category(chr(code)) == "Cn"]
    chinese = [letter for letter in young if read_words(f"a{letter}b", mode) == ["a", letter, "b"]]
    assert {ord(letter) for letter in chinese} <= {
        *range(0x3400, 0xA000),
        *range(0xF900, 0xFB00),
        *range(0x20000, 0x30000),
    }
    rest = sorted(set(young) - set(chinese))
    assert read_words(" ".join(f"a{letter}b" for letter in rest), mode) == [f"a{letter}b" for letter in rest]


TEXTS = st.text(
    st.one_of(
        st.sampled_from(
            "aZé­ßİΣ≠.,;-_'\"°µ£$+§ \t\n\x00\x07\x0b\u200b\u200d\ufeff\ufffd\u3000\u2028漢字한🙂\u0301\u0323"
        ),
        st.characters(codec="utf-8"),
    ),
    max_size=40,
)


@pytest.mark.parametrize("mode", MODES)
@given(text=TEXTS)
def test_random_texts(mode, text):
    text = compose("".join(letter for letter in text if UNICODE.category(letter) != "Cn"))
    assert read_words(text, mode) == split_by_reference(text, mode)


@pytest.mark.parametrize(
    ("text", "cased", "uncased"),
    [
        ("No T-spine fracture, 3.5 cm.", "No T - spine fracture , 3 . 5 cm .", None),
        ("XXXX-year-old; [CLS] 10% (L)", "XXXX - year - old ; [ CLS ] 10 % ( L )", None),
        ("Épanchement À DROITE", "Épanchement À DROITE", "epanchement a droite"),
        ("E\u0301panchement", "Épanchement", "epanchement"),
        ("心影正常。3心", "心 影 正 常 。 3 心", None),
        ("soft\xadhyphen nul\x00nul \u200bzero", "softhyphen nulnul zero", None),
        ("37 °C ± 2µm ≠ ≥🙂", "37 °C ± 2µm ≠ ≥🙂", "37 °c ± 2µm = ≥🙂"),
        ("ΟΔΟΣ İRİ straße", "ΟΔΟΣ İRİ straße", "οδοσ iri straße"),
    ],
)
def test_texts_by_hand(text, cased, uncased):
    assert read_words(text, "bert-cased") == cased.split()
    assert read_words(text, "bert-uncased") == (uncased or cased.lower()).split()


def test_places_are_those_of_the_text_as_it_was_written():
    text = "A\x00b, e\u0301te\u0301 \u200b3.5\xad心!"
    for mode in MODES:
        words = find_words(text, mode)
        said = [text[word.start : word.end] for word in words]
        assert said == ["A\x00b", ",", "e\u0301te\u0301", "3", ".", "5", "心", "!"]


def test_names_that_were_removed_are_dropped_in_capitals_too():
    for mode in MODES:
        found = [word.text for word in find_words("Seen XXXX, by Dr. XXXX.", mode, deidentified="drop")]
        assert [word.lower() for word in found] == ["seen", ",", "by", "dr", ".", "."]


def compare_pieces(texts, folder, *, lower):
    """Pieces and their characters are those of `BertWordPieceTokenizer`."""
    path = write_vocabulary(folder, lower=lower)
    vocabulary, mode = WordPieces.read(path), "bert-uncased" if lower else "bert-cased"
    reference = BertWordPieceTokenizer(str(path), lowercase=lower)
    for text in texts:
        words = find_words(text, mode)
        pieces = vocabulary.split([word.text for word in words])
        encoded = reference.encode(text, add_special_tokens=False)
        assert [piece for found in pieces for piece in found] == encoded.tokens
        owners = [word for word, found in zip(words, pieces, strict=True) for _ in found]
        spans: dict = {}
        for number, span in zip(encoded.word_ids, encoded.offsets, strict=True):
            first, last = spans.get(number, span)
            spans[number] = min(first, span[0]), max(last, span[1])
        assert [(word.start, word.end) for word in owners] == [spans[number] for number in encoded.word_ids]


@pytest.mark.parametrize("lower", [False, True])
def test_pieces_and_their_characters_are_those_of_the_tokenizer(tmp_path, lower):
    texts = [
        "No acute disease. Cardiomegaly, 3.5 cm?!",
        "ÉTÉ cœur 心臓は正常 soft\xadhyphen",
        "",
        " \n",
        "🙂 X" * 3,
        "a" * 101,
    ]
    compare_pieces(texts, tmp_path, lower=lower)
    assert len(PIECES) > 40


@pytest.mark.large
@pytest.mark.openi
@pytest.mark.parametrize("lower", [False, True])
def test_pieces_of_every_real_report_are_those_of_the_tokenizer(openi_folder, tmp_path, lower):
    texts = read_openi_reports(openi_folder)
    assert len(texts) > 2500
    compare_pieces(texts, tmp_path, lower=lower)
