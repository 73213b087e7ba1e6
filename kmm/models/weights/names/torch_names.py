"""Translation of PyTorch's names and layouts of weights to those of the layers of a network."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kmm.errors import WeightsError
from kmm.models.networks.scalings import DEVIATION, MEAN

Layers = dict[str, list[np.ndarray]]
Kinds = dict[str, np.ndarray]  # the arrays of a layer by their kind: weight, bias, running_mean, ...
Shapes = dict[str, tuple[int, ...]]
Rule = tuple[str, str, str]
NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the channels of a network's films, for gray levels from 0 to 1."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


IMAGENET_CHANNELS = Normalisation(MEAN, DEVIATION)


@dataclass(frozen=True)
class Scheme:
    """The names that one program gives the tensors of a network.

    Attributes:
        publisher: str. Who names them so, for messages.
        anchor: str. Expression of the name of one tensor that every file of this scheme has, without a prefix.
        rules: sequence of `(pattern, layer, kind)`: the expression of a tensor's whole name without the prefix, the
            layer that it belongs to and its kind, both with `\\1` for the groups of the expression.
        channels: `Normalisation` of the films of this scheme, unless a file says otherwise.
        under: str. End that the prefix must have.
    """

    publisher: str
    anchor: str
    rules: Sequence[Rule]
    channels: Normalisation = IMAGENET_CHANNELS
    under: str = ""


@dataclass(frozen=True)
class TorchNames:
    """Function that translates a PyTorch state dict to a dict of layer name to its arrays.

    Attributes:
        schemes: tuple of `Scheme`.
        finish: function `(kinds) -> arrays` for layers that are neither convolution, dense layer nor normalisation, by
            the name of the layer, or by its end if that begins with `_`.
        complete: function that adds the arrays of layers that no file names to those that it has.
        expected: dict of keys of a config.json to the values that fit the network; a config that says otherwise is
            refused.
        recognises: function from a dict of layer to the shapes of its tensors by kind, to whether the network is
            theirs.

    Example:
        >>> names = TorchNames((Scheme("me", "first.weight", ((r"(first)\\.(weight|bias)", r"\\1", r"\\2"),)),))
        >>> state = {"net.first.weight": np.zeros((3, 2)), "net.first.bias": np.zeros(3), "old.bias": np.zeros(1)}
        >>> {layer: [array.shape for array in arrays] for layer, arrays in names(state).items()}
        {'first': [(2, 3), (3,)], 'old': [(1,)]}
        >>> names.place(state)
        {'net.first.weight': ('first', 'weight'), 'net.first.bias': ('first', 'bias')}
    """

    schemes: tuple[Scheme, ...]
    finish: Mapping[str, Callable[[Kinds], list[np.ndarray]]] = field(default_factory=dict)
    complete: Callable[[Layers], None] = lambda layers: None
    expected: Mapping[str, Any] = field(default_factory=dict)
    recognises: Callable[[Mapping[str, Shapes]], bool] = lambda layers: False

    def __call__(self, state: Mapping[str, np.ndarray]) -> Layers:
        """Translates a state dict. Names outside the network, such as those of a head, are not changed.

        Raises:
            WeightsError: if the file has the network twice, such as a student and its teacher.
        """
        places, layers = self.place(state), dict[str, Kinds]()
        for key, array in state.items():
            module, _, last = key.rpartition(".")
            layer, kind = places.get(key, (module or last, last))
            kinds = layers.setdefault(layer, {})
            if kind in kinds:
                raise WeightsError(f"Expected the weights of one network. Received two arrays for {layer}.")
            kinds[kind] = np.asarray(array) if key in places else array  # what is not used is not read
        inside = {layer for layer, _ in places.values()}
        made = {
            layer: _find_finish(layer, self.finish)(kinds) if layer in inside else list(kinds.values())
            for layer, kinds in layers.items()
        }
        self.complete(made)
        return made

    def fits(self, shapes: Mapping[str, tuple[int, ...]]) -> bool:
        """Returns whether tensors of these shapes, by their names, are the weights of this network."""
        layers: dict[str, Shapes] = {}
        for name, (layer, kind) in self.place(shapes).items():
            layers.setdefault(layer, {})[kind] = tuple(shapes[name])
        return bool(layers) and self.recognises(layers)

    def find_scheme(self, names: Any) -> tuple[Scheme, str] | None:
        """Returns the scheme of the names of tensors and their prefix; None if they are of no scheme.

        Raises:
            WeightsError: if the file has the network twice.
        """
        for scheme in self.schemes:
            found = (re.fullmatch(rf"((?:|.*\.){re.escape(scheme.under)})(?:{scheme.anchor})", name) for name in names)
            prefixes = sorted({match[1] for match in found if match})
            if len(prefixes) > 1:
                raise WeightsError(
                    "The file has the network more than once, under "
                    f"{' and '.join(repr(prefix) for prefix in prefixes[:3])}. Save the weights of one of them."
                )
            if prefixes:
                return scheme, prefixes[0]
        return None

    def place(self, names: Any) -> dict[str, tuple[str, str]]:
        """Returns the layer and the kind of each name that belongs to the network."""
        found = self.find_scheme(names)
        if found is None:
            return {}
        scheme, prefix = found
        places = {}
        for name in names:
            if name.startswith(prefix):
                for pattern, layer, kind in scheme.rules:
                    if match := re.fullmatch(pattern, name.removeprefix(prefix)):
                        places[name] = match.expand(layer), match.expand(kind)
                        break
        return places


def _find_finish(layer, finish):
    ends = (make for end, make in finish.items() if end.startswith("_") and layer.endswith(end))
    return finish.get(layer) or next(ends, finish_layer)


def finish_layer(kinds: Kinds) -> list[np.ndarray]:
    """Orders the arrays of a layer, and gives kernels Keras's layout.

    Example:
        >>> [array.shape for array in finish_layer({"bias": np.zeros(4), "weight": np.zeros((4, 3, 7, 7))})]
        [(7, 7, 3, 4), (4,)]
    """
    if "running_mean" in kinds:
        return [kinds[kind] for kind in NORM if kind in kinds]
    known = [kinds[kind] for kind in ("weight", "bias") if kind in kinds]
    if known and known[0].ndim == 4:
        return [known[0].transpose(2, 3, 1, 0), *known[1:]]  # output, input, height, width -> height, width, in, out
    if known and known[0].ndim == 2:
        return [known[0].T, *known[1:]]
    return known or list(kinds.values())


def finish_qkv(kinds: Kinds) -> list[np.ndarray]:
    """Puts the projections of query, key and value side by side."""
    if "weight" in kinds:
        return finish_layer(kinds)
    joined = {}
    for kind in ("weight", "bias"):
        parts = [
            kinds[f"{name} {kind}"] for name in ("query", "key", "value", "q", "k", "v") if f"{name} {kind}" in kinds
        ]
        if len(parts) == 3:
            joined[kind] = np.concatenate(parts)
    return finish_layer(joined or kinds)
