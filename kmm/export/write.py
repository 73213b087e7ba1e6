"""Export of a saved classifier for TensorFlow Serving: written to a temporary folder, checked, then published."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kmm.classifier import Classifier, run_model
from kmm.errors import ArtefactError, InputError
from kmm.evaluate.output.card_pictures import drop_pictures
from kmm.export.explanation import ExplainSignature
from kmm.export.graph.batching import Batching
from kmm.export.samples import make_samples
from kmm.export.served import ServedClassifier
from kmm.export.traces import strip_paths
from kmm.export.warmup import write_warmup
from kmm.protocol import signatures as names
from kmm.protocol.signatures import LAST_VERSION
from kmm.storage.archive import open_classifier
from kmm.storage.classifier_folder import CARD, digest_description

PROBABILITY_TOLERANCE = 1e-5  # largest difference of a probability between the export and the classifier
DEFAULT_EXPLANATION = ExplainSignature()


def export_classifier(
    folder: Path | str,
    *,
    version: int | None = None,
    out: Path | str | None = None,
    default: str = "tensors",
    explanation: ExplainSignature | None = DEFAULT_EXPLANATION,
    batching: Batching | None = None,
    warmup: Sequence[int] = (1, 8),
    inspect: Callable[[Path, dict[str, Any]], Any] | None = None,
) -> Path:
    """Exports a saved classifier as a SavedModel.

    Args:
        folder: path of a saved classifier, trained on any backend.
        version: int from 1 to 2**63 - 1; None for the next free one.
        out: path of the folder of versions; None for `folder` itself.
        default: key of `kmm.protocol.signatures.DEFAULT_SIGNATURES`: the inputs of `serving_default`.
        explanation: `ExplainSignature`, or None for no explanations.
        batching: `kmm.export.graph.batching.Batching`, or None to run each call alone.
        warmup: sequence of int, the numbers of rows of the warm-up requests; empty for no such requests.
        inspect: function, or None. Called with the folder of the finished export before it is published and the dict
            that `describe` returns; an exception from it cancels the export.

    Returns:
        Path of the version.

    Raises:
        InputError: if the version exists, an option does not fit the classifier, or Keras does not run on TensorFlow.
        ArtefactError: if the classifier is incomplete, or the export gives other probabilities than the classifier.
    """
    if out is None and Path(folder).is_file():
        raise InputError(f"{folder} is an archive, which cannot hold versions. Give `out`, the folder of the versions.")
    base = Path(out) if out else Path(folder)
    place = choose_version(base, version)
    export_to(
        folder,
        place,
        name=base.resolve().name,
        default=default,
        explanation=explanation,
        batching=batching,
        warmup=warmup,
        inspect=inspect,
    )
    return place


def export_to(
    folder: Path | str,
    place: Path,
    *,
    name: str,
    default: str = "tensors",
    explanation: ExplainSignature | None = DEFAULT_EXPLANATION,
    batching: Batching | None = None,
    warmup: Sequence[int] = (1, 8),
    inspect: Callable[[Path, dict[str, Any]], Any] | None = None,
) -> None:
    """Exports a saved classifier to a folder of any name; otherwise the same as `export_classifier`.

    Args:
        folder, default, explanation, batching, warmup, inspect: as for `export_classifier`.
        place: Path of the export, which must not exist.
        name: str, the model's name in its description and its warm-up requests.
    """
    require_tensorflow()
    with open_classifier(folder) as source, _without_empty_folders(place), new_folder(place) as temporary:
        classifier = Classifier.load(source, main_only=True)
        description = _write(temporary, source, classifier, default, explanation, batching, warmup, name=name)
        check_export(temporary, classifier)
        if inspect:
            inspect(temporary, description)


def require_tensorflow() -> None:
    """Raises `InputError` if Keras does not run on TensorFlow, which an export requires."""
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"An export needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}.")


@contextlib.contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Creates a temporary folder next to `place` and renames it to `place` when the block succeeds.

    Args:
        place: Path. Missing parent folders are created. It may be an empty folder.

    Yields:
        Path of the temporary folder; its name is not a number, so servers ignore it. If the block fails, the folder is
        removed and `place` is left alone.

    Raises:
        InputError: if `place` was created meanwhile.

    Example:
        >>> with tempfile.TemporaryDirectory() as base:
        ...     with new_folder(Path(base, "1")) as folder:
        ...         (folder / "saved_model.pb").touch()
        ...     [path.name for path in Path(base).iterdir()]
        ['1']
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".tmp-", dir=place.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # readable for the user of the server
        _publish(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _without_empty_folders(place):
    """Removes the parent folders of `place` that the block created and left empty."""
    made = [parent for parent in place.parents if not parent.exists()]
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a folder that is not empty stays, and so do its parents
            for parent in made:
                parent.rmdir()


def choose_version(base: Path, version: int | None = None) -> Path:
    """Returns the folder of a new version.

    Args:
        base: Path of the folder of versions.
        version: int from 1 to 2**63 - 1; None for one more than the highest existing version.

    Raises:
        InputError: if the version exists or is out of range.

    Example:
        >>> choose_version(Path("no-such-folder")).name
        '1'
    """
    found = base.iterdir() if base.is_dir() else ()
    numbers = (int(path.name) for path in found if re.fullmatch("[0-9]+", path.name))
    taken = {number for number in numbers if number <= LAST_VERSION}  # servers ignore folders with larger numbers
    if version is None:
        version = max(taken, default=0) + 1
    if not 1 <= version <= LAST_VERSION:
        raise InputError(f"A version must be a number from 1 to {LAST_VERSION}. Received: {version}.")
    if version in taken:
        raise InputError(
            f"{base / str(version)} already exists. Choose another version, or none for the next free one."
        )
    return base / str(version)


def _write(place, folder, classifier, default, explanation, batching, warmup, *, name):
    vocabulary = folder / "vocabulary.txt" if classifier.batches.text else None
    served = ServedClassifier(
        classifier,
        vocabulary,
        explanation=explanation,
        batching=batching,
        default=default,
        source={"name": name, "digest": digest_description(folder)},
    )
    try:
        tf.saved_model.save(served.held, str(place), signatures=served.trace())
        if warmup:
            write_warmup(place, classifier, served, name=name, sizes=tuple(sorted(warmup)))
    except tf.errors.OpError as error:  # TensorFlow raises this for errors of the disk, too
        raise OSError(*_read_cause(error), str(place.parent)) from None
    if (folder / CARD).is_file():
        (place / "assets.extra").mkdir(exist_ok=True)
        card = drop_pictures(strip_paths((folder / CARD).read_text(encoding="utf-8")))
        (place / "assets.extra" / CARD).write_text(card, encoding="utf-8")
    return json.loads(served.description)


def _read_cause(error):
    """Finds the number and text of the disk error behind an error of TensorFlow."""
    known = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO)
    number = next((number for number in known if os.strerror(number) in str(error)), errno.EIO)
    return number, os.strerror(number)


def check_export(folder: Path | str, classifier: Classifier) -> float:
    """Loads an export, calls each signature once, and compares the results with the classifier.

    Args:
        folder: path of the export.
        classifier: `Classifier`.

    Returns:
        float, the largest difference of a probability.

    Raises:
        ArtefactError: if the export cannot be loaded, the difference is above 1e-5, or a number is not finite.
    """
    samples = make_samples(classifier, 3)
    with _shorten_errors("The export cannot be loaded"):
        loaded = tf.saved_model.load(str(folder))
    worst = 0.0
    expected = _predict(classifier, samples)
    for name, function in loaded.signatures.items():
        inputs = function.structured_input_signature[1]
        with _shorten_errors(f"The signature {name} of the export cannot be called"):
            found = function(**{key: tf.constant(samples[key]) for key in inputs})
            found = {key: value.numpy() for key, value in found.items()}
        numbers = [value for value in found.values() if value.dtype.kind == "f"]
        if not all(np.isfinite(value).all() for value in numbers):
            raise ArtefactError(f"The signature {name} of the export returns NaN or infinity.")
        for key in {names.PROBABILITIES, names.SCORES} & set(found):
            worst = float(np.maximum(worst, np.abs(found[key] - expected).max()))  # keeps NaN
    if not worst <= PROBABILITY_TOLERANCE:
        raise ArtefactError(
            f"A probability of the export differs from the classifier's by {worst:.2g}. "
            f"Allowed: {PROBABILITY_TOLERANCE:.0e}."
        )
    return worst


@contextlib.contextmanager
def _shorten_errors(summary):
    """Converts TensorFlow's errors to one line that begins with a summary."""
    try:
        yield
    except (tf.errors.OpError, IndexError, OSError) as error:
        raise ArtefactError(f"{summary}: {(str(error).splitlines() or ['no text'])[0]}") from None


def _predict(classifier, samples):
    """Computes the classifier's own probabilities for samples."""
    count = len(samples[names.TARGET])
    sides = [names.IMAGE, names.TOKEN_IDS]
    inputs = {side: samples[side] for side in sides if side in samples}
    present = [inputs[side].reshape(count, -1).any(axis=1) if side in inputs else np.zeros(count) for side in sides]
    inputs["present"] = np.stack(present, axis=1).astype(np.float32)
    logits = run_model(classifier.models[classifier.main], inputs)
    return classifier.probabilities(logits, inputs["present"])


def _publish(temporary, place):
    try:
        os.rename(temporary, place)
    except OSError as error:
        if place.exists():
            raise InputError(f"{place} was created by another export meanwhile. Export again.") from None
        raise error
