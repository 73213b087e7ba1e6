"""A small comparison from random numbers: tables as `kmm compare` makes them, and a summary computed from them."""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from kmm.evaluate.metrics import METRICS, score_labels
from kmm.experiments.schema import Columns, Summary

COMPARISON_COLUMNS = ("split", "variant", "model", "part", "label", "metric", "value", "n", "n_positive")
PREDICTION_COLUMNS = (
    *("split", "variant", "part", "study", "patient", "model", "label"),
    *("truth", "probability", "threshold", "has_image", "has_report"),
)
HISTORY_COLUMNS = ("split", "variant", "model", "stage", "epoch", "metric", "value")
VARIANTS = ("image_weights=imagenet", "image_weights=none")
LABELS = ("abnormal", "effusion")
STRENGTH = {"joint": 1.7, "image": 0.7, "text": 1.6, "tfidf": 1.8, "image-linear": 0.6, "linear-sum": 1.75}
TRAIN, VALIDATION, TEST = 100, 25, 50


class MadeComparison(NamedTuple):
    """What pages and figures are made from."""

    comparison: Columns
    predictions: Columns
    history: Columns
    summary: Summary


@cache
def make_comparison(*, splits=3, variants=VARIANTS, labels=LABELS, seed=0):
    """Makes a comparison in which the report tells most and the joint model adds nothing to TF-IDF."""
    rng = np.random.default_rng(seed)
    answers = make_predictions(rng, splits, variants, labels)
    comparison = score_predictions(answers, labels)
    predictions = {name: column[answers["part"] != "train"] for name, column in answers.items()}
    summary = summarize(comparison, variants)
    summary.update(describe_run(variants, labels))
    return MadeComparison(comparison, predictions, make_history(rng, splits, variants), summary)


def as_columns(rows, names):
    columns = zip(*rows, strict=True) if rows else [[] for _ in names]
    return {name: np.array(list(column)) for name, column in zip(names, columns)}


def make_predictions(rng, splits, variants, labels):
    rows = []
    for split in range(1, splits + 1):
        chosen = rng.permutation(TRAIN + VALIDATION + TEST)
        cuts = np.split(chosen, [VALIDATION, VALIDATION + TEST])
        parts = dict(zip(("validation", "test", "train"), cuts, strict=True))
        for variant in variants:
            for part, studies in parts.items():
                truth = np.stack([(studies * 7919 + 31 * place) % 5 < 2 for place in range(len(labels))], axis=1)
                for model, strength in STRENGTH.items():
                    logits = strength * (2 * truth - 1) + rng.normal(size=truth.shape)
                    values = 1 / (1 + np.exp(-logits))
                    for study, line, probabilities in zip(studies, truth, values):
                        here = (str(split), variant, part, f"study-{study}", f"patient-{study // 2}", model)
                        film, report = study % 10 != 3, study % 10 != 7
                        rows += [
                            (*here, label, float(true), float(value), 0.5, film, report)
                            for label, true, value in zip(labels, line, probabilities)
                        ]
    return as_columns(rows, PREDICTION_COLUMNS)


def score_predictions(predictions, labels):
    """Measures each split, variant, part and model, as `comparison.csv` has it."""
    keys = list(zip(*(predictions[name] for name in ("split", "variant", "part", "model")), strict=True))
    rows = []
    for key in dict.fromkeys(keys):
        kept = np.array([other == key for other in keys])
        shape = (-1, len(labels))
        arrays = [predictions[name][kept].reshape(shape) for name in ("truth", "probability", "threshold")]
        scores = score_labels(*arrays, label_names=labels)
        split, variant, part, model = key
        for label, found in {"macro": scores, **scores.get("per_label", {labels[0]: scores})}.items():
            rows += [
                (split, variant, model, part, label, metric, found[metric], found["n"], found["n_positive"])
                for metric in METRICS
            ]
    return as_columns(rows, COMPARISON_COLUMNS)


def correct(values, ratio=TEST / TRAIN):
    """Mean, standard deviation, interval and t of numbers over splits, after Nadeau and Bengio."""
    values = np.asarray(values, float)
    n, mean, sd = len(values), float(np.mean(values)), float(np.std(values, ddof=1))
    error = sd * np.sqrt(1 / n + ratio)
    half = float(student.ppf(0.975, n - 1) * error)
    return {"mean": mean, "sd": sd, "interval": [mean - half, mean + half], "t": mean / error, "n": n}


