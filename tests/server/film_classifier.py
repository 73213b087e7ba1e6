"""A tiny classifier of films, exported as `kmm export` does it: for what the server does with films alone.

python tests/server/film_classifier.py FOLDER
"""

import os
import sys
from pathlib import Path

import numpy as np


def save_film_classifier(folder):
    """Saves an untrained classifier of films in a folder, with its version 1.

    Args:
        folder: Path; nothing may be there.
    """
    from kmm.batches import BatchMaker
    from kmm.classifier import Classifier
    from kmm.export.write import export_classifier
    from kmm.image.prepare import ImagePreparation
    from kmm.models.build import ModelSpec, build_model
    from kmm.settings import FitSettings

    names = ("mass", "effusion")
    spec = ModelSpec(image_encoder="small-cnn", text_encoder=None, pixels=32)
    Classifier(
        models={"image": build_model(spec, label_count=len(names), vocabulary_size=0)},
        batches=BatchMaker(ImagePreparation(32), None, vocabulary=None, label_names=names),
        settings=FitSettings(image_encoder="small-cnn", text_encoder=None, pixels=32),
        temperatures={"image": np.ones((3, len(names)))},
        thresholds={"image": np.full((3, len(names)), 0.5)},
        prevalence=np.full(len(names), 0.5),
    ).save(folder)
    export_classifier(folder, explanation=None)


if __name__ == "__main__":
    os.environ["KERAS_BACKEND"] = "tensorflow"
    save_film_classifier(Path(sys.argv[1]))
