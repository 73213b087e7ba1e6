"""Features of encoders, by side and part of the encoding, computed once for all studies that share them."""

import functools
import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from kmm.image.prepare import PREPARATION_VERSION
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.fusion import FUSIONS
from kmm.models.joined.film_views import FilmViews
from kmm.models.linear_probe import LinearProbe
from kmm.models.views.feature_view import view_encoder
from kmm.models.views.parts import encoders_of, parts_read
from kmm.models.weights.checkpoints import architecture_digest, weights_digest
from kmm.settings import FitSettings
from kmm.training.cache.array_store import ArrayStore
from kmm.training.cache.cache_folder import name_entry
from kmm.training.preparation.report_lengths import divide_by_length
from kmm.training.run_context import RunContext
from kmm.training.stages.recipe import make_recipe

MOST_AT_ONCE = 256  # films or reports per batch
LAYER_BYTES = 2**28  # of the largest output of a layer for one batch; a few such outputs are in memory at a time
MEMORY_BYTES = 2**28  # features of one part that are larger stay on disk
# Sequences are stored as half floats: 49 x 2,048 numbers per film take 200 kB. Vectors are stored as computed.
SEQUENCE_TYPE = "float16"
# Raise the number of a side whenever the same encoder, weights and input give other features.
VERSIONS = {"image": 1, "text": 2}


@dataclass(frozen=True)
class Source:
    """Input of an encoder for the studies of a run.

    Attributes:
        name: str. Name of the encoder's input.
        encoder: str. Name of the encoder, for people.
        column: array, or column of `kmm.training.cache.stored_arrays`, of all studies.
        keys: sequence of str, one per study: equal for equal inputs; empty for a study whose features are zeros.
        facts: dict for JSON of everything that decides the features, except the weights.
        title: str, for the user.
    """

    name: str
    encoder: str
    column: Any
    keys: Sequence[str]
    facts: Mapping[str, Any]
    title: str


def find_source(context: RunContext, side: str) -> Source:
    """Returns what the encoder of `"image"` or `"text"` reads in a run."""
    s, prepared = context.settings, context.prepared
    shared = {"precision": s.precision, "backend": keras.backend.backend(), "version": VERSIONS[side]}
    if side == "image":
        film = context.maker.image and {**context.maker.image.as_dict(), "version": PREPARATION_VERSION}
        facts = {**shared, "film": film}
        return Source("image", str(s.image_encoder), prepared.films, prepared.film_digests, facts, "Features of films")
    keys = [hashlib.sha256(row.tobytes()).hexdigest() for row in context.token_ids]
    return Source("token_ids", str(s.text_encoder), context.token_ids, keys, shared, "Features of reports")


