"""Files of results beside a saved classifier: its pictures and its model card."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kmm.classifier import Classifier, StudyLogits
from kmm.data.modalities import as_mapping
from kmm.evaluate.changed_weights import describe_change
from kmm.evaluate.output.card import write_card
from kmm.evaluate.output.card_pictures import PICTURE_FOLDER, PICTURES
from kmm.evaluate.output.decision_plot import plot_decision_curve
from kmm.evaluate.output.label_tables import write_labels_csv
from kmm.evaluate.output.plots import (
    plot_calibration,
    plot_confusion,
    plot_learning_curves,
    plot_precision_recall,
    plot_roc,
)
from kmm.evaluate.report import find_measured, score_rows
from kmm.models.linear_probe import IMAGE_LINEAR, LINEAR_SUM
from kmm.rules.rule_scheme import saved_scheme
from kmm.storage.output_mark import marking_output

LABELS = "labels.csv"  # measures of each label, of classifiers with several


def gather_curves(
    classifier: Classifier, predictions: StudyLogits
) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, np.ndarray]]:
    """Gathers what the plots of predictions are drawn from.

    Args:
        classifier: `Classifier`.
        predictions: `StudyLogits` with the logits of all its parts.

    Returns:
        dict of row to `(labels, probabilities)`, and dict of row to thresholds, all `(n, n_labels)` of the studies that
        the row is measured on. The linear baselines of films are in the tables alone.
    """
    hidden = (IMAGE_LINEAR, LINEAR_SUM)
    rows = {name: scores for name, scores in score_rows(classifier, predictions).items() if name not in hidden}
    measured = {name: find_measured(name, predictions.present) for name in rows}
    curves = {name: (predictions.labels[measured[name]], scores[measured[name]]) for name, scores in rows.items()}
    return curves, {name: classifier.thresholds_for(predictions.present[measured[name]], name) for name in rows}


def draw_pictures(classifier: Classifier, predictions: StudyLogits, folder: Path) -> None:
    """Plots ROC, precision-recall, calibration, confusion and decision curves of predictions as PNG files.

    The folder is made if needed.

    Args:
        classifier: `Classifier`.
        predictions: `StudyLogits` with the logits of all its parts.
        folder: Path.
    """
    names, (curves, cuts) = classifier.label_names, gather_curves(classifier, predictions)
    with marking_output(folder):
        plot_roc(curves, folder / "roc.png", label_names=names)
        plot_precision_recall(curves, folder / "precision_recall.png", label_names=names)
        plot_calibration(curves, folder / "calibration.png", label_names=names)
        plot_confusion(curves, folder / "confusion.png", thresholds=cuts, label_names=names)
        plot_decision_curve(curves, folder / "decision_curve.png", label_names=names)


def write_results(
    classifier: Classifier,
    predictions: StudyLogits | None,
    history: Mapping[str, Mapping[str, Sequence[float]]],
    folder: Path,
    *,
    path: Path | str,
) -> None:
    """Writes the model card, the plots and, for several labels, the table of a run into a folder.

    Args:
        classifier: `Classifier` with metrics.
        predictions: `StudyLogits` of the test part; None if it has no studies.
        history: dict of stage to learning curves.
        folder: path to write to.
        path: future path of the classifier, for the commands of the card.
    """
    if predictions is not None:
        draw_pictures(classifier, predictions, folder / PICTURE_FOLDER)
    if learned := {stage: curve for stage, curve in history.items() if curve}:
        with marking_output(folder / PICTURE_FOLDER):
            plot_learning_curves(learned, folder / PICTURE_FOLDER / "learning_curves.png")
    if len(classifier.label_names) > 1:
        table = write_labels_csv(classifier.metrics, list_label_sources(classifier))
        (folder / LABELS).write_text(table, encoding="utf-8")
    card = write_card(describe_for_card(classifier, path, beside=folder))
    (folder / "model_card.md").write_text(card, encoding="utf-8")


def list_label_sources(classifier: Classifier) -> dict[str, tuple[str, ...]]:
    """Lists what each label of a classifier was made from, see `kmm.data.labels.LabelScheme.list_sources`."""
    scheme = saved_scheme(classifier.settings.labels, classifier.provenance)
    return {name: scheme.list_sources(name) for name in classifier.label_names}


def describe_for_card(classifier: Classifier, path: Path | str, *, beside: Path | None = None) -> dict[str, Any]:
    """Collects the facts of a classifier for `kmm.evaluate.output.card.write_card`.

    Args:
        classifier: `Classifier` with metrics.
        path: future path of the classifier, for the commands of the card.
        beside: path of the folder that the card is written into; the card shows the pictures in it. None: no pictures.

    Returns:
        dict.
    """
    facts, s = classifier.provenance, classifier.settings
    scheme = saved_scheme(s.labels, facts)
    return {
        "name": facts.get("name", "classifier"),
        "path": _show_place(path),
        "reads": [side for side in ("image", "text") if getattr(s, f"{side}_encoder")],
        "model": {
            "preset": s.preset,
            **(_image_facts(facts, s) if s.image_encoder else {}),
            **(_text_facts(facts, s) if s.text_encoder else {}),
            **({"fusion": s.fusion} if s.image_encoder and s.text_encoder else {}),
            "head": s.head,
            **_head_facts(facts.get("head_choice") or {}),
            "seed": s.seed,
        },
        "data": {name: facts.get(name) for name in ("layout", "studies", "with_image", "unlabelled", "set_aside")},
        "labels": {"scheme": scheme.name, **_describe_sources(scheme), "names": classifier.label_names},
        "split": {**facts.get("parts", {}), "digest": facts.get("split_digest")},
        "calibration": {
            "temperatures": {row: as_mapping(table) for row, table in classifier.temperatures.items()},
            "thresholds": {row: as_mapping(table) for row, table in classifier.thresholds.items()},
            "policy": s.threshold_policy,
            "chosen_on": facts.get("calibration"),
        },
        "pictures": [name for name in PICTURES if beside and (beside / PICTURE_FOLDER / name).is_file()],
        "results": classifier.metrics,
        "caution": describe_change(classifier),
        "versions": {name: facts.get(name) for name in ("kmm", "keras", "backend", "python")},
        "digests": {name: facts.get(name) for name in ("data_digest", "code_digest")},
    }


def _describe_sources(scheme):
    """Says what labels by rules were made from, each different source once."""
    found = [", ".join(sources) for sources in scheme.sources.values()]
    return {"made_from": list(dict.fromkeys(found))} if found else {}


def _head_facts(choices):
    """Says for each side what was kept: a linear model of its features, or the result of a stage."""
    return {f"head_of_{side}": found["kept"] for side, found in choices.items()}


def _show_place(path):
    """Returns a path inside the current folder unchanged, and the last part of others, because cards are shared."""
    path = Path(path)
    return path.name if path.is_absolute() or ".." in path.parts else str(path)


def _image_facts(facts, s):
    weights = facts.get("image_weights")
    return {
        "image_encoder": s.image_encoder,
        "image_weights": describe_weights(weights) if weights else "trained from scratch",
        "pixels": s.pixels,
        **({"views_of_a_film": s.tta} if s.tta > 1 else {}),
        **({"members": s.members} if s.members > 1 else {}),
    }


def describe_weights(weights: Mapping[str, Any]) -> str:
    """Says in one line from which file or folder the weights of an encoder are, and under which licence.

    Args:
        weights: dict of the fields of `kmm.models.weights.checkpoints.WeightsReport`; earlier versions had fewer.

    Example:
        >>> facts = {"source": "film.weights.h5", "sha256": "5ea95516d656" * 3, "origin": "model.safetensors (0f3a)"}
        >>> describe_weights({**facts, "licence": "unknown", "random": ["norm"]})
        'film.weights.h5 (5ea95516d6565ea9), from model.safetensors (0f3a), licence unknown, not of the file: norm'
    """
    origin, licence, random = (weights.get(name) for name in ("origin", "licence", "random"))
    return ", ".join(
        [
            f"{weights['source']} ({weights['sha256'][:16]})",
            *([f"from {origin}"] if origin else []),
            *([f"licence {licence}"] if licence else []),
            *([f"not of the file: {', '.join(random)}"] if random and weights["source"] != "random" else []),
        ]
    )


def describe_sources(provenance: Mapping[str, Any]) -> dict[str, str | None]:
    """Describes the weights that the encoders of a classifier started from, for JSON: `image_weights`, `text_weights`;
    None for an encoder that was trained from its start."""
    found = {name: provenance.get(name) for name in ("image_weights", "text_weights")}
    return {name: describe_weights(weights) if weights else None for name, weights in found.items()}


def _text_facts(facts, s):
    text, weights = facts.get("text", {}), facts.get("text_weights")
    shares = {
        "words_with_a_vector": "coverage_of_words",
        "running_words_with_a_vector": "coverage_of_running_words",
        "reports_cut_at_length": "truncated_share",
        "unknown_words_on_validation": "unknown_rate_on_validation",
    }
    return {
        "text_encoder": s.text_encoder,
        **({"text_weights": describe_weights(weights)} if weights else {}),
        **({"word_pieces": text["word_pieces"]} if text.get("word_pieces") else {}),
        "word_vectors": text.get("word_vectors"),
        "least_patients_of_a_word": text.get("word_patients", {}).get("min_word_patients"),
        "sections": s.sections,
        **({"redaction": _describe_redaction(s.redact, text["redaction"])} if text.get("redaction") else {}),
        "length": s.length,
        **{name: None if text.get(key) is None else f"{text[key]:.4f}" for name, key in shares.items()},
    }


def _describe_redaction(name, facts):
    return (
        f"{Path(name).name}, {facts['entries']} entries ({facts['digest'][:16]}), which remove "
        f"{facts['removed']:.1%} of the words of the training reports"
    )
