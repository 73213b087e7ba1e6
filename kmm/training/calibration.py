"""The calibration of a run: which validation studies choose the numbers of each pattern, and what is said of it."""

import numpy as np

from kmm.data.modalities import PATTERN_TITLES, PATTERNS, as_table, hide_sides
from kmm.evaluate.calibration import LEAST_OF_A_CLASS, choose_thresholds, fit_calibration, has_few
from kmm.evaluate.report import find_measured, score_rows


def calibrate(run, classifier, answers):
    """Chooses temperatures and thresholds of a classifier on validation, for each pattern of what a study holds.

    A film or a report alone is calibrated on the validation studies that hold it, with the other side hidden. The parts
    that read one side have one set of numbers. What was chosen on how many studies is noted and kept in `run.facts`.

    Args:
        run: `kmm.training.run_context.Run` with `predictions` of the part `"validation"`.
        classifier: `Classifier`; its `temperatures` and `thresholds` are filled in.
        answers: dict of part to a function of int64 rows of the run, and of `present` `(all rows, 2)` in the place of
            what is there, that gives logits `(n, n_labels)`.
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


def hide_studies(run, part, answer, pattern):
    """Takes the validation studies that hold what a pattern keeps, and hides the other side of them.

    Args:
        run, answer: as in `calibrate`, the answer of one part.
        part: str, the name of the part.
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


def tell_calibration(run, found, samples):
    """Notes on how many studies each pattern was calibrated and which labels got the pooled numbers.

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
                f"the numbers of all validation studies hold for {', '.join(kept['pooled'])}"
            )


def tell_prevalence(run):
    """Notes for which patterns and labels the prevalence comes from all training studies, because too few hold them.

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
                f"the prevalence among all training studies holds for {', '.join(few)}"
            )
