"""Train a classifier from Python, with its state in a folder, so that an interrupted fit continues."""

import difflib
import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from math import isnan
from pathlib import Path
from typing import Any

from kmm.api.checks import check_callbacks, check_films
from kmm.api.classifier import Classifier
from kmm.api.study_arguments import COLUMNS
from kmm.data.given_parts import GivenParts
from kmm.data.labels import label_studies
from kmm.data.split import PARTS, Split, read_parts
from kmm.data.study import Collection, Study
from kmm.errors import ImageError, InputError, KmmError, look_up
from kmm.image.source import digest_source
from kmm.models.registration import give_image_encoder, give_text_encoder
from kmm.presets import SETTING_NAMES, gather_settings
from kmm.progress import Progress, choose_progress
from kmm.rules.rule_scheme import find_rules, open_scheme
from kmm.settings import FitSettings
from kmm.storage.classifier_folder import make_parent
from kmm.training.fit import fit_classifier
from kmm.training.run_folders import CACHE, STAGES, WORK, open_work_folder
from kmm.training.save_run import save_run

FOLDER = "saved_models"
NAME = re.compile(r"(?!\d+$)[A-Za-z0-9][A-Za-z0-9._-]*")
DIGITS = 8  # of the digest that names the run of a fit without a name
GIVE = {"image_encoder": give_image_encoder, "text_encoder": give_text_encoder}
ARGUMENTS = {"--overwrite": "resume=False", "--resume": "resume=True", "--out": "folder="}  # by option


def fit(
    studies: Collection,
    *,
    preset: str = "small",
    name: str | None = None,
    folder: Path | str | None = None,
    split: Split | Path | str | Mapping[str, str] | None = None,
    validation: Collection | None = None,
    test: Collection | None = None,
    resume: bool | str = "auto",
    overwrite: bool = False,
    progress: bool | Progress = True,
    callbacks: Sequence[Any] | None = None,
    **settings: Any,
) -> Classifier:
    """Trains, calibrates and evaluates a classifier.

    The state of the run is kept in a folder until it is done. If it is interrupted, the same call continues it.

    Args:
        studies: `Collection` of `kmm.read` or `kmm.studies`.
        preset: str, a name in `kmm.presets.PRESETS`; `settings` replace its values.
        name: str. The classifier is saved as `folder/name`; None saves none, until `save` is called.
        folder: path of the folder of classifiers, of the state of runs and of cached features; None for `saved_models`.
        split: a `Split`, the path of a `split.csv`, or a mapping of study id to `"train"`, `"validation"` or `"test"`;
            None for the parts with which the studies were published, or else a random split that keeps patients
            together.
        validation, test: `Collection`s of their own for these parts. The parts that are not given are split from
            `studies` by the setting `shares`.
        resume: `"auto"` continues a stopped run of the same name, or, without a name, of the same studies and settings;
            False starts over; True demands that there is such a run.
        overwrite: bool. Whether to replace a saved classifier of this name.
        progress: bool, whether to show progress; or a `Progress`.
        callbacks: sequence of `keras.callbacks.Callback` for every stage; or None.
        settings: any setting of `kmm.settings.FitSettings` by name; `epochs` bounds the epochs of every stage. Without
            `labels`, studies with label columns and no MeSH terms are labelled by their columns; a side that no study
            has is not read. `image_encoder` and `text_encoder` are a name or a functional `keras.Model`, from whose
            weights the fit starts; `kmm.register_image_encoder` says how a model is read.

    Returns:
        `Classifier`.

    Raises:
        InputError: if a setting or the data cannot be used, no film of a table is found, or the run to resume does not
            match.
        LeakError: if the split leaks.

    Warns:
        UserWarning: if studies lack films and are used with their reports alone.
    """
    shown = progress if isinstance(progress, Progress) else choose_progress() if progress else Progress()
    check_callbacks(callbacks)
    joined, given = _join_parts(studies, validation, test)
    check_films(studies, validation, test, reads_films=settings.get("image_encoder", "") not in (None, "none"))
    chosen = choose_settings(joined, {"preset": preset, **settings}, shown)
    if given is not None and split is None:
        _check_labels(joined, given.parts, chosen)
    base = Path(FOLDER if folder is None else folder)
    if name is not None:
        _check_name(base, name, overwrite)
    _check_split(split, given)
    divided = given if split is None else _make_split(split, joined)
    work = base / f"{WORK}{name or _name_run(joined, chosen, divided)}"
    going_on = _can_resume(work, resume)
    make_parent(base)
    with ExitStack() as cleanup:
        temporary = Path(tempfile.mkdtemp(prefix="kmm-"))
        cleanup.callback(shutil.rmtree, temporary, ignore_errors=True)
        place = temporary / chosen.preset if name is None else base / name
        more: dict[str, Any] = {"callbacks": callbacks} if callbacks else {}
        with naming_arguments(), open_work_folder(work, resume=going_on, overwrite=not going_on):
            inner, run = fit_classifier(
                joined, chosen, work=work, cache=base / CACHE, split=divided, progress=shown, **more
            )
            if joined.columns:
                inner.provenance[COLUMNS] = dict(joined.columns)
            save_run(inner, run, place, overwrite=overwrite)
        if name is not None:
            return Classifier(inner, place)
        cleanup.pop_all()  # the temporary folder lives as long as the classifier
        return Classifier._of_temporary(inner, place)


