"""A small comparison from random numbers: tables as `kmm compare` makes them, and a summary computed from them."""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.stats import t as student

from kmm.evaluate.metrics import METRICS
from kmm.experiments.schema import Summary
from kmm.experiments.tables import Columns

COMPARISON_COLUMNS = ("split", "variant", "model", "part", "label", "metric", "value", "n", "n_positive")
PREDICTION_COLUMNS = (
    *("split", "variant", "part", "study", "patient", "model", "label"),
    *("truth", "probability", "threshold", "has_image", "has_report"),
)
HISTORY_COLUMNS = ("split", "variant", "model", "stage", "epoch", "metric", "value")
VARIANTS = ("image_weights=imagenet", "image_weights=none")
LABELS = ("abnormal", "effusion")
STRENGTH = {"joint": 1.7, "image": 0.7, "text": 1.6, "tfidf": 1.8, "image-linear": 0.6, "linear-sum": 1.75}
SCORED = ("accuracy", "roc_auc", "average_precision", "sensitivity", "specificity", "brier", "log_loss", "ece")
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
    """Measures each split, variant, part and model, as `comparison.csv` has it; all but test by two metrics."""
    keys = list(zip(*(predictions[name] for name in ("split", "variant", "part", "model")), strict=True))
    groups = {}
    for place, key in enumerate(keys):
        groups.setdefault(key, []).append(place)
    rows = []
    for (split, variant, part, model), kept in groups.items():
        arrays = [predictions[name][kept].reshape(-1, len(labels)).T for name in ("truth", "probability", "threshold")]
        for metric in SCORED[: len(SCORED) if part == "test" else 2]:
            singles = {
                label: float(METRICS[metric].measure(truth, values, (values >= cuts).astype(float)))
                for label, truth, values, cuts in zip(labels, *arrays)
            }
            positive = dict(zip(labels, arrays[0].sum(axis=1).astype(int)))
            singles["macro"], positive["macro"] = float(np.mean([*singles.values()])), sum(positive.values())
            n = arrays[0].shape[1]
            rows += [
                (split, variant, model, part, label, metric, value, n, positive[label])
                for label, value in singles.items()
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
                for metric in SCORED
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
    return {"models": models, "differences": differences, "beside": stand_beside(models, variants)}


def stand_beside(models, variants):
    """Differences of the joint model from all others, without tests."""
    found = []
    for variant in variants:
        for second in STRENGTH:
            if second != "joint":
                pair = (models[variant][name]["roc_auc"]["values"] for name in ("joint", second))
                row = compare(variant, None, second, "roc_auc", np.subtract(*pair))
                found.append({name: row[name] for name in row if name not in ("t", "p", "naive_p", "family")})
    return found


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


def estimate(mean, spread=0.03):
    """A number over splits, as the summary has it."""
    between = [mean - spread, mean + spread]
    return {"mean": mean, "sd": spread / 3, "interval": between, "n": 3, "left_out": 0, "values": [mean] * 3}


def make_shares():
    """Shares of film and report, averaged over splits."""
    seen = {"none": 0.5, "image": 0.7, "text": 0.93, "both": 0.95}
    shares = {"image": 0.11, "text": 0.34, "interaction": -0.18}
    return {
        "values": {name: estimate(value) for name, value in seen.items()},
        **{name: {"value": estimate(value)} for name, value in shares.items()},
    }


def make_errors(variant, label):
    """An error table with one study mended and one broken."""
    counts = {"n": 50, "both_right": 40, "mended": 5, "broken": 3, "both_wrong": 2, "p": 0.73, "note": ""}
    mended = {
        "split": "1",
        "study": "study-4",
        "what": "mended",
        "truth": 1,
        "probability": 0.9,
        "others": {"text": 0.2},
        "image_share": -0.05,
        "report_share": 0.45,
    }
    broken = {**mended, "study": "study-9", "what": "broken", "truth": 0, "probability": 0.8}
    studies = [{**mended, "explanation": "explanations/study-4.html"}, broken]
    return {"variant": variant, "label": label, "other": "text", **counts, "studies": studies}


def make_subgroups(label):
    """Subgroups of which one is too small in one split, and one in all."""
    small = {"mean": None, "sd": None, "interval": None, "n": 0, "left_out": 3, "values": [None] * 3}
    partly = {**estimate(0.9, 0.08), "n": 2, "left_out": 1}
    rows = [("all", "all", 50, 20, estimate(0.95)), ("view", "PA", 40, 16, partly), ("view", "AP", 9, 3, small)]
    return [
        {"grouping": grouping, "value": value, "label": label, "n": estimate(n, 2), "n_positive": estimate(positive, 1)}
        | {"roc_auc": area, "accuracy": estimate(0.9)}
        | ({"note": "3 positives, 6 negatives: fewer than 10"} if area is small else {})
        for grouping, value, n, positive, area in rows
    ]


def make_exchange(labels):
    """What wrong reports do, averaged over splits."""
    areas = {"right_report": estimate(0.95), "wrong_report": estimate(0.31), "film_alone": estimate(0.7)}
    one = {"n": estimate(50), "flipped": estimate(0.61), "follows_report": estimate(0.83), "roc_auc": areas}
    return {"studies": estimate(50), "per_label": dict.fromkeys(labels, one)}


def make_folds(variant, label):
    """Tests over the folds of a cross-validation."""
    test = {"difference": 0.02, "p": 0.04, "p_holm": 0.08}
    pooled = {"roc_auc": test, "accuracy": {"difference": -0.01, "p": 0.6, "p_holm": 0.6}, "caution": ""}
    pair = {"variant": variant, "label": label, "first": "joint", "second": "text", "family": "pooled"}
    mean = {"difference": 0.03, "p": 0.01, "p_holm": 0.03}
    return {**pair, "n": 175, "folds": 5, "mean_auc": mean, "pooled": pooled}


def describe_run(variants, labels):
    """Everything else that a summary can hold, with numbers that are made up."""
    first = variants[0]
    areas = {"aurc": estimate(0.04), "oracle": estimate(0.01), "excess": estimate(0.03), "random": estimate(0.12)}
    rules = {"rows": {"joint": {"roc_auc": estimate(0.94)}}, "changed": estimate(7)}
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
        "within": [{"split": "1", "variant": first, "within": {"tests": {"text": make_tests(labels)}}}],
        "pooled": [make_folds(first, labels[0])],
        "published": make_published(),
        "shapley": {variant: {"roc_auc": make_shares()} for variant in variants},
        "errors_mended": [make_errors(first, labels[0])],
        "wrong_report": {first: make_exchange(labels), **dict.fromkeys(variants[1:])},
        "selective": {variant: dict.fromkeys(labels, areas) for variant in variants},
        "subgroups": {first: make_subgroups(labels[0])},
        "label_schemes": {first: {"normal-abnormal": rules}},
        "leak": {
            first: {"tfidf_auc_before": estimate(0.999, 0.001), "tfidf_auc_after": estimate(0.95), "redacted": True}
        },
        "minutes": 8.25,
        "memory_gb": 3.1,
        "notes": ["2 films have an unknown view."],
        "failed": [],
        "reduced": ["The pretrained image encoder stays frozen, so this is not the paper's end-to-end tuning."],
        "command": ["kmm", "compare", "phantom", "--protocol", "high", "--out", "my comparison"],
        "versions": {"kmm": "0.2.0", "keras": "3.12.0"},
        "digests": {"data": "sha256:0123", "splits": "sha256:4567"},
    }
