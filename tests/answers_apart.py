"""All that a saved classifier answers, in a process that registered no encoder.

    python -m tests.answers_apart FILMS OUT SAVED METHOD...

predicts the studies of the films in FILMS with the classifier in SAVED, explains them by the methods, exports the
classifier to OUT/exported, calls the signature `explain_bytes`, and writes the arrays to OUT/answers.npz.
"""

import sys
from pathlib import Path

import numpy as np

from kmm.classifier import Classifier
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.export.explanation import ExplainSignature
from kmm.export.write import export_classifier
from tests.factories.studies import make_studies

STEPS = 25


def list_answers(classifier, studies, methods):
    """Predicts and explains: dict of name to array."""
    found = classifier.predict(studies)
    answers = {"logits": found.logits[classifier.main]}
    for method in methods:
        explainer = Explainer(classifier, ExplainSettings(method=method, steps=STEPS, baselines=("black",)))
        for one in explainer.explain(studies):
            for name, values in one.attribution.values.items():
                answers[f"{method} {one.study} {name}"] = values.sum(axis=-1)
            answers[f"{method} {one.study} gap"] = np.array(one.attribution.completeness_gap)
    return answers


def export_answers(saved, out, classifier, studies):
    """Exports a classifier and explains with the export: dict of name to array."""
    import tensorflow as tf

    place = export_classifier(saved, out=out, explanation=ExplainSignature(steps=STEPS), warmup=())
    signature = tf.saved_model.load(str(place)).signatures["explain_bytes"]
    files = [study.frontal.path.read_bytes() if study.frontal else b"" for study in studies]
    reports = [classifier.batches.text.text(study) for study in studies]
    target = tf.constant([-1] * len(studies), tf.int32)
    found = signature(image_bytes=tf.constant(files), report=tf.constant(reports), target=target)
    return {f"exported {name}": found[name].numpy() for name in ("image_attribution", "token_attribution", "logits")}


def find_studies(folder):
    """Makes the studies of a folder that `tests.factories.studies.write_films` wrote."""
    return make_studies({path.stem: path for path in sorted(Path(folder).glob("*.png"))})


if __name__ == "__main__":
    films, out, saved, *chosen = sys.argv[1:]
    loaded, studies = Classifier.load(saved), find_studies(films)
    np.savez(
        Path(out, "answers.npz"),
        **list_answers(loaded, studies, chosen),
        **export_answers(saved, Path(out, "exported"), loaded, studies),
    )
