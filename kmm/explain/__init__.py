"""Where in the picture and which words in the report: attributions of a classifier, with a known error."""


def explain(classifier, study, settings=None):
    """Explains one study.

    For many, make a `kmm.explain.explainer.Explainer` once; for a folder, use `kmm.explain.folder.explain_folder`.

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
    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings

    return next(Explainer(classifier, settings or ExplainSettings()).explain([study]))
