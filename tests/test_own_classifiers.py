"""Classifiers with encoders of one's own answer alike in a process that knows nothing of the encoders."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kmm.classifier import Classifier
from kmm.errors import ArtefactError, InputError
from kmm.explain.attribution.methods import METHODS
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.models.description import ImageDescription
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.encoders_text import TEXT_ENCODERS
from kmm.models.registration import register_image_encoder, register_text_encoder
from tests.answers_apart import find_studies, list_answers
from tests.factories.own_encoders import build_colour_cnn, build_vector_cnn, build_word_model, write_package

ROOT = Path(__file__).parents[1]


@pytest.fixture
def register():
    """Registers image and text encoders; they are forgotten after the test."""
    made = []

    def put(image, text):
        register_image_encoder("own-image", image)
        made.append((IMAGE_ENCODERS, "own-image"))
        register_text_encoder("own-text", text)
        made.append((TEXT_ENCODERS, "own-text"))

    yield put
    for table, name in made:
        table.pop(name, None)


def forget():
    IMAGE_ENCODERS.pop("own-image")
    TEXT_ENCODERS.pop("own-text")


@pytest.mark.large
def test_a_classifier_knows_its_encoders_where_nothing_is_registered(register, build_classifier, studies, tmp_path):
    register(build_vector_cnn(), build_word_model())
    build_classifier(image="own-image", text="own-text").save(tmp_path / "saved")
    forget()
    loaded = Classifier.load(tmp_path / "saved")
    assert (loaded.image_encoder.feature_map, loaded.image_encoder.pooling) == ("relu3", "network")
    assert loaded.text_encoder.stem == ("stem_rows", "stem_mask")
    settings = ExplainSettings(method="grad-cam")
    assert Explainer(loaded, settings).split.feature_map == "image_relu3"
    found = next(Explainer(loaded, ExplainSettings(steps=75)).explain(studies[:1]))
    assert found.attribution.completeness_gap < 0.02
    loaded.save(tmp_path / "again")
    again = Classifier.load(tmp_path / "again")
    assert (again.image_encoder, again.text_encoder) == (loaded.image_encoder, loaded.text_encoder)
    loaded.image_encoder = None  # as an earlier version of kmm saved it
    with pytest.raises(
        InputError, match=r"did not describe its encoder 'own-image'. Register it with kmm.register_ima"
    ):
        Explainer(loaded)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stem": 3}, "wrong value of `stem`"),
        ({"pixels": True}, "wrong value of `pixels`"),
        ({"blocks": ["a", 1]}, "wrong value of `blocks`"),
        ({"held": "1"}, "wrong value of `held`"),
        ({"size": 3}, "has other fields: "),
    ],
)
def test_a_description_of_other_values_is_refused(change, said):
    entry = IMAGE_ENCODERS["small-cnn"]
    with pytest.raises(ArtefactError, match=said):
        ImageDescription.from_dict({**entry.describe(), **change})


def answer_apart(films, out, saved, methods, *paths):
    out.mkdir()
    path = os.pathsep.join(map(str, (ROOT, *paths)))
    environment = {**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-m", "tests.answers_apart", str(films), str(out), str(saved), *methods]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.large
@pytest.mark.parametrize("kind", ["vectors", "colour", "package"])
def test_a_process_that_registered_nothing_gives_the_same_answers(
    kind, register, build_classifier, films, tmp_path, monkeypatch
):
    folder, image = next(iter(films.values())).parent, "own-image"
    methods = ["integrated-gradients", "grad-cam"]
    if kind == "vectors":
        methods = [name for name, method in METHODS.items() if not method.at_attention]
    if kind == "package":
        image = "offered-cnn"
        module = f"films_{kind}"
        write_package(tmp_path, module, offers=f"{image} = {module}:build")
        monkeypatch.syspath_prepend(tmp_path)
        classifier = build_classifier(image=image)
    else:
        register(
            *(
                (build_vector_cnn(), build_word_model())
                if kind == "vectors"
                else (build_colour_cnn(), build_word_model(sequence=True))
            )
        )
        classifier = build_classifier(image=image, text="own-text")
    classifier.save(tmp_path / "saved")
    studies = find_studies(folder)
    expected = list_answers(classifier, studies, methods)
    if kind == "package":
        IMAGE_ENCODERS.pop(image, None)
        without = answer_apart(folder, tmp_path / "without", tmp_path / "saved", methods)
        assert without.returncode != 0 and "of the class Gain, which is not registered" in without.stderr
    done = answer_apart(folder, tmp_path / "out", tmp_path / "saved", methods, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "out" / "answers.npz", allow_pickle=False) as file:
        found = dict(file)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5 + 1e-3 * np.abs(value).max(), err_msg=name)
    gaps = [value for name, value in found.items() if name.startswith("integrated") and name.endswith("gap")]
    assert gaps and max(gaps) < 0.05
    for row, study in enumerate(studies):
        for name, side in (("image", "image"), ("token", "rows")):
            wanted = expected[f"integrated-gradients {study.id} {side}"]
            got = found[f"exported {name}_attribution"][row]
            np.testing.assert_allclose(
                got, wanted, atol=1e-5 + 1e-3 * np.abs(wanted).max(), err_msg=f"{study.id} {side}"
            )
    np.testing.assert_allclose(found["exported logits"], expected["logits"], atol=1e-4)
