"""Archive of a saved classifier to share: one file without ids, patients or text of reports."""

import dataclasses
import re
import tempfile
from pathlib import Path, PureWindowsPath
from typing import Any

from kmm.classifier import Classifier
from kmm.errors import InputError
from kmm.evaluate.output.card import write_card
from kmm.evaluate.result_files import describe_for_card, describe_sources
from kmm.export.traces import IdSearch, read_ids
from kmm.rules.rule_scheme import AUDIT, KEPT, drop_folder
from kmm.storage.archive import digest_classifier, write_archive
from kmm.storage.classifier_folder import CARD
from kmm.text.vocabulary import SPECIAL_WORDS

# Facts and settings that may be paths
FILES = ("source", "image_weights", "text_weights", "word_vectors", "word_pieces", "redact")
RULES = (KEPT, AUDIT)  # facts with expressions, which look like paths
_ABSOLUTE = re.compile(r"(?<!\S)(?:~|[A-Za-z]:)?[/\\]\S*[/\\]")


def pack_classifier(model: Path | str, path: Path | str) -> dict[str, Any]:
    """Writes a saved classifier as an archive that contains nothing about a single study.

    The archive leaves out the split with the ids of studies and patients, the hashes that recognise training studies,
    the TF-IDF baseline, whose terms are pairs of words from reports, and the folders of the training files. It keeps
    the weights, the vocabulary, the preparation, the calibration, the mean film, the results and the model card.

    Args:
        model: path of a saved classifier.
        path: path of the archive, ending in `.zip`. An existing file is replaced.

    Returns:
        dict: `archive` (str), `digest` of the packed classifier, `bytes`, `files` (list of str), `words` (int) of the
        vocabulary, `words_of_one_patient` (int, or None where it is not known), `left_out` (list of str),
        `image_weights` and `text_weights` (str, source and licence of the weights that the encoder started from, or
        None).

    Raises:
        ArtefactError: if the classifier is incomplete or was altered.
        InputError: if `path` is a folder or does not end in `.zip`, or a file contains an id of a study or patient.
    """
    path = Path(path)
    if path.suffix != ".zip" or path.is_dir():
        raise InputError(f"{path} cannot be an archive. Give the name of a file that ends in .zip.")
    classifier, digest = Classifier.load(model), digest_classifier(model)
    left_out = [
        *(["split.csv", "hashes of training studies"] if classifier.seen else []),
        *(["TF-IDF baseline"] if classifier.tfidf is not None else []),
        *(["linear baselines of films"] if classifier.linear is not None else []),
    ]
    paths = {name: getattr(classifier.settings, name) for name in FILES[1:]}
    classifier = dataclasses.replace(
        classifier,
        seen={},
        tfidf=None,
        tfidf_before=None,
        linear=None,
        provenance={**_without_folders(classifier.provenance), "packed_from": digest},
        settings=dataclasses.replace(
            classifier.settings, **_without_folders(paths), labels=drop_folder(classifier.settings.labels)
        ),
    )

    def add_card(folder):
        card = write_card(describe_for_card(classifier, path.name))
        (folder / CARD).write_text(card, encoding="utf-8")

    with tempfile.TemporaryDirectory(prefix="kmm-") as temporary:
        folder = Path(temporary, "classifier")
        classifier.save(folder, extra=add_card)
        _refuse_ids(folder, read_ids(Path(model) / "split.csv"))
        write_archive(folder, path)
        names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    return {
        "archive": str(path),
        "digest": digest_classifier(path),
        "bytes": path.stat().st_size,
        "files": names,
        "words": len(classifier.batches.vocabulary.words[len(SPECIAL_WORDS) :]) if classifier.batches.vocabulary else 0,
        "words_of_one_patient": classifier.provenance.get("text", {}).get("word_patients", {}).get("of_one_patient"),
        "left_out": left_out,
        **describe_sources(classifier.provenance),
    }


def _refuse_ids(folder, ids):
    """Searches text files for ids; weights contain any short byte sequence by chance."""
    search = IdSearch(ids)
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".keras", ".npy") and path.is_file() and search.count_in(path):
            raise InputError(
                f"{path.name} in the archive contains an id of a study or patient. Remove it from the names of the "
                "model and its labels, or train again with a higher --min-word-patients."
            )


def _without_folders(values, names=FILES):
    """Returns the values with the folders removed from their paths, so that only the names of files remain.

    Example:
        >>> _without_folders({"source": "weights/densenet.h5", "layout": "csv in /data/ward7", "label": "mass/nodule"})
        {'source': 'densenet.h5', 'layout': 'csv in ward7', 'label': 'mass/nodule'}
    """
    if isinstance(values, list):
        return [_without_folders(held, names) for held in values]
    if not isinstance(values, dict):
        return _ABSOLUTE.sub("", values) if isinstance(values, str) else values
    named = {
        name: PureWindowsPath(held).name for name, held in values.items() if name in names and isinstance(held, str)
    }
    rest = {name: held if name in RULES else _without_folders(held, names) for name, held in values.items()}
    return rest | named
