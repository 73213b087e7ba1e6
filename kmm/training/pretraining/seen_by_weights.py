"""Check whether a file of weights was pretrained on studies that a fit holds out."""

from pathlib import Path
from typing import Any

from kmm.evaluate.seen import find_part
from kmm.models.weights.checkpoints import NAMED_WEIGHTS
from kmm.models.weights.training_record import TrainingRecord, read_record
from kmm.progress import Progress
from kmm.settings import FitSettings
from kmm.training.preparation.prepared_studies import PreparedStudies


def note_seen(settings: FitSettings, prepared: PreparedStudies, progress: Progress) -> dict[str, Any]:
    """Notes in one line if the image weights of a fit saw its test studies, or were trained on its validation studies.

    Args:
        settings: `FitSettings`.
        prepared: `PreparedStudies` of the fit.
        progress: `kmm.progress.Progress`.

    Returns:
        dict for the provenance of the classifier: `weights_saw`, the counts of `count_seen`; empty for weights that
        `kmm weights pretrain` did not write.

    Raises:
        WeightsError: if the record in the file is damaged.
    """
    source = settings.image_weights
    if not settings.image_encoder or not source or source in NAMED_WEIGHTS:
        return {}
    record = read_record(source)
    if record is None:
        return {}
    seen = count_seen(prepared, record)
    parts = {part: len(prepared.rows(part)) for part in seen}
    crossing = [f"{count} of the {parts[part]} {part} studies" for part, count in seen.items() if count]
    if crossing:
        progress.note(
            f"LEAK: {Path(source).name} was pretrained on {' and '.join(crossing)}, so their results are too "
            "optimistic. Pretrain with the split of this fit (--split)."
        )
    return {"weights_saw": seen}


def count_seen(prepared: PreparedStudies, record: TrainingRecord) -> dict[str, int]:
    """Counts the studies that a fit holds out and a pretraining did not.

    Args:
        prepared: `PreparedStudies` of the fit.
        record: `TrainingRecord` of the weights.

    Returns:
        dict of `test`: test studies that pretraining saw, in training or in validation; and `validation`: validation
        studies that were in its training.
    """
    text = prepared.maker.text
    found = {}
    for part, held in (("test", ("train", "validation")), ("validation", ("train",))):
        found[part] = 0
        for row in prepared.rows(part):
            study = prepared.studies[row]
            was = find_part(
                record.seen,
                study,
                text=text.text(study) if text else "",
                file_digest=prepared.film_digests[row],
                sketch=prepared.sketches[row],
            )
            found[part] += was in held
    return found