def find_values(comparison, **wanted):
    kept = np.logical_and.reduce([comparison[name] == value for name, value in wanted.items()])
    return comparison["value"][kept].astype(float)


def summarize(comparison, variants):
    where = {"part": "test", "label": "macro"}
    models = {
        variant: {
            model: {
                metric: {**correct(values), "values": values.tolist()}
                for metric in METRICS
                if len(values := find_values(comparison, variant=variant, model=model, metric=metric, **where))
            }
            for model in STRENGTH
        }
        for variant in variants
    }
    pairs = [(variant, None, second) for variant in variants for second in ("text", "image", "best-baseline")]
    if len(variants) > 1:
        pairs.append((variants[0], variants[1], "joint"))
    differences = []
    for variant, other, second in pairs:
        for metric in ("roc_auc", "accuracy"):
            measured = "tfidf" if second == "best-baseline" else second
            values = [models[variant]["joint"][metric]["values"], models[other or variant][measured][metric]["values"]]
            differences.append(compare(variant, other, second, metric, np.subtract(*values)))
    adjust(differences)
    return {"models": models, "differences": differences}


def compare(variant, other, second, metric, values):
    found = correct(values)
    p, naive = (float(2 * student.sf(abs(t), len(values) - 1)) for t in (found["t"], correct(values, ratio=0)["t"]))
    made = {"variant": variant, "first": "joint", "second": second, "metric": metric, "label": "macro", "p": p}
    made |= {
        "against": other,
        "difference": found["mean"],
        "interval": found["interval"],
        "t": found["t"],
        "naive_p": naive,
    }
    return made | {"family": "variants" if other else "claims"}


def adjust(differences):
    """Holm's step-down method within each family."""
    for family in {found["family"] for found in differences}:
        ordered = sorted((found for found in differences if found["family"] == family), key=lambda found: found["p"])
        highest = 0.0
        for place, found in enumerate(ordered):
            highest = max(highest, min(1.0, (len(ordered) - place) * found["p"]))
            found["p_holm"] = highest


def make_history(rng, splits, variants, epochs=6):
    rows = []
    for split in range(1, splits + 1):
        for variant in variants:
            for model, level in {"joint": 0.9, "image": 0.7, "text": 0.88}.items():
                for stage in ("head", "tune")[: 1 + (model == "image")]:
                    for epoch in range(1, epochs + 1):
                        value = level - 0.3 * np.exp(-epoch / 2) + rng.normal(scale=0.01)
                        rows += [
                            (str(split), variant, model, stage, epoch, "val_loss", 1 - value),
                            (str(split), variant, model, stage, epoch, "val_accuracy", value - 0.05),
                            (str(split), variant, model, stage, epoch, "val_roc_auc", value),
                        ]
    return as_columns(rows, HISTORY_COLUMNS)


def make_tests(labels):
    """Tests within a split, as `compare_models` returns them."""
    pair = {
        "roc_auc": {"difference": 0.01, "interval": [-0.02, 0.04], "p": 0.52},
        "accuracy": {"difference": 0.05, "interval": [0.01, 0.09], "p": 0.02},
    }
    return {"roc_auc": {"difference": 0.01, "p": None}, "per_label": dict.fromkeys(labels, pair)}


def make_published():
    """Published numbers: a table of the three models, and one of the text model by part."""
    table = {"source": "https://arxiv.org/abs/1902.08888", "metric": "accuracy"}
    models = zip(("joint", "text", "image"), (0.81, 0.77, 0.74))
    parts = zip(("train", "validation", "test"), (0.88, 0.80, 0.75))
    return [
        *(
            {"what": "table 3, high rate", "model": name, "part": "test", "value": value, **table}
            for name, value in models
        ),
        *({"what": "table 2, GloVe", "model": "text", "part": part, "value": value, **table} for part, value in parts),
    ]


