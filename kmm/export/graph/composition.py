"""Unicode composition (NFC) in the graph: `kmm.text.clean.compose` with TensorFlow's core operations only.

TensorFlow has no such operation outside tensorflow-text. Text that needs it is therefore decoded to code points,
decomposed by a table, its marks sorted into canonical order, and composed pair by pair. Text without marks is returned
unchanged.
"""

from functools import cache

import numpy as np
import tensorflow as tf

from kmm.text.characters import CATEGORIES, UNICODE
from kmm.text.clean import compose

LONGEST = 4  # longest decomposition of one character, in characters
# Hangul syllables are composed by arithmetic from lead, vowel and tail; tail 0 means none.
SYLLABLES, LEADS, VOWELS, TAILS = 0xAC00, 0x1100, 0x1161, 0x11A7
LEAD_COUNT, VOWEL_COUNT, TAIL_COUNT = 19, 21, 28
SHIFT = 21  # bits of a code point


@cache
def list_decompositions() -> dict[int, tuple[int, ...]]:
    """Lists the code points that decompose, except Hangul, as dict to tuples of code points."""
    parts = {code: UNICODE.normalize("NFD", chr(code)) for code in _list_codes() if UNICODE.decomposition(chr(code))}
    return {code: tuple(map(ord, text)) for code, text in parts.items() if text != chr(code)}


@cache
def list_pairs() -> dict[tuple[int, int], int]:
    """Lists the pairs of code points that compose, except Hangul, as dict of `(first, second)` to the composed one."""
    pairs = {}
    for code, parts in list_decompositions().items():
        first = compose("".join(map(chr, parts[:-1])))
        if compose(chr(code)) == chr(code) and len(first) == 1:
            pairs[ord(first), parts[-1]] = code
    return pairs


@cache
def list_classes() -> dict[int, int]:
    """Lists the combining classes of marks, as dict of code point to 1..255."""
    return {code: number for code in _list_codes() if (number := UNICODE.combining(chr(code)))}


def _list_codes():
    """Lists the assigned code points, except surrogates, private ones and Hangul syllables."""
    syllables = range(SYLLABLES, SYLLABLES + LEAD_COUNT * VOWEL_COUNT * TAIL_COUNT)
    for category, first, last in CATEGORIES:
        if category not in ("Cn", "Co", "Cs"):
            yield from (code for code in range(first, last + 1) if code not in syllables)


@cache
def find_pattern() -> str:
    """Builds a pattern that matches only composed texts: those without a mark, a character that composition changes,
    or the second character of a pair."""
    codes = set(list_classes()) | {second for _, second in list_pairs()}
    codes |= {code for code in list_decompositions() if compose(chr(code)) != chr(code)}
    codes |= set(range(VOWELS, VOWELS + VOWEL_COUNT)) | set(range(TAILS + 1, TAILS + TAIL_COUNT))
    return f"[^{''.join(map(chr, sorted(codes)))}]*"


def compose_texts(texts: tf.Tensor) -> tf.Tensor:
    """Composes texts.

    Args:
        texts: string tensor `(n,)`, UTF-8.

    Returns:
        string tensor `(n,)`.
    """
    composed = tf.reduce_all(tf.strings.regex_full_match(texts, find_pattern()))
    return tf.cond(composed, lambda: texts, lambda: _compose(texts))


@tf.autograph.experimental.do_not_convert
def _compose(texts):
    decoded = tf.strings.unicode_decode(texts, "UTF-8")
    codes, rows = _decompose(decoded.values, decoded.value_rowids())
    classes = _look_up(*_tabulate_classes(), codes)
    runs = tf.cumsum(tf.cast(_begin_runs(classes, rows), tf.int32))
    order = tf.argsort(runs * 256 + classes, stable=True)  # sorts marks by class; other characters keep their place
    state = (tf.constant(True), *(tf.gather(values, order) for values in (codes, classes, rows)))
    free = tf.TensorShape([None])
    _, codes, _, rows = tf.while_loop(
        lambda more, *_: more, _join_pairs, state, shape_invariants=(tf.TensorShape([]), free, free, free)
    )
    return tf.strings.unicode_encode(
        tf.RaggedTensor.from_value_rowids(codes, rows, tf.shape(texts, tf.int64)[0]), "UTF-8"
    )


