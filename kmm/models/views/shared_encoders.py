"""Run several models on the same batches; what an encoder with equal weights computes for them is computed once.

The parts of a classifier (films alone, reports alone, both) start from the same encoder, and keep it where training did
not change it: then its features, most of the work, are the same for each part.
"""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import keras
import numpy as np

from kmm.models.views.feature_view import view_encoder, view_features
from kmm.models.views.parts import encoders_of, parts_read
from kmm.models.weights.checkpoints import architecture_digest

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
            if not encoders_of(model, side):
                continue
            group = next((group for group in groups if _is_equal(models[group[0]], model, side)), None)
            if group is None:
                groups.append([name])
            else:
                group.append(name)
        found[side] = [tuple(group) for group in groups if len(group) > 1]
    return found


def join_models(models: Mapping[str, keras.Model], shared: Mapping[str, list[tuple[str, ...]]]) -> keras.Model:
    """Makes one model of several, in which a shared encoder is called once. It shares its weights with them.

    Args:
        models: dict of name to `keras.Model` from `kmm.models.build.build_model`.
        shared: dict of side to groups of names, as from `find_shared`.

    Returns:
        `keras.Model` from the raw inputs that any of the models reads, and `present`, to a dict of name to logits.
    """
    inputs = {tensor.name: tensor for model in models.values() for tensor in model.inputs}
    inputs = {name: keras.Input(tensor.shape[1:], dtype=tensor.dtype, name=name) for name, tensor in inputs.items()}
    encoded: dict[tuple[str, str], dict[str, keras.KerasTensor]] = {}
    logits = {}
    for name, model in models.items():
        features = {"present": inputs["present"]}
        sides = [side for side in SIDES if encoders_of(model, side)]
        for side in sides:
            group = next((group for group in shared.get(side, ()) if name in group), (name,))
            if (side, group[0]) not in encoded:
                view = view_encoder(models[group[0]], side, _find_parts([models[one] for one in group], side))
                encoded[side, group[0]] = view({raw: inputs[raw] for raw in view.input})
            for part in parts_read(model, side):
                features[f"{side}_{part}"] = encoded[side, group[0]][part]
        logits[name] = view_features(model, sides)(features)
    return keras.Model(inputs, logits)


class SharedEncoders:
    """Runs models on batches, those with a shared encoder as one model, which is made and traced once."""

    def __init__(self) -> None:
        self._joined: dict[tuple, tuple[list[keras.Model], keras.Model]] = {}

    def prepare(self, models: Mapping[str, keras.Model]) -> Callable[[Arrays], dict[str, np.ndarray]]:
        """Makes a function from a batch to the logits of each model. It compares the weights that they have by now.

        Args:
            models: dict of name to `keras.Model` from `kmm.models.build.build_model`.

        Returns:
            function from `{"image", "token_ids", "present"}` (those that the models read) to a dict of name to logits,
            float32 `(n, n_labels)`.
        """
        shared = find_shared(models) if len(models) > 1 else {}
        joined = self._join(models, shared) if any(shared.values()) else None

        def run(inputs: Arrays) -> dict[str, np.ndarray]:
            if joined is not None:
                found = predict_batch(joined, inputs)
            else:
                found = {name: predict_batch(model, inputs) for name, model in models.items()}
            return {name: np.asarray(rows, np.float32) for name, rows in found.items()}

        return run

    def _join(self, models, shared):
        """Returns the joined model that was made for the same models before, or makes it."""
        key, given = (*models, repr(shared)), list(models.values())
        made_of, joined = self._joined.get(key, ([], None))
        if len(made_of) != len(given) or any(one is not other for one, other in zip(made_of, given)):
            joined = join_models(models, shared)
            self._joined[key] = (given, joined)
        return joined


def predict_batch(model: keras.Model, inputs: Arrays) -> Any:
    """Computes the outputs of a model that takes some or all of the inputs by name, without training."""
    return model.predict_on_batch({tensor.name: inputs[tensor.name] for tensor in model.inputs})


def _find_parts(models, side):
    """Returns the parts of an encoder's result that the fusions of some models need, sorted."""
    return sorted({part for model in models for part in parts_read(model, side)})


def _is_equal(first, second, side):
    pairs = list(zip(encoders_of(first, side), encoders_of(second, side), strict=True))
    if any(architecture_digest(one) != architecture_digest(other) for one, other in pairs):
        return False
    variables = chain.from_iterable(zip(one.weights, other.weights, strict=True) for one, other in pairs)
    return all(one is other or _same_values(one, other) for one, other in variables)


def _same_values(one, other):
    return tuple(one.shape) == tuple(other.shape) and np.array_equal(
        *(keras.ops.convert_to_numpy(variable.value) for variable in (one, other))
    )
