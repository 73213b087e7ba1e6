"""The common syntax of expressions: what `re` and RE2 read alike is translated, the rest is refused in one line."""

import re

import pytest

from kmm.errors import InputError
from kmm.text.expressions import GAP, MAX_WAYS, list_cases, translate_expression


def find(expression, text):
    return re.findall(translate_expression(expression).pattern, text, re.ASCII)


@pytest.mark.parametrize(
    ("expression", "text", "found"),
    [
        ("clear", "Clear unclear CLEARED", ["Clear", "clear", "CLEAR"]),
        (r"\bclear\b", "Clear unclear CLEAR", ["Clear", "CLEAR"]),
        (r"normal(ly|ity)?", "normally normality normal", ["normally", "normality", "normal"]),
        ("a|ab", "ab", ["a"]),  # the first alternative, not the longest
        ("ab|a", "ab", ["ab"]),
        ("(?:no|without) mass", "No mass, without mass", ["No mass", "without mass"]),
        (r"\d{1,2}\.\d cm", "3.5 cm 123.5 cm", ["3.5 cm", "23.5 cm"]),
        ("x{2}y", "xxxy", ["xxy"]),
        ("a{1,3}?b", "aab", ["aab"]),
        ("a{1,3}?", "aaa", ["a", "a", "a"]),
        ("[a-c_]{1,9}", "xABC_d", ["ABC_"]),  # never seen by a redaction
        ("[^a-z ]{1,9}", "Ab 12,z", ["12,"]),
        (r"[\d,]{1,9}", "a1,2b", ["1,2"]),
        (r"[\-\]\\]", r"-]\a", ["-", "]", "\\"]),
        (r"\w{1,9}\W", "né_ x", ["n\N{LATIN SMALL LETTER E WITH ACUTE}", "_ "]),
        (r"a\sb", "a\nb a\N{NO-BREAK SPACE}b", ["a\nb"]),
        ("a.b", "a\nb axb", ["axb"]),
        ("épanché", "ÉPANCHÉ", ["ÉPANCHÉ"]),
        ("[à-é]", "É", ["É"]),
        (r"\/\#\ ", "/# ", ["/# "]),
    ],
)
def test_what_an_expression_finds(expression, text, found):
    assert find(expression, text) == found


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("clear.*", "`*` has no upper bound: write {0,30}"),
        (r"\w+", "`+` has no upper bound: write {1,30}"),
        ("(a{1,3})+", "`+` has no upper bound"),
        ("a{2,}", "a repetition has two bounds"),
        ("a{,2}", "a repetition has two bounds"),
        ("a{", "it ends too early"),
        ("a{x}", "a repetition has two bounds"),
        ("a{3,2}", "must be in order, from 1 to 1000"),
        ("a{0}", "must be in order, from 1 to 1000"),
        ("a{1,1001}", "must be in order, from 1 to 1000"),
        ("a{1,2}{3}", "`{` must follow what it repeats"),
        ("a{1,3}+", "`+` has no upper bound"),
        ("a???", "`?` must follow what it makes optional"),
        ("?a", "`?` must follow what it makes optional"),
        ("(a?){0,3}b", "it repeats what may be empty"),
        (r"\b{2}a", "it repeats what may be empty"),
        (r"\b?a", "it repeats what may be empty"),
        ("(?=a)b", "look-around, flags and names are not supported"),
        ("(?<!a)b", "look-around, flags and names are not supported"),
        ("(?>a)b", "look-around, flags and names are not supported"),
        ("(?i)a", "case is ignored"),
        ("(?P<x>a)", "names are not supported"),
        (r"(a)\1", r"\1 is not supported"),
        (r"\pL", r"\p is not supported"),
        (r"\x41", r"\x is not supported"),
        (r"\Aa", r"\A is not supported"),
        (r"\Qa\E", r"\Q is not supported"),
        ("^a", "`^` and `$` mark no word"),
        ("a$", "`^` and `$` mark no word"),
        ("[[:alpha:]]", "classes such as [:alpha:] are not supported"),
        ("[a[b]", "in a class write \\["),
        ("[]a]", "a class is empty"),
        ("[^]", "a class is empty"),
        ("[a", "it ends too early"),
        ("[z-a]", "a range of a class must be in order"),
        (r"[a-\d]", "a range of a class ends with a single character"),
        (r"[\W]", r"\W is not supported"),
        ("[\\u0000]", r"\u is not supported"),
        ("a]", "for the character write \\]"),
        ("a}", "for the character write \\}"),
        ("(a", "a `(` is not closed"),
        ("a)", "a `)` closes no group"),
        ("()", "a group is empty"),
        ("a|", "an alternative is empty"),
        ("(a|)b", "an alternative is empty"),
        ("a?", "it may match without a character"),
        ("", "it may match without a character"),
        (r"\b", "it may match without a character"),
        ("a\\", "it ends too early"),
        ("a_b", "an underscore of a report counts as a space"),
        ("(" * 30 + "a" + ")" * 30, "groups are inside each other"),
        (r"\w{0,199}\w{0,199}", f"more than {MAX_WAYS} ways"),
        ("(no |any ){0,30}", f"more than {MAX_WAYS} ways"),
        ("(a{1,3}){1,30}b", f"more than {MAX_WAYS} ways"),
        ("x(a{10}){101}", "repeat 1010 times together, of at most 1000"),
        ("((a|b{2}c){20}d){26}", f"more than {MAX_WAYS} ways"),
        ("((ab{2}c){20}d){26}", "repeat 1040 times together"),
    ],
)
def test_what_both_engines_do_not_share_is_refused(expression, said):
    with pytest.raises(InputError) as caught:
        translate_expression(expression)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_ways_and_lengths_are_counted():
    found = translate_expression(r"(a|bc){1,2}\d{0,3}")
    assert (found.shortest, found.ways) == (1, (2 + 4) * 4)
    assert translate_expression("x" * 150).ways == 1


@pytest.mark.parametrize("expression", [r"\W", r"\D", r"\S", ".", "[^a]", f"[^{GAP}]", f"[a{GAP}]"])
def test_nothing_matches_what_is_already_removed(expression):
    assert find(expression, GAP) == []


def test_an_expression_is_fast_on_a_text_made_to_make_it_slow():
    pattern = re.compile(translate_expression(r"(a|b){1,10}c").pattern, re.ASCII)
    assert pattern.search("ab" * 20_000) is None


def test_letters_that_have_no_single_other_case():
    assert list_cases("ß") == "ß" and list_cases("İ") == "İ" and list_cases("µ") == "µΜ"
