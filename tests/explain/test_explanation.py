"""What an explanation says of itself: decision, sides, words; and the row of the table that follows."""

import json

import numpy as np
import pytest

from kmm.explain.attribution.result import Attribution
from kmm.explain.explanation import Explanation
from kmm.explain.output.table import TABLE_COLUMNS, describe_explanation, drop_unknown
from kmm.explain.regions.find import Region
from kmm.explain.settings import ExplainSettings

IMAGE, ROWS = np.float32([[[4.0], [6.0]]]), np.float32([[-4.0, -6.0], [0.0, 1.0]])


def make_explanation(values, gap=0.001, share=None, **changes):
    given = {
        "study": "1",
        "image": None,
        "target": "mass",
        "attribution": Attribution(values, 0, 1.0, np.array([1.0]), 0.0, gap),
        "probabilities": {"mass": 0.05},
        "thresholds": {"mass": 0.5},
        "film": None,
        "heat": None,
        "regions": [],
        "text": "",
        "sections": [],
        "words": [],
        "modality_share": share or {"image": 10 / 19, "text": 9 / 19},
        "settings": ExplainSettings(),
    }
    return Explanation(**{**given, **changes})


def test_sides_have_signed_sums_where_the_values_promise_one():
    one = make_explanation({"image": IMAGE, "rows": ROWS})
    assert one.modality_sum == {"image": 10, "text": -9} and one.words_scored
    film = make_explanation({"image": IMAGE})
    assert film.modality_sum == {"image": 10, "text": 0} and not film.words_scored
    product = make_explanation({"image": IMAGE, "rows": ROWS}, gap=float("nan"))
    assert product.modality_sum == {"image": None, "text": None} and product.words_scored
    said = json.loads(json.dumps(drop_unknown(one.as_dict()), allow_nan=False))
    assert said["modality_sum"] == {"image": 10, "text": -9} and said["words_scored"] and said["decision"] is False


@pytest.mark.parametrize(
    ("probability", "thresholds", "decision"),
    [
        (0.49, {"mass": 0.5}, False),
        (0.5, {"mass": 0.5}, True),
        (0.5, {}, None),
        (0.5, {"mass": None}, None),
        (0.5, {"mass": float("nan")}, None),
        (float("nan"), {"mass": 0.5}, None),
    ],
)
def test_a_decision_is_positive_from_the_threshold_on(probability, thresholds, decision):
    one = make_explanation({}, probabilities={"mass": probability}, thresholds=thresholds)
    assert one.decision is decision
    row = describe_explanation(one)
    assert row["decision"] == {True: "yes", False: "no", None: None}[decision] and list(row) == list(TABLE_COLUMNS)


def test_shares_that_are_not_known_are_empty_in_the_table_and_shares_of_nothing_are_zero():
    nothing = {"image": 0.0, "text": 0.0}
    unknown = describe_explanation(make_explanation({"image": IMAGE}, gap=float("nan"), share=nothing))
    assert unknown["image_share"] is unknown["text_share"] is None
    still = describe_explanation(make_explanation({"image": 0 * IMAGE}, gap=0.0, share=nothing))
    assert still["image_share"] == still["text_share"] == 0
    assert describe_explanation(make_explanation({"image": IMAGE, "rows": ROWS}))["text_share"] == 9 / 19


def test_places_are_in_pixels_of_the_file():
    """Columns twice as far apart as rows: square pixels are twice as many columns, and x goes back by half."""
    regions = [Region(41.5, 20.0, 7.0, 0.6), Region(-0.5, 3.0, 2.0, 0.4)]
    one = make_explanation({"image": IMAGE}, regions=regions, pixel_scale=(2.0, 1.0))
    said = one.as_dict()
    assert [(region["x"], region["y"], region["radius"]) for region in said["regions"]] == [(20.5, 20, 7), (-0.5, 3, 2)]
    assert said["pixel_aspect"] == 0.5
    row = describe_explanation(one)
    assert (row["top_x"], row["top_y"], row["top_radius"]) == (20.5, 20.0, 7.0)
    square = make_explanation({"image": IMAGE}, regions=regions)
    assert square.regions_in_file == regions and square.as_dict()["pixel_aspect"] == 1