def describe_run(variants, labels):
    """Everything else that a summary can hold, with numbers that are made up."""
    risk = [{"coverage": at, "n": round(60 * at), "risk": 0.12 * at**2} for at in (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)]
    cuts = np.linspace(0.05, 0.95, 19)
    treat_all = 0.4 - 0.6 * cuts / (1 - cuts)
    share = {"value": 0.12, "interval": [0.08, 0.16]}
    curve = {"thresholds": cuts.tolist(), "treat_all": treat_all.tolist()}
    groups = [("view", "PA", 41, 17, ""), ("view", "AP", 9, 3, "fewer than 10 positives"), ("sex", "F", 30, 12, "")]
    return {
        "schema": "kmm-comparison-1",
        "protocol": "high",
        "variants": {variant: {} for variant in variants},
        "resampling": {"folds": 0, "splits": 3, "repeats": 1, "plain": False, "n_train": 0.65, "n_test": 0.2},
        "labels": list(labels),
        "best_baseline": {variant: {"roc_auc": ["tfidf", "linear-sum", "tfidf"]} for variant in variants},
        "families": {"claims": {"tests": 12, "what": "joint model against each side and the best simple baseline"}},
        "data": {
            "name": "phantom",
            "studies": 175,
            "patients": 88,
            "sections": ["indication", "impression", "findings"],
            "set_aside": 3,
        },
        "within": [{"split": "1", "variant": variants[0], "within": {"tests": {"text": make_tests(labels)}}}],
        "published": make_published(),
        "shapley": {
            variant: {
                "metric": "roc_auc",
                "values": {"none": 0.5, "image": 0.7, "text": 0.93, "both": 0.95},
                "image": share,
                "text": {"value": 0.33, "interval": [0.28, 0.38]},
                "interaction": {"value": -0.18, "interval": [-0.25, -0.11]},
            }
            for variant in variants
        },
        "by_present": [
            {"variant": variants[0], "model": "joint", "attribute": "present", "group": group, "metric": "roc_auc"}
            | {"value": value, "interval": [value - 0.04, value + 0.03], "n": n, "n_positive": n // 3}
            for group, value, n in (("film and report", 0.95, 48), ("film alone", 0.71, 6), ("report alone", 0.93, 6))
        ],
        "errors_mended": {
            variants[0]: {
                "text": {
                    "mended": 1,
                    "broken": 1,
                    "studies": [
                        {"study": "study-4", "label": labels[0], "truth": 1, "outcome": "mended"}
                        | {"explanation": "explanations/study-4.html"},
                        {"study": "study-9", "label": labels[0], "truth": 0, "outcome": "broken"},
                    ],
                }
            }
        },
        "wrong_report": {
            variants[0]: {"n": 60, "metric": "roc_auc", "right": 0.95, "wrong": 0.55, "image": 0.7, "flipped": 0.41}
        },
        "selective": {
            variant: {
                model: {"n": 60, "aurc": 0.04, "oracle": 0.01, "excess": 0.03, "random": 0.12 * worse}
                | {"risk": [{**at, "risk": at["risk"] * worse} for at in risk]}
                for model, worse in {"joint": 1.0, "text": 1.2}.items()
            }
            for variant in variants
        },
        "conformal": {variants[0]: {"joint": {"level": 0.9, "coverage": 0.91, "mean_size": 1.1, "abstained": 0.12}}},
        "decision_curve": {
            variants[0]: {
                model: {**curve, "net_benefit": (0.4 * (1 - cuts**power)).tolist()}
                for model, power in {"joint": 3, "text": 2.5}.items()
            }
        },
        "subgroups": [
            {"variant": variants[0], "model": "joint", "attribute": attribute, "group": group, "metric": "roc_auc"}
            | {"value": 0.94, "interval": [0.88, 0.99], "n": n, "n_positive": positive, "note": note}
            for attribute, group, n, positive, note in groups
        ],
        "leak": {"tfidf_auc_before": 0.987, "tfidf_auc_after": 0.955, "redacted": 1234},
        "minutes": 8.25,
        "memory_gb": 3.1,
        "reduced": ["The pretrained image encoder stays frozen, so this is not the paper's end-to-end tuning."],
        "command": ["kmm", "compare", "phantom", "--protocol", "high", "--out", "my comparison"],
        "versions": {"kmm": "0.2.0", "keras": "3.12.0"},
        "digests": {"data": "sha256:0123", "splits": "sha256:4567"},
    }
