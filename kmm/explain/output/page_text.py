"""The report on a study's page: its words with their weights, and the sums of sections and sentences."""

from typing import Any

from kmm.explain.explained_study import ExplainedReport
from kmm.explain.output.balance import choose_decimals, round_to_sum
from kmm.explain.words import sum_words, weigh_words

LEVELS = 10  # shades of a word, `.l1` to `.l10` in page.css
LEAST_FOLDED = 4  # fewest consecutive words cut off that are folded


def describe_report(explanation: ExplainedReport, decimals: int | None = None) -> dict[str, Any] | None:
    """Describes the report of an `Explanation` for the template of its page.

    Words are shaded and sentences sorted by the size of their signed sums if the method's attributions add up to the
    score, else by their share of the squared attribution.

    Args:
        explanation: `Explanation`.
        decimals: int. Decimals of the sums of sentences and sections; None: as many as the sums need.

    Returns:
        dict, or None without a report: `scored` and `by_sum` (bool), `sections` (list of `name`, `parts`, `signed`,
        `share`), `words` (those not cut off, in the order of the text), `sentences` (those read, strongest first),
        `redacted` (number of redacted words), `unread` (number of sentences without a word that was read), `darkest`
        (the strongest word), `signed` (the report's sum) and `rest` (the part of that sum in no sentence). A part is
        `{"text": ...}`, `{"word": ...}`, `{"redacted": [...]}`, or `{"folded": [...], "count": ...}` for words that
        were cut off.
    """
    text, words = explanation.text, explanation.words
    if not text.strip():
        return None
    by_sum, total = explanation.modality_sum["text"] is not None, explanation.modality_sum["text"] or 0.0
    described = _describe_words(words, by_sum)
    sums = sum_words(words, "sentence")
    if decimals is None:
        decimals = choose_decimals([total, *(signed for _, signed in sums.values())])
    if by_sum:
        rounded, total, rest = round_to_sum([signed for _, signed in sums.values()], total, decimals)
    else:
        rounded, rest = [signed for _, signed in sums.values()], 0.0
    signed = dict(zip(sums, rounded, strict=True))
    sections = explanation.sections or [("", 0, len(text))]
    shares = sum_words(words, "section")
    of_section = {number: name for number, name in ((word.sentence, word.section) for word in words)}
    return {
        "scored": explanation.words_scored and bool(words),
        "by_sum": by_sum,
        "decimals": decimals,
        "sections": [
            {
                "name": name,
                "parts": list(_cut_parts(text, _list_items(explanation, described, start, end), start, end)),
                "share": shares.get(name, (0.0, 0.0))[0],
                "signed": sum(value for number, value in signed.items() if of_section[number] == name),
            }
            for name, start, end in sections
        ],
        "words": [word for word in described if not word["cut"]],
        "sentences": _describe_sentences(explanation, sums, signed, by_sum),
        "redacted": sum(word.redacted for word in words),
        "unread": len(sums) - len({word.sentence for word in words if word.read}),
        "darkest": max(described, key=lambda word: word["weight"], default=None),
        "signed": total,
        "rest": rest,
    }


def name_side(signed: float) -> str:
    """Names the side that a signed sum is on: `"for"` the label, `"against"` it, or `""`.

    Example:
        >>> name_side(0.5), name_side(-0.5), name_side(0)
        ('for', 'against', '')
    """
    return "for" if signed > 0 else "against" if signed < 0 else ""


def _describe_words(words, by_sum):
    scores = [(word.share, word.signed) for word in words]
    weights, shares = weigh_words(scores, by_sum=by_sum), weigh_words(scores, by_sum=False)
    return [
        {
            **word.as_dict(),
            "place": place,
            "side": name_side(word.signed),
            "weight": weight,
            "level": round(LEVELS * weight),
            "paper_level": round(LEVELS * share),
        }
        for place, (word, weight, share) in enumerate(zip(words, weights, shares, strict=True))
    ]


def _describe_sentences(explanation, sums, signed, by_sum):
    spans, read = {}, set()
    for word in explanation.words:
        spans[word.sentence] = (spans.get(word.sentence, (word.start,))[0], word.end)
        if word.read:
            read.add(word.sentence)
    weights = weigh_words(list(sums.values()), by_sum=by_sum)
    papers = weigh_words(list(sums.values()), by_sum=False)
    lines = [
        {
            "number": number,
            "parts": _strike(explanation, *spans[number]),
            "share": share,
            "signed": signed[number],
            "weight": weight,
            "paper_weight": paper,
            "side": name_side(exact),
        }
        for (number, (share, exact)), weight, paper in zip(sums.items(), weights, papers, strict=True)
        if number in read
    ]
    return sorted(lines, key=lambda line: -line["weight"])


def _list_items(explanation, described, start, end):
    """Lists the words and the redacted places from `start` to `end` as `(start, end, part)`, in order."""
    pairs = list(zip(explanation.words, described, strict=True))
    items = [(word.start, word.end, {"word": item}) for word, item in pairs if not word.redacted]
    gone = [(word.start, word.end, {"word": item}) for word, item in pairs if word.redacted]
    for first, last in _clip(explanation.redacted, start, end):
        items.append((first, last, {"redacted": list(_cut_parts(explanation.text, gone, first, last))}))
    return sorted(items, key=lambda item: item[:2])


def _cut_parts(text, items, start, end):
    """Splits the characters from `start` to `end` into parts; consecutive words that were cut off become one part."""
    folded, here = [], start
    for first, last, part in items:
        if not here <= first or not last <= end:
            continue
        between, cut = {"text": text[here:first]}, part.get("word", {}).get("cut", False)
        if folded and (cut or "redacted" in part):
            folded += [between, part]
        else:
            yield from _fold(folded)
            yield between
            folded = [part] if cut else []
            if not cut:
                yield part
        here = last
    yield from _fold([*folded, {"text": text[here:end]}])


def _strike(explanation, start, end):
    """Splits the characters from `start` to `end` into parts: text, and redacted text."""
    parts, here = [], start
    for first, last in _clip(explanation.redacted, start, end):
        parts += [{"text": explanation.text[here:first]}, {"redacted": [{"text": explanation.text[first:last]}]}]
        here = last
    return [*parts, {"text": explanation.text[here:end]}]


def _clip(spans, start, end):
    return [(max(first, start), min(last, end)) for first, last in spans if first < end and last > start]


def _fold(parts):
    count = sum("word" in part for part in parts)
    if count < LEAST_FOLDED:
        return parts
    return [{"folded": parts, "count": count}]
