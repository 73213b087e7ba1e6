"""Keras models that are the encoders of a comparison, kept in its folder for the processes that run its tasks."""

from pathlib import Path

from kmm.experiments.tasks.task import digest_facts
from kmm.models.registration import keep_given_models
from kmm.settings import FitSettings

GIVEN = "given"


def keep_given(out: Path, settings: FitSettings) -> None:
    """Keeps the Keras models that are encoders, or registers those that another process has kept.

    Args:
        out: Path of the folder of tasks.
        settings: `FitSettings` of a variant. Encoders of kmm leave no file.
    """
    names = {side: getattr(settings, side) for side in ("image_encoder", "text_encoder")}
    keep_given_models(settings, out / f"{GIVEN}-{digest_facts(names)[:16]}")
