"""A classifier's predictions to its results: the table, the pictures and the card that every run reports."""

import hashlib
import math

from kmm.classifier import PARTS, digest_file
from kmm.data.labels import label_studies
from kmm.errors import InputError
from kmm.evaluate.card import write_card
from kmm.evaluate.compare import compare_models
from kmm.evaluate.plots import (
    plot_calibration,
    plot_confusion,
    plot_learning_curves,
    plot_precision_recall,
    plot_roc,
)


def score_rows(classifier, predictions):
    """Probabilities of each trained row of the results table.

    Args:
        classifier: `Classifier`.
        predictions: `Predictions` with the logits of all its parts.

    Returns:
        dict of `"joint"`, `"image"`, `"text"` (those that the classifier has) and `"tfidf"` to `(n, n_labels)`.
    """
    rows = {
        part: classifier.probabilities(predictions.logits[part], part) for part in PARTS if part in predictions.logits
    }
    if classifier.tfidf is not None:
        rows["tfidf"] = classifier.tfidf.predict([classifier.batches.text.text(study) for study in predictions.studies])
    return rows


def evaluate_predictions(classifier, predictions, *, repeats=1000):
    """Measures predictions beside the baselines: see `kmm.evaluate.compare.compare_models` for what comes back."""
    return compare_models(
        predictions.labels,
        score_rows(classifier, predictions),
        thresholds=classifier.thresholds,
        groups=[study.patient for study in predictions.studies],
        label_names=classifier.label_names,
        train_prevalence=classifier.prevalence,
        repeats=repeats,
        seed=classifier.settings.seed,
    )


def fingerprints(study, image_digest=""):
    """What tells a study again under another name or layout; nothing can be read back from it.

    Args:
        study: `Study`.
        image_digest: str, the sha256 of the bytes of its frontal image, or nothing.

    Returns:
        set of str, 16 hexadecimal digits each: one of the film, one of patient, id and report body. Templates are
        shared by many reports, so a body alone tells nothing.

    Example:
        >>> from kmm.data.study import Report, Study
        >>> one, other = (Study("1", "1", report=Report(findings=text)) for text in ("Clear.", "A mass."))
        >>> fingerprints(one) & fingerprints(other)
        set()
    """
    body = study.report.body if study.report else ""
    keys = ["\x1e".join(["study", study.id, study.patient, body]), f"film {image_digest}" if image_digest else ""]
    return {hashlib.sha256(key.encode()).hexdigest()[:16] for key in keys if key}


def part_studies(classifier, studies):
    """Sorts studies by the part that they had in the classifier's own split; studies it never saw are test.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`.

    Returns:
        dict with `"train"`, `"validation"` and `"test"`: lists of `Study`.
    """
    known = classifier.provenance.get("studies_by_part", {})
    parts = {"train": [], "validation": [], "test": []}
    for study in studies:
        film = study.frontal.path if study.frontal else None
        digest = digest_file(film) if film and film.is_file() else ""
        found = {known[key] for key in fingerprints(study, digest) if key in known}
        parts[next((part for part in parts if part in found), "test")].append(study)
    return parts


def evaluate_studies(classifier, studies, *, strict=False, progress=None):
    """Measures a classifier on studies: those of its validation part as `validation`, those new to it as `test`.

    Studies that it was trained on are left out.

    Args:
        classifier: `Classifier`.
        studies: sequence of `Study`, not labelled yet.
        strict: bool. Raise at the first unusable study.
        progress: `kmm.progress.Progress`.

    Returns:
        dict of part to what `evaluate_predictions` returns, parts without studies left out; list of `Problem`.

    Raises:
        InputError: if nothing is left to measure on.
    """
    s = classifier.settings
    labelled, _ = label_studies(studies, s.labels, names=classifier.label_names)
    known = [study for study in labelled if not all(map(math.isnan, study.labels.values()))]
    results, problems = {}, []
    for part, chosen in part_studies(classifier, known).items():
        if part == "train" or not chosen:
            continue
        predictions = classifier.predict(chosen, parts=classifier.models, strict=strict, progress=progress)
        problems += predictions.problems
        if predictions.studies:
            results[part] = evaluate_predictions(classifier, predictions, repeats=s.bootstrap_repeats)
    if not results:
        raise InputError("Expected labelled studies that the classifier was not trained on. Found none.")
    return results, problems


def write_report(classifier, predictions, history, folder):
    """Writes the model card and the pictures of a run into a folder.

    Args:
        classifier: `Classifier` with metrics.
        predictions: `Predictions` of the test part.
        history: dict of stage to learning curves.
        folder: path.
    """
    rows = score_rows(classifier, predictions)
    curves = {name: (predictions.labels, scores) for name, scores in rows.items()}
    pictures, names = folder / "pictures", classifier.label_names
    pictures.mkdir()
    plot_roc(curves, pictures / "roc.png", label_names=names)
    plot_precision_recall(curves, pictures / "precision_recall.png", label_names=names)
    plot_calibration(curves, pictures / "calibration.png", label_names=names)
    plot_confusion(curves, pictures / "confusion.png", thresholds=classifier.thresholds, label_names=names)
    plot_learning_curves({stage: curve for stage, curve in history.items() if curve}, pictures / "learning_curves.png")
    (folder / "model_card.md").write_text(write_card(_card_facts(classifier)), encoding="utf-8")


def _card_facts(classifier):
    facts, s = classifier.provenance, classifier.settings
    weights = facts.get("image_weights")
    return {
        "name": facts.get("name", "classifier"),
        "model": {
            "preset": s.preset,
            "image_encoder": s.image_encoder,
            "image_weights": f"{weights['source']} ({weights['sha256'][:16]})" if weights else "trained from the start",
            "pixels": s.pixels,
            "text_encoder": s.text_encoder,
            "word_vectors": facts.get("text", {}).get("word_vectors"),
            "sections": s.sections,
            "length": s.length,
            "reports_cut_at_length": facts.get("text", {}).get("truncated_share"),
            "unknown_words_on_validation": facts.get("text", {}).get("unknown_rate_on_validation"),
            "fusion": s.fusion,
            "seed": s.seed,
        },
        "data": {name: facts.get(name) for name in ("layout", "studies", "with_image", "unlabelled", "set_aside")},
        "labels": {"scheme": s.labels, "names": classifier.label_names},
        "split": {**facts.get("parts", {}), "digest": facts.get("split_digest")},
        "calibration": {
            "temperatures": classifier.temperatures,
            "thresholds": classifier.thresholds,
            "policy": s.threshold_policy,
        },
        "results": classifier.metrics,
        "versions": {name: facts.get(name) for name in ("kmm", "keras", "backend", "python")},
        "digests": {name: facts.get(name) for name in ("data_digest", "code_digest")},
    }