def load(folder: Path | str) -> Classifier:
    """Reads a saved classifier; the same as `kmm.Classifier.load`.

    Args:
        folder: path of a folder that `kmm fit` or `Classifier.save` wrote, or of an archive of `kmm model pack`.

    Raises:
        ArtefactError: if a file is missing, altered or of another format.
    """
    return Classifier.load(folder)


def choose_settings(
    studies: Collection, values: Mapping[str, Any], progress: Progress, protocol: Mapping[str, Any] | None = None
) -> FitSettings:
    """Makes the settings from a preset, what is given, and what the studies have.

    Args:
        studies: `Collection`.
        values: mapping of a name in `kmm.presets.SETTING_NAMES` to what the caller has given.
        progress: `Progress`, which notes a side that no study has.
        protocol: mapping of setting name to value that ranks above the preset alone; or None.

    Raises:
        InputError: for an unknown name or a value of the wrong kind.
    """
    for name in values:
        if name not in SETTING_NAMES:
            near = difflib.get_close_matches(name, SETTING_NAMES, n=3)
            if near:
                raise InputError(f"Unknown setting {name!r}. Did you mean {' or '.join(near)}?")
            look_up(dict.fromkeys(SETTING_NAMES), name, "setting")
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    for side, give in GIVE.items():
        if not isinstance(given.get(side), str | None):
            given |= {name: value for name, value in give(given[side]).items() if name == side or name not in given}
    has_labels = any(not isnan(value) for study in studies for value in study.labels.values())
    if "labels" not in given and has_labels and not any(study.mesh_major or study.mesh_automatic for study in studies):
        given["labels"] = "columns"
    for side, has in (
        ("image_encoder", any(study.images for study in studies)),
        ("text_encoder", any(study.report is not None for study in studies)),
    ):
        if side not in given and not has:
            progress.note(f"No study has {'a film' if side == 'image_encoder' else 'a report'}: {side}=None")
            given[side] = "none"
    for name in ("image_encoder", "text_encoder"):
        if name in given and given[name] is None:
            given[name] = "none"
    return gather_settings(given, protocol=protocol)


def _join_parts(
    studies: Collection, validation: Collection | None, test: Collection | None
) -> tuple[Collection, GivenParts | None]:
    """Joins collections of their own parts; ids that several of them have are prefixed with the part.

    Returns:
        the joined `Collection` and its `GivenParts`; None if there is nothing but `studies`.
    """
    given = {"train": studies, "validation": validation, "test": test}
    present = {part: collection for part, collection in given.items() if collection is not None}
    for part, collection in present.items():
        if not isinstance(collection, Collection):
            raise InputError(
                f"{'The studies' if part == 'train' else f'`{part}`'} must be made by `kmm.read` or `kmm.studies`. "
                f"Received: {type(collection).__name__}."
            )
        if not collection.studies and part != "train":
            raise InputError(f"`{part}` has no studies. Leave it out, or give some.")
    if len(present) == 1:
        return studies, None
    ids = [study.id for collection in present.values() for study in collection]
    again = len(set(ids)) < len(ids)
    joined: list[Study] = []
    parts: dict[str, str] = {}
    for part, collection in present.items():
        for study in collection:
            moved = study.with_id(f"{part}-{study.id}") if again else study
            joined.append(moved)
            parts[moved.id] = part
    problems = [problem for collection in present.values() for problem in collection.problems]
    return replace(studies, studies=tuple(joined), problems=tuple(problems), parts={}), GivenParts(parts)


