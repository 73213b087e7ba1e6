"""Explanations of a classifier: attributions to pixels and words, with a known error, and the files made from them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kmm.classifier import Classifier
    from kmm.data.study import Study
    from kmm.explain.explainer import Explainer
    from kmm.explain.explanation import Explanation
    from kmm.explain.settings import ExplainSettings


def explain(classifier: "Classifier", study: "Study", settings: "ExplainSettings | None" = None) -> "Explanation":
    """Explains one study.

    The model is traced at the first call; later calls with the same classifier reuse it. For a folder of studies, use
    `kmm.explain.folder.explain_folder`. With `settings.targets`, the first of the labels is explained.

    Args:
        classifier: `kmm.Classifier`, or the record `kmm.classifier.Classifier` that it holds.
        study: `kmm.data.study.Study`.
        settings: `kmm.explain.settings.ExplainSettings`, or None for the defaults.

    Returns:
        `kmm.explain.explanation.Explanation`: `.regions`, `.words`, `.attribution`, `.save(folder)`. Notebooks show it
        as a page.

    Raises:
        ImageError, ReportError: if the study cannot be used.
        InputError: if a setting does not suit the classifier.
    """
    record: Classifier = getattr(classifier, "record", classifier)
    return next(_find_explainer(record, settings).explain([study]))


def _find_explainer(classifier: "Classifier", settings: "ExplainSettings | None") -> "Explainer":
    """Returns the explainer cached on a classifier, so that explaining in a loop traces the model once.

    A new one is made when a setting other than the labels and the regions has changed, or the classifier has: its
    model, its temperatures, or a weight on backends that replace a weight's array (JAX).
    """
    from dataclasses import replace

    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings, RegionSettings

    settings, model = settings or ExplainSettings(), classifier.models[classifier.main]
    traced = replace(settings, target=None, targets=(), regions=RegionSettings())
    objects = [model, classifier.batches, *(weight.value for weight in model.weights)]  # compared by identity
    values = [traced, classifier.main, classifier.temperatures[classifier.main].tolist()]
    cached = vars(classifier).get("_explainer")
    if cached is None or cached[0] != values or not _are_same(cached[1], objects):
        cached = vars(classifier)["_explainer"] = (values, objects, Explainer(classifier, settings))
    return cached[2].with_settings(settings)


def _are_same(first, second):
    return len(first) == len(second) and all(one is other for one, other in zip(first, second))
