"""Auxiliary targets: what the image side also predicts while it is trained, one table entry each.

They come from reports and headings of the training part. Those of validation and test are unknown, and nothing is
fitted on them.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kmm.errors import InputError, look_up
from kmm.progress import Progress
from kmm.settings import FitSettings
from kmm.training.auxiliary.report_targets import find_headings, reduce_reports
from kmm.training.auxiliary.terms import LABELS, NUMBERS
from kmm.training.preparation.prepared_studies import PreparedStudies
from kmm.training.stages.recipe import make_recipe
from kmm.training.teacher import READERS


@dataclass(frozen=True)
class AuxiliaryTarget:
    """What a model predicts beside the labels.

    Attributes:
        kind: str, a key of `kmm.training.auxiliary.terms.COSTS`.
        values: float32 `(n, k)`, one row per study; NaN where unknown, and for studies outside of the training part.
        start: float32 `(k,)`, the best prediction that is the same for all studies; of labels, as logits.
        facts: dict for JSON, for people.
    """

    kind: str
    values: np.ndarray
    start: np.ndarray
    facts: dict[str, Any]

    def digest(self) -> str:
        """Returns a digest of what a model learns of it."""
        described = f"{self.kind} {self.values.shape}".encode()
        return hashlib.sha256(described + self.values.tobytes() + self.start.tobytes()).hexdigest()


def _list_findings(prepared: PreparedStudies, settings: FitSettings) -> AuxiliaryTarget:
    """MeSH heads of at least `label_min_count` training studies; unknown where a study was not indexed."""
    values, names = find_headings(prepared, settings)
    values = _keep_train(prepared, values)
    positive, known = np.nansum(values, axis=0), np.isfinite(values).sum(axis=0)
    start = np.log((positive + 0.5) / (known - positive + 0.5))
    return AuxiliaryTarget(LABELS, values, start.astype(np.float32), {"headings": list(names), **_count(values)})


def _describe_reports(prepared: PreparedStudies, settings: FitSettings) -> AuxiliaryTarget:
    """Vectors of the whole reports, after the redaction; unknown where a study has no words.

    They are centred, and divided by one number, so that a number costs 1 on average where the mean is predicted. The
    dimensions keep their shares of the variance: most of them say little that a film could show.
    """
    texts, worded = READERS["image"](prepared, settings)
    values = _keep_train(prepared, reduce_reports(prepared, texts, worded, settings))
    values[~worded] = np.nan
    values -= np.nanmean(values, axis=0)
    values /= max(float(np.sqrt(np.nanmean(np.square(values), dtype=np.float64))), 1e-12)
    facts = {"dimensions": values.shape[1], **_count(values)}
    return AuxiliaryTarget(NUMBERS, values, np.zeros(values.shape[1], np.float32), facts)


def _keep_train(prepared, values):
    """Returns the values of the training part, NaN for other studies."""
    kept = np.full_like(values, np.nan)
    kept[prepared.rows("train")] = values[prepared.rows("train")]
    return kept


def _count(values):
    return {"studies": int(np.isfinite(values).any(axis=1).sum())}


Make = Callable[[PreparedStudies, FitSettings], AuxiliaryTarget]
AUXILIARY_TARGETS: dict[str, Make] = {"findings": _list_findings, "report-vectors": _describe_reports}


def make_auxiliary(
    prepared: PreparedStudies, settings: FitSettings, progress: Progress
) -> tuple[dict[str, AuxiliaryTarget], dict[str, Any]]:
    """Makes the auxiliary targets that the settings name for the image side.

    Args:
        prepared: `PreparedStudies`.
        settings: `FitSettings`.
        progress: `Progress`, which notes each target, or why there is none.

    Returns:
        dict of name to `AuxiliaryTarget`, and of name to its facts; both empty if no stage learns any.
    """
    names, learnt = settings.image_auxiliary, [stage.auxiliary for stage in make_recipe(settings).get("image", ())]
    if names and not any(learnt):
        progress.note("No auxiliary targets: the settings train nothing that they could change")
        return {}, {}
    found: dict[str, AuxiliaryTarget] = {}
    for name in names:
        make = look_up(AUXILIARY_TARGETS, name, "auxiliary target")
        try:
            found[name] = make(prepared, settings)
        except InputError as error:
            progress.note(f"No auxiliary target {name}: {error}")
            continue
        count, studies = found[name].values.shape[1], found[name].facts["studies"]
        progress.note(f"Auxiliary target {name}: {count} columns, known of {studies} training studies")
    return found, {name: target.facts for name, target in found.items()}
