"""A saved classifier to a version that TensorFlow Serving loads: written aside, tried, then put in its place."""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kmm.classifier import Classifier, run_model
from kmm.errors import ArtefactError, InputError
from kmm.export.explanation import ExplainSignature
from kmm.export.samples import make_samples
from kmm.export.served import ServedClassifier
from kmm.export.traces import strip_paths
from kmm.export.warmup import write_warmup
from kmm.protocol import signatures as names
from kmm.storage.archive import open_classifier
from kmm.storage.classifier_folder import CARD, digest_description

TOLERANCE = 1e-5  # largest difference of a probability between the export and the classifier
LAST_VERSION = 2**63 - 1  # TensorFlow Serving reads versions as int64
DEFAULT_EXPLANATION = ExplainSignature()


def export_classifier(
    folder,
    *,
    version=None,
    out=None,
    default="tensors",
    explanation=DEFAULT_EXPLANATION,
    batching=None,
    warmup=(1, 8),
    inspect=None,
):
    """Exports a saved classifier as a SavedModel.

    Args:
        folder: path of a saved classifier, trained on any backend.
        version: int from 1 to 2**63 - 1, or None: the next free one.
        out: path of the folder of versions, or None: `folder` itself.
        default: key of `kmm.protocol.signatures.DEFAULTS`: what `serving_default` takes.
        explanation: `ServedExplanation`, or None: no explanations.
        batching: `kmm.export.graph.batching.Batching`, or None: each call runs alone.
        warmup: tuple of int, the numbers of rows of the warm-up requests; empty: none.
        inspect: callable, or None. It is given the folder of the finished export before that is published, and the dict
            that `describe` answers with; what it raises ends the export, and nothing is published.

    Returns:
        Path of the version.

    Raises:
        InputError: if the version is there, an option does not fit the classifier, or Keras does not run on TensorFlow.
        ArtefactError: if the classifier is incomplete, or the export does not say what the classifier says.
    """
    if out is None and Path(folder).is_file():
        raise InputError(f"{folder}: expected `out`, the folder of the versions: an archive takes no export.")
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
    folder,
    place,
    *,
    name,
    default="tensors",
    explanation=DEFAULT_EXPLANATION,
    batching=None,
    warmup=(1, 8),
    inspect=None,
):
    """Exports a saved classifier to a folder of any name; for the rest as `export_classifier`.

    Args:
        folder, default, explanation, batching, warmup, inspect: as there.
        place: Path of the export; nothing may be there.
        name: str, the model's name in its description and its warm-up requests.
    """
    require_tensorflow()
    with open_classifier(folder) as source, _without_empty_folders(place), new_folder(place) as temporary:
        classifier = Classifier.load(source, main_only=True)
        description = _write(temporary, source, classifier, default, explanation, batching, warmup, name=name)
        check_export(temporary, classifier)
        if inspect:
            inspect(temporary, description)


def require_tensorflow():
    """Raises `InputError` if Keras does not run on TensorFlow, which an export needs."""
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"An export needs KERAS_BACKEND=tensorflow. Received: {keras.backend.backend()}.")


@contextlib.contextmanager
def new_folder(place):
    """Hands out a folder beside `place`, its name no number, that becomes `place` when the block is done.

    Args:
        place: Path. Folders above it are made. It may be an empty folder.

    Yields:
        Path. When the block fails it is gone, and nothing is at `place`.

    Raises:
        InputError: if something took the place meanwhile.

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
        temporary.chmod(0o755)  # the server's user reads it
        _publish(temporary, place)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _without_empty_folders(place):
    """Removes the folders above `place` that were made in the block and are empty at its end."""
    made = [parent for parent in place.parents if not parent.exists()]
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # a folder that is not empty stays, and so do those above it
            for parent in made:
                parent.rmdir()


def choose_version(base, version=None):
    """The folder of a version, free.

    Args:
        base: Path of the folder of versions.
        version: int from 1 to 2**63 - 1, or None: one more than the highest there is.

    Raises:
        InputError: if it is taken or out of range.

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
        raise InputError(f"{base / str(version)}: expected a version that is free. Choose another, or none: the next.")
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
    except tf.errors.OpError as error:  # TensorFlow's own, of the disk too
        raise OSError(*_read_cause(error), str(place.parent)) from None
    if (folder / CARD).is_file():
        (place / "assets.extra").mkdir(exist_ok=True)
        card = strip_paths((folder / CARD).read_text(encoding="utf-8"))
        (place / "assets.extra" / CARD).write_text(card, encoding="utf-8")
    return json.loads(served.description)


def _read_cause(error):
    """Number and text of the error of the disk that an error of TensorFlow tells of."""
    known = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EIO)
    number = next((number for number in known if os.strerror(number) in str(error)), errno.EIO)
    return number, os.strerror(number)


def check_export(folder, classifier):
    """Loads an export, calls each signature once, and compares it with the classifier.

    Args:
        folder: path of the export.
        classifier: `Classifier`.

    Returns:
        float, the largest difference of a probability.

    Raises:
        ArtefactError: if it cannot be loaded, the difference is above 1e-5, or a number is not finite.
    """
    samples = make_samples(classifier, 3)
    with _told("The export cannot be loaded"):
        loaded = tf.saved_model.load(str(folder))
    worst = 0.0
    expected = _predict(classifier, samples)
    for name, function in loaded.signatures.items():
        inputs = function.structured_input_signature[1]
        with _told(f"The signature {name} of the export cannot be called"):
            found = function(**{key: tf.constant(samples[key]) for key in inputs})
            found = {key: value.numpy() for key, value in found.items()}
        numbers = [value for value in found.values() if value.dtype.kind == "f"]
        if not all(np.isfinite(value).all() for value in numbers):
            raise ArtefactError(f"The signature {name} of the export gives numbers that are not finite.")
        for key in {names.PROBABILITIES, names.SCORES} & set(found):
            worst = float(np.maximum(worst, np.abs(found[key] - expected).max()))  # keeps NaN
    if not worst <= TOLERANCE:
        raise ArtefactError(
            f"The export differs from the classifier by {worst:.2g} in a probability. Expected at most {TOLERANCE:.0e}."
        )
    return worst


@contextlib.contextmanager
def _told(what):
    """TensorFlow's errors as one line."""
    try:
        yield
    except (tf.errors.OpError, IndexError, OSError) as error:
        raise ArtefactError(f"{what}: {(str(error).splitlines() or ['no text'])[0]}") from None


def _predict(classifier, samples):
    """The classifier's own probabilities of samples."""
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
            raise InputError(f"{place}: expected a version that is free. Another export took it.") from None
        raise error
