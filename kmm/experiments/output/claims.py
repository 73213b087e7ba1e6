"""State in two sentences what a comparison shows: by how much the joint model is better or worse, and how sure that is.

A difference counts as shown if its 95 % interval leaves out 0 and its p after Holm's correction is below 0.05.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from kmm.evaluate.output.p_values import state_p
from kmm.experiments.output.number_formats import show_between, show_signed
from kmm.experiments.schema import LOWER_IS_BETTER, MACRO, Difference, Summary, choose_metric
from kmm.experiments.titles import BEST, DEFAULT, SIDES, title_briefly, title_metric, title_variant, title_within
from kmm.explain.output.markup import is_known

LEVEL = 0.05
WITH_ARTICLE = (BEST, "linear-sum", "majority")
SIDE_NAMES = {"joint": "the joint model", "image": "the image model", "text": "the text model"}


@dataclass(frozen=True)
class Answer:
    """What a comparison shows for one variant.

    Attributes:
        variant: str.
        sentences: tuple of str: the joint model against its sides, and against the best simple baseline.
        cautions: tuple of str: other models and baselines that the joint model does not exceed.
        best: str. Names of the best simple baselines, which were chosen on validation in each split.
    """

    variant: str
    sentences: tuple[str, ...]
    cautions: tuple[str, ...]
    best: str = ""

    @property
    def title(self) -> str:
        """The variant as printed; empty if nothing was varied."""
        return title_variant(self.variant)


def state_answers(summary: Summary) -> list[Answer]:
    """States the answer for each variant.

    Args:
        summary: `Summary`.

    Returns:
        list of `Answer`, without those that have no difference of the joint model.

    Example:
        >>> found = {"first": "joint", "second": "text", "metric": "roc_auc", "label": "macro", "difference": 0.02}
        >>> found |= {"interval": [0.01, 0.03], "p": 0.001, "p_holm": 0.002}
        >>> state_answers({"differences": [found]})[0].sentences[0]
        'In ROC AUC, the joint model is better than the text model by 0.020 (95 % interval 0.010 to 0.030, p = 0.002).'
    """
    metric = choose_metric(summary)
    variants = dict.fromkeys(found.get("variant", "") for found in summary.get("differences") or ())
    answers = []
    for variant in variants:
        found = find_claims(summary, variant, metric)
        sides = [state_claim(found[name]) for name in SIDES if name in found]
        others = [one for name, one in found.items() if name not in SIDES]
        sentences = [f"In {title_metric(metric)}, the joint model {' and '.join(sides)}."] if sides else []
        if others:
            subject = "It" if sides else f"In {title_metric(metric)}, the joint model"
            sentences.append(f"{subject} {' and '.join(map(state_claim, others))}.")
        if sentences:
            cautions = tuple(_list_cautions(summary, variant, metric))
            answers.append(Answer(variant, tuple(sentences), cautions, name_best(summary, variant, metric)))
    return answers


def find_claims(summary: Summary, variant: str, metric: str, *, beside: bool = False) -> dict[str, Difference]:
    """Finds the differences of the joint model from other models of a variant, means over labels.

    Args:
        summary: `Summary`.
        variant, metric: str.
        beside: bool. Finds those from all models and baselines, which are not tested, instead of the claims.

    Returns:
        dict of the other model to its `Difference`, in the order of the summary.
    """
    differences = summary.get("beside") if beside else summary.get("differences")
    return {
        found["second"]: found
        for found in differences or ()
        if found.get("variant", "") == variant
        and found.get("against") is None
        and found["first"] == "joint"
        and found["metric"] == metric
        and found.get("label", MACRO) == MACRO
        and is_known(found.get("difference"))
    }


def is_clear(found: Difference) -> bool:
    """Returns whether the interval of a difference leaves out 0.

    Example:
        >>> is_clear({"interval": [0.01, 0.03]}), is_clear({"interval": [-0.01, 0.03]}), is_clear({})
        (True, False, False)
    """
    between = found.get("interval")
    return between is not None and (between[0] > 0 or between[1] < 0)


def is_shown(found: Difference) -> bool:
    """Returns whether a difference is shown: its interval leaves out 0, and its adjusted p is below 0.05.

    Example:
        >>> is_shown({"interval": [0.01, 0.03], "p_holm": 0.01}), is_shown({"interval": [0.01, 0.03], "p_holm": 0.2})
        (True, False)
    """
    p = choose_p(found)
    return is_clear(found) and (p is None or p < LEVEL)


def choose_p(found: Difference) -> float | None:
    """Returns the adjusted p of a difference, or its own if it was not adjusted."""
    adjusted = found.get("p_holm")
    return found.get("p") if adjusted is None else adjusted


def state_claim(found: Difference) -> str:
    """States how the first model of a difference compares with the second, as the rest of a sentence.

    Example:
        >>> state_claim({"second": "tfidf", "metric": "roc_auc", "difference": -0.01, "interval": [-0.02, 0.005]})
        'is not shown to differ from TF-IDF + logistic regression (difference −0.010, 95 % interval −0.020 to +0.005)'
    """
    value, between, other = found["difference"] or 0.0, found.get("interval"), _name_other(found)
    if between is None:
        return f"differs from {other} by {show_signed(value)}, which has no interval and so shows nothing"
    tested = "".join(f", {said}" for said in [state_p(choose_p(found))] if said)
    if is_shown(found):
        higher = value > 0
        better = higher != (found["metric"] in LOWER_IS_BETTER)
        ends = between if higher else (-between[1], -between[0])
        size = f"{abs(value):.3f} (95 % interval {ends[0]:.3f} to {ends[1]:.3f}{tested})"
        return f"is {'better' if better else 'worse'} than {other} by {size}"
    holm = " after Holm's correction" if is_clear(found) else ""
    return f"is not shown to differ from {other}{holm} ({show_difference(found)}{tested})"


def show_difference(found: Difference) -> str:
    """Formats a difference with its interval, for brackets in a sentence.

    Example:
        >>> show_difference({"difference": -0.01, "interval": [-0.02, 0.005]}), show_difference({"difference": 0.5})
        ('difference −0.010, 95 % interval −0.020 to +0.005', 'difference +0.500, without an interval')
    """
    between = found.get("interval")
    ends = "without an interval" if between is None else f"95 % interval {show_between(between)}"
    return f"difference {show_signed(found['difference'])}, {ends}"


def name_best(summary: Summary, variant: str, metric: str) -> str:
    """Names the baselines that were chosen on validation as the best ones, with the number of splits of each.

    Example:
        >>> name_best({"best_baseline": {"": {"roc_auc": ["tfidf", "linear-sum", "tfidf"]}}}, "", "roc_auc")
        'TF-IDF + logistic regression in 2 splits, sum of both linear scores in 1'
        >>> name_best({"best_baseline": {"": {"roc_auc": ["tfidf", "tfidf"]}}}, "", "roc_auc")
        'TF-IDF + logistic regression in all splits'
    """
    chosen = ((summary.get("best_baseline") or {}).get(variant) or {}).get(metric) or ()
    counts = Counter(chosen).most_common()
    if len(counts) == 1:
        return f"{title_within(counts[0][0])} in all splits"
    parts = [f"{title_within(name)} in {count}" for name, count in counts]
    return ", ".join([f"{parts[0]} splits", *parts[1:]]) if parts else ""


def name_models(found: Difference) -> str:
    """Names the models of a difference; one model of two variants is named once.

    Example:
        >>> name_models({"first": "joint", "second": "tfidf"})
        'Joint − TF-IDF + logistic regression'
        >>> name_models({"first": "joint", "second": "joint", "against": "pixels=64"})
        'Joint'
    """
    first, second = (title_briefly(found[place]) for place in ("first", "second"))
    return first if found.get("against") is not None and first == second else f"{first} − {second}"


def name_variants(found: Difference) -> str:
    """Names the variant of a difference, or both of them.

    Example:
        >>> name_variants({"variant": "pixels=128", "against": "pixels=64"})
        'pixels = 128 − pixels = 64'
    """
    first, second = found.get("variant", ""), found.get("against")
    if second is None:
        return title_variant(first)
    return f"{title_variant(first) or DEFAULT} − {title_variant(second) or DEFAULT}"


def _name_other(found):
    """Names the second model of a difference in a sentence."""
    name = found["second"]
    return SIDE_NAMES.get(name, f"the {title_within(name)}" if name in WITH_ARTICLE else title_within(name))


def _list_cautions(summary: Summary, variant: str, metric: str) -> Iterator[str]:
    """Lists the models that the joint model does not exceed on the studies of both, beside those of the claims."""
    claims = find_claims(summary, variant, metric)
    for name, found in find_claims(summary, variant, metric, beside=True).items():
        value = found["difference"] or 0.0
        if name in claims or (-value if metric in LOWER_IS_BETTER else value) > 0:
            continue
        yield (
            f"In {title_metric(metric)}, the joint model is no better than {_name_other(found)} "
            f"({show_difference(found)})."
        )
