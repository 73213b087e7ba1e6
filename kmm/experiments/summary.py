"""Summary of a comparison: what is computed from its tables once all tasks are done."""

from collections.abc import Mapping, Sequence
from typing import Any

from kmm.experiments.comparison import list_values
from kmm.experiments.plan import Plan
from kmm.experiments.published import list_published
from kmm.experiments.statistics import (
    BEST,
    MAIN_METRICS,
    SplitValues,
    average_models,
    compare_claims,
    describe_families,
)
from kmm.experiments.tables import Columns


def summarize(
    plan: Plan,
    rows: Columns,
    predictions: Columns,
    facts: Sequence[Mapping[str, Any]],
    failed: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """Computes the summary of a comparison.

    Args:
        plan: `Plan`.
        rows, predictions: columns of the tables.
        facts: sequence of the facts of the tasks that are done.
        failed: sequence of dict: `split`, `variant` and `reason` of the tasks that failed.

    Returns:
        dict for JSON.
    """
    values, variants = SplitValues(rows), list_values(rows, "variant")
    labels = list_values(predictions, "label")
    differences = compare_claims(values, labels, variants, plan.sizes)
    return {
        "protocol": plan.protocol,
        "variants": {name: dict(plan.changes[name]) for name in plan.variants},
        "resampling": {
            **plan.resampling.as_dict(),
            "count": plan.resampling.count,
            "description": plan.resampling.describe(),
            "n_train": plan.sizes[0],
            "n_test": plan.sizes[1],
        },
        "labels": labels,
        "models": average_models(values, rows, plan.sizes),
        "parts": {part: average_models(values, rows, plan.sizes, part=part) for part in ("train", "validation")},
        "differences": differences,
        "families": describe_families(differences),
        BEST.replace("-", "_"): {
            variant: {metric: values.best_names(variant, metric) for metric in MAIN_METRICS} for variant in variants
        },
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
