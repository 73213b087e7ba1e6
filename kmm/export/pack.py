"""A saved classifier for a colleague: one archive, without ids, patients or text."""

import dataclasses
import re
import tempfile
from pathlib import Path, PureWindowsPath

from kmm.classifier import Classifier
from kmm.errors import InputError
from kmm.evaluate.card import write_card
from kmm.evaluate.report import describe_for_card
from kmm.export.traces import IdSearch, read_ids
from kmm.storage.archive import digest_classifier, write_archive
from kmm.storage.classifier_folder import CARD
from kmm.text.vocabulary import SPECIAL_WORDS

FILES = ("source", "image_weights", "word_vectors", "word_pieces")  # facts and settings that may be a path
_ABSOLUTE = re.compile(r"(?<!\S)(?:~|[A-Za-z]:)?[/\\]\S*[/\\]")


def pack_classifier(model, path):
    """Writes a saved classifier as an archive that holds nothing of a single study.

    Left out are the split with the ids of studies and patients, the hashes by which training studies are recognised,
    the TF-IDF baseline, whose terms are pairs of words of reports, and the folders in which files of the training lay.
    The weights, the vocabulary, the preparation, the calibration, the mean film, the results and the model card stay.

    Args:
        model: path of a saved classifier.
        path: Path of the archive; its name ends in `.zip`. A file that is there is replaced.

    Returns:
        dict: `archive` (str), `digest` of the packed classifier, `bytes`, `files` (list of str), `words` (int) of the
        vocabulary, `words_of_one_patient` (int, or None where it is not known) and `left_out` (list of str).

    Raises:
        ArtefactError: if the classifier is incomplete or was altered.
        InputError: if `path` is a folder or does not end in `.zip`, or an id of a study or patient stands in a file.
    """
    path = Path(path)
    if path.suffix != ".zip" or path.is_dir():
        raise InputError(f"{path}: expected the name of an archive, ending in .zip.")
    classifier, digest = Classifier.load(model), digest_classifier(model)
    left_out = [
        *(["split.csv", "hashes of training studies"] if classifier.seen else []),
        *(["TF-IDF baseline"] if classifier.tfidf is not None else []),
    ]
    paths = {name: getattr(classifier.settings, name) for name in FILES[1:]}
    classifier = dataclasses.replace(
        classifier,
        seen={},
        tfidf=None,
        provenance={**_without_folders(classifier.provenance), "packed_from": digest},
        settings=dataclasses.replace(classifier.settings, **_without_folders(paths)),
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
    }


def _refuse_ids(folder, ids):
    """Weights hold any few bytes by chance, so only the files that hold text are searched."""
    search = IdSearch(ids)
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".keras", ".npy") and path.is_file() and search.count_in(path):
            raise InputError(
                f"{path.name}: an id of a study or patient stands in this file of the archive. Take it out of the "
                "names of the model and its labels, or train again with a higher --min-word-patients."
            )


def _without_folders(values, names=FILES):
    """The same values without the folders of paths in them: the name of a file says enough to a colleague.

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
    return {name: _without_folders(held, names) for name, held in values.items()} | named