def _decompose(codes, rows):
    known, padded = _tabulate_decompositions()
    place, found = find_keys(known, codes)
    alone = tf.pad(codes[:, None], [[0, 0], [0, LONGEST - 1]], constant_values=-1)
    parts = tf.where(found[:, None], tf.gather(padded, place), alone)
    kept = parts >= 0
    return tf.boolean_mask(parts, kept), tf.boolean_mask(tf.broadcast_to(rows[:, None], tf.shape(parts)), kept)


@cache
def _tabulate_decompositions():
    table = sorted(list_decompositions().items())
    padded = [parts + (-1,) * (LONGEST - len(parts)) for _, parts in table]
    return np.array([code for code, _ in table]), np.array(padded, np.int32)


def _begin_runs(classes, rows):
    """Returns bool `(k,)`: whether a position begins a text, or holds a base character, which begins a run of marks."""
    first = tf.concat([tf.fill([tf.minimum(tf.size(rows), 1)], True), tf.not_equal(rows[1:], rows[:-1])], 0)
    return tf.equal(classes, 0) | first


def _join_pairs(_, codes, classes, rows):
    """Composes the first composable mark of each run with its base, and bases with the base before them."""
    count = tf.size(codes)
    places = tf.range(count)
    begins = _begin_runs(classes, rows)
    runs = tf.cumsum(tf.cast(begins, tf.int32)) - 1
    base = tf.gather(tf.cast(tf.where(begins)[:, 0], tf.int32), runs)  # the place where the run of a character begins
    before = tf.maximum(places - 1, 0)
    is_base = tf.equal(classes, 0)
    first = tf.where(is_base, before, base)
    near = tf.where(
        is_base, tf.equal(tf.gather(rows, before), rows) & (places > 0), tf.gather(classes, before) < classes
    )
    fits = near & tf.equal(tf.gather(classes, first), 0)
    joined = tf.where(fits, _compose_pairs(tf.gather(codes, first), codes), 0)
    hits = joined > 0
    chosen = hits & tf.equal(tf.gather(tf.math.segment_min(tf.where(hits, places, count), runs), runs), places)
    codes = tf.tensor_scatter_nd_update(codes, tf.boolean_mask(first, chosen)[:, None], tf.boolean_mask(joined, chosen))
    kept = ~chosen
    return tf.reduce_any(chosen), *(tf.boolean_mask(values, kept) for values in (codes, classes, rows))


def _compose_pairs(first, second):
    """Returns int32 `(k,)`: the code points that pairs compose to; 0 where a pair does not compose."""
    shift = tf.cast(2**SHIFT, tf.int64)
    listed = _look_up(*_tabulate_pairs(), tf.cast(first, tf.int64) * shift + tf.cast(second, tf.int64))
    lead, vowel, tail, syllable = first - LEADS, second - VOWELS, second - TAILS, first - SYLLABLES
    opens = (lead >= 0) & (lead < LEAD_COUNT) & (vowel >= 0) & (vowel < VOWEL_COUNT)
    closes = (syllable >= 0) & (syllable < LEAD_COUNT * VOWEL_COUNT * TAIL_COUNT)
    closes &= tf.equal(syllable % TAIL_COUNT, 0) & (tail > 0) & (tail < TAIL_COUNT)
    opened = SYLLABLES + (lead * VOWEL_COUNT + vowel) * TAIL_COUNT
    return tf.where(opens, opened, tf.where(closes, first + tail, listed))


@cache
def _tabulate_classes():
    table = sorted(list_classes().items())
    return np.array([code for code, _ in table]), np.array([number for _, number in table], np.int32)


@cache
def _tabulate_pairs():
    table = sorted((one * 2**SHIFT + other, code) for (one, other), code in list_pairs().items())
    return np.array([key for key, _ in table]), np.array([code for _, code in table], np.int32)


def _look_up(known, values, keys):
    """Returns int32 `(k,)`: the values of keys; 0 for unknown keys."""
    place, found = find_keys(known, keys)
    return tf.where(found, tf.gather(values, place), 0)


def find_keys(known: np.ndarray, keys: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the positions of keys in a sorted list, and whether each is in it."""
    known = tf.constant(known.astype(keys.dtype.as_numpy_dtype))
    place = tf.minimum(tf.searchsorted(known, keys), tf.size(known) - 1)
    return place, tf.equal(tf.gather(known, place), keys)
