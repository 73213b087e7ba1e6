"""Small classifiers with random weights, and studies for them: what an explanation is does not need training."""

import pytest


@pytest.fixture(scope="session")
def build_classifier():
    """A function that builds a classifier: of films, of reports or of both, with any labels."""
    import numpy as np

    from kmm.batches import BatchMaker, TextPreparation
    from kmm.classifier import Classifier
    from kmm.image.prepare import ImagePreparation
    from kmm.models.build import ModelSpec, build_model
    from kmm.settings import FitSettings
    from kmm.text.vocabulary import Vocabulary

    def build(image="small-cnn", text="text-cnn", *, labels=("mass", "effusion", "cyst"), mean=True, **preparation):
        sizes = {"pixels": 32, "length": 12, "embedding_size": 6, "text_filters": 8, "fusion_units": 16}
        spec = ModelSpec(image_encoder=image, text_encoder=text, **sizes)
        vocabulary = Vocabulary.fit([f"no mass small effusion cyst word{number}".split() for number in range(9)])
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
            temperatures={part: np.linspace(0.5, 1.5, len(labels))},
            thresholds={part: np.full(len(labels), 0.5)},
            prevalence=np.full(len(labels), 0.5),
            mean_image=random.uniform(80, 120, (32, 32, 1)).astype(np.float32) if image and mean else None,
        )

    return build


@pytest.fixture(scope="session")
def hand_made(build_classifier):
    """A classifier of films and reports with three labels."""
    return build_classifier()


@pytest.fixture(scope="session")
def films(tmp_path_factory):
    """Films of noise with a bright disk, as PNG: dict of name to path; each name says `height`x`width`."""
    import numpy as np
    from PIL import Image

    folder, random = tmp_path_factory.mktemp("films"), np.random.default_rng(0)
    paths = {}
    for height, width in ((48, 48), (40, 90), (100, 50)):
        y, x = np.mgrid[:height, :width]
        film = random.normal(60, 8, (height, width))
        film[(x - width * 0.7) ** 2 + (y - height * 0.3) ** 2 < 36] += 140
        paths[f"{height}x{width}"] = folder / f"{height}x{width}.png"
        Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(paths[f"{height}x{width}"])
    return paths


@pytest.fixture(scope="session")
def studies(films):
    """One study a film, all with a report but the last; then one of a report alone."""
    from kmm.data.study import ImageFile, Report, Study

    reports = [
        Report(indication="Cough.", findings="There is a small effusion. No mass.", impression="Effusion."),
        Report(findings="No effusion, and no cyst-like mass of the left lung. The heart is of normal size. Old clip."),
        None,
    ]
    made = [
        Study(name, name, (ImageFile(path, "frontal"),), report)
        for (name, path), report in zip(films.items(), reports, strict=True)
    ]
    return [*made, Study("words", "words", (), Report(findings="A small cyst."))]
