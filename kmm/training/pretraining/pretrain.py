"""Pretrain the encoder of films on what the reports of the training studies say of them."""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

import kmm
from kmm.data.split import read_parts
from kmm.data.study import Collection, Problem
from kmm.errors import InputError, KmmError, look_up
from kmm.evaluate.seen import gather_seen
from kmm.models.views import parts
from kmm.models.weights.checkpoints import weights_digest
from kmm.models.weights.training_record import TrainingRecord, write_record
from kmm.progress import Progress
from kmm.settings import FitSettings
from kmm.storage.classifier_folder import read_json
from kmm.storage.files import replace_file, write_json
from kmm.storage.seen_studies import SEEN_PARTS
from kmm.training.cache.compilation import keep_compilations
from kmm.training.features import Features
from kmm.training.fit import check_names
from kmm.training.preparation.prepared_studies import PreparedStudies, prepare_studies
from kmm.training.pretraining.objectives import LARGE_BATCH, OBJECTIVES, Objective, Pupil
from kmm.training.pretraining.targets import Targets
from kmm.training.resume import check_data, check_settings
from kmm.training.run_context import RunContext
from kmm.training.run_folders import OBJECTIVE
from kmm.training.source_code import digest_code
from kmm.training.stages.film_changes import describe_device
from kmm.training.stages.recipe import FEATURES, LORA, TRAINED, Stage, list_tuning, make_stage
from kmm.training.train import train_on


