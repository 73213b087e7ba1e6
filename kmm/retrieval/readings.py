"""Read a study once: its arrays for the classifier, the identity of its film, and its part in the split."""

from dataclasses import dataclass

from kmm.batches import Batch
from kmm.classifier import Classifier
from kmm.data.study import Study
from kmm.errors import InputError
from kmm.evaluate.seen import find_part
from kmm.image.film_identity import digest_film, sketch_film
from kmm.image.prepare import PreparedFilm


@dataclass(frozen=True)
class Reading:
    """A study that was read.

    Attributes:
        study: `Study`, with the `pixel_digest` of its frontal film.
        batch: `Batch` of this study alone.
        part: str, `"train"`, `"validation"` or `"test"` (never seen); empty if the classifier keeps no fingerprints.
    """

    study: Study
    batch: Batch
    part: str = ""


def read_study(classifier: Classifier, study: Study) -> Reading | InputError:
    """Reads a study. Its film is decoded once.

    Args:
        classifier: `Classifier`.
        study: `Study`.

    Returns:
        `Reading`; or the `InputError` because of which the study cannot be used.
    """
    batches = classifier.batches
    try:
        film, file_digest = batches.read_film(study)
        prepared, sketch = None, 0
        if film is not None and batches.image is not None:
            prepared = PreparedFilm(batches.image.apply(film), film.shape)
            study, sketch = study.with_pixel_digest(digest_film(film)), sketch_film(prepared.pixels)
        batch = batches.batch([study], [prepared])
    except InputError as error:
        return error
    text = batches.text.text(study) if batches.text else ""
    seen = classifier.seen
    part = find_part(seen, study, text=text, file_digest=file_digest, sketch=sketch) if seen else ""
    return Reading(study, batch, part)
