"""A functional Keras model of one's own: whether kmm can read it, and its layers repeated inside an encoder."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from kmm.errors import InputError, look_up

# Names of kmm's own layers in an encoder; a layer of the model with one of them gets another.
RESERVED = (
    *("film", "colour", "scaling", "average_pool", "max_pool", "pools", "places"),
    *("own_map", "rows", "padding_mask", "stem_rows", "stem_mask", "row_mask", "masked_mean", "one_place"),
)
CUSTOM = "Decorate the class with @keras.saving.register_keras_serializable() and give it `get_config`"


class OwnNetwork:
    """The layers of a Keras model, copied into every encoder that is built of it. The model itself does not change.

    Args:
        model: functional `keras.Model` that `check_model` accepted.
        name: str. Name of the encoder, for messages.

    Attributes:
        copies: dict from the name of each layer to its copy, of the last `repeat`. A layer of a nested model is named
            `outer/inner`.
        tensors: dict of the same names to the last output of each copy, in the order of the calls.

    Example:
        >>> rows = keras.Input((8, 2))
        >>> network = OwnNetwork(keras.Model(rows, keras.layers.Dense(3, name="dense")(rows)), "mine")
        >>> network.repeat(keras.Input((8, 2)), copy_weights=True).shape, list(network.copies)
        ((None, 8, 3), ['dense'])
    """

    def __init__(self, model: keras.Model, name: str):
        self.model, self.name = model, name
        self.copies: dict[str, keras.layers.Layer] = {}
        self.tensors: dict[str, keras.KerasTensor] = {}

    def repeat(self, inputs: Any, *, copy_weights: bool) -> keras.KerasTensor:
        """Applies copies of the model's layers to other inputs. The layers of nested models take their model's place.

        Args:
            inputs: KerasTensor, or a structure of them like the model's.
            copy_weights: bool. Give the copies the model's weights; otherwise their initializers choose them.

        Returns:
            the output, a KerasTensor.

        Raises:
            InputError: if the layers cannot be applied to inputs of these shapes.
        """
        self.copies, self.tensors = {}, {}
        made: dict[int, tuple[Any, Any]] = {}  # by id: an operation of the model and its copy
        taken = set(RESERVED)

        def copy(operation):
            if is_functional(operation):
                return operation  # its operations are copied when it is called
            if id(operation) not in made:
                made[id(operation)] = operation, _copy(operation, taken)
            return made[id(operation)][1]

        try:
            output = self._apply(self.model, inputs, copy, "")
        except (ValueError, TypeError) as error:
            shapes = " and ".join(str(tuple(tensor.shape)) for tensor in keras.tree.flatten(inputs))
            raise InputError(
                f"The model of the encoder {self.name!r} cannot read {shapes}: {first_line(error)}"
            ) from error
        for original, twin in made.values():
            if copy_weights and isinstance(twin, keras.layers.Layer) and twin.weights:
                twin.set_weights(original.get_weights())
        return output

    def find(self, layers: Mapping[str, Any], name: str) -> Any:
        """Returns the layer or tensor of a name in the model; raises `InputError` for an unknown one."""
        return look_up(layers, name, f"layer of the encoder {self.name!r}")

    def _apply(self, model, inputs, copy, prefix):
        """Applies a model's operations one by one; the last call gives its output, as there is only one."""
        inputs_of_model = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
        model = keras.Model(inputs_of_model, model.outputs[0])
        paths, results = {}, []

        def copy_and_note(operation):
            twin = copy(operation)
            paths[id(twin)] = f"{prefix}{operation.name}"
            return twin

        def call(operation, *arguments, **options):
            path = paths[id(operation)]
            if is_functional(operation):
                result = self._apply(operation, arguments[0], copy, f"{path}/")
            else:
                result = operation(*arguments, **options)
                if isinstance(operation, keras.layers.Layer):
                    self.copies[path], self.tensors[path] = operation, result
            results.append(result)
            return result

        keras.models.clone_model(model, inputs, clone_function=copy_and_note, call_function=call)
        return keras.tree.flatten(results[-1])[_find_output(model)]


