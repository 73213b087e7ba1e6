"""What the joint model mends and breaks, counted by hand."""

import json

import numpy as np
import pytest

from kmm.errors import InputError
from kmm.evaluate.breakdown.error_table import NEEDED, REPEATED, tabulate_errors
from kmm.evaluate.statistics.paired_tests import compare_accuracy

COLUMNS = (*NEEDED, "has_image", "has_report")


def make_columns(rows):
    return {name: np.array(values) for name, values in zip(COLUMNS, zip(*rows, strict=True), strict=True)}


def predict(study, joint, image, text, *, truth=1.0, split="1", has=(True, True), part="test", variant=""):
    """Rows of one study by three models, with a threshold of 0.5."""
    models = {"joint": joint, "image": image, "text": text}
    return [
        (split, variant, part, study, f"p{study}", model, "mass", truth, probability, 0.5, *has)
        for model, probability in models.items()
    ]


ROWS = [
    *predict("1", 0.9, 0.2, 0.3),  # mended against all
    *predict("2", 0.4, 0.6, 0.7),  # broken against all
    *predict("3", 0.8, 0.9, 0.1),  # mended against text
    *predict("4", 0.8, 0.9, 0.9),
    *predict("5", 0.6, 0.7, 0.8, truth=0.0),  # wrong, all of them
    *predict("6", 0.1, 0.9, 0.2, truth=0.0),  # mended against image
    *predict("7", 0.9, 0.1, 0.1, truth=np.nan),
    *predict("8", 0.9, 0.1, 0.1, part="validation"),
    *predict("9", 0.9, 0.1, 0.1, has=(True, False)),  # no report
]


def test_it_counts_and_lists():
    image, text, everything = tabulate_errors(make_columns(ROWS))
    counts = ("n", "both_right", "mended", "broken", "both_wrong")
    assert [image[name] for name in ("other", *counts)] == ["image", 7, 2, 3, 1, 1]
    assert [text[name] for name in ("other", *counts)] == ["text", 6, 2, 2, 1, 1]
    assert [everything[name] for name in ("other", *counts)] == ["all", 6, 1, 1, 1, 1]
    assert [(one["study"], one["what"]) for one in image["studies"]] == [
        ("6", "mended"), ("9", "mended"), ("1", "mended"), ("2", "broken"),
    ]  # fmt: skip
    assert everything["studies"][0] == {
        "split": "1", "study": "1", "what": "mended", "truth": 1.0, "probability": 0.9,
        "others": {"image": 0.2, "text": 0.3},
    }  # fmt: skip
    json.dumps([image, text, everything], allow_nan=False)


def test_shares_of_film_and_report_are_listed_where_they_are_known():
    shares = [0.3 if row[5] == "joint" else np.nan for row in ROWS]
    columns = make_columns(ROWS) | {"image_share": np.array(shares), "report_share": np.full(len(ROWS), np.nan)}
    study = tabulate_errors(columns)[0]["studies"][0]
    assert study["image_share"] == 0.3 and "report_share" not in study


def test_p_is_that_of_mcnemar_over_patients():
    rng = np.random.default_rng(0)
    truth, joint, text = rng.integers(0, 2, 80), rng.random(80), rng.random(80)
    rows = [
        ("1", "", "test", str(place), f"p{place // 2}", model, "mass", float(truth[place]), p[place], 0.5, True, True)
        for place in range(80)
        for model, p in (("joint", joint), ("text", text))
    ]
    (found,) = tabulate_errors(make_columns(rows), others=("text",))
    known = compare_accuracy(truth, joint >= 0.5, text >= 0.5, np.arange(80) // 2)
    assert found["p"] == pytest.approx(known["p"])
    assert (found["mended"], found["broken"]) == (known["first_only"], known["second_only"])


def test_studies_of_several_splits_are_counted_in_each_without_p():
    rows = [*ROWS, *predict("1", 0.3, 0.9, 0.9, split="2")]
    image, *_ = tabulate_errors(make_columns(rows))
    assert (image["n"], image["mended"], image["broken"]) == (8, 3, 2)
    assert image["p"] is None and image["note"] == REPEATED


def test_variants_stand_apart_and_absent_models_are_left_out():
    rows = [*predict("1", 0.9, 0.2, 0.3), *predict("1", 0.2, 0.2, 0.3, variant="a=1")]
    found = tabulate_errors(make_columns(rows), others=("text", "tfidf"))
    assert [(one["variant"], one["other"], one["mended"]) for one in found] == [("", "text", 1), ("a=1", "text", 0)]


def test_a_table_that_lacks_something_is_refused():
    columns = make_columns(ROWS)
    with pytest.raises(InputError, match="lacks the columns truth"):
        tabulate_errors({name: column for name, column in columns.items() if name != "truth"})
    with pytest.raises(InputError, match="no predictions of the model 'best'"):
        tabulate_errors(columns, model="best")
