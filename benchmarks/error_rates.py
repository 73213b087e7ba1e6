"""How often kmm's tests and intervals err, by simulation of cases whose truth is known.

    python benchmarks/error_rates.py
    python benchmarks/error_rates.py --draws 20000

Two learners that are equally good in truth are trained and tested on splits of one finite data set, drawn anew each
time. The learners are linear (the line between the means of the classes); each sees another half of the features.

    type I       fraction of tests at 5 % that call the difference of equal learners significant. Right: 0.05
    naive        the same for the uncorrected t-test, which takes overlapping splits for independent
    covered      fraction of 95 % intervals of the difference that contain the true one; for equal learners, and for
                 learners of which the second has the weaker features. Right: 0.95
    folds, pooled, overlapping
                 fraction of DeLong's tests at 5 % that call equal learners different: over 5 folds, with their scores
                 pooled, and pooled over 10 splits whose test parts overlap, which kmm never does. The first two take
                 the models as fixed, so they may err more often than 0.05 for learners
    class 0, 1   fraction of new studies of a class whose conformal set contains it. Right: 1 - alpha, or a little more
    p            of two identical scores. Right: 1

Each fraction has a Monte-Carlo error of about 0.005 at 2000 draws.
"""

import argparse
import json

import numpy as np

from kmm.evaluate.decisions.conformal import count_scores, predict_sets
from kmm.evaluate.statistics.bootstrap import interval, resample_metrics
from kmm.evaluate.statistics.fold_tests import compare_folds
from kmm.evaluate.statistics.paired_tests import compare_accuracy, compare_auc
from kmm.evaluate.statistics.resampled_tests import compare_splits

