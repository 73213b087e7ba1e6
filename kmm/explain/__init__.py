"""Where in the picture and which words in the report: attributions of a classifier, with a known error."""


def explain(classifier, study, settings=None):
    """Explains one study.

    Calls with one classifier share what is traced of its model. For a folder, use
    `kmm.explain.folder.explain_folder`. With `settings.targets` the first of the labels is explained.

    Args:
        classifier: `kmm.classifier.Classifier`.
        study: `kmm.data.study.Study`.
        settings: `kmm.explain.settings.ExplainSettings`, or None for the defaults.

    Returns:
        `kmm.explain.explanation.Explanation`: `.regions`, `.words`, `.attribution`, `.save(folder)`. A notebook shows
        it as a page.

    Raises:
        ImageError, ReportError: if the study cannot be used.
        InputError: if a setting does not suit the classifier.
    """
    return next(_find_explainer(classifier, settings).explain([study]))


def _find_explainer(classifier, settings):
    """An explainer of a classifier, kept with it, so that explaining in a loop traces its model once.

    It is made anew when another setting than the labels and the regions changed, or the classifier did: its model, its
    temperatures, or a weight on backends that replace a weight's array (JAX).
    """
    from dataclasses import replace

    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings, RegionSettings

    settings, model = settings or ExplainSettings(), classifier.models[classifier.main]
    traced = replace(settings, target=None, targets=(), regions=RegionSettings())
    made_of = [model, classifier.batches, *(weight.value for weight in model.weights)]
    numbers = [traced, classifier.main, classifier.temperatures[classifier.main].tolist()]
    kept = vars(classifier).get("_explainer")
    if kept is None or kept[0] != numbers or not _are_same(kept[1], made_of):
        kept = classifier._explainer = (numbers, made_of, Explainer(classifier, settings))
    return kept[2].with_settings(settings)


def _are_same(ones, others):
    return len(ones) == len(others) and all(one is other for one, other in zip(ones, others))