class Features:
    """Features of the encoders of a run's models. A column of features has one row per study.

    The parts of an encoding that the fusion needs are computed in one pass, once for each set of weights. All are read
    from files as float32, so that a run that finds them has exactly those of the run that computed them. Features of an
    encoder that the run has not trained are kept in the cache for other runs, by the content of film or report; those
    of an encoder that it has trained serve no other run.

    Args:
        context: `RunContext`.
        ahead: dict of a side to the parts that another model of the run will read of its encoder as it is, so that they
            are computed in the same pass: see `list_ahead`.

    Attributes:
        probes: dict of a digest to the `LinearProbe` of the features fitted on it: see `kmm.training.linear_start`.
    """

    def __init__(self, context: RunContext, ahead: Mapping[str, Sequence[str]] | None = None):
        self.context, self.ahead = context, ahead or {}
        self.probes: dict[str, LinearProbe] = {}
        self._trained: set[str] = set()
        self._known: dict[str, tuple[str, dict[str, Any]]] = {}  # by side: digest of the weights, columns

    def mark_trained(self, side: str) -> None:
        """Notes that the run trains the encoder of a side."""
        self._trained.add(side)

    def compute(self, model: keras.Model, sides: Sequence[str]) -> dict[str, Any]:
        """Returns the columns of the encoders of some sides of a model.

        Args:
            model: `keras.Model` from `kmm.models.build.build_model`.
            sides: of `"image"` and `"text"`.

        Returns:
            dict of `"<side>_<part>"` to an array `(n, ...)`, or a column on disk if that would be large.
        """
        columns: dict[str, Any] = {}
        for side in sides:
            digest, read = digest_encoder(model, side), parts_read(model, side)
            found, known = self._known.get(side, ("", {}))
            if found != digest or any(f"{side}_{part}" not in known for part in read):
                wanted = tuple(dict.fromkeys([*read, *self.ahead.get(side, ())]))
                self._known[side] = digest, self._compute(model, side, digest, wanted)
            columns |= self._known[side][1]
        return columns

    def recall(self, model: keras.Model) -> dict[str, Any]:
        """Returns the columns of those encoders of a model of which all that it reads is known, for its weights."""
        columns: dict[str, Any] = {}
        for side, (digest, known) in self._known.items():
            read = [f"{side}_{part}" for part in parts_read(model, side)]
            if read and known.keys() >= set(read) and digest == digest_encoder(model, side):
                columns |= known
        return columns

    def _compute(self, model, side, digest, wanted):
        context, encoder = self.context, view_encoder(model, side, wanted)
        cut = side == "text" and TEXT_ENCODERS[str(context.settings.text_encoder)].any_length
        shorten = functools.partial(view_encoder, model, side, wanted) if cut else None
        source = find_source(context, side)
        folder = context.work / "features" if side in self._trained else context.cache
        facts = {**source.facts, "architecture": architecture_digest(encoder), "weights": digest}
        stores = {}
        for part, tensor in encoder.output.items():
            kept = {**facts, "stored": SEQUENCE_TYPE} if _is_sequence(tensor) else facts
            stores[part] = ArrayStore(folder / name_entry(f"features-{source.encoder}-{part}", kept))
        fill_stores(encoder, source, stores, context.progress, shorten=shorten)
        return {f"{side}_{part}": _open_column(store, source.keys) for part, store in stores.items()}


def list_ahead(settings: FitSettings) -> dict[str, tuple[str, ...]]:
    """Lists the parts of an encoding that the joint model of a fit will read of each encoder that no stage trains.

    Example:
        >>> frozen = FitSettings(fusion="cross-attention", image_weights="imagenet", tune_image="none")
        >>> list_ahead(frozen), list_ahead(FitSettings())
        ({'image': ('vector', 'sequence', 'mask')}, {})
    """
    recipe = make_recipe(settings)
    if "joint" not in recipe:
        return {}
    trained = {side for stages in recipe.values() for stage in stages if stage.epochs for side in stage.trained}
    return {side: FUSIONS[settings.fusion].needs for side in ("image", "text") if side not in trained}


def digest_encoder(model: keras.Model, side: str) -> str:
    """Returns a digest of the weights of a side's encoder, of reports with their embedding rows. That of an encoder
    within another, which averages views, differs by the names of the weights."""
    return " ".join(weights_digest(encoder) for encoder in encoders_of(model, side))


def fill_stores(
    encoder: keras.Model,
    source: Source,
    stores: Mapping[str, ArrayStore],
    progress: Any,
    *,
    shorten: Callable[..., keras.Model] | None = None,
) -> None:
    """Computes the features that a store lacks, and adds them to it; the next films are read while the encoder runs.

    Args:
        encoder: `keras.Model` from `view_encoder`.
        source: `Source`.
        stores: dict of part to the `ArrayStore` of its arrays.
        progress: `kmm.progress.Progress`.
        shorten: function from the keyword `length` to the `keras.Model` of shorter reports. A report is then read with
            the length of `divide_by_length`; the places that are left out are zero in sequence and mask. None for an
            encoder of one length.
    """
    for store in stores.values():
        store.check(key for key in source.keys if key)
    missing: dict[str, int] = {}
    for row, key in enumerate(source.keys):
        if key and any(key not in store for store in stores.values()):
            missing.setdefault(key, row)
    if not missing:
        return
    for part, store in stores.items():
        count = sum(key not in store for key in missing)
        store.reserve(count, _measure_stored(encoder.output[part]), source.title.lower())
    whole = encoder.inputs[0].shape[1]
    groups = divide_by_length(source.column, missing, whole) if shorten else {whole: missing}
    cut = 0
    with progress.step(source.title, len(missing)) as advance:
        for length, rows in groups.items():
            reader = shorten(length=length) if shorten and length < whole else encoder
            reader.compile(jit_compile="auto" if keras.backend.backend() == "jax" else False)  # as the stages
            size = choose_batch(encoder, len(rows))
            keys = list(rows)
            for start, inputs in read_ahead(source.column, list(rows.values()), size):
                made = reader.predict_on_batch({source.name: inputs[:, :length]})
                chunk = keys[start : start + size]
                for part, store in stores.items():
                    arrays, beyond = _pack(np.asarray(made[part])[: len(chunk)], encoder.output[part])
                    cut += beyond
                    for key, array in zip(chunk, arrays, strict=True):
                        if key not in store:
                            store.add(key, np.ascontiguousarray(array))
                advance(len(chunk))
    for store in stores.values():
        store.flush()
    if cut:
        progress.note(f"{source.title}: {cut} numbers are outside the range of half floats and were set to its limits.")


