"""Write the model card of a saved classifier: its intended use, training data, results and limits."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

from kmm.data.labels import LABEL_SCHEMES
from kmm.data.modalities import PATTERN_TITLES, PATTERNS
from kmm.evaluate.compare import ROWS
from kmm.evaluate.label_source import state_mined
from kmm.evaluate.leak_probe import describe_leak
from kmm.evaluate.metrics import METRICS
from kmm.evaluate.output.card_pictures import show_pictures
from kmm.evaluate.output.label_tables import arrange_table, measure_rows
from kmm.evaluate.output.result_rows import (
    MEASURED_ON,
    NOTHING,
    ROW_TITLES,
    compare_rows,
    evaluate_rows,
    judge_baselines,
    label_rows,
    operating_rows,
)
from kmm.rules.rule_scheme import PREFIX

ROW_PATTERNS = {
    **{"joint": PATTERNS, "image": ("image",), "text": ("text",)},
    **{"tfidf": ("text",), "image-linear": ("image",), "linear-sum": PATTERNS},
}


def write_card(facts: Mapping[str, Any]) -> str:
    """Writes the model card of a classifier.

    Absent facts are listed as "not recorded". The card has counts, settings and numbers only, no report text and no
    patient keys.

    Args:
        facts: dict of `name` (str); `path` (str), the folder of the classifier, by default `saved_models/<name>`;
            `caution` (str): what no longer holds, if anything;
            `reads`: those of `image` and `text` that the classifier reads, by default both;
            `model`, `data`, `labels`, `split`, `versions`, `digests`: each a flat dict of facts to list (`data` should
            have `layout` and counts, `labels` `scheme` and `names`, `split` `digest` and counts, `model` `sections`);
            `calibration`: dict of `temperatures` and `thresholds` (each a dict of row name to a dict of
            `kmm.data.modalities.PATTERNS` to one number per label), `policy` and, for a joint classifier, `chosen_on`
            (dict of pattern to a dict of `studies`, and of `pooled` and `prevalence_pooled`, the labels with too few
            studies of a class); `pictures`: list of names in `kmm.evaluate.output.card_pictures.PICTURES`, plots in the
            folder `pictures` beside the card; `results`: dict of `test` and `validation`, each as returned by
            `kmm.evaluate.report.evaluate_predictions`.

    Returns:
        str of Markdown, with a newline at the end.

    Example:
        >>> print(write_card({"name": "demo"}).splitlines()[0])
        # demo
    """
    name, reads = facts.get("name", "classifier"), tuple(facts.get("reads", ("image", "text")))
    parts = [f"# {_escape(name)}", _INTENDED_USE.format(reads=_READS[reads])]
    parts += [f"**{_escape(facts['caution'])}**"] if facts.get("caution") else []
    parts += ["## Classifier", _list_facts(facts.get("model"))]
    parts += ["## Data", _list_facts(facts.get("data"))]
    scheme = (facts.get("labels") or {}).get("scheme", "")
    parts += ["### Labels", _list_facts(facts.get("labels")), _describe_labels(scheme)]
    parts += [_TEXT_NOTE] if "text" in reads else []
    parts += ["### Split", _list_facts(facts.get("split"))]
    results = facts.get("results") or {}
    for part, note in (("test", _TEST_NOTE), ("validation", _VALIDATION_NOTE)):
        missing = results and part not in results
        parts += [
            f"## Results on {part} studies",
            *([_NO_TEST] if missing else [_write_results(results.get(part)), note]),
        ]
    parts += [MEASURED_ON, _METRICS_NOTE, *show_pictures(facts.get("pictures") or ())]
    parts += ["## Scores and thresholds", _write_calibration(facts), "## Limits"]
    parts += ["\n".join([*([_FILM_LIMITS] if "image" in reads else []), _LIMITS])]
    path = str(facts.get("path") or f"saved_models/{name}")
    parts += ["## Use", _USE.format(shell=shlex.quote(path), python=json.dumps(path), inputs=_INPUTS[reads])]
    parts += ["## Versions", _list_facts(facts.get("versions")), "## Digests", _list_facts(facts.get("digests"))]
    return "\n\n".join(parts) + "\n"


def _write_results(result):
    if not result:
        return "Not recorded."
    mined = state_mined(result)
    counts = f"{result['n']} studies with a known label, {result['n_positive']} positive labels."
    counts += f" **These tables: {mined}.**" if mined else ""
    table = _write_table(evaluate_rows(result, intervals=True))
    missing = [ROW_TITLES[name] for name in ROWS if result.get(name) is None]
    absent = [f"Not measured: {', '.join(missing)}."] if missing else []
    labels = [part for metric in ("roc_auc", "accuracy") for part in _write_labels(result, metric)]
    leak = [" ".join(sentences)] if (sentences := describe_leak(result)) else []
    measures = measure_rows(result)
    labels = [*([_MEASURES, _write_table(measures)] if measures else []), *labels]
    points = arrange_table(result, operating_rows(result))
    decisions = [_DECISIONS, _write_table(points)] if points else []
    return "\n\n".join([counts, table, *absent, *_compare_in_words(result), *leak, *decisions, *labels])


def _write_labels(result, metric):
    rows = arrange_table(result, label_rows(result, metric))
    return [f"{METRICS[metric].title} of each label:", _write_table(rows)] if rows else []


def _write_table(rows):
    header, *rows = rows
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_escape(cell) for cell in line) + " |" for line in lines)


def _compare_in_words(result):
    lines = [f"- {line}" for line in compare_rows(result)]
    lines += [f"- **{line}**" for line in judge_baselines(result)]
    joint, majority = result.get("joint"), result.get("majority")
    pair = [row and row["accuracy"] for row in (joint, majority)]
    if None not in pair and pair[0] <= pair[1]:
        lines.append("- **The joint classifier is no more accurate than always predicting the majority class.**")
    return ["\n".join(lines)] if lines else []


def _write_calibration(facts):
    calibration = facts.get("calibration")
    if not calibration:
        return "Not recorded."
    temperatures, thresholds = calibration["temperatures"], calibration["thresholds"]
    names = (facts.get("labels") or {}).get("names")
    lines = ["| Classifier | Study | Label | Temperature | Threshold |", "| --- | --- | --- | --- | --- |"]
    for row in (row for row in ROWS if row in thresholds):
        for pattern in ROW_PATTERNS[row]:
            for i, threshold in enumerate(thresholds[row][pattern]):
                label = _escape(names[i] if names else i + 1)
                temperature = f"{temperatures[row][pattern][i]:.4g}" if row in temperatures else NOTHING
                cells = (ROW_TITLES[row], PATTERN_TITLES[pattern], label, temperature, f"{threshold:.4g}")
                lines.append(f"| {' | '.join(cells)} |")
    policy = f"Threshold policy: {calibration.get('policy', 'not recorded')}."
    return "\n\n".join([_SCORES_NOTE, policy, "\n".join(lines), *_describe_patterns(calibration.get("chosen_on"))])


def _describe_patterns(chosen_on):
    """Lists for each pattern the number of validation studies, and the labels for which they were too few."""
    lines = []
    for pattern, found in (chosen_on or {}).items():
        few = (
            f"; the numbers fitted on all validation studies are used for {_say(found['pooled'])}"
            if found["pooled"]
            else ""
        )
        if found.get("prevalence_pooled"):
            few += f"; the prevalence among all training studies is used for {_say(found['prevalence_pooled'])}"
        lines.append(f"- {PATTERN_TITLES[pattern]}: {found['studies']} validation studies{few}")
    return ["\n".join(lines), _PATTERNS_NOTE] if lines else []


def _list_facts(facts):
    if not facts:
        return "Not recorded."
    return "\n".join(f"- {_escape(key).replace('_', ' ')}: {_say(value)}" for key, value in facts.items())


def _describe_labels(scheme):
    if scheme.startswith(PREFIX):
        return _LABELS_FROM_RULES
    known = LABEL_SCHEMES.get(scheme)
    return _LABELS_FROM_COLUMNS if known and known.reads_columns else _LABELS_FROM_REPORTS


def _say(value):
    if value is None or value == "" or value == []:
        return "not recorded"
    return _escape(", ".join(map(str, value)) if isinstance(value, list | tuple) else value)


def _escape(text):
    return " ".join(str(text).split()).replace("|", "\\|")


_READS = {
    ("image", "text"): "chest films and their reports",
    ("image",): "chest films, without their reports",
    ("text",): "chest reports, without their films",
}
_INPUTS = {("image", "text"): "FILM.png --report REPORT.txt", ("image",): "FILM.png", ("text",): "--report REPORT.txt"}

_INTENDED_USE = """\
A classifier of {reads}, fitted with kmm.

