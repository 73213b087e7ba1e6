"""End of a run: the trained models become a classifier, calibrated on validation, evaluated on validation and test."""

import dataclasses
import platform
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

import kmm
from kmm.classifier import Classifier, Predictions
from kmm.evaluate.calibration import fit_prevalence
from kmm.evaluate.report import evaluate_predictions
from kmm.evaluate.seen import gather_seen
from kmm.models.views.feature_view import view_features
from kmm.storage.seen_studies import SEEN_PARTS
from kmm.text.tfidf import TfidfBaseline
from kmm.training.calibration import calibrate
from kmm.training.features import Features
from kmm.training.run_context import RunContext
from kmm.training.run_folders import digest_code
from kmm.training.train import Trained


def finish_run(
    context: RunContext, trained: Trained, features: Features, facts: Mapping[str, Any]
) -> tuple[Classifier, dict[str, Predictions]]:
    """Calibrates and chooses thresholds on validation, then evaluates validation and, only once, test.

    Args:
        context: `RunContext`.
        trained: `Trained` models.
        features: `Features` of the run.
        facts: mapping for JSON: what the run found out before training, for the classifier's provenance.

    Returns:
        `Classifier` with metrics, and dict of `"validation"` and, if the split has one, `"test"` to `Predictions`.
    """
    classifier = _assemble(context, trained)
    views = {name: _view_answers(context, features, model) for name, model in classifier.models.items()}
    measured = [part for part in ("validation", "test") if len(context.rows(part))]
    predictions = {part: _predict(context, views, part) for part in measured}
    chosen_on = calibrate(context, classifier, views, predictions["validation"])
    for name, found in predictions.items():
        with context.progress.step(f"Evaluating {name}", 1) as advance:
            repeats = context.settings.bootstrap_repeats
            classifier.metrics[name] = evaluate_predictions(classifier, found, repeats=repeats)
            advance()
    classifier.provenance = {**facts, **trained.facts, **chosen_on, **_describe_versions(context)}
    return classifier, predictions


def _assemble(context, trained):
    s, prepared, text = context.settings, context.prepared, context.maker.text
    train = context.rows("train")
    known = prepared.labels[train]
    baselines = {} if text is None else _fit_baselines(s, text, [prepared.studies[row] for row in train], known)
    return Classifier(
        models={part: trained.models[part] for part in ("joint", "image", "text") if part in trained.models},
        batches=context.maker,
        settings=s if context.vectors is None else dataclasses.replace(s, embedding_size=context.vectors.shape[1]),
        temperatures={},
        thresholds={},
        prevalence=fit_prevalence(known, prepared.present[train]),
        mean_image=prepared.mean_image(train),
        **baselines,
        seen=_gather_seen(context),
    )


def _fit_baselines(settings, text, studies, labels):
    """Fits the text baseline on what the model reads and, with a redaction, also on the text before it."""
    texts = {"tfidf": [text.redacted_text(study) for study in studies]}
    if text.redaction is not None:
        texts["tfidf_before"] = [text.text(study) for study in studies]
    patients, least = [study.patient for study in studies], settings.min_word_patients
    return {
        name: TfidfBaseline.fit(found, labels, seed=settings.seed, patients=patients, min_patients=least)
        for name, found in texts.items()
    }


def _view_answers(context, features, model) -> Callable[..., np.ndarray]:
    """Returns a function from rows, and optionally another `present`, to logits; it uses features that are known."""
    known = features.recall(model)
    sides = tuple(dict.fromkeys(name.partition("_")[0] for name in known))
    view = view_features(model, sides) if sides else model
    return lambda rows, **hidden: context.predict(view, rows, {**known, **hidden})


def _predict(context, views, part):
    """Predicts a part of the split."""
    rows, prepared = context.rows(part), context.prepared
    return Predictions(
        studies=[prepared.studies[row] for row in rows],
        present=prepared.present[rows],
        logits={name: answer(rows) for name, answer in views.items()},
        labels=prepared.labels[rows],
        problems=[],
    )


def _gather_seen(context):
    """Hashes the studies of training and validation, so that `kmm evaluate` can recognise them."""
    prepared, text = context.prepared, context.maker.text
    columns = (prepared.studies, prepared.film_digests, prepared.sketches)
    return {
        part: gather_seen(*([column[row] for row in context.rows(part)] for column in columns), text)
        for part in SEEN_PARTS
    }


def _describe_versions(context):
    return {
        "data_digest": context.prepared.digest(),
        "kmm": kmm.__version__,
        "code_digest": digest_code(),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
    }
