"""Names of models, metrics and variants as people read them."""

from kmm.evaluate.metrics import METRICS
from kmm.evaluate.output.result_rows import BASELINES as SIMPLE
from kmm.evaluate.output.result_rows import ROW_TITLES

SIDES = ("joint", "image", "text")
BASELINES = (*SIMPLE, "majority", "chance")
BEST = "best-baseline"  # the one that was chosen on validation in each split
MODEL_TITLES = {
    **{name: ROW_TITLES[name] for name in (*SIDES, *SIMPLE)},
    "joint-image": "Joint, film alone",
    "joint-text": "Joint, report alone",
    "majority": "Majority class",
    "chance": "Chance",
    BEST: "Best simple baseline",
}
DEFAULT = "as given"  # title of the variant without changes


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


def title_within(name: str) -> str:
    """Returns the title of a model in the middle of a sentence; an abbreviation stays as it is.

    Example:
        >>> title_within("tfidf"), title_within("majority")
        ('TF-IDF + logistic regression', 'majority class')
    """
    title = title_model(name)
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


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
