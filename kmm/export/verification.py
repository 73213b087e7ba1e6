"""Verification of a saved classifier: its files, its known answers, and its exports."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kmm.classifier import Classifier
from kmm.errors import ArtefactError
from kmm.storage.archive import digest_classifier, open_classifier, peek_description
from kmm.storage.classifier_folder import read_description
from kmm.storage.known_answers import compare_answers

PASSED, FAILED, UNKNOWN = "passed", "failed", "not known"


@dataclass(frozen=True)
class ModelCheck:
    """Result of one check of a classifier.

    Attributes:
        name: str. The checked part.
        result: `"passed"`, `"failed"`, or `"not known"` where there is nothing to compare with.
        detail: str, one line.
    """

    name: str
    result: str
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """Returns the check as a dict for JSON."""
        return asdict(self)


def verify_classifier(model: Path | str) -> list[ModelCheck]:
    """Checks a saved classifier and its exports.

    There are three kinds of checks: each file has its recorded digest; the classifier gives the same answers to
    made-up studies as when it was saved (a known-answer test); each export in its folder gives the same probabilities
    as the classifier, within 1e-5, for every signature.

    Args:
        model: path of a saved classifier, or of an archive that `kmm model pack` wrote.

    Returns:
        list of `ModelCheck`. Exports are checked only if the files and the answers did not fail.

    Raises:
        InputError: if there are exports and Keras does not run on TensorFlow.
        ArtefactError: if `model` has no description of a classifier.
    """
    peek_description(model)
    with open_classifier(model) as folder:
        try:
            description = read_description(folder)
            classifier = Classifier.load(folder)
        except ArtefactError as error:
            return [ModelCheck("files", FAILED, str(error).replace(str(folder), str(model)))]
    checks = [ModelCheck("files", PASSED, f"{len(description['files'])} files have their recorded digests")]
    checks.append(_check_answers(classifier, description))
    if checks[-1].result != FAILED:
        checks += [_check_export(place, classifier, model) for place in _list_exports(model)]
    return checks


def _check_answers(classifier, description):
    expected = description.get("known_answers")
    if not isinstance(expected, dict):
        return ModelCheck(
            "answers", UNKNOWN, "the version of kmm that saved this classifier recorded no answers to compare with"
        )
    worst, most = compare_answers(classifier, expected)
    detail = f"probabilities differ by at most {worst:.1e} from those when it was saved; {most:.0e} is allowed"
    return ModelCheck("answers", PASSED if worst <= most else FAILED, detail)


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
    detail = f"probabilities differ by at most {worst:.1e} from the classifier's"
    return ModelCheck(f"export {place.name}", PASSED, detail)


def _read_digest(place):
    """Reads the digest of the exported classifier from an export; None where the export does not give it."""
    import tensorflow as tf

    try:
        describe = tf.saved_model.load(str(place)).signatures["describe"]
        (description,) = describe(query=tf.constant([b""]))["description"].numpy()
        return json.loads(description).get("digest")
    except (tf.errors.OpError, OSError, KeyError, ValueError, AttributeError):
        return None
