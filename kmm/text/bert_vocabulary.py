"""Vocabulary of a Hugging Face folder: its word pieces, their rows in the weights, and how text is cleaned for them."""

from dataclasses import dataclass
from pathlib import Path

from kmm.errors import InputError
from kmm.storage.config_file import read_config
from kmm.text.vocabulary import SPECIAL_WORDS, read_lines
from kmm.text.word_pieces import CONTINUED, WordPieces

VOCABULARY, TOKENIZER = "vocab.txt", "tokenizer_config.json"
FIRST, LAST = "[CLS]", "[SEP]"  # marks around a text
CASED, UNCASED = "bert-cased", "bert-uncased"  # cleaning modes


@dataclass(frozen=True)
class BertVocabulary:
    """Vocabulary of a BERT.

    Attributes:
        pieces: `WordPieces`.
        rows: tuple of int: the row of each piece in the weights, which is its line in the file.
        marks: tuple of two int: the rows of [CLS] and [SEP].
        lines: int. Lines of the file.
        cleaning: str. `"bert-cased"` or `"bert-uncased"`.
        note: str. What the user should know of the choice between the two; else empty.
    """

    pieces: WordPieces
    rows: tuple[int, ...]
    marks: tuple[int, int]
    lines: int
    cleaning: str
    note: str = ""


def read_bert_vocabulary(folder: Path | str) -> BertVocabulary:
    """Reads `vocab.txt`, and `tokenizer_config.json` if there is one.

    A vocabulary with capitals is that of a cased BERT, whatever the file says: Hugging Face lowers text for a BERT
    unless a setting says otherwise, and writes this default next to cased vocabularies such as that of BioBERT. Without
    capitals, `do_lower_case` decides, and text is lowered where it is not given.

    Args:
        folder: path of the folder, or of a file inside it.

    Returns:
        `BertVocabulary`.

    Raises:
        InputError: if a file cannot be read, or asks for what kmm does not do; it names the file.
    """
    folder = Path(folder)
    folder = folder.parent if folder.is_file() else folder
    pieces = WordPieces.read(folder / VOCABULARY)
    lines = read_lines(folder / VOCABULARY, lambda found: found)
    places = {line: number for number, line in enumerate(lines)}
    missing = [name for name in (*SPECIAL_WORDS, FIRST, LAST) if name not in places]
    if missing:
        raise InputError(
            f"{folder / VOCABULARY}: expected the word pieces of a BERT. The line {missing[0]} is missing."
        )
    cleaning, note = _choose_cleaning(folder / TOKENIZER, pieces)
    rows = tuple(places[piece] for piece in pieces.words)
    return BertVocabulary(pieces, rows, (places[FIRST], places[LAST]), len(lines), cleaning, note)


def _choose_cleaning(path, pieces):
    settings = read_config(path) if path.is_file() else {}
    lower = settings.get("do_lower_case")
    for name, expected in (("strip_accents", (None, lower)), ("tokenize_chinese_chars", (None, True))):
        if settings.get(name) not in expected:
            raise InputError(
                f"{path}: `{name}` is {settings[name]!r}, which kmm does not do. Expected: {expected[-1]!r}."
            )
    cased = any(piece.removeprefix(CONTINUED) != piece.removeprefix(CONTINUED).lower() for piece in pieces.words[2:])
    if cased and lower:
        return CASED, (
            f"{path.name} lowers all text, but the word pieces have capitals, so reports are read with theirs. Set "
            f"cleaning={UNCASED} to lower them."
        )
    return (CASED if cased or lower is False else UNCASED), ""
