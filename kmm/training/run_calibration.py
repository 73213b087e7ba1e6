"""Calibration of a run on its validation studies, for each combination of film and report, with notes for the user."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kmm.classifier import Classifier, StudyLogits
from kmm.data.modalities import PATTERN_TITLES, PATTERNS, hide_sides
from kmm.evaluate.decisions.calibration import LEAST_OF_A_CLASS, Calibration, has_few
from kmm.evaluate.decisions.part_calibration import calibrate_parts
from kmm.training.run_context import RunContext

Answer = Callable[..., np.ndarray]


def calibrate(
    context: RunContext, classifier: Classifier, answers: Mapping[str, Answer], validation: StudyLogits
) -> dict[str, Any]:
    """Chooses a classifier's temperatures and thresholds on validation, for film and report, film alone, report alone.

    See `kmm.evaluate.decisions.part_calibration.calibrate_parts`.

    Args:
        context: `RunContext`.
        classifier: `Classifier`; its `temperatures`, `thresholds` and `conformal` are filled in.
        answers: dict of part to a function of int64 rows of the run, and optionally of `present` `(all rows, 2)`, which
            replaces the actual one, that returns logits `(n, n_labels)`.
        validation: `StudyLogits` of the part `"validation"`.

    Returns:
        dict with `calibration`, the numbers of studies behind the choices for each pattern; empty if no part reads both
        sides.
    """
    rows = context.rows("validation")
    hidden = {pattern: hide_sides(context.prepared.present, pattern)[0] for pattern in PATTERNS}

    def answer_hidden(part: str, pattern: str, chosen: np.ndarray) -> np.ndarray:
        return answers[part](rows[chosen], present=hidden[pattern])

    found = calibrate_parts(classifier, validation, answer_hidden)
    if "joint" not in found:
        return {}
    facts = count_calibration(context, *found["joint"])
    for line in describe_calibration(facts):
        context.progress.note(line)
    return {"calibration": facts}


def count_calibration(context: RunContext, found: Calibration, counts: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Counts the studies behind the numbers of each pattern.

    Args:
        context: `RunContext`.
        found: `kmm.evaluate.decisions.calibration.Calibration`.
        counts: dict of pattern to the number of its validation studies.

    Returns:
        dict of pattern to a dict of `studies`; `pooled`, the labels whose calibration comes from all validation
        studies, because too few have the pattern; `prevalence_pooled`, the labels whose prevalence comes from all
        training studies likewise.
    """
    train, names = context.rows("train"), np.array(context.maker.label_names)
    labels, present = context.prepared.labels[train], context.prepared.present[train]
    return {
        pattern: {
            "studies": counts[pattern],
            "pooled": names[pooled].tolist(),
            "prevalence_pooled": names[has_few(labels[hide_sides(present, pattern)[1]])].tolist(),
        }
        for pattern, pooled in zip(PATTERNS, found.pooled, strict=True)
    }


def describe_calibration(facts: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Describes the result of `count_calibration` in lines for the user."""
    counts = ", ".join(f"{PATTERN_TITLES[name]} {kept['studies']}" for name, kept in facts.items())
    lines = [f"Calibrated on validation studies: {counts}; a film or report alone with the other side hidden"]
    for key, studies, what in (
        ("pooled", "validation studies", "calibration of all validation studies"),
        ("prevalence_pooled", "training studies", "prevalence among all training studies"),
    ):
        lines += [
            f"Fewer than {LEAST_OF_A_CLASS} {studies} of a class for {PATTERN_TITLES[name]}: the {what} is used for "
            f"{', '.join(kept[key])}"
            for name, kept in facts.items()
            if kept[key]
        ]
    return lines
