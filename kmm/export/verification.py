"""Whether a saved classifier is what it was: its files, its answers, and the exports that were made of it."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from kmm.classifier import Classifier
from kmm.errors import ArtefactError
from kmm.storage.archive import digest_classifier, open_classifier, peek_description
from kmm.storage.classifier_folder import read_description
from kmm.storage.known_answers import compare_answers

PASSED, FAILED, UNKNOWN = "passed", "failed", "not known"


@dataclass(frozen=True)
class ModelCheck:
    """What one check of a classifier found.

    Attributes:
        name: str. What was checked.
        result: `"passed"`, `"failed"`, or `"not known"` where nothing is there to compare with.
        detail: str, one line.
    """

    name: str
    result: str
    detail: str

    def as_dict(self):
        """The check as JSON holds it."""
        return asdict(self)


def verify_classifier(model):
    """Checks a saved classifier and its exports.

    Three kinds of checks: each file has the digest that was written with it; the classifier gives the answers to
    made-up studies that it gave when it was saved (a known-answer test); each export beside it gives the same
    probabilities as the classifier, within 1e-5, by every signature.

    Args:
        model: path of a saved classifier, or of an archive that `kmm model pack` wrote.

    Returns:
        list of `ModelCheck`. The first that fails ends them: what comes after would compare with something unsound.

    Raises:
        InputError: if there are exports and Keras does not run on TensorFlow.
        ArtefactError: if nothing is there that says that it is a classifier.
    """
    peek_description(model)
    with open_classifier(model) as folder:
        try:
            description = read_description(folder)
            classifier = Classifier.load(folder)
        except ArtefactError as error:
            return [ModelCheck("files", FAILED, str(error).replace(str(folder), str(model)))]
    checks = [
        ModelCheck("files", PASSED, f"{len(description['files'])} files with the digests of when they were saved")
    ]
    checks.append(_check_answers(classifier, description))
    if checks[-1].result != FAILED:
        checks += [_check_export(place, classifier, model) for place in _list_exports(model)]
    return checks


def _check_answers(classifier, description):
    expected = description.get("known_answers")
    if not isinstance(expected, dict):
        return ModelCheck(
            "answers", UNKNOWN, "the version of kmm that saved the classifier kept no answers to compare with"
        )
    worst, most = compare_answers(classifier, expected)
    said = f"differ by {worst:.1e} in a probability from when it was saved; at most {most:.0e} is expected"
    return ModelCheck("answers", PASSED if worst <= most else FAILED, said)


def _list_exports(model):
    folder = Path(model)
    found = [path for path in folder.iterdir() if re.fullmatch("[0-9]{1,19}", path.name)] if folder.is_dir() else []
    return sorted((path for path in found if (path / "saved_model.pb").is_file()), key=lambda path: int(path.name))


def _check_export(place, classifier, model):
    from kmm.export.write import check_export, require_tensorflow

    require_tensorflow()
    try:
        worst = check_export(place, classifier)
    except ArtefactError as error:
        why = "" if _read_digest(place) == digest_classifier(model) else " It was exported from another classifier."
        return ModelCheck(f"export {place.name}", FAILED, f"{error}{why}")
    return ModelCheck(f"export {place.name}", PASSED, f"differs by {worst:.1e} in a probability from the classifier")


def _read_digest(place):
    """The digest of the classifier that an export says it was made of; None where it cannot say."""
    import tensorflow as tf

    try:
        describe = tf.saved_model.load(str(place)).signatures["describe"]
        (said,) = describe(query=tf.constant([b""]))["description"].numpy()
        return json.loads(said).get("digest")
    except (tf.errors.OpError, OSError, KeyError, ValueError, AttributeError):
        return None