def _check_labels(joined: Collection, parts: Mapping[str, str], settings: FitSettings) -> None:
    """Raises `InputError` if a part with a collection of its own has no known label of the training studies."""
    shares: dict[str, list[Study]] = {}
    for study in joined:
        shares.setdefault(parts[study.id], []).append(study)
    train, scheme = shares.pop("train", []), open_scheme(settings.labels)
    _, names = label_studies(train, scheme, min_count=settings.label_min_count, not_findings=settings.not_findings)
    for part, studies in shares.items():
        labelled, _ = label_studies(studies, scheme, names=names, not_findings=settings.not_findings)
        if all(isnan(value) for study in labelled for value in study.labels.values()):
            has = list(dict.fromkeys(name for study in studies for name in study.labels))
            raise InputError(
                f"No study of `{part}` has a known value of {', '.join(map(repr, names[:5]))}, the labels of the "
                f"studies. Its label columns: {', '.join(map(repr, has[:5])) or 'none'}."
            )


def _make_split(split: Split | Path | str | Mapping[Any, str], studies: Collection) -> Split | Path | str:
    """Makes a `Split` with the patients of the studies from a split that is no file."""
    if isinstance(split, str | Path):
        return split
    parts, patients = _list_parts(split), {study.id: study.patient for study in studies}
    return Split(parts, {study: patients.get(study, study) for study in parts})


def _check_split(split: Any, given: GivenParts | None) -> None:
    """Checks the type and the parts of a split, before anything is read or made."""
    if split is not None and given is not None:
        raise InputError("Give either `split=`, or `validation=` and `test=`. Received: both.")
    if not isinstance(split, Split | str | Path | Mapping | None):
        raise InputError(
            "`split` must be a Split, the path of a split.csv, or a mapping of study id to part. "
            f"Received: {type(split).__name__}."
        )
    if isinstance(split, Split | Mapping) and (
        unknown := sorted({str(part) for part in _list_parts(split).values()} - set(PARTS))
    ):
        raise InputError(f"The parts of `split` must be {', '.join(PARTS)}. Received: {unknown[0]!r}.")


def _list_parts(split: Split | Mapping[Any, str]) -> dict[str, str]:
    """Returns the part of each study, ids as text."""
    parts = split.parts if isinstance(split, Split) else split
    return {str(study): part for study, part in parts.items()}


def _check_name(base: Path, name: str, overwrite: bool) -> None:
    if not NAME.fullmatch(name):
        raise InputError(f"`name` must be of letters, digits, '.', '_' and '-', and no number. Received: {name!r}")
    if (base / name).exists() and not overwrite:
        raise InputError(f"{base / name} already exists. Choose another name, or pass overwrite=True.")


def _name_run(studies: Collection, settings: FitSettings, split: Split | GivenParts | Path | str | None) -> str:
    """Names a run by its settings, studies and split, so that the same call finds the state of a stopped run."""
    total = hashlib.sha256(json.dumps(settings.as_dict(), sort_keys=True).encode())
    if rules := find_rules(settings.labels):
        total.update(rules.digest.encode())
    for study in studies:
        text = "" if study.report is None else "\x1f".join(vars(study.report).values())
        film = _digest_film(study) if settings.image_encoder else ""
        total.update(
            "\x1e".join(
                [study.id, study.patient, film, text, repr(sorted(study.labels.items()) + sorted(study.texts.items()))]
            ).encode()
        )
    if split is not None:
        parts = read_parts(split) if isinstance(split, str | Path) else split.parts
        total.update(json.dumps(sorted(parts.items())).encode())
    return f"{settings.preset}-{total.hexdigest()[:DIGITS]}"


def _digest_film(study: Study) -> str:
    """Returns the digest of the frontal film; empty if there is none or it cannot be read, which the fit reports."""
    with suppress(OSError, ImageError):
        return digest_source(study.frontal) if study.frontal else ""
    return ""


def _can_resume(work: Path, resume: bool | str) -> bool:
    """Decides whether a stopped run continues."""
    if resume not in (True, False, "auto"):
        raise InputError(f"`resume` must be True, False or 'auto'. Received: {resume!r}")
    there = (work / STAGES).exists()
    if resume is True and not there:
        raise InputError(f"There is no stopped run to resume in {work.parent}. Leave out resume=True.")
    return there and resume is not False


@contextmanager
def naming_arguments(names: Mapping[str, str] = ARGUMENTS) -> Iterator[None]:
    """Names arguments in errors of the rooms below as Python does, not as options of the command line.

    Args:
        names: mapping of an option to an argument that has another name.
    """
    try:
        yield
    except KmmError as error:
        name_argument = partial(_name_argument, names)
        error.args = tuple(re.sub(r"--[a-z][a-z-]*( none)?", name_argument, str(text)) for text in error.args)
        raise


def _name_argument(names, option):
    name, none = option[0].removesuffix(" none"), "None" if option[1] else ""
    return names.get(name, name.removeprefix("--").replace("-", "_") + "=") + none
