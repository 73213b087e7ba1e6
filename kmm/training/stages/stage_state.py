"""Place of a stage's state: a folder named after the stage and, if runs share their work folder, after what decides it.

Runs that share a work folder, such as the variants of a comparison on one split, share each stage that is the same in
several of them: the first one trains it, and the others load its result.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kmm.models.views.parts import fusion_of
from kmm.models.weights.checkpoints import model_digest
from kmm.storage.file_lock import hold_file
from kmm.training.cache.cache_folder import name_entry
from kmm.training.features import find_source
from kmm.training.run_context import RunContext
from kmm.training.run_folders import STAGES
from kmm.training.stages.recipe import FEATURES, Stage

LEARNED_FROM = ("train", "validation")


@contextlib.contextmanager
def hold_state(context: RunContext, stage: Stage, model: keras.Model, targets: np.ndarray) -> Iterator[Path]:
    """Provides the folder of a stage's state, to one process at a time.

    The settings, the data and the code of a run that does not share its work folder are checked when it is resumed, so
    the name of the stage is enough. In a shared folder the name has a digest of `describe_stage`; a process that wants
    a stage which another one trains waits for it, and takes over from where a killed one stopped.

    Args:
        context: `RunContext`.
        stage: `Stage`.
        model: `keras.Model` of its side as the stage begins, with what is trained in it marked.
        targets: array `(n, n_labels)` that it learns, one row per study.

    Yields:
        Path of the folder, which may be missing.
    """
    stages, name = context.work / STAGES, name_folder(stage)
    if not context.shared:
        yield stages / name
        return
    name = name_entry(name, describe_stage(context, stage, model, targets))
    stages.mkdir(parents=True, exist_ok=True)
    with hold_file(stages / f".{name}.lock", wait=True):
        yield stages / name


def name_folder(stage: Stage) -> str:
    """Returns the name of the folder of a stage, without spaces."""
    return stage.name.replace(" ", "-")


def describe_stage(context: RunContext, stage: Stage, model: keras.Model, targets: np.ndarray) -> dict[str, Any]:
    """Describes all that the result of a stage depends on, except the code of kmm and the versions of libraries.

    Args:
        context, stage, model, targets: as for `hold_state`.

    Returns:
        dict for JSON: the settings of the stage as far as they concern what it reads, the network with its weights, how
        films and reports are read, the data of training and validation, the auxiliary targets, and the seed.
    """
    sources = {side: find_source(context, side) for side in stage.sides}
    more = {"auxiliary": _digest_auxiliary(context, stage)} if stage.auxiliary else {}
    return {
        **more,
        "stage": _describe_settings(stage),
        "start": model_digest(model),
        "trained": [bool(weight.trainable) for weight in model.weights],
        "fixed": [layer.name for layer in fusion_of(model).layers if not layer.trainable],  # statistics too
        "sources": {side: source.facts for side, source in sources.items()},
        "data": {
            part: _digest_data(context, part, [source.keys for source in sources.values()], targets)
            for part in LEARNED_FROM
        },
        "seed": context.settings.seed,
    }


def _describe_settings(stage):
    """Returns the fields of a stage but its name, without those of films, words or factors that it does not have; a
    stage that reads words mixes no studies."""
    found = dataclasses.asdict(stage)
    del found["name"]
    read = {side: side in stage.sides and stage.encoder(side) != FEATURES for side in ("image", "text")}
    if not read["image"]:
        found["augmentation"] = found["augmentation_device"] = None
    if not read["text"]:
        found["word_dropout"] = None
    else:
        found["mixup"] = None
    if not stage.auxiliary:
        found["auxiliary_weight"] = None
    if not stage.adapted:
        found["lora_rank"] = found["lora_alpha"] = None
    return {name: value for name, value in found.items() if name not in read or name in stage.sides}


def _digest_auxiliary(context, stage):
    """Returns the digests of the auxiliary targets that a stage learns, by name."""
    return {name: context.auxiliary[name].digest() for name in stage.auxiliary if name in context.auxiliary}


def _digest_data(context, part, keys, targets):
    """Returns the digest of the inputs and targets of a part, in the order of its studies."""
    rows = context.rows(part)
    total = hashlib.sha256(repr([[column[row] for row in rows] for column in keys]).encode())
    for column in (context.prepared.present, targets):
        total.update(f"{column.dtype} {column[rows].shape}".encode() + column[rows].tobytes())
    return total.hexdigest()
