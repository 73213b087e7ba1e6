"""Sections of the page of a comparison on results: models, differences and their tests, the published claim."""

from collections.abc import Sequence
from typing import Any

from kmm.evaluate.output.p_values import show_p
from kmm.experiments.output.claims import LEVEL, find_claims, is_shown, name_models, name_variants, state_claim
from kmm.experiments.output.number_formats import (
    NOTHING,
    show_between,
    show_estimate,
    show_number,
    show_signed,
    show_value,
)
from kmm.experiments.schema import MACRO, Difference, Summary, choose_metric, iterate_models, list_test_numbers
from kmm.experiments.titles import DEFAULT, SIDES, title_briefly, title_metric, title_model, title_variant
from kmm.pages.parts import Section, Table, group_rows

RESULT_METRICS = ("roc_auc", "accuracy", "average_precision", "sensitivity", "specificity")
WITH_INTERVAL = ("roc_auc", "accuracy")
WITHIN_TESTS = {"roc_auc": "DeLong", "accuracy": "McNemar"}  # each respects patients
PUBLISHED_GAINS = {"high": (0.04, 0.07), "low": (0.03, 0.11)}  # accuracy of joint over text, and over image: Table 3


def list_results(summary: Summary) -> Section | None:
    """Lists every model and baseline, and the published numbers, which are marked."""
    models = list(iterate_models(summary))
    metrics = [metric for metric in RESULT_METRICS if any(metric in found for _, _, found in models)]
    if not metrics:
        return None
    groups: dict[str, list[list[str]]] = {}
    for variant, model, found in models:
        cells = [_show_cell(found, metric) for metric in metrics]
        groups.setdefault(title_variant(variant) or DEFAULT, []).append([title_model(model), *cells])
    rows = group_rows(groups)
    start = len(rows)
    for number in list_test_numbers(summary):
        if number["metric"] in metrics:
            title = f"Published: {title_briefly(number['model'])} ({number['what']})"
            values = [f"{number['value']:.3g}" if metric == number["metric"] else NOTHING for metric in metrics]
            rows.append([title, *values])
    table = Table(
        "Results on the test part: mean over splits, with its 95 % interval in brackets",
        ("Model", *map(title_metric, metrics)),
        rows,
        published=tuple(range(start, len(rows))),
    )
    notes = [
        "Intervals are corrected for the overlap of the splits (Nadeau and Bengio). They are symmetric, so they may "
        "pass 1. With several labels, each number is the mean over labels. Each model is measured on the studies that "
        "have what it reads, so where films or reports are missing, compare models by their differences below.",
    ]
    if len(rows) > start:
        notes.append(
            "Published numbers were measured on other splits, films and texts, by other code and in part with known "
            "errors, and came without intervals. They say where the field stood; no test compares with them."
        )
    return Section("results", "Results", figures=("models",), tables=(table,), notes=notes)


def _show_cell(found, metric):
    estimate = found.get(metric)
    if metric in WITH_INTERVAL:
        return show_estimate(estimate)
    return show_number((estimate or {}).get("mean"))


def list_differences(summary: Summary) -> Section | None:
    """Lists differences across splits with their tests, and tests within a split."""
    found = summary.get("differences") or ()
    if not found:
        return None
    means = [one for one in found if one["label"] == MACRO] or found
    singles = [one for one in found if one["label"] != MACRO] if len(means) < len(found) else []
    table = _tabulate_differences("Differences across splits", means)
    text = (
        "Across splits: the corrected resampled t-test of Nadeau and Bengio (2003), paired by split, on the studies "
        "that both models were measured on; p values are adjusted "
        "by Holm's method (1979) over the differences of the same family. A difference counts as shown if its interval "
        "leaves out 0 and its adjusted p is below 0.05. The naive p ignores that splits share studies, errs "
        "several times as often as it says, and supports no claim."
    )
    families = [
        f"Family {name}: {one['tests']} tests; {one['what']}." for name, one in (summary.get("families") or {}).items()
    ]
    families += say_labels(found)
    folded = [_tabulate_differences("Differences of each label across splits", singles)] if singles else []
    folded += [*_list_within(summary.get("within") or ()), *_list_pooled(summary.get("pooled") or ())]
    figures, name = ("differences",), "differences"
    return Section(name, "Differences and their tests", (text,), families, figures, (table,), tuple(folded))