def _is_sequence(tensor):
    """Returns whether a part of an encoding has several rows `(n, m, k)`."""
    return len(tensor.shape) > 2


def _pack(arrays, tensor):
    """Returns the arrays of a part in the shape and type in which they are stored, and how many numbers its range
    cuts."""
    if arrays.shape[1] < tensor.shape[1]:  # of reports that were cut
        left_out = [(0, 0), (0, tensor.shape[1] - arrays.shape[1]), *[(0, 0)] * (arrays.ndim - 2)]
        arrays = np.pad(arrays, left_out)
    if not _is_sequence(tensor):
        return arrays.astype(np.float32, copy=False), 0  # files have no half precision of the kind bfloat16
    limit = float(np.finfo(SEQUENCE_TYPE).max)
    return np.clip(arrays, -limit, limit).astype(SEQUENCE_TYPE), int((np.abs(arrays) > limit).sum())


def choose_batch(encoder: keras.Model, count: int) -> int:
    """Chooses the number of films or reports per batch: the largest power of 2, up to 256, for which the largest output
    of a layer takes at most 256 MiB; not much more than there are.

    Args:
        encoder: `keras.Model`.
        count: int. Number of films or reports.

    Returns:
        int, at least 1.

    Example:
        >>> film = keras.Input((224, 224, 1))
        >>> maps = keras.layers.Conv2D(64, 3, strides=2, padding="same")(film)
        >>> choose_batch(keras.Model(film, maps), 1000), choose_batch(keras.Model(film, maps), 5)
        (64, 8)
    """
    found = list(_list_layers(encoder))
    largest = max(_measure(tensor) for layer in found for tensor in keras.tree.flatten(layer.output))
    largest *= max(layer.views if isinstance(layer, FilmViews) else 1 for layer in found)  # outputs are of one view
    fitting = max(1, LAYER_BYTES // largest)
    return min(MOST_AT_ONCE, 2 ** (fitting.bit_length() - 1), 2 ** (max(count, 1) - 1).bit_length())


def read_ahead(column: Any, rows: Sequence[int], size: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yields batches of a column while the next one is read; the last one is filled up with its first rows.

    Args:
        column: array, or another object that returns an array for an array of row numbers.
        rows: sequence of int.
        size: int. Rows per batch.

    Yields:
        the position in `rows` of the batch's first row, and its array `(size, ...)`.

    Example:
        >>> [(start, batch.tolist()) for start, batch in read_ahead(np.array([5, 6, 7]), [2, 1, 0], 2)]
        [(0, [7, 6]), (2, [5, 5])]
    """
    chunks = [np.resize(rows[start : start + size], size) for start in range(0, len(rows), size)]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(column.__getitem__, chunks[0])
        for number in range(len(chunks)):
            batch = waiting.result()
            if number + 1 < len(chunks):
                waiting = pool.submit(column.__getitem__, chunks[number + 1])
            yield number * size, batch


def _open_column(store, keys):
    """Returns a column of a store as float32, in memory unless it is large."""
    column = store.column(keys, np.float32)
    return np.asarray(column) if 4 * math.prod(column.shape) <= MEMORY_BYTES else column


def _list_layers(model):
    for layer in model.layers:
        yield from _list_layers(layer) if isinstance(layer, keras.Model) else [layer]


def _measure_stored(tensor):
    """Returns the bytes of one row of a tensor in its store, at most."""
    return _measure(tensor) // 4 * (np.dtype(SEQUENCE_TYPE).itemsize if _is_sequence(tensor) else 4)


def _measure(tensor):
    """Returns the bytes of one row of a tensor."""
    return math.prod(tensor.shape[1:]) * 4
