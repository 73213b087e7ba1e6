"""The cosine of a study's vector with that of another study, as a score that methods of attribution explain.

Each study is explained while the other one stays as it is: on the path of a study only its own pixels and words change,
from their baselines to what they are, so its attributions sum to the cosine minus that with the study emptied. (If both
studies left their baselines together, they would start as two empty studies, which are alike: the cosine there is 1,
and the attributions would explain what makes the two differ.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops

from kmm.data.modalities import KEPT
from kmm.errors import look_up
from kmm.explain.attribution.methods import Case

OTHER, LENGTH = "other", "length"  # names of the further inputs of the score
LEAST_LENGTH = 0.01  # a baseline whose vector is shorter than this share of the study's own has no direction
TINY = 1e-30  # added to squared lengths, so that their roots have gradients
READS = {"joint": ("image", "rows"), "image": ("image",), "text": ("rows",)}  # layer to the inputs that decide it


def score_cosine(vectors: Any, fixed: Mapping[str, Any]) -> Any:
    """Computes the cosine of vectors with fixed ones.

    Args:
        vectors: tensor `(m, d)`.
        fixed: mapping with `"other"`, `(m, d)` of length 1; and `"length"`, `(m,)`: the length by which a vector is
            divided, or 0 for its own.

    Returns:
        tensor `(m,)`.

    Example:
        >>> vectors, other = ops.array([[3.0, 4.0], [0.0, 0.0]]), ops.array([[1.0, 0.0], [1.0, 0.0]])
        >>> fixed = {"other": other, "length": ops.array([0.0, 5.0])}
        >>> [round(value, 4) for value in ops.convert_to_numpy(score_cosine(vectors, fixed)).tolist()]
        [0.6, 0.0]
    """
    own = ops.sqrt(ops.maximum(ops.sum(ops.square(vectors), axis=1), TINY))
    length = ops.where(fixed[LENGTH] > 0, fixed[LENGTH], own)
    return ops.divide(ops.sum(ops.multiply(vectors, fixed[OTHER]), axis=1), length)


def choose_length(vector: np.ndarray, baselines: Sequence[np.ndarray]) -> float:
    """Chooses by what the vectors on a study's path are divided.

    A cosine has no value where a vector is 0, and jumps beside it. If the vector of a baseline is shorter than 1 % of
    the study's own, all vectors of the path are divided by the length of the study's own: the score is then the
    cosine at the study, about 0 at the baseline, and affine in the vector between them.

    Args:
        vector: float array `(d,)` of the study.
        baselines: sequence of float arrays `(d,)`, of its baselines.

    Returns:
        float: the length of the study's vector, or 0 if each vector is divided by its own length.

    Example:
        >>> choose_length(np.array([3.0, 4.0]), [np.array([0.0, 2.0])])
        0.0
        >>> choose_length(np.array([3.0, 4.0]), [np.zeros(2)])
        5.0
    """
    length = float(np.linalg.norm(np.asarray(vector, np.float64)))
    shortest = min((float(np.linalg.norm(np.asarray(one, np.float64))) for one in baselines), default=length)
    return length if shortest < LEAST_LENGTH * length else 0.0


def read_case(case: Case, layer: str, pattern: str) -> Case:
    """Restricts a case to what a layer reads of it.

    Args:
        case: `Case`.
        layer: name in `READS`.
        pattern: name in `kmm.data.modalities.PATTERNS`: the sides of the study that are read.

    Returns:
        `Case`; a hidden film is black, and hidden words are padding, as those of a study without them.

    Raises:
        InputError: if the pattern is unknown.
    """
    kept = look_up(KEPT, pattern, "pattern")
    inputs = {name: value for name, value in case.inputs.items() if name in READS[layer]}
    fixed, absent = dict(case.fixed), set(case.absent)
    fixed["present"] = case.fixed["present"] * np.array(kept, np.float32)
    if "image" in inputs and not kept[0]:
        inputs["image"] = np.zeros_like(inputs["image"])
        absent.add("image")
    if "rows" in inputs and case.padding_row is not None and not kept[1]:
        inputs["rows"] = np.array(np.broadcast_to(case.padding_row, inputs["rows"].shape), np.float32)
        fixed["padding_mask"] = np.zeros_like(fixed["padding_mask"])
        absent.add("rows")
    return replace(case, inputs=inputs, fixed=fixed, absent=frozenset(absent))


def aim_case(case: Case, other: np.ndarray, length: float) -> Case:
    """Returns a case whose score is its cosine with another vector.

    Args:
        case: `Case`.
        other: float array `(d,)`, of any length above 0.
        length: float, from `choose_length`.
    """
    direction = np.asarray(other, np.float64)
    direction = (direction / np.linalg.norm(direction)).astype(np.float32)
    return replace(case, fixed={**case.fixed, OTHER: direction, LENGTH: np.asarray(length, np.float32)}, target=0)
