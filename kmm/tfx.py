"""A `run_fn` for the Trainer of TFX, and a push in the layout of its Pusher; TFX itself is not needed.

A record is a tf.Example of one study:

    id            letters, digits, `.`, `_`, `-`; unique
    patient       id of the patient; `id` if absent
    image_bytes   a PNG or JPEG file of the frontal film; absent or empty: none
    report        the whole text; or the sections `indication`, `comparison`, `findings`, `impression`
    label:<name>  1 or 0; NaN or absent: unknown. At least one label is known
"""

import contextlib
import importlib.util
import json
import logging
import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from kmm.batches import identify_films
from kmm.data.collection import read_collection
from kmm.data.names import is_safe_id
from kmm.data.split import Split, split_studies
from kmm.data.study import SECTIONS, Problem
from kmm.errors import InputError
from kmm.export.write import export_to, new_folder, require_tensorflow
from kmm.presets import gather_settings
from kmm.storage.classifier_folder import DESCRIPTION
from kmm.storage.file_kinds import JPEG_HEAD, PNG_HEAD
from kmm.training.fit import fit_classifier
from kmm.training.save_run import save_run

SAVED = "classifier"  # the folder beside the export
LABEL = "label:"
logger = logging.getLogger("kmm.tfx")


def run_fn(fn_args: Any) -> None:
    """Trains a classifier and exports it; `train_files` are split into training and validation, `eval_files` are test.

    Records are copied, one by one, to a temporary folder that only its owner can read. It takes the size of all image
    files and 4 bytes per prepared pixel. `serving_default` of the export takes tf.Examples.

    Args:
        fn_args: an object with
            train_files, eval_files: lists of TFRecord files or patterns of them; names that end in `.gz` are unzipped.
            serving_model_dir: path of the export. The saved classifier is written beside it, as `classifier`.
            custom_config: dict of `kmm.presets.SETTING_NAMES` to values, or None. `labels` defaults to `columns` and
                `strict` to true; without `strict`, records that cannot be used are logged and left out. The key `name`
                is the model's name in `describe`, "classifier" by default.
            model_run_dir: path for TensorBoard logs; may be absent. They are written if tensorboard is installed.

    Raises:
        InputError: for a record, file or setting that cannot be used; it never contains report text.
        LeakError: if a patient or a report body is in both `train_files` and `eval_files`.
    """
    require_tensorflow()
    place = _make_local(fn_args.serving_model_dir)
    saved = place.with_name(SAVED)
    logs = getattr(fn_args, "model_run_dir", None)
    logs = _make_local(logs) if logs and importlib.util.find_spec("tensorboard") else None
    if place.exists() or (saved.exists() and not (saved / DESCRIPTION).is_file()):
        raise InputError(f"{place if place.exists() else saved} already exists. Choose another `serving_model_dir`.")
    config = {"labels": "columns", "strict": True, **(fn_args.custom_config or {})}
    name = config.pop("name", SAVED)
    if not isinstance(name, str) or not is_safe_id(name):
        raise InputError("`name` must be at most 100 letters, digits, '.', '_' and '-'.")
    settings = gather_settings({}, config=config)
    files = {"train": fn_args.train_files, "test": fn_args.eval_files}
    with _private_folder() as folder:
        parts, problems = _write_studies(folder, files, strict=settings.strict)
        collection = read_collection(folder)
        problems += collection.problems
        if settings.strict and problems:
            raise InputError(str(problems[0]))
        studies, _ = identify_films(collection.studies)  # `fit_classifier` lists the films that cannot be read
        _draw_split(studies, parts, settings).save(folder / "split.csv")
        work = {"work": folder / "work", "cache": folder / "cache", "split": folder / "split.csv"}
        classifier, run = fit_classifier(collection, settings, **work, tensorboard=logs)
        for problem in (*problems, *run.prepared.problems):
            logger.warning("Left out: %s", str(problem).replace(str(folder), "records"))
        save_run(classifier, run, saved, overwrite=True)  # an earlier run may have failed to export
    export_to(saved, place, name=name, default="tf_example")


def push(model_dir: Path | str, base_directory: Path | str) -> Path:
    """Copies an export to `<base_directory>/<seconds since 1970>/`; a server sees it only when it is complete.

    Args:
        model_dir: path of the export, as `run_fn` wrote it to `serving_model_dir`.
        base_directory: path of the folder of versions; made if it does not exist.

    Returns:
        Path of the version.

    Raises:
        InputError: if `model_dir` has no export, or the version exists already.

    Example:
        >>> push("nothing", "versions")
        Traceback (most recent call last):
        kmm.errors.InputError: nothing: expected an export with saved_model.pb. There is none.
    """
    source, place = _make_local(model_dir), _make_local(base_directory) / str(int(time.time()))
    if not (source / "saved_model.pb").is_file():
        raise InputError(f"{source}: expected an export with saved_model.pb. There is none.")
    if place.exists():
        raise InputError(f"{place} already exists. Push again in a second.")
    with new_folder(place) as folder:
        shutil.copytree(source, folder, dirs_exist_ok=True)
    return place