def _copy(operation, taken):
    """Copies a layer, or an operation that is none, without its weights, under a name that is free."""
    config = operation.get_config()
    if isinstance(operation, keras.layers.Normalization) and config["mean"] is None:
        # The mean and variance that it adapted to become settings, which no copying of weights can miss.
        mean, variance, *_ = operation.get_weights()
        config |= {"mean": mean.tolist(), "variance": variance.tolist()}
    twin = type(operation).from_config(config)
    name = wanted = twin.name if isinstance(twin, keras.layers.Layer) else f"own_{twin.name}"
    number = 1
    while name in taken:
        number += 1
        name = f"{wanted}_own{number}"
    taken.add(name)
    twin.name = name
    return twin


def check_model(model: Any, name: str, *, inputs: int) -> None:
    """Checks that a model is functional, has one output, and can be saved and loaded.

    Args:
        model: what was given as the encoder.
        name: str. Name of the encoder, for messages.
        inputs: int. The number of inputs that it must have.

    Raises:
        InputError: if kmm cannot use the model; it says what to do.
    """
    start = f"The model of the encoder {name!r}"
    if not isinstance(model, keras.Model):
        raise InputError(f"{start} must be a keras.Model. Received: {type(model).__name__}.")
    if isinstance(model, keras.Sequential) and not model.built:
        raise InputError(f"{start} has no input shape. Begin the Sequential model with keras.Input.")
    if not is_functional(model):
        raise InputError(
            f"{start} is the subclassed model {type(model).__name__}, whose layers kmm cannot read. Build it with the "
            "functional API: keras.Model(inputs, outputs)."
        )
    if (len(model.inputs), len(model.outputs)) != (inputs, 1):
        raise InputError(
            f"{start} must have {inputs} input{'s' * (inputs > 1)} and 1 output. Received: {len(model.inputs)} and "
            f"{len(model.outputs)}. Give keras.Model(inputs, output) of the part to use."
        )
    for layer in list_layers(model):
        _check_layer(layer, start)
    try:
        keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))
    except Exception as error:  # configurations of other people's layers raise anything
        raise InputError(f"{start} cannot be saved and loaded again: {first_line(error)}") from error


def _check_layer(layer, start):
    kind = type(layer)
    if isinstance(layer, keras.layers.Lambda):
        raise InputError(
            f"{start} has the Lambda layer {layer.name!r}, which cannot be saved safely. Use keras.ops, or a layer "
            f"class of your own. {CUSTOM}."
        )
    if isinstance(layer, keras.Model):
        if not is_functional(layer):
            raise InputError(
                f"{start} contains the subclassed model {layer.name!r}, whose layers kmm cannot read. Build it with "
                "the functional API: keras.Model(inputs, outputs)."
            )
        return
    softmax = isinstance(layer, keras.layers.Softmax) or getattr(layer, "activation", None) is keras.activations.softmax
    if softmax and layer.output.shape[-1] == 1 and getattr(layer, "axis", -1) in (-1, layer.output.ndim - 1):
        raise InputError(
            f"{start} has a softmax over one unit in the layer {layer.name!r}, which is 1 for every input. Leave the "
            "layer out: kmm adds a logit per label."
        )
    builtin = kind.__module__.split(".")[0] == "keras"
    if not builtin and keras.saving.get_registered_object(keras.saving.get_registered_name(kind)) is None:
        raise InputError(f"{start} has the layer {layer.name!r} of the unregistered class {kind.__name__}. {CUSTOM}.")


def is_functional(layer: Any) -> bool:
    """Returns whether a layer is a model whose layers can be read."""
    if isinstance(layer, keras.Sequential):
        return layer.built
    return isinstance(layer, keras.Model) and hasattr(layer, "operations")


def list_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model and of the models nested in it."""
    for layer in model.layers:
        yield layer
        if is_functional(layer):
            yield from list_layers(layer)


def first_line(error: Exception) -> str:
    """Returns the first line of an error's text, at most 300 characters: Keras quotes whole configurations."""
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__


def _find_output(model):
    """Returns which output of its last layer is the output of a model."""
    place = model.get_config()["output_layers"]
    while isinstance(place[0], list | tuple):
        place = place[0]
    return place[2]
