"""Format of a comparison's summary, `summary.json` of schema `kmm-comparison-1`, and the names that people read.

Every key may be absent: a reader leaves out what is not there. Unknown numbers are None, never NaN.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from kmm.evaluate.card import ROW_TITLES
from kmm.evaluate.metrics import METRICS

COMPARISON_SCHEMA = "kmm-comparison-1"
MACRO = "macro"  # the label of a mean over labels
SIDES = ("joint", "image", "text")
BASELINES = ("tfidf", "image-linear", "linear-sum", "majority", "chance")
MODEL_TITLES = {
    **{name: ROW_TITLES[name] for name in ("joint", "image", "text", "tfidf")},
    "image-linear": "Logistic regression on image features",
    "linear-sum": "Sum of both linear scores",
    "joint-image": "Joint, film alone",
    "joint-text": "Joint, report alone",
    "majority": "Majority class",
    "chance": "Chance",
    "best-baseline": "Best simple baseline",
}
LOWER_IS_BETTER = ("brier", "log_loss", "ece")

Columns = Mapping[str, np.ndarray]  # column name to an array with one value per row
Interval = Sequence[float] | None  # the ends of a 95 % interval


class Estimate(TypedDict, total=False):
    """One metric over splits: `mean`, `sd`, the 95 % `interval` of the mean, and `values`, one per split."""

    mean: float | None
    sd: float | None
    interval: Interval
    values: Sequence[float | None]


class Difference(TypedDict, total=False):
    """The difference `first` minus `second` of a metric, over the same splits.

    `first` and `second` are models of `variant`; if `second_variant` is there, `second` belongs to that variant. `p` is
    that of the corrected resampled t-test, `naive_p` that of the ordinary t-test, `p_holm` is adjusted over all
    differences of the same `family`. `chosen` lists the baselines that were chosen on validation, one per split.
    """

    variant: str
    first: str
    second: str
    second_variant: str
    metric: str
    label: str
    difference: float | None
    interval: Interval
    t: float | None
    p: float | None
    p_holm: float | None
    naive_p: float | None
    family: str
    chosen: Sequence[str]


class Subgroup(TypedDict, total=False):
    """A metric of one model in one subgroup; `note` says if it is too small to tell."""

    variant: str
    model: str
    attribute: str
    group: str
    metric: str
    value: float | None
    interval: Interval
    n: int
    n_positive: int
    note: str


class Summary(TypedDict, total=False):
    """The object of `summary.json`.

    Attributes:
        schema: str, `kmm-comparison-1`.
        protocol: str, a name of the table of protocols.
        variants: list of str, `""` or `"NAME=V1;NAME2=W"`.
        resampling: dict of `folds` (0 for repeated splits), `splits`, `repeats`, `plain` (bool), `shares` (of train,
            validation and test) and `grouped_by` (list of str).
        data: dict of `name`, `studies`, `patients`, `sections` (list of str), `leaks` (list of str), `set_aside`
            (int), `source`.
        models: dict of variant to model to metric to `Estimate`, on the test part, means over labels.
        differences: list of `Difference`.
        pooled: list of tests within a split, or over the folds of one cross-validation: dict of `variant`, `first`,
            `second`, `metric`, `label`, `test` (`DeLong` or `McNemar`), `split`, `difference`, `interval`, `p`.
        shapley: dict of variant to the dict of `kmm.evaluate.shapley.share_metric`, with the `metric`.
        by_present: list of `Subgroup` whose `group` is `film and report`, `film alone` or `report alone`.
        errors_mended: dict of variant to a dict of `image` and `text` to a dict of `mended` and `broken` (counts) and
            `studies`: list of dict of `study`, `label`, `truth`, `outcome` (`mended` or `broken`), and `explanation`
            (relative path of a page, if there is one).
        wrong_report: dict of variant to a dict of `n`, `metric`, `right` and `wrong` (the joint model's metric with the
            study's own report, and with another study's), `image` (that of the image model) and `flipped` (fraction
            of decisions that changed).
        selective: dict of variant to model to the dict of `kmm.evaluate.selective.measure_selection`.
        conformal: dict of variant to model to a dict of `level`, `coverage`, `mean_size`, `abstained`.
        decision_curve: dict of variant to model to the dict of `kmm.evaluate.decision_curve.DecisionCurve`.
        subgroups: list of `Subgroup`.
        leak: dict of `tfidf_auc_before`, `tfidf_auc_after` (None without redaction), `redacted` (number of spans).
        minutes, memory_gb: float.
        reduced: list of str, one sentence per deviation from the published protocol.
        command: list of str or str; versions, digests: dict of str to str.
    """

    schema: str
    protocol: str
    variants: Sequence[str]
    resampling: Mapping[str, Any]
    data: Mapping[str, Any]
    models: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    differences: Sequence[Difference]
    pooled: Sequence[Mapping[str, Any]]
    shapley: Mapping[str, Mapping[str, Any]]
    by_present: Sequence[Subgroup]
    errors_mended: Mapping[str, Mapping[str, Any]]
    wrong_report: Mapping[str, Mapping[str, Any]]
    selective: Mapping[str, Mapping[str, Mapping[str, Any]]]
    conformal: Mapping[str, Mapping[str, Any]]
    decision_curve: Mapping[str, Mapping[str, Mapping[str, Any]]]
    subgroups: Sequence[Subgroup]
    leak: Mapping[str, Any]
    minutes: float
    memory_gb: float
    reduced: Sequence[str]
    command: Sequence[str] | str
    versions: Mapping[str, str]
    digests: Mapping[str, str]


def select(columns: Columns, **values: str) -> dict[str, np.ndarray]:
    """Selects the rows of a table that have the given values.

    Args:
        columns: dict of column name to array.
        **values: value of each column to match.

    Returns:
        dict of column name to array.

    Example:
        >>> select({"split": np.array(["1", "2"]), "value": np.array([0.5, 0.7])}, split="2")["value"].tolist()
        [0.7]
    """
    kept = np.ones(len(next(iter(columns.values()), ())), bool)
    for name, value in values.items():
        kept &= columns[name] == value
    return {name: np.asarray(column)[kept] for name, column in columns.items()}


def list_values(column: Iterable[Any]) -> list[str]:
    """Lists the different values of a column in order of their first appearance.

    Example:
        >>> list_values(np.array(["b", "a", "b"]))
        ['b', 'a']
    """
    return list(dict.fromkeys(map(str, column)))


def title_model(name: str) -> str:
    """Returns the title of a model as printed; an unknown name is its own title.

    Example:
        >>> title_model("tfidf"), title_model("mine")
        ('TF-IDF + logistic regression', 'mine')
    """
    return MODEL_TITLES.get(name, name)


def title_briefly(name: str) -> str:
    """Returns the title of a model without what it reads, for figures and lists.

    Example:
        >>> title_model("joint"), title_briefly("joint")
        ('Joint (image and text)', 'Joint')
    """
    return title_model(name).partition(" (")[0]


def title_metric(name: str) -> str:
    """Returns the title of a metric as printed; an unknown name is its own title.

    Example:
        >>> title_metric("roc_auc"), title_metric("mine")
        ('ROC AUC', 'mine')
    """
    return METRICS[name].title if name in METRICS else name


def title_variant(variant: str) -> str:
    """Returns a variant as printed: its settings with spaces; empty for a comparison without variants.

    Example:
        >>> title_variant("sections=pre-read;image_encoder=xception")
        'sections = pre-read, image_encoder = xception'
    """
    return ", ".join(" = ".join(part.split("=", 1)) for part in variant.split(";")) if variant else ""


def iterate_models(summary: Summary) -> Iterator[tuple[str, str, Mapping[str, Estimate]]]:
    """Iterates over the results of a summary: the sides first, then baselines, then any others.

    Yields:
        variant, model, and the dict of metric to `Estimate`.

    Example:
        >>> [row[:2] for row in iterate_models({"models": {"": {"tfidf": {}, "joint": {}}}})]
        [('', 'joint'), ('', 'tfidf')]
    """
    for variant, models in (summary.get("models") or {}).items():
        known = [name for name in (*SIDES, *BASELINES) if name in models]
        for name in (*known, *(name for name in models if name not in known)):
            yield variant, name, models[name]


def choose_metric(summary: Summary) -> str:
    """Chooses the metric of the answer: the area under the ROC curve if its differences were measured.

    Example:
        >>> choose_metric({"differences": [{"metric": "accuracy"}]}), choose_metric({})
        ('accuracy', 'roc_auc')
    """
    measured = list_values(found["metric"] for found in summary.get("differences") or ())
    return "roc_auc" if "roc_auc" in measured or not measured else measured[0]
