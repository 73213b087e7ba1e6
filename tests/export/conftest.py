"""A small classifier and its exports, made once."""

import pytest


@pytest.fixture(scope="session")
def saved(hand_made, tmp_path_factory):
    """The folder of a classifier of films and reports with three labels."""
    folder = tmp_path_factory.mktemp("saved_models") / "tiny"
    hand_made.save(folder)
    return folder


@pytest.fixture(scope="session")
def saved_reader(build_classifier, tmp_path_factory):
    """The folder of a classifier of reports alone, which is exported in a few seconds."""
    folder = tmp_path_factory.mktemp("saved_models") / "reader"
    build_classifier(None, "text-cnn").save(folder)
    return folder


@pytest.fixture(scope="session")
def exported(saved):
    """The folder of its first version, explanations of 15 points included."""
    from kmm.export.explanation import ExplainSignature
    from kmm.export.write import export_classifier

    return export_classifier(saved, explanation=ExplainSignature(steps=15, baseline="mean"))


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
