"""Summary of a comparison: what is computed from its tables once all tasks are done."""

from collections.abc import Mapping, Sequence
from typing import Any

from kmm.evaluate.breakdown.error_table import tabulate_errors
from kmm.evaluate.label_source import MINED
from kmm.experiments.averages import average_nested, average_rows
from kmm.experiments.common_studies import CommonStudies
from kmm.experiments.planning.plan import Plan
from kmm.experiments.pooled_folds import MEANING, POOLED, count_pooled, pool_folds
from kmm.experiments.published import list_published
from kmm.experiments.statistics import (
    MAIN_METRICS,
    SplitValues,
    average_models,
    compare_claims,
    describe_families,
    subtract_models,
)
from kmm.experiments.tables import Columns, list_values
from kmm.experiments.titles import BEST

NESTED = ("shapley", "wrong_report", "selective", "label_schemes")  # measures of a split that are nested dicts
COHORT = ("grouping", "value", "label")  # what names a row of the subgroups
MOST_STUDIES = 50  # per row of the table of errors


def summarize(
    plan: Plan,
    rows: Columns,
    predictions: Columns,
    facts: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, str]],
    data: Mapping[str, Any],
) -> dict[str, Any]:
    """Computes the summary of a comparison.

    Args:
        plan: `Plan`.
        rows, predictions: columns of the tables.
        facts: sequence of the facts of the tasks that are done.
        failed: sequence of dict: `split`, `variant` and `reason` of the tasks that failed.
        data: dict for JSON, of `kmm.experiments.run_comparison.describe_studies`.

    Returns:
        dict for JSON.
    """
    values, variants = SplitValues(rows), list_values(rows["variant"])
    labels = list_values(predictions["label"])
    common = CommonStudies(predictions)
    differences = compare_claims(values, labels, variants, plan.sizes, common)
    pooled = pool_folds(predictions, plan.resampling.tested_once)
    return {
        "protocol": plan.protocol,
        **data,
        "variants": {name: dict(plan.changes[name]) for name in plan.variants},
        "given": {"preset": plan.base.preset, "tune": plan.tune, "settings": plan.list_given()},
        "resampling": {
            **plan.resampling.as_dict(),
            "count": plan.resampling.count,
            "description": plan.resampling.describe(),
            **plan.describe_parts(),
        },
        "labels": labels,
        "labels_by_variant": {
            name: list_values(predictions["label"][predictions["variant"] == name]) for name in variants
        },
        "models": average_models(values, rows, plan.sizes),
        "parts": {part: average_models(values, rows, plan.sizes, part=part) for part in ("train", "validation")},
        "differences": differences,
        "beside": subtract_models(values, variants, plan.sizes, common),
        "families": describe_families(differences) | _describe_pooled(pooled),
        BEST.replace("-", "_"): {
            variant: {metric: values.best_names(variant, metric) for metric in MAIN_METRICS} for variant in variants
        },
        **_average_measures(variants, facts, plan.sizes),
        "not_measured": _list_reasons(facts),
        "leak": _measure_leak(variants, facts, plan.sizes),
        MINED: {fact["variant"]: fact["within"][MINED] for fact in facts if (fact["within"] or {}).get(MINED)},
        "errors_mended": _list_errors(predictions, facts),
        "pooled": pooled,
        "within": [{name: fact[name] for name in ("split", "variant", "within")} for fact in facts],
        "published": list_published(plan.protocol),
        "leaks": [fact["leaks"] for fact in facts if fact.get("leaks")],
        "studies": facts[0]["parts"] if facts else {},
        "notes": list(dict.fromkeys(line for fact in facts for line in fact["notes"])),
        "failed": list(failed),
        "minutes": sum(fact["minutes"] for fact in facts),
        "memory_gb": max((fact["memory_gb"] for fact in facts), default=None),
        "reduced": plan.deviations(),
    }


def _average_measures(variants, facts, sizes):
    """Averages over the splits, for each variant, what was measured within them."""
    found: dict[str, Any] = {name: {} for name in (*NESTED, "subgroups")}
    for variant in variants:
        own = [fact for fact in facts if fact["variant"] == variant]
        for name in NESTED:
            found[name][variant] = average_nested([fact.get(name) for fact in own], sizes)
        found["subgroups"][variant] = average_rows([fact.get("subgroups") for fact in own], COHORT, sizes)
    return found


def _list_reasons(facts):
    """Lists what could not be measured, for each reason the splits."""
    splits: dict[tuple[str, str, str], list[str]] = {}
    for fact in facts:
        for measure, reason in (fact.get("not_measured") or {}).items():
            splits.setdefault((fact["variant"], measure, reason), []).append(fact["split"])
    return [
        {"variant": variant, "measure": measure, "reason": reason, "splits": found}
        for (variant, measure, reason), found in splits.items()
    ]


def _measure_leak(variants, facts, sizes):
    """Averages what TF-IDF finds in exactly the text that the model reads, and in the text before its redaction."""
    found: dict[str, Any] = {}
    for variant in variants:
        own = [fact["within"] or {} for fact in facts if fact["variant"] == variant]
        rows = [one.get("tfidf") for one in own]
        if not any(rows):
            continue
        probes = [one.get("leak_probe") or {} for one in own]
        before = [probe.get("before") or row for probe, row in zip(probes, rows, strict=True)]
        areas = {
            "tfidf_auc_before": [row and row["roc_auc"] for row in before],
            "tfidf_auc_after": [row and row["roc_auc"] for row in rows],
        }
        found[variant] = {
            **{name: average_nested(values, sizes) for name, values in areas.items()},
            "redacted": any("before" in probe for probe in probes),
        }
    return found


def _list_errors(predictions, facts):
    """Lists the studies that the joint model mends and breaks: those that are explained, then the clearest ones."""
    if "joint" not in predictions["model"]:
        return []
    pages = {
        (fact["variant"], row["label"], fact["split"], row["study"]): row["page"]
        for fact in facts
        for row in fact.get("explained", ())
    }
    found = []
    for row in tabulate_errors(predictions):
        keys = [(row["variant"], row["label"], study["split"], study["study"]) for study in row["studies"]]
        linked = [
            {**study, "explanation": pages[key]} if key in pages else study
            for study, key in zip(row["studies"], keys, strict=True)
        ]
        linked.sort(key=lambda study: "explanation" not in study)
        found.append({**row, "studies": linked[:MOST_STUDIES]})
    return found


def _describe_pooled(pooled):
    tests = count_pooled(pooled)
    return {POOLED: {"tests": tests, "what": MEANING}} if tests else {}
