"""Defects of published systems in splitting and measuring, on simulated studies of which nothing can be learned.

Each function returns two numbers: the right result, which kmm's splits and thresholds give, and that with the defect.
"""

import os
import subprocess
import sys

import numpy as np
from sklearn.neighbors import KNeighborsClassifier

from kmm.data.split import split_studies
from kmm.data.study import Study
from kmm.evaluate.compare import compare_models
from kmm.evaluate.decisions.operating_points import measure_operating_point
from kmm.evaluate.decisions.thresholds import choose_thresholds
from kmm.evaluate.metrics import METRICS
from kmm.experiments.planning.resampling import Resampling

SHARES = (0.65, 0.15, 0.2)
PATIENTS, FILMS, FEATURES = 100, 4, 12
SPLITS = 20


def draw_patients(seed):
    """Draws studies whose features say who the patient is, and nothing of the label, which is drawn per patient.

    Returns:
        list of `Study`, and dict of study id to features `(FEATURES,)`.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(PATIENTS) % 2)
    studies, features = [], {}
    for patient, label in enumerate(labels):
        identity = rng.normal(size=FEATURES)
        for film in range(FILMS):
            name = f"{patient}-{film}"
            studies.append(Study(name, str(patient), labels={"abnormal": float(label)}))
            features[name] = identity + 0.3 * rng.normal(size=FEATURES)
    return studies, features


def measure_memory(studies, features, train, test):
    """Returns the ROC AUC on some studies of a model that remembers others: their 5 nearest neighbours decide."""
    labels = {study.id: study.labels["abnormal"] for study in studies}
    x, y = (([[*features[name]] for name in part], [labels[name] for name in part]) for part in (train, test))
    model = KNeighborsClassifier(5, weights="distance").fit(*x)
    scores = model.predict_proba(y[0])[:, 1]
    return float(METRICS["roc_auc"].measure(np.array(y[1]), scores, scores))


def separate_siblings():
    """Measures a model that remembers patients over splits by patient, and over splits by film."""

    def measure(plain):
        found = []
        for seed in range(SPLITS):
            studies, features = draw_patients(seed)
            (split,) = Resampling(splits=1, plain=plain).make(
                studies, shares=SHARES, seed=seed, label_names=["abnormal"]
            )
            found.append(measure_memory(studies, features, split.part("train"), split.part("test")))
        return float(np.mean(found))

    return measure(False), measure(True)


def list_in_hash_order(names, seed):
    """Returns names in the order in which a process of Python with this PYTHONHASHSEED iterates over their set."""
    code = "import sys; print(*set(sys.argv[1:]))"
    environment = {**os.environ, "PYTHONHASHSEED": str(seed)}
    done = subprocess.run(
        [sys.executable, "-c", code, *names], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def split_in_hash_order():
    """Measures a model that remembers, if evaluation has training's split, and if each splits a set of its own process.

    The test part of the second is the last fifth of the set in the evaluating process. There is one study per patient,
    so nothing leaks but this.
    """
    names = [study.id for study in draw_patients(0)[0] if study.id.endswith("-0")]
    orders, cut = [list_in_hash_order(names, seed) for seed in (1, 2)], len(names) * 4 // 5
    right, wrong = [], []
    for seed in range(SPLITS):
        studies, features = draw_patients(seed)
        studies = [study for study in studies if study.id in names]
        split = split_studies(studies, shares=SHARES, seed=seed)
        right.append(measure_memory(studies, features, split.part("train"), split.part("test")))
        wrong.append(measure_memory(studies, features, orders[0][:cut], orders[1][cut:]))
    return float(np.mean(right)), float(np.mean(wrong))


def choose_threshold_on_test(draws=400, n=60):
    """Measures the balanced accuracy of random scores, with the threshold chosen on validation, and on test."""
    rng, found = np.random.default_rng(0), []
    labels = np.arange(n) % 2.0
    for _ in range(draws):
        validation, test = rng.random((2, n))
        found.append([_balance(labels, test, choose_thresholds(labels, chosen)[0]) for chosen in (validation, test)])
    right, wrong = np.mean(found, axis=0)
    return float(right), float(wrong)


def _balance(labels, scores, threshold):
    decisions = scores >= threshold
    return (np.mean(decisions[labels == 1]) + np.mean(~decisions[labels == 0])) / 2


def repeat_published_decisions(n=1000):
    """Returns labels and decisions with the published rates of a classifier.

    It finds 52 % of the abnormal studies, which are 12 % of all, and calls 86 % of the others normal.
    """
    labels = (np.arange(n) < 0.12 * n).astype(float)
    decisions = np.where(labels == 1, np.arange(n) < 0.52 * 0.12 * n, np.arange(n) >= (0.12 + 0.86 * 0.88) * n)
    return labels, decisions.astype(float)


def leave_out_majority():
    """Measures how far a published classifier is above the baseline beside it: the majority class, and above a coin."""
    labels, decisions = repeat_published_decisions()
    found = compare_models(
        labels,
        {"joint": decisions},
        thresholds={"joint": 0.5},
        groups=None,
        label_names=["abnormal"],
        train_prevalence=0.12,
        repeats=2,
    )
    accuracy = found["joint"]["accuracy"]
    return accuracy - found["majority"]["accuracy"], accuracy - 0.5


def leave_out_predictive_value():
    """Measures how many alarms of a published classifier are right, and the accuracy that stands in its place."""
    labels, decisions = repeat_published_decisions()
    point = measure_operating_point(labels, decisions, 0.5)
    return point["ppv"], (point["tp"] + point["tn"]) / len(labels)
