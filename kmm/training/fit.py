"""Fit of a classifier: prepare the studies, learn the words, train the models by the recipe, calibrate and evaluate."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kmm.batches import BatchMaker
from kmm.classifier import Classifier, StudyLogits
from kmm.data.given_parts import GivenParts
from kmm.data.split import Split, read_parts
from kmm.data.study import Collection
from kmm.errors import InputError, KmmError, look_up
from kmm.evaluate.decisions.thresholds import find_policy
from kmm.models.build import ModelSpec
from kmm.models.contrastive import CONTRASTS
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.fusion import FUSIONS
from kmm.models.loss import LOSSES
from kmm.models.registration import keep_given_models
from kmm.models.weights import checkpoints
from kmm.progress import Progress
from kmm.rules.rule_scheme import open_scheme
from kmm.settings import FitSettings
from kmm.text.clean import find_words
from kmm.text.redaction import read_redaction
from kmm.training.auxiliary.targets import AUXILIARY_TARGETS, make_auxiliary
from kmm.training.cache.compilation import keep_compilations
from kmm.training.features import Features, list_ahead
from kmm.training.finish import MEASURED, finish_run, view_answers
from kmm.training.preparation.prepared_studies import PreparedStudies, make_maker, prepare_studies
from kmm.training.preparation.text_weights import check_text_weights, open_text_weights
from kmm.training.preparation.token_ids import encode_reports
from kmm.training.preparation.words import describe_words, learn_words
from kmm.training.pretraining.seen_by_weights import note_seen
from kmm.training.resume import FILES, check_data, check_settings
from kmm.training.run_calibration import Answer
from kmm.training.run_context import RunContext, find_shape
from kmm.training.stages.monitors import MONITORS
from kmm.training.stages.optimizers import OPTIMIZERS
from kmm.training.stages.recipe import LORA
from kmm.training.stages.schedule import SCHEDULES
from kmm.training.teacher import make_targets
from kmm.training.train import train_models

SPLIT = "split.csv"  # file of a work folder


@dataclass(frozen=True)
class Run:
    """Result of a fit, beside the classifier.

    Attributes:
        settings: `FitSettings`.
        work: Path of the folder of its state.
        prepared: `PreparedStudies`.
        maker: `kmm.batches.BatchMaker` with the vocabulary.
        token_ids: int32 `(n, length)`, as training read them.
        models: dict of side (`"image"`, `"text"`, `"joint"`) to its `keras.Model`.
        features: `Features` of the run, which knows those of the encoders of the models.
        answers: dict of side to a function from rows to logits, see `kmm.training.finish.view_answers`.
        history: dict of stage to its learning curves.
        predictions: dict of the parts that were asked for, unless they are empty, to `StudyLogits`.
        facts: dict for JSON, the provenance of the classifier.
    """

    settings: FitSettings
    work: Path
    prepared: PreparedStudies
    maker: BatchMaker
    token_ids: np.ndarray
    models: dict[str, keras.Model]
    features: Features
    answers: dict[str, Answer]
    history: dict[str, dict[str, list[float]]]
    predictions: dict[str, StudyLogits]
    facts: dict[str, Any]

    @property
    def split(self) -> Split:
        """The part of each study."""
        return self.prepared.split

    def rows(self, part: str) -> np.ndarray:
        """Returns the int64 rows of the studies of a part of the split."""
        return self.prepared.rows(part)


def fit_classifier(
    collection: Collection | None,
    settings: FitSettings,
    *,
    work: Path | str,
    cache: Path | str,
    split: Split | GivenParts | Path | str | None = None,
    prepared: PreparedStudies | None = None,
    progress: Progress | None = None,
    tensorboard: Path | str | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    parts: Sequence[str] = MEASURED,
    shared: bool = False,
) -> tuple[Classifier, Run]:
    """Trains, calibrates and evaluates a classifier.

    Args:
        collection: `kmm.data.study.Collection`; None if `prepared` is given.
        settings: `FitSettings`.
        work: path of the folder for the state of the run. A stopped run resumes from this state.
        cache: path of the folder for prepared films and features of frozen encoders, shared by all runs.
        split: `Split` or path of a `split.csv` to use; `GivenParts`, whose other parts are split at random; None for a
            random split. See `kmm.training.preparation.prepared_studies.prepare_studies`.
        prepared: `PreparedStudies` of this collection, to share between runs; None prepares them here.
        progress: `kmm.progress.Progress`.
        tensorboard: path of the folder for TensorBoard logs, or None.
        callbacks: sequence of `keras.callbacks.Callback` for every stage; see
            `kmm.training.stages.fit_stage.fit_stage`.
        parts: sequence of the parts whose predictions the run keeps.
        shared: bool. Whether other runs of the same code use the folder `work`, perhaps at the same time. A stage that
            is the same in several runs is then trained by one of them, see `kmm.training.stages.stage_state`. Needs
            `prepared`, and takes no callbacks.

    Returns:
        `Classifier` with `metrics`, and its `Run` (history, split, problems). If the split has no test studies, there
        are metrics of validation only.

    Raises:
        InputError: if the data or settings cannot be used. Its `problems` list the skipped studies.
        LeakError: if the split leaks. Its `problems` list the skipped studies.
    """
    progress, work, cache = progress or Progress(), Path(work), Path(cache)
    if shared and (prepared is None or callbacks):
        raise ValueError("Runs that share their work folder need prepared studies, and take no callbacks.")
    if not shared:
        keep_given_models(settings, work)
    check_names(settings)
    if isinstance(split, str | Path):
        read_parts(split)  # reports a wrong file before the first film is read
    work.mkdir(parents=True, exist_ok=True)
    if not shared:
        check_settings(work, settings, collection or prepared)
    studies = _prepare(collection, settings, work, cache, split, prepared, progress)
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(settings.precision)
    try:
        if not shared:
            check_data(work, settings, studies, split)
            studies.split.save(work / SPLIT)
        context, facts = _make_context(settings, studies, work, cache, progress)
        logs = Path(tensorboard) if tensorboard else None
        context = replace(context, callbacks=tuple(callbacks), tensorboard=logs, shared=shared)
        facts.update(note_seen(settings, studies, progress))
        with keep_compilations(cache):
            return _fit(context, {**studies.facts, **facts}, parts)
    except KmmError as error:
        error.problems = studies.problems  # they may explain it
        raise
    finally:
        keras.config.set_dtype_policy(policy)


def _fit(context, facts, parts):
    features = Features(context, list_ahead(context.settings))
    trained = train_models(context, features)
    answers = view_answers(context, features, trained)
    classifier, predictions = finish_run(context, trained, features, answers, facts, parts)
    run = Run(
        settings=context.settings,
        work=context.work,
        prepared=context.prepared,
        maker=context.maker,
        token_ids=context.token_ids,
        models=trained.models,
        features=features,
        answers=answers,
        history=trained.history,
        predictions=predictions,
        facts=classifier.provenance,
    )
    return classifier, run


def check_names(settings: FitSettings) -> None:
    """Checks the names and files in settings, before the first film is read.

    Raises:
        InputError: for an unknown name or a file that does not exist.
    """
    s = settings
    open_scheme(s.labels)
    look_up(FUSIONS, s.fusion, "fusion")
    shape = find_shape(s)
    ModelSpec(s.image_encoder, s.text_encoder, s.fusion, s.pixels, s.length, head=s.head, fusion_shape=shape)
    find_words("", s.cleaning)
    find_policy(s.threshold_policy)
    if s.redact:
        read_redaction(s.redact)
    for table, name, noun in (
        (LOSSES, s.loss, "loss"),
        (OPTIMIZERS, s.optimizer, "optimizer"),
        (SCHEDULES, s.schedule, "schedule"),
        (MONITORS, s.monitor, "monitor"),
    ):
        look_up(table, name, noun)
    if s.contrastive:
        look_up(CONTRASTS, s.contrastive, "contrastive term")
    for name in s.image_auxiliary:
        look_up(AUXILIARY_TARGETS, name, "auxiliary target")
    for name in FILES:
        path = getattr(s, name)
        folder = name == "image_weights" and path and Path(path).is_dir()
        if path and path not in checkpoints.NAMED_WEIGHTS and not (folder or Path(path).is_file()):
            raise InputError(f"{path} is not a file. Give the setting `{name}` an existing file.")
    check_text_weights(s)
    _check_low_rank(s)


def _check_low_rank(settings):
    """Checks that encoders that are tuned by low-rank factors have attention."""
    s = settings
    for side, name, table in (("image", s.image_encoder, IMAGE_ENCODERS), ("text", s.text_encoder, TEXT_ENCODERS)):
        if name and getattr(s, f"tune_{side}") == LORA and not table[name].low_rank:
            known = ", ".join(other for other, entry in table.loaded().items() if entry.low_rank)
            raise InputError(
                f"The {side} encoder {name!r} has no attention that takes low-rank factors. Set `tune_{side}` to top "
                f"or all, or choose an encoder that has: {known}."
            )


def _prepare(collection, settings, work, cache, split, prepared, progress):
    """Prepares the studies, with the split of the stopped run if there is one, or checks those that were given."""
    kept = work / SPLIT
    if prepared is None:
        if collection is None:
            raise InputError("Give either a collection, or prepared studies. Received: neither.")
        chosen = kept if kept.exists() else split
        prepared = prepare_studies(collection, settings, films=cache, split=chosen, progress=progress)
    elif split is not None:
        raise InputError("Prepared studies have a split of their own. Give either `prepared` or `split`.")
    else:
        _check_prepared(prepared, settings)
    return prepared


def _check_prepared(prepared, settings):
    """Checks that studies were prepared as the settings say."""
    maker = make_maker(settings, prepared.maker.label_names)
    for side in ("image", "text"):
        before, wanted = getattr(prepared.maker, side), getattr(maker, side)
        if before != wanted:
            raise InputError(
                f"The studies were prepared with other settings of the {side}: {before}. The fit needs {wanted}. "
                "Prepare them again."
            )


def _make_context(settings, prepared, work, cache, progress):
    """Learns the words of the training reports, asks the teachers and makes auxiliary targets; returns the context of
    the run, and facts."""
    maker, vectors, rare, facts = copy.copy(prepared.maker), None, frozenset(), {}
    if maker.text is not None:
        train, validation = ([prepared.studies[row] for row in prepared.rows(part)] for part in ("train", "validation"))
        words = learn_words(settings, maker.text, train, validation)
        maker.vocabulary, vectors, rare, facts = words.vocabulary, words.vectors, words.rare, {"text": words.facts}
        progress.note(describe_words(words.facts, settings.length))
    targets, teachers = make_targets(prepared, settings, progress)
    facts |= {"teachers": teachers} if teachers else {}
    auxiliary, described = make_auxiliary(prepared, settings, progress)
    facts |= {"auxiliary": described} if described else {}
    weights = open_text_weights(settings) if settings.text_weights and maker.text is not None else None
    if weights is not None and weights.vocabulary.note:
        progress.note(weights.vocabulary.note)
    context = RunContext(
        settings=settings,
        prepared=prepared,
        maker=maker,
        token_ids=encode_reports(prepared, maker, hidden=rare),
        vectors=vectors,
        work=work,
        cache=cache,
        progress=progress,
        targets=targets,
        text_weights=weights,
        auxiliary=auxiliary,
    )
    return context, facts
