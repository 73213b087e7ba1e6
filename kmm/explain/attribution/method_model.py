"""A classifier's model as one method of attribution needs it: where it is cut, what its second half returns."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from keras import ops

from kmm.errors import InputError
from kmm.explain.attribution.methods import Method
from kmm.explain.attribution.split_model import (
    SplitModel,
    call_halves,
    call_view,
    choose_chunk,
    cut_model,
    open_model,
)
from kmm.explain.settings import ExplainSettings
from kmm.models.views.path_view import LOGITS

if TYPE_CHECKING:
    from kmm.classifier import Classifier

MOST_LABELS = 4  # labels of a study in one pass: more share little more time, and take as much more memory each
Finish = Callable[[Any, Mapping[str, Any]], Any]  # (vectors (m, d), fixed) -> scores (m,)


def split_for_method(
    classifier: "Classifier",
    method: Method,
    settings: ExplainSettings,
    *,
    output: str = LOGITS,
    finish: Finish | None = None,
    freeze: bool = False,
) -> SplitModel:
    """Splits the model of a classifier's main part for a method.

    Args:
        classifier: `kmm.classifier.Classifier`.
        method: `Method`.
        settings: `ExplainSettings`.
        output: one of `kmm.models.views.path_view.OUTPUTS`, what the second half returns.
        finish: function from vectors of `output` and other inputs to the scores that are explained. None: the logits,
            or the probabilities, as the settings say.
        freeze: bool. See `kmm.explain.attribution.gradients.compile_function`.

    Returns:
        `SplitModel`.

    Raises:
        InputError: as `cut_model`, `choose_chunk` and, for a method that reads attention, `open_model`; or if such a
            method is to explain vectors.
    """
    layer, encoder = None, classifier.image_encoder
    if method.at_feature_map and encoder:
        layer = settings.layer or encoder.feature_map
    view = cut_model(classifier, layer, output)
    labels = min(MOST_LABELS, len(classifier.label_names)) if settings.targets and finish is None else 1
    chunk = choose_chunk(getattr(view, method.repeated), settings.memory_gb, view.held, labels=labels)
    name = f"image_{layer}" if layer else None
    if finish is None:
        stem, score = call_view(view, classifier, settings.output)
        opened = None
        if method.at_attention:
            opened = open_model(classifier, output=settings.output, memory_gb=settings.memory_gb)
        return SplitModel(stem, score, chunk, name, freeze, view.views, opened=opened, labels=labels)
    if method.at_attention:
        raise InputError("Methods that read attention explain labels. Choose another `method`.")
    stem, rest = call_halves(view)

    def score_column(inner, fixed):
        return ops.expand_dims(finish(rest(inner, fixed), fixed), -1)  # of one label, so to say

    return SplitModel(stem, score_column, chunk, name, freeze, view.views, rest=rest)
