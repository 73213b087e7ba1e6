"""Profile of the training studies of a run, saved with the classifier so that a later evaluation can tell a shift."""

import numpy as np

from kmm.evaluate.breakdown.profile import FilmTally, Profile, profile_studies
from kmm.training.run_context import RunContext

MOST_FILMS = 300  # enough for a histogram; each film is read from the cache again
AT_ONCE = 32


def profile_training(context: RunContext) -> Profile:
    """Makes the profile of the training studies; unknown words are counted on the validation studies.

    Args:
        context: `RunContext`.

    Returns:
        `Profile`, with the histograms of at most `MOST_FILMS` films, evenly spaced.
    """
    prepared, train = context.prepared, context.rows("train")
    return profile_studies(
        context.maker,
        [prepared.studies[row] for row in train],
        present=prepared.present[train],
        labels=prepared.labels[train],
        tally=_tally_films(prepared, train),
        readers=[prepared.studies[row] for row in context.rows("validation")],
    )


def _tally_films(prepared, rows):
    tally = FilmTally()
    filmed = rows[prepared.present[rows, 0] > 0] if prepared.films is not None else rows[:0]
    if len(filmed) > MOST_FILMS:
        filmed = filmed[np.linspace(0, len(filmed) - 1, MOST_FILMS).astype(np.int64)]
    for start in range(0, len(filmed), AT_ONCE):
        chunk = filmed[start : start + AT_ONCE]
        tally.add_films(prepared.films[chunk], prepared.film_sizes[chunk])
    return tally