@dataclass(frozen=True, repr=False)
class Pretrained:
    """Result of a pretraining.

    Attributes:
        encoder: `keras.Model` named `image_encoder`, trained.
        record: `TrainingRecord`.
        history: dict of stage to its learning curves, see `kmm.training.stages.fit_stage.fit_stage`.
        problems: tuple of `Problem`: the studies that could not be used.
    """

    encoder: keras.Model
    record: TrainingRecord
    history: dict[str, dict[str, list[float]]]
    problems: tuple[Problem, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns a dict for JSON: the facts of the record, `weights_sha256` and `history`."""
        return {**self.record.facts, "weights_sha256": weights_digest(self.encoder), "history": self.history}

    def save(self, path: Path | str) -> None:
        """Writes weights and record to a Keras file, whole or not at all; an existing file is replaced."""
        with replace_file(path) as place:
            self.encoder.save_weights(place)
            write_record(place, self.record)


def pretrain_encoder(
    collection: Collection,
    settings: FitSettings,
    objective: str,
    *,
    work: Path | str,
    cache: Path | str,
    split: Path | str | None = None,
    temperature: float = 2.0,
    progress: Progress | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> Pretrained:
    """Pretrains an image encoder.

    The parts are those of a fit with the same settings, studies and split. Training learns from the training part and
    stops by validation. Of the test part nothing is used; with a `split` its studies are not even read.

    Args:
        collection: `kmm.data.study.Collection`.
        settings: `FitSettings` of the fit that the weights are for.
        objective: str, a key of `OBJECTIVES`.
        work: path of the folder for the state of the run. A stopped run resumes from this state.
        cache: path of the folder for prepared films and features, shared with fits.
        split: path of a `split.csv`; None for the parts that a fit makes.
        temperature: float above 0, by which the objective `distill` divides the logits of its teacher.
        progress: `kmm.progress.Progress`.
        callbacks: sequence of `keras.callbacks.Callback` for every stage.

    Returns:
        `Pretrained`.

    Raises:
        InputError: if data or settings cannot be used, or a stopped run had others.
        LeakError: if the split leaks.
    """
    progress, work, cache = progress or Progress(), Path(work), Path(cache)
    entry = look_up(OBJECTIVES, objective, "objective")
    check_names(settings)
    _check(settings, objective, entry, temperature)
    if split is not None:
        named = read_parts(split)
        studies = tuple(study for study in collection.studies if named.get(study.id) != "test")
        collection = dataclasses.replace(collection, studies=studies)
    work.mkdir(parents=True, exist_ok=True)
    check_settings(work, settings, collection)
    _check_objective(work, {"objective": objective, "temperature": temperature})
    prepared = prepare_studies(collection, settings, films=cache, split=split, progress=progress)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.precision)
    try:
        check_data(work, settings, prepared, split)
        with keep_compilations(cache):
            return _pretrain(prepared, settings, objective, temperature, work, cache, progress, callbacks)
    except KmmError as error:
        error.problems = prepared.problems  # they may explain it
        raise
    finally:
        keras.config.set_dtype_policy(policy)


def _check(settings: FitSettings, name: str, objective: Objective, temperature: float) -> None:
    if settings.image_encoder is None:
        raise InputError("Pretraining is of an image encoder. Name one with --image-encoder.")
    if objective.reads_reports and settings.text_encoder is None:
        raise InputError(f"The objective {name} reads reports. Leave out --text-encoder none.")
    if settings.image_weights and (settings.tune_image == "none" or not settings.tune_epochs):
        raise InputError(
            "These settings keep the encoder as it is, so that there is nothing to pretrain. Choose its layers with "
            "--set tune_image=top, gradual or all, and tune_epochs above 0."
        )
    if settings.image_weights and settings.tune_image == LORA:
        raise InputError("Pretraining trains no low-rank factors. Set `tune_image` to top, gradual or all.")
    if not 0 < temperature < np.inf:
        raise InputError(f"The temperature must be a number above 0. Received: {temperature}.")


def _check_objective(work: Path, now: dict[str, Any]) -> None:
    """Checks that a stopped run had the same objective, and keeps it for the next time."""
    path = work / OBJECTIVE
    before = read_json(path) if path.exists() else now
    changed = [name for name in now if before.get(name) != now[name]]
    if changed:
        raise InputError(
            f"{work} cannot be resumed: {', '.join(changed)} changed since this run started. Restore the earlier "
            "state, or start over with --overwrite."
        )
    write_json(path, now)


def _pretrain(prepared, settings, objective, temperature, work, cache, progress, callbacks):
    entry = OBJECTIVES[objective]
    opened = take_open(prepared)
    targets = entry.make_targets(opened, settings, temperature)
    rows = _choose_rows(opened, targets.values)
    pupils, values = opened.take(rows), targets.values[rows]
    columns = {name: column[rows] for name, column in targets.columns.items()}
    counts = [len(pupils.rows(part)) for part in SEEN_PARTS]
    progress.note(f"{objective}: learns from {counts[0]} training films, stops by {counts[1]} validation films")
    context = RunContext(
        settings=settings,
        prepared=pupils,
        maker=pupils.maker,
        token_ids=np.zeros((len(rows), settings.length), np.int32),  # no report is read by the network
        vectors=None,
        work=work,
        cache=cache,
        progress=progress,
        callbacks=tuple(callbacks),
    )
    pupil, features = entry.build(context, targets), Features(context)
    encoder = parts.image_encoder_of(pupil.base)
    started = weights_digest(encoder)
    learnt = Targets(values, columns, targets.facts)
    stages = list_stages(settings, len(context.rows("train")), large_batches=entry.large_batches, soft=entry.soft)
    history = {stage.name: _run_stage(context, stage, pupil, learnt, features) for stage in stages}
    changed = weights_digest(encoder) != started
    facts = {
        **_describe(objective, opened, pupils, settings),
        **targets.facts,
        **describe_device(stages),
        "changed": changed,
    }
    return Pretrained(encoder, TrainingRecord(facts, _gather_seen(opened)), history, prepared.problems)


def take_open(prepared: PreparedStudies) -> PreparedStudies:
    """Returns the studies of training and validation alone: what pretraining may see."""
    return prepared.take(np.sort(np.concatenate([prepared.rows(part) for part in SEEN_PARTS])))


def _choose_rows(opened: PreparedStudies, values: np.ndarray) -> np.ndarray:
    """Returns the rows of studies with a film and a known target."""
    usable = (opened.present[:, 0] > 0) & np.isfinite(values).any(axis=1)
    for part in SEEN_PARTS:
        if not usable[opened.rows(part)].any():
            raise InputError(
                f"No study of {part} has both a film and what the objective needs of its report. Choose another "
                "objective, or give a --split with such studies in training and validation."
            )
    return np.flatnonzero(usable)


def list_stages(
    settings: FitSettings, count: int, *, large_batches: bool = False, soft: bool = True
) -> tuple[Stage, ...]:
    """Lists the stages of a pretraining: of an encoder with weights first what follows it, on its features, then the
    encoder too at the low rate; of a random one both at once.

    Args:
        settings: `FitSettings`.
        count: int. Training studies.
        large_batches: bool. Whether the stage on features takes batches of up to `LARGE_BATCH`.
        soft: bool. Whether the targets are labels, which may be smoothed and mixed.

    Example:
        >>> stages = list_stages(FitSettings(image_weights="film.h5", tune_image="top"), 900, large_batches=True)
        >>> [(stage.name, stage.image, stage.batch_size) for stage in stages]
        [('pretraining head', 'features', 512), ('pretraining', 'top', 32)]
    """
    s = settings
    make = partial(make_stage(s), side="image", modality_dropout=0.0, word_dropout=0.0)
    if not soft:
        make = partial(make, label_smoothing=0.0, mixup=0.0, sampling="all")
    if not s.image_weights:
        return (make("pretraining", s.image_epochs, s.learning_rate),)
    size = min(LARGE_BATCH, count) if large_batches else s.batch_size
    head = make("pretraining head", s.image_epochs, s.learning_rate, image=FEATURES, batch_size=size)
    return head, *list_tuning(s, make, "pretraining")


def _run_stage(
    context: RunContext, stage: Stage, pupil: Pupil, targets: Targets, features: Features
) -> dict[str, list[float]]:
    parts.set_trainable(pupil.base, context.spec("image"), image=TRAINED[stage.image], batch_norm=stage.batch_norm)
    model = pupil.of_features if stage.features else pupil.of_films
    columns = context.columns(model, {**features.compute(pupil.base, stage.features), **targets.columns})
    history = train_on(
        context,
        stage,
        pupil.base,
        model,
        columns,
        targets.values,
        most_validated=len(context.rows("validation")),  # a batch is filled up with studies, which would be negatives
        compile_model=pupil.compile,
    )
    for side in stage.trained:
        features.mark_trained(side)
    return history


def _gather_seen(opened: PreparedStudies) -> dict[str, Any]:
    """Hashes the studies of each part that pretraining saw, films and reports."""
    return {
        part: gather_seen(
            [opened.studies[row] for row in opened.rows(part)],
            [opened.film_digests[row] for row in opened.rows(part)],
            [opened.sketches[row] for row in opened.rows(part)],
            opened.maker.text,
        )
        for part in SEEN_PARTS
    }


def _describe(
    objective: str, opened: PreparedStudies, pupils: PreparedStudies, settings: FitSettings
) -> dict[str, Any]:
    """Returns facts for the record, without paths: a file of weights may be shared."""
    studies = "\n".join(sorted(study.id for study in opened.studies)).encode()
    names = ("image_encoder", "pixels", "image_fit", "seed", "batch_size", "tune_image")
    return {
        "objective": objective,
        **{name: getattr(settings, name) for name in names},
        "start_weights": Path(settings.image_weights).name if settings.image_weights else None,
        "studies": {part: len(opened.rows(part)) for part in SEEN_PARTS},
        "films": {part: len(pupils.rows(part)) for part in SEEN_PARTS},
        "studies_digest": hashlib.sha256(studies).hexdigest(),
        "data_digest": opened.digest(),
        "split_digest": opened.split.digest,
        "kmm": kmm.__version__,
        "code_digest": digest_code(),
        "keras": keras.__version__,
        "backend": keras.backend.backend(),
    }
