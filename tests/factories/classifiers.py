"""Untrained classifiers of a few weights."""

import numpy as np

from kmm.batches import BatchMaker, TextPreparation
from kmm.classifier import Classifier
from kmm.image.prepare import ImagePreparation
from kmm.models.build import ModelSpec, build_model
from kmm.settings import FitSettings
from kmm.text.vocabulary import SPECIAL_WORDS, Vocabulary
from kmm.text.word_pieces import WordPieces

PIECES = "no mass small of is a the eff ##us ##ion cy ##st c ##ou ##gh l ##un ##g norm ##al ##l ##i ##k ##e"


def build_classifier(
    image="small-cnn", text="text-cnn", *, labels=("mass", "effusion", "cyst"), mean=True, network=None, **preparation
):
    """Builds a classifier of films, of reports or of both, with any labels; `network` has more of its `ModelSpec`."""
    sizes = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 8, "fusion_units": 16}
    spec = ModelSpec(image_encoder=image, text_encoder=text, **sizes | (network or {}))
    vocabulary = Vocabulary.fit([f"no mass small effusion cyst word{number}".split() for number in range(9)])
    if preparation.get("pieces"):
        vocabulary = WordPieces((*SPECIAL_WORDS, *PIECES.split()))
    model = build_model(spec, label_count=len(labels), vocabulary_size=len(vocabulary))
    random = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:  # offsets and statistics of normalisation, which start at 0 and 1
            weight.assign(weight + random.uniform(0.1, 0.5, weight.shape))
    part = "joint" if image and text else "image" if image else "text"
    return Classifier(
        models={part: model},
        batches=BatchMaker(
            ImagePreparation(32) if image else None,
            TextPreparation(**{"length": 12, **preparation}) if text else None,
            vocabulary=vocabulary if text else None,
            label_names=labels,
        ),
        settings=FitSettings(image_encoder=image, text_encoder=text, pixels=32, length=12),
        # each pattern (both sides, a film alone, a report alone) has numbers of its own: none may take another's
        temperatures={part: np.outer([1.0, 1.8, 0.6], np.linspace(0.5, 1.5, len(labels)))},
        thresholds={part: np.tile([[0.5], [0.47], [0.53]], len(labels))},
        prevalence=np.full(len(labels), 0.5),
        mean_image=random.uniform(80, 120, (32, 32, 1)).astype(np.float32) if image and mean else None,
    )
