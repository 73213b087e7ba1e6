"""Features of frozen encoders, computed before the tasks of a comparison start, so that none computes them twice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kmm.models.weights.checkpoints import RANDOM
from kmm.models.weights.files.model_folder import find_files
from kmm.progress import Progress
from kmm.settings import FitSettings
from kmm.training.features import Features, list_ahead
from kmm.training.preparation.prepared_studies import PreparedStudies
from kmm.training.run_context import RunContext
from kmm.training.stages.recipe import FEATURES, make_recipe
from kmm.training.train import start_image

NAMED_BYTES, SMALL_BYTES = 2.5e8, 2.5e7  # of the weights of an encoder known by name, and of one without weights
DECIDES = (
    "image_encoder",
    "image_weights",
    "pixels",
    "image_fit",
    "fusion",
    "precision",
    "text_encoder",
    "tune_image",
    "tune_epochs",
)


def reads_features(settings: FitSettings) -> bool:
    """Returns whether the first stage of the image model reads features of an encoder that starts from weights.

    Example:
        >>> reads_features(FitSettings(image_weights="imagenet")), reads_features(FitSettings())
        (True, False)
    """
    stages = [stage for stage in make_recipe(settings).get("image", ()) if stage.epochs]
    return bool(settings.image_weights and stages and stages[0].image == FEATURES)


def fill_features(
    jobs: Sequence[tuple[FitSettings, PreparedStudies]], cache: Path, work: Path, progress: Progress
) -> None:
    """Computes the features of films that the cache lacks, once for each frozen encoder.

    Args:
        jobs: sequence of `FitSettings` and the `PreparedStudies` that they read.
        cache: Path of the folder of features.
        work: Path of a folder; nothing is written into it.
        progress: `kmm.progress.Progress`.
    """
    seen: set[str] = set()
    for settings, prepared in jobs:
        seed = settings.seed if settings.image_weights == RANDOM else None
        mark = repr([id(prepared), seed, *(getattr(settings, name) for name in DECIDES)])
        if mark in seen or not reads_features(settings):
            continue
        seen.add(mark)
        context = RunContext(
            settings=settings,
            prepared=prepared,
            maker=prepared.maker,
            token_ids=np.zeros((len(prepared.studies), 0), np.int32),
            vectors=None,
            work=work,
            cache=cache,
            progress=progress,
        )
        model, _ = start_image(context, {}, Features(context))
        Features(context, list_ahead(settings)).compute(model, ("image",))


def measure_states(settings: FitSettings) -> float:
    """Estimates the bytes of the finished stages of a task: one copy of the image encoder for each that runs it.

    Example:
        >>> measure_states(FitSettings(image_encoder=None)), measure_states(FitSettings(tune_epochs=0)) > 0
        (0.0, True)
    """
    stages = [stage for group in make_recipe(settings).values() for stage in group if stage.epochs]
    return measure_weights(settings) * sum("image" in stage.sides and stage.image != FEATURES for stage in stages)


def measure_weights(settings: FitSettings) -> float:
    """Estimates the bytes of the weights of the image encoder: those of its file, if there is one."""
    path = settings.image_weights
    if path and Path(path).is_dir():
        return float(sum(file.stat().st_size for file in find_files(Path(path))))
    if path and Path(path).is_file():
        return float(Path(path).stat().st_size)
    return NAMED_BYTES if path else SMALL_BYTES
