"""Run several models on the same batches; what an encoder with equal weights computes for them is computed once.

The parts of a classifier (films alone, reports alone, both) start from the same encoder, and keep it where training did
not change it: then its features, most of the work, are the same for each part.
"""

import json
from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import keras
import numpy as np

from kmm.models.feature_view import view_encoder, view_features
from kmm.models.parts import embed_of, fusion_of, image_encoder_of, text_encoder_of

SIDES = ("image", "text")
Arrays = Mapping[str, np.ndarray]


def find_shared(models: Mapping[str, keras.Model]) -> dict[str, list[tuple[str, ...]]]:
    """Groups models by equal encoders: the same layers with the same weights, whether or not they are trainable.

    Args:
        models: dict of name to `keras.Model` from `kmm.models.build.build_model`.

    Returns:
        dict of `"image"` and `"text"` to tuples of the names of two or more models that share the encoder of this side.

    Example:
        >>> from kmm.models.build import ModelSpec, build_model
        >>> spec = ModelSpec(image_encoder="small-cnn", pixels=32)
        >>> first, second, other = (build_model(spec, label_count=1, seed=seed) for seed in (0, 0, 1))
        >>> find_shared({"first": first, "second": second, "other": other})
        {'image': [('first', 'second')], 'text': []}
    """
    found: dict[str, list[tuple[str, ...]]] = {}
    for side in SIDES:
        groups: list[list[str]] = []
        for name, model in models.items():
            if not _encoders(model, side):
                continue
            group = next((group for group in groups if _is_equal(models[group[0]], model, side)), None)
            if group is None:
                groups.append([name])
            else:
                group.append(name)
        found[side] = [tuple(group) for group in groups if len(group) > 1]
    return found


class SharedEncoders:
    """Runs models on batches, with views of them that are made and traced once."""

    def __init__(self) -> None:
        self._views: dict[tuple, tuple[keras.Model, keras.Model]] = {}

    def prepare(self, models: Mapping[str, keras.Model]) -> Callable[[Arrays], dict[str, np.ndarray]]:
        """Makes a function from a batch to the logits of each model. It compares the weights that they have by now.

        Args:
            models: dict of name to `keras.Model` from `kmm.models.build.build_model`.

        Returns:
            function from `{"image", "token_ids", "present"}` (those that the models read) to a dict of name to logits,
            float32 `(n, n_labels)`.
        """
        shared = find_shared(models) if len(models) > 1 else {}
        groups = [(side, group) for side, found in shared.items() for group in found]
        encoders = [(side, group, self._view_encoder(models, side, group)) for side, group in groups]
        heads = {name: self._view_head(name, model, groups) for name, model in models.items()}

        def run(inputs: Arrays) -> dict[str, np.ndarray]:
            features: dict[str, dict[str, np.ndarray]] = {name: {} for name in heads}
            for side, group, encoder in encoders:
                encoded = predict_batch(encoder, inputs)
                for name in group:
                    features[name] |= {f"{side}_{part}": np.asarray(rows, np.float32) for part, rows in encoded.items()}
            return {
                name: np.asarray(predict_batch(head, {**inputs, **features[name]}), np.float32)
                for name, head in heads.items()
            }

        return run

    def _view_encoder(self, models, side, group):
        """Returns a view of a group's encoder, from its raw input to the parts that the group's fusions need."""
        needs = {name.partition("_") for one in group for name in fusion_of(models[one]).input}
        parts = tuple(sorted(part for of, _, part in needs if of == side and part))
        return self._view((group[0], side, parts), models[group[0]], lambda model: view_encoder(model, side, parts))

    def _view_head(self, name, model, groups):
        """Returns a view of a model that starts from the features of the encoders it shares; the model if none."""
        sides = tuple(side for side, group in groups if name in group)
        return self._view((name, sides), model, lambda model: view_features(model, sides)) if sides else model

    def _view(self, key, model, make):
        """Returns the view of a model that was made under a key before, or makes it."""
        made_of, view = self._views.get(key, (None, None))
        if made_of is not model:
            self._views[key] = (model, view := make(model))
        return view


def predict_batch(model: keras.Model, inputs: Arrays) -> Any:
    """Computes the outputs of a model that takes some or all of the inputs by name, without training."""
    return model.predict_on_batch({tensor.name: inputs[tensor.name] for tensor in model.inputs})


def _encoders(model, side):
    """Returns the nested models of one side, in the order of the data; empty if the model does not read it."""
    found = [image_encoder_of(model)] if side == "image" else [embed_of(model), text_encoder_of(model)]
    return [encoder for encoder in found if encoder is not None]


def _is_equal(first, second, side):
    pairs = list(zip(_encoders(first, side), _encoders(second, side), strict=True))
    if any(_describe(one) != _describe(other) for one, other in pairs):
        return False
    variables = chain.from_iterable(zip(one.weights, other.weights, strict=True) for one, other in pairs)
    return all(one is other or _same_values(one, other) for one, other in variables)


def _same_values(one, other):
    return tuple(one.shape) == tuple(other.shape) and np.array_equal(
        *(keras.ops.convert_to_numpy(variable.value) for variable in (one, other))
    )


def _describe(encoder):
    """Describes the layers of an encoder, and whatever they compute, as text. Layers are named by their numbers, since
    Keras counts the names of operations on from model to model."""
    config = encoder.get_config()
    numbers = {name: f"layer {number}" for number, name in enumerate(dict.fromkeys(_layer_names(config)))}
    return json.dumps(_simplify(config, numbers), sort_keys=True, default=repr)


def _layer_names(config):
    for layer in config.get("layers", ()):
        yield layer["config"]["name"]
        yield from _layer_names(layer["config"])


def _simplify(config, numbers):
    """Copies a configuration without what is trainable, and with other names of layers."""
    if isinstance(config, dict):
        return {name: _simplify(value, numbers) for name, value in config.items() if name != "trainable"}
    if isinstance(config, list | tuple):
        return [_simplify(value, numbers) for value in config]
    return numbers.get(config, config) if isinstance(config, str) else config
