"""Results as rows of text, for the tables of the command line, of a notebook and of the model card."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kmm.evaluate.decisions.operating_points import COUNTS, RATES
from kmm.evaluate.metrics import METRICS
from kmm.evaluate.output.p_values import state_p

ROW_TITLES = {
    "majority": "Majority (training prevalence)",
    "chance": "Chance (random scores)",
    "tfidf": "TF-IDF + logistic regression",
    "image-linear": "Logistic regression on image features",
    "linear-sum": "Sum of both linear scores",
    "image": "Image only",
    "text": "Text only",
    "joint": "Joint (image and text)",
}
BRIEFLY = {"image-linear": "Image, linear", "linear-sum": "Linear sum"}  # where a whole title has no room
BASELINES = ("tfidf", "image-linear", "linear-sum")  # simple models, which a joint classifier should beat
MEASURED_ON = (
    "Image only and its linear baseline are measured, and compared with the joint classifier, on studies with a film; "
    "Text only and TF-IDF on studies with a report."
)
NOTHING = "–"
RATE_TITLES = {"sensitivity": "Sensitivity", "specificity": "Specificity", "ppv": "PPV", "npv": "NPV"}


def evaluate_rows(result: Mapping[str, Any], *, intervals: bool | Collection[str] = False) -> list[list[str]]:
    """Formats the result of `compare_models` as a table: baselines first, the joint classifier last.

    Args:
        result: dict as returned by `compare_models`.
        intervals: bool, whether cells show the interval after the number, or the names of the metrics that do.

    Returns:
        list of rows, each a list of str: a header, then one row for each measured classifier and baseline, with its
        numbers of studies and positive labels; undefined numbers are dashes.

    Example:
        >>> row = {"accuracy": 0.648, "intervals": {"accuracy": [0.61, 0.69]}}
        >>> rows = evaluate_rows({"n": 540, "n_positive": 350, "majority": row}, intervals=True)
        >>> rows[0][:3], rows[1][1:4]
        (['', 'Studies (positive)', 'Accuracy'], ['540 (350)', '0.648 [0.610, 0.690]', '–'])
    """
    header = ["", "Studies (positive)", *(metric.title for metric in METRICS.values())]
    shown: Collection[str] = METRICS if intervals is True else () if intervals is False else intervals
    rows = []
    for name, title in ROW_TITLES.items():
        if row := result.get(name):
            between = {metric: found for metric, found in row.get("intervals", {}).items() if metric in shown}
            n, positive = (row.get(name, result.get(name, NOTHING)) for name in ("n", "n_positive"))
            rows.append(
                [title, f"{n} ({positive})", *(show_number(row.get(metric), between.get(metric)) for metric in METRICS)]
            )
    return [header, *rows]


def title_briefly(name: str) -> str:
    """Returns the title of a row for a narrow column.

    Example:
        >>> title_briefly("tfidf"), title_briefly("joint"), title_briefly("image-linear")
        ('TF-IDF', 'Joint', 'Image, linear')
    """
    return BRIEFLY.get(name) or ROW_TITLES[name].partition(" (")[0].partition(" +")[0]


def label_rows(result: Mapping[str, Any], metric: str = "roc_auc") -> list[list[str]]:
    """Formats one metric of each label as a table, with intervals.

    Args:
        result: dict as returned by `compare_models`.
        metric: str, a key of `METRICS`.

    Returns:
        list of rows, each a list of str: a header, then one row for each label; empty if there is only one label.

    Example:
        >>> counts, joint = {"n": 9, "n_positive": 4}, {"roc_auc": 0.9, "intervals": {"roc_auc": [0.8, 0.95]}}
        >>> rows = {"majority": {"per_label": {"mass": counts}}, "joint": {"per_label": {"mass": joint}}}
        >>> label_rows(rows)
        [['Label', 'Studies', 'Positive', 'Joint'], ['mass', '9', '4', '0.900 [0.800, 0.950]']]
    """
    names = [name for name in ROW_TITLES if name not in BASELINES[1:]]  # so many columns have room
    shown = {name: row["per_label"] for name in names if "per_label" in (row := result.get(name) or {})}
    counts = shown.pop("majority", {})
    shown.pop("chance", None)
    rows = [["Label", "Studies", "Positive", *(ROW_TITLES[name].partition(" (")[0] for name in shown)]]
    for label, count in counts.items():
        singles = [labels[label] for labels in shown.values()]
        cells = [show_number(single[metric], single.get("intervals", {}).get(metric)) for single in singles]
        rows.append([label, str(count["n"]), str(count["n_positive"]), *cells])
    return rows if counts else []


def operating_rows(result: Mapping[str, Any]) -> list[list[str]]:
    """Formats the decisions at the stored thresholds as a table: confusion counts, and rates with intervals.

    Args:
        result: dict as returned by `compare_models`.

    Returns:
        list of rows, each a list of str: a header, then one row for each classifier, or, with several labels, for each
        label of the joint or only classifier; empty if the results have no confusion counts, as those of earlier
        versions.

    Example:
        >>> from kmm.evaluate.decisions.operating_points import measure_operating_point
        >>> row = {"operating_point": measure_operating_point([1, 0, 0], [0.9, 0.6, 0.1], 0.5)}
        >>> [line[:6] for line in operating_rows({"joint": row})]
        [['', 'TP', 'FP', 'TN', 'FN', 'Sensitivity'], ['Joint', '1', '1', '1', '0', '1.000 [0.207, 1.000]']]
    """
    shown = {title_briefly(name): result.get(name) or {} for name in ROW_TITLES}
    main = next((name for name in reversed(shown) if "operating_point" in shown[name]), "")
    several = shown.get(main, {}).get("per_label")
    points = {name: row["operating_point"] for name, row in (several or shown).items() if "operating_point" in row}
    if not points:
        return []
    titles = [main if several else "", *(name.upper() for name in COUNTS), *(RATE_TITLES[name] for name in RATES)]
    return [
        titles,
        *(
            [
                name,
                *(str(point[count]) for count in COUNTS),
                *(show_number(point[rate], point["intervals"][rate]) for rate in RATES),
            ]
            for name, point in points.items()
        ),
    ]


def compare_rows(result: Mapping[str, Any], names: Collection[str] = tuple(ROW_TITLES)) -> list[str]:
    """Describes how much better the joint classifier is than its parts, with intervals and paired tests.

    Args:
        result: dict as returned by `compare_models`.
        names: collection of the rows that it is compared with.

    Returns:
        list of str, one per comparison and metric; empty if there is no joint classifier.

    Example:
        >>> test = {"difference": 0.03, "interval": [0.01, 0.05], "p": 0.0151}
        >>> compare_rows({"tests": {"image": {"roc_auc": test}}})
        ['Joint minus Image only, ROC AUC: +0.030 [+0.010, +0.050], p = 0.015']
    """
    lines = []
    for name, test in (result.get("tests") or {}).items():
        if name not in names:
            continue
        for metric, found in (test or {}).items():
            if metric != "per_label" and found.get("difference") is not None:
                p = "".join(f", {said}" for said in [state_p(found.get("p"))] if said)
                shown = show_number(found["difference"], found.get("interval"), sign="+")
                lines.append(f"Joint minus {ROW_TITLES[name]}, {METRICS[metric].title}: {shown}{p}")
    return lines


def judge_baselines(result: Mapping[str, Any]) -> list[str]:
    """Says whether the joint classifier fails to beat the best simple baseline on these studies.

    The best baseline is the one with the largest ROC AUC here, which favours it. The joint classifier beats it if the
    interval of the paired difference is above 0.

    Args:
        result: dict as returned by `compare_models`.

    Returns:
        list of one sentence; empty if it beats the baseline, or there is nothing to compare.

    Example:
        >>> test = {"roc_auc": {"difference": 0.004, "interval": [-0.01, 0.018], "p": 0.6}}
        >>> judge_baselines({"tfidf": {"roc_auc": 0.9}, "tests": {"tfidf": test}})[0][:67]
        'The joint classifier does not beat the best simple baseline, TF-IDF'
    """
    tests = {name: (result.get("tests") or {}).get(name) for name in BASELINES}
    areas = {name: (result.get(name) or {}).get("roc_auc") for name, test in tests.items() if test}
    known = {name: area for name, area in areas.items() if area is not None}
    if not known:
        return []
    best = max(known, key=lambda name: known[name])
    found = (tests[best] or {})["roc_auc"]
    if found.get("difference") is None or (found.get("interval") or [0.0])[0] > 0:
        return []
    title = ROW_TITLES[best]
    title = title if title[:2].isupper() else title[:1].lower() + title[1:]
    shown = show_number(found["difference"], found.get("interval"), sign="+")
    return [f"The joint classifier does not beat the best simple baseline, {title}: ROC AUC {shown}."]


def show_number(value: float | None, between: Sequence[float] | None = None, *, sign: str = "") -> str:
    """Formats a number with its interval; a dash for None.

    Args:
        value: float or None.
        between: `[low, high]` or None.
        sign: str, `"+"` to show the sign of positive numbers.

    Example:
        >>> show_number(0.25, [0.2, 0.3]), show_number(0.25, sign="+"), show_number(None)
        ('0.250 [0.200, 0.300]', '+0.250', '–')
    """
    if value is None:
        return NOTHING
    return f"{value:{sign}.3f}" + (f" [{between[0]:{sign}.3f}, {between[1]:{sign}.3f}]" if between else "")
