"""Phrases of the house dialect stay out of kmm: out of its docstrings, comments, errors, log lines and help."""

import ast
import io
import itertools
import re
import tokenize
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "kmm"
COUNTED = (  # "one number a study"
    "arrays?|bytes?|characters?|circles?|digits?|entries|entry|films?|floats?|labels?|lines?|logits?|maps?|"
    "numbers?|one|pixels?|points?|probability|probabilities|regions?|rows?|scores?|seeds?|steps?|strings?|vectors?|"
    "weights?|words?"
)
UNIT = (
    "answer|argument|batch|box|call|case|channel|class|column|epoch|example|fact|feature|file|film|finding|fold|folder|"
    "image|input|item|kernel|label|layer|line|map|member|method|model|name|node|number|output|page|part|path|"
    "patient|pattern|phrase|pixel|place|plane|point|process|region|report|request|response|row|sentence|server|side|"
    "signature|stage|step|studies|study|version|word|worker"
)
NO_VERB = r"(?=$|[^\w\s]| (?:and|at|by|for|from|in|of|or|to|when|with)\b)"  # passes "words a model knows"
PATTERNS = {
    "say what it is": r"\bsomething else\b",
    "name who says it, or use the active voice": r"\b(?:is|are|was|were|been|be) told\b",
    "write 'per'": rf"\b(?:{COUNTED}) an? (?:{UNIT}){NO_VERB}",
    "write 'again'": r"\banew\b",
    "say how many times": r"\bso often\b",
}
QUESTION = re.compile(r"(?:What|Who|Whom|Whose|Where|Which|How|When|Why)\b")


def read_strings(tree):
    """Yields the line and the text of each string, docstrings included; `{}` stands for the values of an f-string."""
    inner = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inner |= {id(value) for value in node.values}
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.lineno, node.value


def read_comments(text):
    """Yields the line and the text of each comment; comments on successive lines are one text."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = [(token.start[0], token.string.lstrip("#! ")) for token in tokens if token.type == tokenize.COMMENT]
    for _, group in itertools.groupby(enumerate(found), key=lambda pair: pair[1][0] - pair[0]):
        lines = [pair[1] for pair in group]
        yield lines[0][0], " ".join(line for _, line in lines)


def find_faults(text):
    """Finds phrases of `PATTERNS`, and a module docstring that begins with a question word.

    Args:
        text: str. Source of a module.

    Returns:
        list of str, one per fault: its line, its words and a remark.
    """
    tree = ast.parse(text)
    faults = []
    for line, words in (*read_strings(tree), *read_comments(text)):
        words = " ".join(words.split())
        for remark, pattern in PATTERNS.items():
            faults += [f"{line}: {found[0]!r}: {remark}" for found in re.finditer(pattern, words, re.IGNORECASE)]
    if found := QUESTION.match(ast.get_docstring(tree) or ""):
        faults.append(f"1: {found[0]!r} begins a module: say what it is for, with a noun or a verb")
    return faults


def test_kmm_is_written_in_plain_english():
    paths = sorted(FOLDER.rglob("*.py"))
    assert len(paths) > 100
    faults = [
        f"kmm/{path.relative_to(FOLDER).as_posix()}:{fault}"
        for path in paths
        for fault in find_faults(path.read_text(encoding="utf-8"))
    ]
    assert not faults, f"{len(faults)} phrases to rewrite:\n" + "\n".join(faults)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ('"""What kmm raises."""', "'What'"),
        ('"""How errors become words."""', "'How'"),
        ('raise ValueError(f"expected {name}. Received: " "something else")', "'something else'"),
        ("x = 1  # the caller is told\n", "'is told'"),
        ('"""Makes rows.\n\n    One number\n    a study.\n"""', "'number a study'"),
        ("# the folds are shuffled\n# anew each time\n", "'anew'"),
        ('help = "All folds so often."', "'so often'"),
        ('"""Labels, one a film."""', "'one a film'"),
    ],
)
def test_dialect_is_found(source, words):
    assert [fault.split(": ")[1].split(" begins")[0] for fault in find_faults(source)] == [words]


@pytest.mark.parametrize(
    "source",
    [
        '"""Errors that kmm raises. Where they come from is another question."""',
        "# one file, a film and a report\n",
        '"""Requests a second of many clients; one number per study; gives a label a colour."""',
        '"""Words a model knows."""',
        'def f():\n    """Whether a film is there."""',
        'something_else = is_told = "a region says so, often"',
        'message = f"{one} a film"',
    ],
)
def test_plain_english_passes(source):
    assert find_faults(source) == []