**Not for diagnosis.** It is for research and teaching: to study what images and reports contribute to a decision, and
to compare methods on public or synthetic collections. It has not been reviewed as a medical device, must not guide the
care of any patient, and must not be used to find out who a patient is."""

_LABELS_FROM_REPORTS = """\
The labels come from the MeSH terms that index the reports, not from a second reading of the films."""
_LABELS_FROM_RULES = """\
The labels were made by program from words, by rules that know negation and doubt; `classifier.json` has the rules
(`label_rules`) and what each of them took (`label_audit`)."""
_LABELS_FROM_COLUMNS = """\
The labels come from the label columns of the data (in a manifest `label:<name>`). Whether they were read from the
reports, from the films or from another source is not recorded; ask those who published the data."""

_TEXT_NOTE = """\
If the text given to the classifier includes the findings or the impression, it has nearly seen the answer. Read the
text and joint rows with this in mind; the image row shows how much the film alone contributes."""

_TEST_NOTE = "Test studies were measured once, with thresholds and temperatures from validation."

_NO_TEST = """\
The split has none. Measure the classifier on studies that it has not seen: `kmm evaluate`."""

_VALIDATION_NOTE = """\
These studies were also used to choose the epoch, the initial weights of the joint model, the temperature and the
threshold, so the numbers are too optimistic. They are given for comparison with the test."""

_METRICS_NOTE = """\
In brackets: 95 % bootstrap intervals over patients. They reflect the sampling of studies, not the variation between
training runs. With many labels, each number is the mean over labels, and its interval comes from draws for which the
same labels are defined; `metrics.json` has the intervals and tests of each label. Lower is better for Brier, log loss
and ECE (expected calibration error, bins of equal mass; it has no interval because repeated studies inflate it). p:
DeLong's test for ROC AUC and McNemar's exact test for accuracy, both with the studies of a patient as one observation;
neither is adjusted for multiple comparisons."""

_MEASURES = """\
Each label of the joint or only classifier at its threshold, most positive studies first, and three averages: the mean
over labels, the same weighted by positive studies, and of the decisions of all labels together. `labels.csv` has
every model."""

_DECISIONS = """\
Decisions at the stored thresholds: true and false positives, true and false negatives, and rates with 95 % Wilson
intervals, the studies of a patient counted together. The predictive values hold at the prevalence of these studies."""

_PATTERNS_NOTE = """\
Films alone and reports alone were calibrated on validation studies with the other modality hidden. If a class has fewer
than 20 known studies, the numbers fitted on all validation studies are used."""

_SCORES_NOTE = """\
A score is the probability `sigmoid(logit / temperature)`; the decision is positive if it reaches the threshold.
Temperature and threshold were chosen on validation studies only. On other data, especially where findings are rarer or
more frequent, the score may differ from the fraction of positives among studies with that score."""

_FILM_LIMITS = (
    "- Frontal chest films only. The score of a lateral film, another body part or a photograph is meaningless."
)
_LIMITS = """\
- The numbers apply to studies like those it was fitted on. Other hospitals, scanners, report styles, languages, ages
  and mixes of disease can lower them without any sign in the scores; evaluate on your own studies first.
- The labels are treated as the truth, but labels and reports omit findings and contain mistakes.
- Identical or near-identical report bodies are common; the split keeps identical ones together, not similar ones.
- A high score is not an explanation and does not tell where a finding is."""

_USE = """\
    kmm predict {shell} {inputs}
    kmm evaluate {shell} FOLDER --json -

    import kmm
    classifier = kmm.Classifier.load({python})"""
