"""Classifiers for the benchmarks: one trained on the phantom set, and untrained ones where weights do not matter."""

import contextlib
import sys
from pathlib import Path

PHANTOM_STUDIES = 800  # the default of `kmm fit`


def train_phantom(folder, *, studies=PHANTOM_STUDIES):
    """Trains the small preset on the built-in phantom set.

    Args:
        folder: Path. Receives the folders `data` and `model`.
        studies: int.

    Returns:
        Paths of the model and of the data.
    """
    from kmm.data.collection import read_collection
    from kmm.data.phantom.dataset import make_phantom
    from kmm.presets import gather_settings
    from kmm.training.fit import fit_classifier

    folder = Path(folder)
    make_phantom(folder / "data", studies=studies)
    settings = gather_settings({}, more=["bootstrap_repeats=10"])
    with contextlib.redirect_stdout(sys.stderr):
        classifier, *_ = fit_classifier(read_collection(folder / "data"), settings, work=folder / "work", cache=folder)
    classifier.save(folder / "model")
    return folder / "model", folder / "data"


def save_untrained(folder, image_encoder, preset="paper"):
    """Saves a classifier of films and reports with a preset's sizes, another image encoder and random weights.

    Args:
        folder: Path to make.
        image_encoder: name in `kmm.models.encoders_image.IMAGE_ENCODERS`.
        preset: name of the preset.

    Returns:
        `folder`.
    """
    import numpy as np

    from kmm.batches import BatchMaker, TextPreparation
    from kmm.classifier import Classifier
    from kmm.image.prepare import ImagePreparation
    from kmm.models.build import ModelSpec, build_model
    from kmm.presets import make_settings
    from kmm.text.vocabulary import Vocabulary

    s = make_settings(preset, {"image_encoder": image_encoder, "image_weights": None})
    vocabulary = Vocabulary.fit([[f"word{number}" for number in range(2000)]])
    spec = ModelSpec(
        s.image_encoder, s.text_encoder, pixels=s.pixels, length=s.length, embedding_size=s.embedding_size,
        text_filters=s.text_filters, fusion_units=s.fusion_units,
    )  # fmt: skip
    Classifier(
        models={"joint": build_model(spec, label_count=1, vocabulary_size=len(vocabulary))},
        batches=BatchMaker(
            ImagePreparation(s.pixels), TextPreparation(), vocabulary=vocabulary, label_names=("abnormal",)
        ),
        settings=s,
        temperatures={"joint": np.ones(1)},
        thresholds={"joint": np.full(1, 0.5)},
        prevalence=np.full(1, 0.5),
        mean_image=np.full((s.pixels, s.pixels, 1), 100, np.float32),
    ).save(folder)
    return folder


def read_complete_studies(data, count):
    """Reads the first `count` studies of a folder that have a film and a report; repeats them where there are fewer."""
    from dataclasses import replace

    from kmm.data.collection import read_collection

    studies = [study for study in read_collection(data).studies if study.frontal and study.report]
    return [replace(studies[row % len(studies)], id=f"{row}") for row in range(count)]


def record_cases(explainer):
    """Makes an explainer record the prepared cases that it passes to its attribution method.

    Returns:
        the explainer's original function `attribute`, and a list that grows as studies are explained.
    """
    attribute, cases = explainer.attribute, []

    def record(given):
        for case in given:
            cases.append(case)
            yield case

    explainer.attribute = lambda given: attribute(record(given))
    return attribute, cases
