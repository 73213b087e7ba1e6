"""Path points needed for a map within 2 % of a 512-step map: kmm's adaptive stopping, and rules of fixed size.

The classifier is trained on the phantom set; the baseline is the default one. The true error of a map is that of its
worst input (film or words): the sum of absolute differences from the reference, relative to the reference's sum.
"""

import statistics

TARGET = 0.02
REFERENCE = 512
MOST = 256


def measure_points(model, data, count):
    """Counts the path points that kmm and each rule need.

    Args:
        model: path of a saved classifier.
        data: path of a folder of studies.
        count: int. Number of studies.

    Returns:
        dict of figures.
    """
    import numpy as np
    from classifiers import read_complete_studies

    from kmm.explain.attribution.path_integral import measure_error

    studies = read_complete_studies(data, count)
    explain = _make_explain(model, studies)
    reference = explain(rule="midpoint", steps=REFERENCE)

    def compare(found):
        """Returns the true error of each study's map."""
        apart = [{name: 4 * (one[name] - truth[name]) for name in truth} for one, truth in _pair(found, reference)]
        return np.array([measure_error(truth.values, halves) for truth, halves in zip(reference, apart, strict=True)])

    own = explain(map_tolerance=TARGET)
    own_errors = compare(own)
    points = float(np.mean([one.steps for one in own]))
    within = float(np.mean(own_errors <= TARGET))
    errors = {}

    def measure(rule, steps):
        if (rule, steps) not in errors:
            errors[rule, steps] = compare(explain(rule=rule, steps=steps))
        return errors[rule, steps]

    rules = ("midpoint", "left", "gauss-legendre")
    mean = {rule: find_least(lambda n, rule=rule: measure(rule, n).mean() <= TARGET) for rule in rules}
    alike = {rule: find_least(lambda n, rule=rule: np.mean(measure(rule, n) <= TARGET) >= within) for rule in rules}
    ratios = [one.map_error / error for one, error in zip(own, own_errors, strict=True)]
    return {
        "points_to_left_rule": points / alike["left"],
        "points_to_gauss_legendre": points / alike["gauss-legendre"],
        "points_to_left_rule_of_mean": points / mean["left"],
        "points_to_gauss_legendre_of_mean": points / mean["gauss-legendre"],
        "midpoint_to_left_rule": mean["midpoint"] / mean["left"],
        "midpoint_to_gauss_legendre": mean["midpoint"] / mean["gauss-legendre"],
        "points": {"kmm": points, **alike},
        "points_of_mean": mean,
        "share_within": within,
        "map_error_to_true_error": float(statistics.median(ratios)),
        "map_error_to_true_error_range": [float(min(ratios)), float(max(ratios))],
    }


def find_least(enough, most=MOST):
    """Finds the smallest number from 1 to `most` for which `enough` holds, by bisection; `enough` must be monotonic."""
    low, high = 1, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _make_explain(model, studies):
    """Makes a function from explanation settings to the `Attribution` of each study."""
    from dataclasses import replace

    from classifiers import record_cases

    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings

    explainer = Explainer.load(model, ExplainSettings())
    method, (_, cases) = explainer.method, record_cases(explainer)
    for _ in explainer.explain(studies):
        pass

    def explain(**settings):
        found = dict(method.for_model(explainer.split, replace(explainer.settings, **settings))(cases))
        return [found[number] for number in range(len(cases))]

    return explain


def _pair(found, reference):
    return [(one.values, truth.values) for one, truth in zip(found, reference, strict=True)]