def _make_local(path):
    if "://" in str(path):
        raise InputError(f"{path}: expected a folder on this machine.")
    return Path(path)


@contextlib.contextmanager
def _private_folder():
    """Makes a temporary folder of mode 700; errors call it `records`."""
    with tempfile.TemporaryDirectory(prefix="kmm-tfx-") as folder:
        try:
            yield Path(folder)
        except InputError as error:
            raise type(error)(str(error).replace(folder, "records")) from None


def _write_studies(folder, files, *, strict):
    """Writes records as a manifest and image files; returns a dict of id to train or test, and the problems."""
    parts, problems = {}, []
    (folder / "images").mkdir()
    with open(folder / "manifest.jsonl", "w", encoding="utf-8") as manifest:
        for part, patterns in files.items():
            for source, record in _read_records(patterns):
                try:
                    row, image = _read_study(record)
                    if row["id"] in parts:
                        raise InputError(f"expected one record per study. An earlier one has the id {row['id']}.")
                except InputError as error:
                    problems.append(Problem(source, str(error)))
                    if strict:
                        raise InputError(str(problems[0])) from None
                    continue
                if image:
                    row["image"] = f"images/{row['id']}.film"
                    (folder / row["image"]).write_bytes(image)
                parts[row["id"]] = part
                manifest.write(json.dumps(row) + "\n")
    return parts, problems


def _read_records(patterns):
    """Yields the file and number of each record, and its bytes."""
    for pattern in patterns:
        files = sorted(tf.io.gfile.glob(str(pattern)))
        if not files:
            raise InputError(f"{pattern}: expected TFRecord files. Found none.")
        for file in files:
            records = tf.data.TFRecordDataset(file, "GZIP" if file.endswith(".gz") else "")
            try:
                for number, record in enumerate(records.as_numpy_iterator(), 1):
                    yield f"{file} record {number}", record
            except tf.errors.OpError as error:
                raise InputError(f"{file}: expected a whole TFRecord file. {type(error).__name__}.") from None


def _read_study(record):
    """Converts a record to a row of a manifest, and the bytes of its image, or None."""
    try:
        features = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        raise InputError("expected a tf.Example.") from None
    row = {name: _read_text(features, name) for name in ("id", "patient", "report", *SECTIONS)}
    row |= {name: _read_label(features, name) for name in list(features) if name.startswith(LABEL)}
    row = {name: value for name, value in row.items() if value not in (None, "")}
    image = _read_value(features, "image_bytes")
    if not is_safe_id(row.get("id", "")):
        raise InputError("expected an `id` of at most 100 letters, digits, '.', '_' and '-'.")
    if not any(name.startswith(LABEL) for name in row):
        raise InputError(f"expected a known label in a feature `{LABEL}<name>`. Found none.")
    if image and not (isinstance(image, bytes) and image.startswith((PNG_HEAD, JPEG_HEAD))):
        raise InputError("expected a PNG or JPEG file in `image_bytes`.")
    return row, image


def _read_value(features, name):
    """Returns the single value of a feature; None if it is absent or empty."""
    kind = features[name].WhichOneof("kind")
    values = getattr(features[name], kind).value if kind else ()
    if len(values) > 1:
        raise InputError(f"expected one value in `{name}`. Received: {len(values)}.")
    return values[0] if values else None


def _read_text(features, name):
    value = _read_value(features, name)
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else None if value is None else str(value)
    except UnicodeDecodeError:
        raise InputError(f"expected UTF-8 text in `{name}`.") from None


def _read_label(features, name):
    value = _read_value(features, name)
    if isinstance(value, float) and math.isnan(value):
        return None
    if value not in (None, 0, 1):
        raise InputError(f"expected 0, 1 or NaN in `{name}`.")
    return value


def _draw_split(studies, parts, settings):
    """Draws training and validation in whole groups, by the settings' shares; the test part comes from `parts`."""
    share = settings.shares[1] / (settings.shares[0] + settings.shares[1])
    rest = [study for study in studies if parts[study.id] == "train"]
    drawn = split_studies(rest, shares=(1 - share, share, 0), seed=settings.seed).parts
    return Split({study.id: drawn.get(study.id, "test") for study in studies}, {one.id: one.patient for one in studies})
