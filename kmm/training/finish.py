"""End of a run: the trained models become a classifier, calibrated on validation, evaluated on validation and test."""

import dataclasses
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

import kmm
from kmm.classifier import MAIN_ORDER, Classifier, StudyLogits
from kmm.evaluate.decisions.calibration import fit_prevalence
from kmm.evaluate.leak_probe import score_texts
from kmm.evaluate.linear_baselines import fit_baselines
from kmm.evaluate.part_details import PROFILE
from kmm.evaluate.report import evaluate_predictions
from kmm.evaluate.seen import gather_seen
from kmm.models.linear_probe import IMAGE_LINEAR
from kmm.models.views.feature_view import view_features
from kmm.storage.seen_studies import SEEN_PARTS
from kmm.text.tfidf import TfidfBaseline
from kmm.training.features import Features
from kmm.training.linear_start import fit_side_probe
from kmm.training.run_calibration import Answer, calibrate
from kmm.training.run_context import RunContext
from kmm.training.source_code import digest_code
from kmm.training.train import Trained
from kmm.training.training_profile import profile_training

MEASURED = ("validation", "test")  # parts that a classifier's metrics describe


def finish_run(
    context: RunContext,
    trained: Trained,
    features: Features,
    answers: Mapping[str, Answer],
    facts: Mapping[str, Any],
    parts: Sequence[str] = MEASURED,
) -> tuple[Classifier, dict[str, StudyLogits]]:
    """Calibrates and chooses thresholds on validation, then evaluates validation and, only once, test.

    Args:
        context: `RunContext`.
        trained: `Trained` models.
        features: `Features` of the run.
        answers: functions of `view_answers`.
        facts: mapping for JSON: what the run found out before training, for the classifier's provenance.
        parts: sequence of the parts whose predictions are wanted. Those of validation and test are measured.

    Returns:
        `Classifier` with metrics, and dict of part to `StudyLogits`, without parts that have no studies.
    """
    classifier = _assemble(context, trained)
    if trained.held_out is None or trained.held_out.frozen:
        answers = {**answers, **_fit_linear(context, classifier, features)}
    else:
        context.progress.note(
            "No linear baselines of the films: the members' encoders have seen all studies of the run"
        )
    wanted = [part for part in dict.fromkeys([*MEASURED, *parts]) if len(context.rows(part))]
    predictions = {part: _predict(context, answers, part) for part in wanted}
    chosen_on = calibrate(context, classifier, answers, predictions["validation"])
    for name, found in predictions.items():
        if name not in MEASURED:
            continue
        with context.progress.step(f"Evaluating {name}", 1) as advance:
            repeats = context.settings.bootstrap_repeats
            classifier.metrics[name] = evaluate_predictions(classifier, found, repeats=repeats)
            advance()
    profile = {PROFILE: profile_training(context).as_dict()}
    classifier.provenance = {**facts, **trained.facts, **chosen_on, **profile, **_describe_versions(context)}
    return classifier, predictions


def _assemble(context, trained):
    s, prepared, text = context.settings, context.prepared, context.maker.text
    train = context.rows("train")
    known = prepared.labels[train]
    baselines = {} if text is None else _fit_baselines(s, text, [prepared.studies[row] for row in train], known)
    return Classifier(
        models={part: trained.models[part] for part in MAIN_ORDER if part in trained.models},
        batches=context.maker,
        settings=s if context.vectors is None else dataclasses.replace(s, embedding_size=context.vectors.shape[1]),
        temperatures={},
        thresholds={},
        prevalence=fit_prevalence(known, prepared.present[train]),
        mean_image=prepared.mean_image(train),
        **baselines,
        projection=trained.projection,
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


def _fit_linear(context, classifier, features):
    """Gives a classifier of films its linear baselines; returns the function from rows to the logits of the probe."""
    model = classifier.models.get("image")
    columns = features.compute(model, ("image",)) if model is not None else {}
    if model is None or "image_vector" not in columns:  # no films, or a fusion that does not read vectors
        return {}
    prepared, validation = context.prepared, context.rows("validation")
    column, texts = columns["image_vector"], None
    vectors = np.asarray(column[np.arange(len(prepared.studies))], np.float32)
    if classifier.tfidf is not None:
        texts = score_texts(classifier, [prepared.studies[row] for row in validation])["tfidf"]
    classifier.linear = fit_baselines(
        fit_side_probe(context, "image", model, features, prepared.labels),
        vectors,
        prepared.labels,
        prepared.present,
        train=context.rows("train"),
        validation=validation,
        texts=texts,
    )
    probe, has_film = classifier.linear.probe, prepared.present[:, :1] > 0
    return {IMAGE_LINEAR: lambda rows: np.where(has_film[rows], probe.logits(vectors[rows]), probe.intercept)}


def view_answers(context: RunContext, features: Features, trained: Trained) -> dict[str, Answer]:
    """Makes the functions that answer for the models of a run; they use the features that are known, and those of films
    that the linear baselines will need. If the image side has members, the one that has not seen a study of train or
    validation answers for it.

    Args:
        context: `RunContext`.
        features: `Features` of the run.
        trained: `Trained`.

    Returns:
        dict of side, the joint model first, to a function of int64 rows, and optionally of other columns of all rows
        such as `present`, that returns logits float32 `(n, n_labels)`.
    """

    image = trained.models.get("image")
    if image is not None and (trained.held_out is None or trained.held_out.frozen):
        features.compute(image, ("image",))

    def answer_with(model: keras.Model) -> Answer:
        known = features.recall(model)
        sides = tuple(dict.fromkeys(name.partition("_")[0] for name in known))
        view = view_features(model, sides) if sides else model
        return lambda rows, **other: context.predict(view, rows, {**known, **other})

    answers = {side: answer_with(trained.models[side]) for side in MAIN_ORDER if side in trained.models}
    held_out = trained.held_out
    return answers if held_out is None else held_out.replace_answers(answers, context.prepared.present)


def _predict(context, answers, part):
    """Predicts a part of the split."""
    rows, prepared = context.rows(part), context.prepared
    return StudyLogits(
        studies=[prepared.studies[row] for row in rows],
        present=prepared.present[rows],
        logits={name: answer(rows) for name, answer in answers.items()},
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