STUDIES, FEATURES = 200, 5  # of the data set; that each learner sees
SCHEMES = {
    "3 splits .65/.15/.2": {"splits": 3, "n_train": 130, "n_test": 40},
    "10 splits .65/.15/.2": {"splits": 10, "n_train": 130, "n_test": 40},
    "30 splits .8/.2": {"splits": 30, "n_train": 160, "n_test": 40},
    "5 folds": {"splits": 5, "n_train": 160, "n_test": 40, "folds": True},
    "5 folds, 10 repeats": {"splits": 50, "n_train": 160, "n_test": 40, "folds": True},
}
AT_ONCE = 500


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000, help="simulated data sets of each case (default 2000)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    found = {name: measure_splits(options.draws, **scheme) for name, scheme in SCHEMES.items()}
    found["DeLong of equal learners"] = measure_pooled(max(1, options.draws // 4))
    found |= {f"conformal, alpha {alpha}": measure_sets(options.draws, alpha) for alpha in (0.05, 0.1, 0.2)}
    found["bootstrap interval of an AUC"] = measure_bootstrap(max(1, options.draws // 5))
    found["identical scores"] = compare_identical()
    if options.json:
        print(json.dumps(found))
        return
    for name, figures in found.items():
        print(f"{name:30}", "  ".join(f"{figure} {value:.3f}" for figure, value in figures.items()))


def measure_splits(draws, *, splits, n_train, n_test, folds=False, weaker=0.8, seed=0):
    """Measures the corrected and the naive test over splits.

    Args:
        draws: int. Data sets to draw.
        splits: int. Splits of each; with `folds`, a multiple of the number of folds, `1 + n_train / n_test`.
        n_train, n_test: int. Studies that a split trains on, and that it tests. The rest is validation, which these
            learners do not need.
        folds: bool. Whether the splits are the folds of one or more cross-validations.
        weaker: float. Strength of the second learner's features in the unequal case; that of the first's is 1.
        seed: int.

    Returns:
        dict: `type I`, `naive`, `covered` (equal learners) and `covered, unequal`, each a fraction.
    """
    sizes = {"n_train": STUDIES - n_test, "n_test": n_test}
    equal = draw_differences(draws, splits, n_train, n_test, folds=folds, seed=seed)
    tests = [compare_splits(row, **sizes) for row in equal]
    unequal = draw_differences(draws, splits, n_train, n_test, folds=folds, seed=seed + 1, strength=weaker)
    truth = unequal.mean()
    return {
        "type I": count_below(tests, "p"),
        "naive": count_below(tests, "naive_p"),
        "covered": count_covered(tests, 0.0),
        "covered, unequal": count_covered([compare_splits(row, **sizes) for row in unequal], truth),
    }


def draw_differences(draws, splits, n_train, n_test, *, folds, seed, strength=1.0):
    """Draws data sets, trains both learners on each split, and returns the differences of their accuracies.

    Returns:
        float array `(draws, splits)`.
    """
    found = []
    for labels, scores, test in draw_scores(draws, splits, n_train, n_test, folds=folds, seed=seed, strength=strength):
        one, other = ((((score > 0) == labels) & test).sum(axis=2) / n_test for score in scores)
        found.append(one - other)
    return np.concatenate(found)


def draw_scores(draws, splits, n_train, n_test, *, folds, seed, strength=1.0):
    """Draws data sets and trains both learners on each split.

    Yields:
        for some of the draws at a time: labels `(n,)`; two arrays `(some, splits, n)`, the scores of both learners for
        all studies, positive above 0; bool `(some, splits, n)`, the studies that a split tests.
    """
    rng = np.random.default_rng(seed)
    labels = np.arange(STUDIES) % 2
    shift = np.repeat([1.0, strength], FEATURES) * 0.3
    for start in range(0, draws, AT_ONCE):
        some = min(AT_ONCE, draws - start)
        x = rng.normal(size=(some, STUDIES, 2 * FEATURES)) + np.where(labels, 1, -1)[:, None] * shift
        place = _place_studies(rng, some, splits, n_test, folds)  # (some, splits, n): below n_test is test
        train = (place >= n_test) & (place < n_test + n_train)
        means = [(train * (labels == kind)) @ x / (train * (labels == kind)).sum(axis=2)[..., None] for kind in (0, 1)]
        direction, centre = means[1] - means[0], (means[0] + means[1]) / 2  # (some, splits, features)
        scores = []
        for half in (slice(0, FEATURES), slice(FEATURES, None)):
            w = direction[..., half]
            scores.append(w @ x[..., half].swapaxes(1, 2) - (w * centre[..., half]).sum(axis=2)[..., None])
        yield labels, scores, place < n_test


def measure_pooled(draws, *, seed=5):
    """Measures the tests of `compare_folds` on 5 folds, and DeLong's test pooled over 10 overlapping test parts.

    Returns:
        dict of fractions called significant. `folds` tests the mean AUC of the folds, `pooled` the scores of all folds
        together, and `overlapping` does what kmm refuses to do.
    """
    p = {"folds": [], "pooled": [], "overlapping": []}
    for labels, scores, test in draw_scores(draws, 5, 160, 40, folds=True, seed=seed):
        for one, other, chosen in zip(*scores, test):
            fold, study = np.nonzero(chosen)
            known = (1 / (1 + np.exp(-score[chosen])) for score in (one, other))
            found = compare_folds(labels[study], *known, fold, studies=study.astype(str))
            p["folds"].append(found["mean_auc"]["p"])
            p["pooled"].append(found["pooled"]["roc_auc"]["p"])
    for labels, scores, test in draw_scores(draws, 10, 160, 40, folds=False, seed=seed):
        for one, other, chosen in zip(*scores, test):
            p["overlapping"].append(compare_auc(labels[np.nonzero(chosen)[1]], one[chosen], other[chosen])["p"])
    return {name: float(np.mean(np.array(values) < 0.05)) for name, values in p.items()}


def _place_studies(rng, draws, splits, n_test, folds):
    """Orders the studies of each split at random; in folds, each repeat has one order, turned on from fold to fold."""
    per_repeat = STUDIES // n_test if folds else 1
    order = rng.random((draws, splits // per_repeat, 1, STUDIES)).argsort(axis=3)
    turned = (order + n_test * np.arange(per_repeat)[:, None]) % STUDIES
    return turned.reshape(draws, splits, STUDIES)


def count_below(tests, name, level=0.05):
    return float(np.mean([test[name] is not None and test[name] < level for test in tests]))


def count_covered(tests, truth):
    covered = [test["interval"] is not None and test["interval"][0] <= truth <= test["interval"][1] for test in tests]
    return float(np.mean(covered))


def measure_sets(draws, alpha, *, n=60, seed=0):
    """Measures how often the conformal set of a new study contains its class, for classes of `n` and `3 * n` studies.

    Returns:
        dict: `class 0` and `class 1`, the fractions covered, and `single`, the fraction of sets of one class.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat([0, 1], [3 * n, n])
    held, single = np.zeros(2), 0.0
    for _ in range(draws):
        old, new = (1 / (1 + np.exp(-rng.normal(3 * labels - 2, 1.5))) for _ in range(2))
        sets = predict_sets(count_scores(labels, old), new, alpha=alpha)[:, 0]
        held += [sets[labels == kind, kind].mean() for kind in (0, 1)]
        single += (sets.sum(axis=1) == 1).mean()
    return {"class 0": held[0] / draws, "class 1": held[1] / draws, "single": single / draws}


def measure_bootstrap(draws, *, per_class=60):
    """Measures how often the bootstrap interval of an AUC contains the true one, of normal scores one apart."""
    covered = 0
    for seed in range(draws):
        labels = np.repeat([0.0, 1.0], per_class)
        scores = np.random.default_rng(seed).normal(size=2 * per_class) + labels
        p = (scores - scores.min()) / np.ptp(scores)
        low, high = interval(resample_metrics(labels, p, 0.5, None, repeats=400, seed=seed)["roc_auc"])
        covered += low <= 0.76025 <= high  # Phi(1 / sqrt 2)
    return {"covered": covered / draws}


def compare_identical():
    """Returns the p of each test of a score against itself."""
    rng = np.random.default_rng(0)
    labels, scores = np.repeat([0.0, 1.0], 50), rng.random(100)
    decisions = (scores > 0.5).astype(float)
    return {
        "DeLong p": compare_auc(labels, scores, scores)["p"],
        "McNemar p": compare_accuracy(labels, decisions, decisions)["p"],
        "corrected t p": compare_splits(np.zeros(10), n_train=65, n_test=20)["p"],
    }


if __name__ == "__main__":
    main()
