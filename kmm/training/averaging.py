"""Averages that the models of a run take once they are trained: of several views of a film."""

from collections.abc import Mapping

import keras

from kmm.models.views.parts import encoders_of
from kmm.training.run_context import RunContext


def add_views(context: RunContext, models: Mapping[str, keras.Model], *, note: bool = True) -> dict[str, keras.Model]:
    """Lets the models that read films average over views of each film, as the setting `tta` says.

    Training saw the film alone. All that follows, calibration, baselines, results, explanations and exports, is of the
    averaged models.

    Args:
        context: `RunContext`.
        models: mapping of side to trained `keras.Model`.
        note: bool. Whether to say what it costs.

    Returns:
        dict of the same sides to models of the same weights.
    """
    views = context.settings.tta
    if views < 2:
        return dict(models)
    reading = [side for side, model in models.items() if encoders_of(model, "image")]
    if reading and note:
        context.progress.note(
            f"Test-time averaging over {views} views of a film: from here on, films cost {views} times the computation"
        )
    return {side: _add_views(context, side, model) if side in reading else model for side, model in models.items()}


def _add_views(context, side, model):
    averaged = context.build(side, tta=context.settings.tta)
    averaged.set_weights(model.get_weights())
    for made, trained in zip(_list_layers(averaged), _list_layers(model), strict=True):
        made.trainable = trained.trainable
    return averaged


def _list_layers(model):
    """Lists the layers of a model that have weights, those of nested models in their place."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _list_layers(layer)
        elif layer.weights:
            yield layer