def say_labels(differences: Sequence[Difference]) -> list[str]:
    """Says of which differences the means are over some of the labels only, because variants have different ones.

    Example:
        >>> say_labels([{"variant": "labels=a", "against": "labels=b", "labels": ["mass", "cyst"]}])
        ['labels = a − labels = b: the means are over the labels that both have (mass, cyst).']
    """
    lines = []
    for one in differences:
        if (labels := one.get("labels")) is not None:
            over = (
                f"the means are over the labels that both have ({', '.join(labels)})" if labels else one.get("reason")
            )
            lines.append(f"{name_variants(one)}: {over}.")
    return list(dict.fromkeys(lines))


def _tabulate_differences(caption, differences):
    groups: dict[str, list[list[str]]] = {}
    for one in differences:
        label = one["label"] if one["label"] != MACRO else ""
        row = [
            name_models(one),
            ", ".join(filter(None, (title_metric(one["metric"]), label))),
            show_signed(one.get("difference")),
            show_between(one.get("interval")),
            show_number(one.get("t"), 2),
            *map(show_p, (one.get("p"), one.get("p_holm"), one.get("naive_p"))),
            "yes" if is_shown(one) else "no",
        ]
        groups.setdefault(name_variants(one), []).append(row)
    head = ("Comparison", "Metric", "Difference", "95 % interval", "t", "p", "p (Holm)", "naive p", "Shown")
    return Table(caption, head, group_rows(groups), words=(1, 8))


def _list_within(found: Sequence[Any]) -> list[Table]:
    """Counts over the splits what the tests within each of them say."""
    groups: dict[tuple[str, ...], list[Any]] = {}
    for one in found:
        for second, tests in ((one.get("within") or {}).get("tests") or {}).items():
            for label, pair in ((tests or {}).get("per_label") or {"": tests or {}}).items():
                for metric, name in WITHIN_TESTS.items():
                    if (pair.get(metric) or {}).get("p") is not None:
                        groups.setdefault((one["variant"], second, label, metric, name), []).append(pair[metric])
    rows: dict[str, list[list[str]]] = {}
    for (variant, second, label, metric, name), tests in groups.items():
        sizes = [test["difference"] for test in tests]
        row = [
            ", ".join(filter(None, (f"Joint − {title_briefly(second)}", label))),
            title_metric(metric),
            name,
            f"{show_signed(min(sizes))} to {show_signed(max(sizes))}",
            f"{sum(test['p'] < LEVEL for test in tests)} of {len(tests)}",
        ]
        rows.setdefault(title_variant(variant), []).append(row)
    head = ("Comparison", "Metric", "Test", "Differences", "Splits with p < 0.05")
    caption = (
        "Tests within each split, with the studies of a patient as one observation. Test parts of splits overlap, so "
        "these p are neither pooled nor adjusted"
    )
    return [Table(caption, head, group_rows(rows), words=(1, 2))] if rows else []


