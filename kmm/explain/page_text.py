"""The report on a study's page: shaded words, a zoomable strip of them, and the sums of sections and sentences."""

from kmm.explain.markup import draw_bar, escape, format_number, format_percent
from kmm.explain.words import sum_words

LEVELS = 10  # shades of a word, `.l1` to `.l10` in page.css


def write_text(explanation):
    """Writes the report of an `Explanation` as HTML, every word shaded by its share of the report's attribution.

    Orange with a solid underline speaks for the label, blue with a dashed one against it; italics with a dotted one
    stand for words that are not in the vocabulary, grey italics for those that were not read. Where the method scores
    no words, that is said instead of their numbers.
    """
    text, words = explanation.text, explanation.words
    if not text.strip():
        return "<p>This study was explained without a report.</p>"
    sections = explanation.sections or [("", 0, len(text))]
    if not words:
        return "".join(_write_section(name, text[start:end], "") for name, start, end in sections)
    highest, scored = max(word.share for word in words), explanation.words_scored
    marks = [_mark_word(word, place, highest, explanation) for place, word in enumerate(words)]
    sums = sum_words(words, "section")
    report = "".join(
        _write_section(
            name,
            _mark_text(text, words, marks, start, end),
            _say_sums(*sums.get(name, (0.0, 0.0))) if scored else "",
        )
        for name, start, end in sections
    )
    report = f'<div class="rove" role="group" aria-label="Report; the arrow keys go from word to word">{report}</div>'
    if not scored:
        method = escape(explanation.settings.method)
        return (
            f"<p>The method {method} explains the film alone: it scores no words. Marked: {_write_unread()}</p>{report}"
        )
    return (
        f"{_write_controls()}{_write_legend(explanation, highest)}{report}"
        '<h3 class="screen">Heat map of the words</h3><div class="strip rove screen" id="strip" role="group" '
        f'aria-label="Heat map of the words; the arrow keys go from word to word">{"".join(marks)}</div>'
        f"{_list_sentences(text, words)}"
    )


def _write_controls():
    return (
        '<div class="controls" hidden><label>Zoom of the strip '
        '<input type="range" id="zoom" min="2" max="48" step="any" value="22"></label>'
        '<button type="button" id="fit">Fit</button>'
        '<label><input type="checkbox" id="palette"> The paper\'s colours</label></div>'
    )


def _write_legend(explanation, highest):
    output = explanation.settings.output
    unit = "" if explanation.modality_sum["text"] is None else f" Sums: in units of the score ({escape(output)})."
    return (
        f'<p class="soft">Shade: share of the report\'s attribution, the darkest is {format_percent(highest)}.{unit} '
        f'<mark class="for l6">for the label</mark>, <mark class="against l6">against it</mark>, {_write_unread()}</p>'
    )


def _write_unread():
    return '<mark class="unseen">not in the vocabulary</mark>, <mark class="unread">not read</mark>.'


def _write_section(name, report, sums):
    heading = f"<h3>{escape(name).capitalize()} <small>{sums}</small></h3>" if name or sums else ""
    return f'{heading}<p class="report" dir="auto">{report}</p>'


def _mark_text(text, words, marks, start, end):
    """The characters `start` to `end` with their words marked and all else escaped."""
    parts, here = [], start
    for word, mark in zip(words, marks, strict=True):
        if here <= word.start and word.end <= end:
            parts += [escape(text[here : word.start]), mark]
            here = word.end
    return "".join(parts) + escape(text[here:end])


def _mark_word(word, place, highest, explanation):
    side, level = name_side(word.signed), round(LEVELS * word.share / highest) if highest > 0 else 0
    classes, say = f"{side} l{level}" if level else "", []
    if not word.read:
        classes, say = "unread", ["not read by the model: cut off, or dropped by the cleaning"]
    elif not word.seen:
        classes, say = f"unseen {classes}".strip(), ["not in the vocabulary: read as any unknown word"]
    if explanation.words_scored and word.read:
        say.append(_say_sums(word.share, word.signed) + (f" {side} {explanation.target}" if side else ""))
    say = ", ".join(say) or "read by the model"
    return (
        f'<mark class="{classes}" tabindex="{0 if place == 0 else -1}" data-part="w{place}" title="{escape(say)}">'
        f"{escape(word.text)}</mark>"
    )


def name_side(signed):
    """What a signed sum speaks: `"for"` the label, `"against"` it, or `""`.

    Example:
        >>> name_side(0.5), name_side(-0.5), name_side(0)
        ('for', 'against', '')
    """
    return "for" if signed > 0 else "against" if signed < 0 else ""


def _say_sums(share, signed):
    return f"{format_percent(share)} of the report's attribution, {format_number(signed, '+')}"


def _list_sentences(text, words):
    lines, spans = [], {}
    for word in words:
        spans[word.sentence] = (spans.get(word.sentence, (word.start,))[0], word.end)
    for number, (share, signed) in sum_words(words, "sentence").items():
        lines.append(
            f'<tr><td class="sentence" dir="auto">{escape(text[slice(*spans[number])])}</td>'
            f"<td>{draw_bar(share, name_side(signed))}</td>"
            f'<td class="number">{format_percent(share)}</td><td class="number">{format_number(signed, "+")}</td></tr>'
        )
    return (
        '<table><caption>Sentences</caption><thead><tr><th scope="col">sentence</th>'
        '<th scope="col" colspan="2">share</th>'
        f'<th scope="col" class="number">sum</th></tr></thead><tbody>{"".join(lines)}</tbody></table>'
    )
