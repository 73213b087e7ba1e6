"""A small classifier and its exports, made once."""

import pytest

from tests.factories.shared import sharing


@pytest.fixture
def one_signature(monkeypatch):
    """Exports of the default signature alone, for tests of what happens around an export."""
    from tests.export.calls import trace_only

    trace_only(monkeypatch, "serving_default")


@pytest.fixture(scope="session")
def saved(hand_made, tmp_path_factory):
    """The folder of a classifier of films and reports with three labels."""
    with sharing(tmp_path_factory, "tiny-export") as folder:
        if not (folder / "tiny").exists():
            hand_made.save(folder / "tiny")
    return folder / "tiny"


@pytest.fixture(scope="session")
def saved_reader(build_classifier, tmp_path_factory):
    """The folder of a classifier of reports alone, which is exported in a few seconds."""
    folder = tmp_path_factory.mktemp("saved_models") / "reader"
    build_classifier(None, "text-cnn").save(folder)
    return folder


@pytest.fixture(scope="session")
def exported(saved, tmp_path_factory):
    """The folder of its first version, explanations of 15 points included."""
    from kmm.export.explanation import ExplainSignature
    from kmm.export.write import export_classifier

    with sharing(tmp_path_factory, "tiny-export"):
        if not (saved / "1").exists():
            export_classifier(saved, explanation=ExplainSignature(steps=15, baseline="mean"))
    return saved / "1"


@pytest.fixture(scope="session")
def signatures(exported):
    """The signatures of that version, as TensorFlow loads them."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(exported))
    yield loaded.signatures


@pytest.fixture(scope="session")
def samples(hand_made):
    from kmm.export.samples import make_samples

    return make_samples(hand_made, 4)