def _list_pooled(found: Sequence[Any]) -> list[Table]:
    """Lists the tests on studies that are tested once: over the folds of one cross-validation, or on a single split."""
    groups: dict[str, list[list[str]]] = {}
    for one in found:
        mean, pooled = one.get("mean_auc") or {}, one.get("pooled") or {}
        tests = [mean, pooled.get("roc_auc") or {}, pooled.get("accuracy") or {}]
        cells = [
            f"{show_signed(test.get('difference'))} ({show_p(test.get('p'))}; {show_p(test.get('p_holm'))})"
            for test in tests
        ]
        row = [name_models(one), one["label"], str(one.get("n", NOTHING)), cells[0], show_between(mean.get("interval"))]
        groups.setdefault(name_variants(one), []).append([*row, *cells[1:]])
    head = (
        *("Comparison", "Label", "Studies", "Mean ROC AUC of folds", "95 % interval", "Pooled ROC AUC"),
        "Pooled accuracy",
    )
    caption = (
        "Tests over the folds of the first cross-validation, or on the only split: DeLong and McNemar, with the "
        "studies of a patient as one observation: difference (p; p by Holm over all tests of this table). They take "
        "the models as fixed"
    )
    return [Table(caption, head, group_rows(groups), words=(1,))] if groups else []


def state_published_claim(summary: Summary) -> Section | None:
    """States what becomes of the paper's claim: the gain in accuracy over text and image."""
    gains = PUBLISHED_GAINS.get(summary.get("protocol", ""), (0.04, 0.07))
    lines = []
    for variant in dict.fromkeys(found.get("variant", "") for found in summary.get("differences") or ()):
        claims = find_claims(summary, variant, "accuracy")
        found = [(claims[name], gain) for name, gain in zip(("text", "image"), gains) if name in claims]
        if found:
            where = f"With {title_variant(variant)}: " if variant else ""
            held = " and ".join(state_claim(one) for one, _ in found)
            lines.append(f"{where}In accuracy, the joint model {held}.")
    if not lines:
        return None
    text = (
        "Aydin et al. (2019) claim that their joint model is more accurate than text and image alone by 4 % and 7 %, "
        f"on average of 50 epochs. Their table 3 gives {gains[0]:+.2f} and {gains[1]:+.2f} for "
        f"{'this' if summary.get('protocol') in PUBLISHED_GAINS else 'the high'} protocol, without intervals."
    )
    return Section("claim", "What the published claim becomes", (text, *lines))


def compare_variants(summary: Summary) -> Section | None:
    """Lists variants side by side, if settings were varied."""
    models = summary.get("models") or {}
    metric = choose_metric(summary)
    names = [name for name in (*SIDES, "tfidf", "image-linear") if any(name in found for found in models.values())]
    if len(models) < 2 or not names:
        return None
    rows = [
        [title_variant(variant) or "default", *(show_estimate((found.get(name) or {}).get(metric)) for name in names)]
        for variant, found in models.items()
    ]
    table = Table(f"{title_metric(metric)} on the same splits", ("Variant", *map(title_briefly, names)), rows)
    between = [one for one in summary.get("differences") or () if one.get("against") is not None]
    notes = [
        f"{name_models(one)}, {name_variants(one)}, {title_metric(one['metric'])}: {_conclude(one)}." for one in between
    ]
    return Section("variants", "Variants", _say_own_labels(summary), notes, tables=(table,))


def _conclude(found):
    """Says how large a difference is and whether it is shown, or why there is none."""
    if found.get("difference") is None:
        return f"not compared, because {found['reason']}" if found.get("reason") else "not compared"
    size = show_value(found["difference"], found.get("interval"), signed=True)
    return f"{size}, {'shown' if is_shown(found) else 'not shown'}"


def _say_own_labels(summary):
    """Says that the means of the variants are not over the same labels, or not against the same rule."""
    labels = summary.get("labels_by_variant") or {}
    lines = []
    if len({tuple(sorted(names)) for names in labels.values()}) > 1:
        each = "; ".join(f"{title_variant(variant)}: {', '.join(names)}" for variant, names in labels.items())
        lines.append(
            f"The variants have different labels ({each}). Each mean of the table is over the variant's own labels, so "
            "compare only the differences, which are over the labels and studies that both have."
        )
    if any("labels" in (changes or {}) for changes in (summary.get("variants") or {}).values()):
        lines.append("Each variant is measured against the labels of its own rule.")
    return lines
