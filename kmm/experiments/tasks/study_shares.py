"""Shares of film and report in what the joint model says, study by study."""

from collections.abc import Mapping

import numpy as np

from kmm.evaluate.statistics.shapley import share_value
from kmm.experiments.tasks.answers import Answers


def share_studies(models: Mapping[str, Answers]) -> dict[str, np.ndarray]:
    """Divides what the joint model says of each study between its film and its report, by Shapley's value.

    The values are calibrated probabilities: of the joint model when it sees both sides, the film alone and the report
    alone, and the prevalence of the training part for neither. A side that a study lacks adds nothing, so the other one
    has the whole.

    Source: https://doi.org/10.1515/9781400881970-018

    Args:
        models: mapping of model to its `Answers` for the same studies: `joint`, `joint-image`, `joint-text` and
            `majority`, whose probability is the prevalence.

    Returns:
        dict of `image_share` and `report_share`: float64 `(n, n_labels)` in [-1, 1]. They sum to the probability of the
        joint model minus the prevalence.

    Example:
        >>> def answer(value, measured=True):
        ...     return Answers(np.array([[value]]), np.array([[0.5]]), np.array([measured]))
        >>> values = {"majority": 0.5, "joint-image": 0.6, "joint-text": 0.9, "joint": 0.9}
        >>> seen = {name: answer(value) for name, value in values.items()}
        >>> {name: float(share[0, 0].round(3)) for name, share in share_studies(seen).items()}
        {'image_share': 0.05, 'report_share': 0.35}
    """
    none = models["majority"].probabilities
    alone = (models[name] for name in ("joint-image", "joint-text"))
    image, text = (np.where(found.measured[:, None], found.probabilities, none) for found in alone)
    shares = share_value(none, image, text, models["joint"].probabilities)
    return {"image_share": shares["image"], "report_share": shares["text"]}
