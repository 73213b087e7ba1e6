"""Explanations in the graph are those of `kmm.explain`."""

import numpy as np
import pytest
import tensorflow as tf

from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from tests.export.calls import call

pytestmark = pytest.mark.large  # its fixtures train whole classifiers


@pytest.fixture(scope="module")
def explained(hand_made, studies):
    """The studies, explained by `kmm.explain` at the export's points."""
    explainer = Explainer(hand_made, ExplainSettings(steps=15, baselines=("mean",)))
    return {one.study: one.attribution for one in explainer.explain(studies)}


def make_inputs(studies, hand_made):
    files = [study.frontal.path.read_bytes() if study.frontal else b"" for study in studies]
    reports = [hand_made.batches.text.text(study) for study in studies]
    targets = np.full(len(studies), -1, np.int32)
    return {"image_bytes": np.array(files, object), "report": np.array(reports, object), "target": targets}


def test_maps_and_numbers_are_those_of_kmm_explain(signatures, hand_made, studies, explained):
    found = call(signatures, "explain_bytes", make_inputs(studies, hand_made))
    for row, study in enumerate(studies):
        expected = explained[study.id]
        assert found["target"][row] == expected.target
        for name, value in (("image_attribution", "image"), ("token_attribution", "rows")):
            wanted = expected.values[value].sum(axis=-1)
            np.testing.assert_allclose(found[name][row], wanted, atol=1e-4 * max(np.abs(wanted).max(), 1e-3))
        energy = np.square(expected.values["rows"]).sum(axis=-1)
        np.testing.assert_allclose(found["token_energy"][row], energy, rtol=1e-3, atol=1e-9)
        for name in ("score", "baseline_score"):
            assert found[name][row] == pytest.approx(getattr(expected, name), abs=1e-4)
        assert found["completeness_gap"][row] == pytest.approx(expected.completeness_gap, abs=1e-4)
        assert found["map_error"][row] == pytest.approx(expected.map_error, rel=1e-3)


def test_every_label_can_be_asked_for(signatures, hand_made, studies):
    given = make_inputs(studies[:1] * 3, hand_made)
    found = call(signatures, "explain_bytes", {**given, "target": np.arange(3, dtype=np.int32)})
    assert found["target"].tolist() == [0, 1, 2]
    np.testing.assert_allclose(found["score"], found["logits"][0], atol=1e-5)


def test_nothing_is_attributed_to_what_is_absent(signatures, hand_made, studies):
    found = call(signatures, "explain_bytes", make_inputs(studies, hand_made))
    words, film = (
        studies.index(next(s for s in studies if not s.frontal)),
        next(row for row, study in enumerate(studies) if not study.report),
    )
    assert not found["image_attribution"][words].any() and found["token_attribution"][words].any()
    assert not found["token_attribution"][film].any() and found["image_attribution"][film].any()
    assert not found["image_box"][words].any() and not found["token_words"][film].astype(bool).any()


def test_tensors_are_explained_as_bytes_are(signatures, samples):
    both = [call(signatures, name, samples) for name in ("explain", "explain_bytes")]
    for name in both[0]:
        if both[0][name].dtype.kind == "f":
            np.testing.assert_allclose(both[0][name], both[1][name], atol=1e-3 * np.abs(both[0][name]).max() + 1e-6)


@pytest.mark.parametrize("signature", ["explain", "explain_bytes"])
def test_nothing_is_attributed_to_the_bars_of_the_letterbox(signatures, hand_made, studies, signature):
    films = studies[:3]
    given = make_inputs(films, hand_made)
    if signature == "explain":
        batch = hand_made.batches.batch(films)
        given = {"image": batch.image, "token_ids": batch.token_ids, "target": given["target"]}
    found = call(signatures, signature, given)
    for row, study in enumerate(films):
        height, width = map(int, study.id.split("x"))
        top, left, height, width = hand_made.batches.image.find_box((height, width))
        heat = found["image_attribution"][row].copy()
        assert heat[top : top + height, left : left + width].any()
        heat[top : top + height, left : left + width] = 0
        assert not heat.any()


@pytest.mark.parametrize("target", [-2, 3])
def test_a_label_that_the_model_does_not_have(signatures, samples, target):
    given = {**samples, "target": np.array([0, target, 0, 0], np.int32)}
    with pytest.raises(tf.errors.InvalidArgumentError, match="target 1: expected a label from 0 to 2, or -1"):
        call(signatures, "explain", given)
