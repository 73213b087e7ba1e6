"""Format of a comparison's summary, `summary.json` of schema `kmm-comparison-1`, and what is looked up in it.

Every key may be absent: a reader leaves out what is not there. Unknown numbers are None, never NaN.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict

from kmm.experiments.tables import list_values
from kmm.experiments.titles import BASELINES, SIDES

COMPARISON_SCHEMA = "kmm-comparison-1"
MACRO = "macro"  # the label of a mean over labels
LOWER_IS_BETTER = ("brier", "log_loss", "ece")

Interval = Sequence[float] | None  # the ends of a 95 % interval


class Estimate(TypedDict, total=False):
    """One metric over splits: `mean`, `sd`, the 95 % `interval` of the mean, and the `n` `values`, one per split."""

    mean: float | None
    sd: float | None
    interval: Interval
    n: int
    left_out: int
    values: Sequence[float | None]


class Difference(TypedDict, total=False):
    """The difference `first` minus `second` of a metric, over the same splits.

    `first` and `second` are models of `variant`; if `against` is not None, `second` belongs to that variant. `p` is
    that of the corrected resampled t-test, `naive_p` that of the ordinary t-test, and `p_holm` is adjusted over all
    differences of the same `family`. `reason` says why `p` is None. Both models are measured on the studies of both;
    `restricted` counts the splits in which some are left out. `labels` lists the labels that the means are over, if the
    two do not have the same ones, and is None otherwise.
    """

    variant: str
    first: str
    second: str
    against: str | None
    metric: str
    label: str
    difference: float | None
    interval: Interval
    t: float | None
    p: float | None
    p_holm: float | None
    naive_p: float | None
    restricted: int
    labels: Sequence[str] | None
    family: str
    reason: str | None
    n: int
    left_out: int
    values: Sequence[float | None]


class PublishedNumber(TypedDict, total=False):
    """A published number: `what` is its table, `protocol` the protocol that it belongs to, or empty."""

    what: str
    model: str
    metric: str
    part: str
    value: float
    source: str
    protocol: str


class Summary(TypedDict, total=False):
    """The object of `summary.json`.

    Attributes:
        schema: str, `kmm-comparison-1`.
        protocol: str, a name of the table of protocols.
        given: dict of `preset`, `tune` (bool) and `settings`, those that neither preset nor protocol has, as
            on the command line.
        variants: dict of variant (`""` or `"NAME=V1;NAME2=W"`) to its changes.
        resampling: dict of `folds` (0 for repeated splits), `splits`, `repeats`, `plain` (bool), `count`,
            `description`, `n_train`, `n_test` and `ratio`, of the test part to all others.
        labels: list of str, those of all variants.
        labels_by_variant: dict of variant to its labels, a list of str.
        data: dict of `name`, `studies`, `patients`, `sections` (list of str), `set_aside` (int), and the settings
            `image_encoder`, `image_depths`, `image_grid`, `head`, `text_teacher` and `image_teacher` (None if
            varied); what is missing is counted in the predictions.
        studies: dict of part to the number of studies in the first split.
        leaks: list of dict, one per split that leaks: numbers of `patients`, `bodies`, `films`, `studies`.
        models: dict of variant to model to metric to `Estimate`, on the test part, means over labels.
        parts: dict of `train` and `validation` to the same.
        differences: list of `Difference`.
        beside: list of `Difference` without tests: the joint model minus every other model and baseline.
        families: dict of family to a dict of `tests` (number) and `what`.
        best_baseline: dict of variant to metric to the baselines chosen on validation, one per split.
        within: list of dict of `split`, `variant` and `within`, the result of `compare_models` on that test part.
        published: list of `PublishedNumber`.
        pooled: list of dict, one per variant, label and pair of models, of
            `kmm.experiments.pooled_folds.pool_folds`: tests over the folds of the first cross-validation, or on the
            only split.
        shapley: dict of variant to metric to the dict of `kmm.evaluate.statistics.shapley.share_metric`, its numbers
            `Estimate`.
        errors_mended: list of dict of `kmm.evaluate.breakdown.error_table.tabulate_errors`; a study may have an
            `explanation` (relative path of its page).
        wrong_report: dict of variant to the dict of `kmm.evaluate.breakdown.wrong_report.measure_wrong_report`, each
            number an `Estimate`.
        selective: dict of variant to label to `aurc`, `oracle`, `excess`, `random` (`Estimate`) of the main model.
        subgroups: dict of variant to a list of dict of `grouping`, `value`, `label`, `note`, and `n`, `n_positive`,
            `roc_auc`, `accuracy`, `sensitivity`, `specificity` (`Estimate`) of the main model.
        label_schemes: dict of variant to scheme to a dict of `rows`: model to metric to `Estimate`.
        not_measured: list of dict of `variant`, `measure` (`shapley`, `wrong_report`, `selective`, `subgroups` or
            `label_schemes`), `reason` and `splits`, those in which it could not be measured for that reason.
        leak: dict of variant to `tfidf_auc_before` and `tfidf_auc_after` (`Estimate`: TF-IDF on the text before its
            redaction, and on exactly the text that the models read) and `redacted` (bool).
        mined: dict of variant to the sections that its models read and that its labels were made from, by rules;
            variants without any are left out.
        sizes: dict, if sizes of the training part were compared; all other keys then describe the whole training part.
            `smaller` (list of int), `parts` (list of dict of `size`, `splits` and the mean number of studies of each
            part), `splits`, `wanted` (float or None), `labels_left_out` (dict of variant to the labels that a small
            training part lacks), `notes` (of the tasks with smaller training parts), and `curves`: dict of variant to
            model to metric to `points` (list of `Estimate` with `size` and `studies`), `curve` (`a`, `b`, `c`) or
            None and the `reason`, `line` (list of dict of `studies`, `value`, `interval`), and `wanted`: None, or a
            dict of `value`, `state` (`reached`, `beyond` or `flat`), `studies`, `interval`, `smallest`, `largest` and
            `limit` (what the curve approaches).
        minutes, memory_gb: float. Sum over the tasks, and the largest memory of one process.
        notes: list of str, about studies that were used without something.
        failed: list of dict of `split`, `variant`, `reason`, and `size` if the training part was made smaller.
        reduced: list of str, one sentence per deviation from the published protocol.
        command: list of str or str; versions, digests: dict of str to str.
    """

    schema: str
    protocol: str
    given: Mapping[str, Any]
    variants: Mapping[str, Any]
    resampling: Mapping[str, Any]
    labels: Sequence[str]
    labels_by_variant: Mapping[str, Sequence[str]]
    data: Mapping[str, Any]
    studies: Mapping[str, int]
    leaks: Sequence[Mapping[str, int]]
    models: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    parts: Mapping[str, Mapping[str, Mapping[str, Mapping[str, Estimate]]]]
    differences: Sequence[Difference]
    beside: Sequence[Difference]
    families: Mapping[str, Mapping[str, Any]]
    best_baseline: Mapping[str, Mapping[str, Sequence[str]]]
    within: Sequence[Mapping[str, Any]]
    published: Sequence[PublishedNumber]
    pooled: Sequence[Mapping[str, Any]]
    shapley: Mapping[str, Any]
    errors_mended: Sequence[Mapping[str, Any]]
    wrong_report: Mapping[str, Any]
    selective: Mapping[str, Any]
    subgroups: Mapping[str, Any]
    label_schemes: Mapping[str, Any]
    not_measured: Sequence[Mapping[str, Any]]
    leak: Mapping[str, Any]
    mined: Mapping[str, Sequence[str]]
    sizes: Mapping[str, Any]
    minutes: float
    memory_gb: float | None
    notes: Sequence[str]
    failed: Sequence[Mapping[str, Any]]
    reduced: Sequence[str]
    command: Sequence[str] | str
    versions: Mapping[str, str]
    digests: Mapping[str, str]


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


def list_test_numbers(summary: Summary) -> list[PublishedNumber]:
    """Lists the published numbers that stand beside measured ones: those of all three models on a test part.

    Example:
        >>> row = {"what": "table 2", "part": "test", "model": "text"}
        >>> list_test_numbers({"published": [row]})
        []
    """
    found = [number for number in summary.get("published") or () if number["part"] == "test"]
    models = {
        number["what"]: {other["model"] for other in found if other["what"] == number["what"]} for number in found
    }
    return [number for number in found if models[number["what"]] >= set(SIDES)]


def choose_shares(summary: Summary) -> dict[str, Mapping[str, Any]]:
    """Chooses the Shapley shares of the metric of the answer, by variant; variants without any are left out.

    Example:
        >>> choose_shares({"shapley": {"": {"roc_auc": {"values": {}}}, "pixels=64": None}})
        {'': {'values': {}}}
    """
    metric = choose_metric(summary)
    found = {variant: (shares or {}).get(metric) for variant, shares in (summary.get("shapley") or {}).items()}
    return {variant: shares for variant, shares in found.items() if shares}
