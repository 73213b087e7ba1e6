"""Calibration of a run on its validation studies, for each combination of film and report, with notes for the user."""

from collections.abc import Callable, Mapping

import numpy as np

from kmm.classifier import Classifier
from kmm.data.modalities import PATTERN_TITLES, PATTERNS, as_table, hide_sides
from kmm.evaluate.calibration import LEAST_OF_A_CLASS, Calibration, fit_calibration, has_few
from kmm.evaluate.report import find_measured, score_rows
from kmm.evaluate.thresholds import choose_thresholds
from kmm.training.run_context import Run


def calibrate(run: Run, classifier: Classifier, answers: Mapping[str, Callable[..., np.ndarray]]) -> None:
    """Chooses a classifier's temperatures and thresholds on validation, for film and report, film alone, report alone.

    A film or a report alone is calibrated on the validation studies that have it, with the other side hidden. Parts
    that read only one side have one set of numbers. The number of studies behind each choice is noted and recorded in
    `run.facts`.

    Args:
        run: `kmm.training.run_context.Run` with `predictions` of the part `"validation"`.
        classifier: `Classifier`; its `temperatures` and `thresholds` are filled in.
        answers: dict of part to a function of int64 rows of the run, and optionally of `present` `(all rows, 2)`, which
            replaces the actual one, that returns logits `(n, n_labels)`.
    """
    policy, validation = run.settings.threshold_policy, run.predictions["validation"]
    for part, answer in answers.items():
        samples = {pattern: hide_studies(run, part, answer, pattern) for pattern in PATTERNS if part == "joint"}
        chosen = find_measured(part, validation.present)
        found = fit_calibration((validation.logits[part][chosen], validation.labels[chosen]), samples, policy=policy)
        classifier.temperatures[part], classifier.thresholds[part] = found.temperatures, found.thresholds
        if part == "joint":
            tell_calibration(run, found, samples)
            tell_prevalence(run)
    if classifier.tfidf is not None:
        scores, chosen = score_rows(classifier, validation)["tfidf"], find_measured("tfidf", validation.present)
        cuts = choose_thresholds(validation.labels[chosen], scores[chosen], policy=policy)
        classifier.thresholds["tfidf"] = as_table(cuts)


def hide_studies(run: Run, part: str, answer: Callable[..., np.ndarray], pattern: str) -> tuple[np.ndarray, np.ndarray]:
    """Selects the validation studies that have the sides of a pattern, and hides their other side.

    Args:
        run: as in `calibrate`.
        part: str, the name of the part.
        answer: function of the part, as in `answers` of `calibrate`.
        pattern: str, one of `kmm.data.modalities.PATTERNS`.

    Returns:
        logits `(k, n_labels)` and labels `(k, n_labels)` of these studies, in their order.
    """
    rows, validation = run.rows("validation"), run.predictions["validation"]
    present, _ = hide_sides(run.prepared.present, pattern)
    hidden, kept = hide_sides(validation.present, pattern)
    changed = kept & (hidden != validation.present).any(axis=1)
    logits = validation.logits[part].copy()
    if changed.any():
        logits[changed] = answer(rows[changed], present=present)
    return logits[kept], validation.labels[kept]


def tell_calibration(run: Run, found: Calibration, samples: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Notes the number of studies behind the calibration of each pattern, and the labels that use pooled numbers.

    Args:
        run: `kmm.training.run_context.Run`; `facts["calibration"]` becomes a dict of pattern to `studies` and `pooled`.
        found: `kmm.evaluate.calibration.Calibration`.
        samples: dict of pattern to logits and labels.
    """
    names = np.array(run.maker.label_names)
    facts = run.facts["calibration"] = {
        pattern: {"studies": len(samples[pattern][1]), "pooled": names[pooled].tolist()}
        for pattern, pooled in zip(PATTERNS, found.pooled, strict=True)
    }
    counts = ", ".join(f"{PATTERN_TITLES[name]} {kept['studies']}" for name, kept in facts.items())
    run.progress.note(f"Calibrated on validation studies: {counts}; a film or report alone with the other side hidden")
    for name, kept in facts.items():
        if kept["pooled"]:
            run.progress.note(
                f"Fewer than {LEAST_OF_A_CLASS} validation studies of a class for {PATTERN_TITLES[name]}: "
                f"the calibration of all validation studies is used for {', '.join(kept['pooled'])}"
            )


def tell_prevalence(run: Run) -> None:
    """Notes the patterns and labels whose prevalence comes from all training studies, because theirs are too few.

    Args:
        run: `kmm.training.run_context.Run`; each pattern of `facts["calibration"]` gets `prevalence_pooled`, the
            names of these labels.
    """
    train, names = run.rows("train"), np.array(run.maker.label_names)
    labels, present = run.prepared.labels[train], run.prepared.present[train]
    for pattern, kept in run.facts["calibration"].items():
        few = names[has_few(labels[hide_sides(present, pattern)[1]])].tolist()
        kept["prevalence_pooled"] = few
        if few:
            run.progress.note(
                f"Fewer than {LEAST_OF_A_CLASS} training studies of a class for {PATTERN_TITLES[pattern]}: "
                f"the prevalence among all training studies is used for {', '.join(few)}"
            )
