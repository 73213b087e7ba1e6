"""What `kmm evaluate` costs beyond the bare model, for a classifier whose image encoder was kept frozen.

    python benchmarks/evaluate.py                        the built-in phantom set, random weights of Xception
    python benchmarks/evaluate.py FOLDER --weights FILE  your own studies, and pretrained weights

Each figure is a ratio of CPU seconds, of all threads, to those of `keras.Model.predict` of the joint model alone on the
same films, prepared in memory; loading is left out on both sides. Measurements take turns in one process; the ratio is
the median of the rounds. The weights do not matter for the time.

    evaluate_ratio   the whole evaluation: films decoded, compared with those of training, and predicted; every row of
                     the table with its intervals and tests. At most 1.15
    predict_ratio    `Classifier.predict` of all parts from files
    separate_ratio   the same with every part run by itself, as for parts whose encoders differ
    small_ratio      evaluate_ratio of the small preset, whose model takes so little time that films and tests decide
    large_ratio      evaluate_ratio of phantom films of 1,024 pixels. At most 1.15
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
LARGE = 1024
PARTS = {"joint": (True, True), "image": (True, False), "text": (False, True)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="folder of studies; the phantom set when not given")
    parser.add_argument("--weights", type=Path, help="file of weights for the image encoder; random when not given")
    parser.add_argument("--encoder", default="xception", help="image encoder (default xception)")
    parser.add_argument("--studies", type=int, default=256, help="studies to evaluate, of as many to train on")
    parser.add_argument("--pixels", type=int, default=256, help="longer side of the phantom films (default 256)")
    parser.add_argument(
        "--large", type=int, default=128, help="studies of large_ratio, 0 to leave it out (default 128)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = options.folder or write_phantom(Path(place, "phantom"), 2 * options.studies, options.pixels)
        studies = read_complete(folder, 2 * options.studies)
        found = measure(make_classifier(studies, options.encoder, options.weights), studies, options.rounds)
        found["films_per_cpu_second"] = round(options.studies / found.pop("evaluate_seconds"), 1)
        small = measure(make_classifier(studies, None, None), studies, options.rounds, only=("evaluate",))
        found["small_ratio"] = small["evaluate_ratio"]
        if options.large:
            studies = read_complete(write_phantom(Path(place, "large"), 2 * options.large, LARGE), 2 * options.large)
            classifier = make_classifier(studies, options.encoder, options.weights)
            found["large_ratio"] = measure(classifier, studies, options.rounds, only=("evaluate",))["evaluate_ratio"]
    found |= {"studies": options.studies, "large_studies": options.large, "encoder": options.encoder}
    if options.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:22} {value}")


def write_phantom(folder, studies, pixels):
    from kmm.data.phantom.dataset import make_phantom

    make_phantom(folder, studies=round(1.1 * studies), pixels=pixels)
    return folder


def read_complete(folder, count):
    """Reads studies with a film and a report."""
    from kmm.data.collection import read_collection

    studies = [study for study in read_collection(folder).studies if study.frontal and study.report]
    if len(studies) < count:
        raise SystemExit(f"{folder} has {len(studies)} studies with a film and a report. Choose fewer --studies.")
    return studies[:count]


def make_classifier(studies, encoder, weights):
    """Makes a classifier of the paper preset with another encoder, or of the small one, as if trained on the first half
    of the studies with its image encoder frozen."""
    import numpy as np

    from kmm.batches import BatchMaker, TextPreparation
    from kmm.classifier import Classifier
    from kmm.data.labels import label_studies
    from kmm.evaluate.seen import gather_seen
    from kmm.image.prepare import ImagePreparation
    from kmm.models.build import ModelSpec, build_model
    from kmm.models.views.parts import copy_encoder_weights, image_encoder_of
    from kmm.models.weights.checkpoints import load_image_weights
    from kmm.presets import make_settings
    from kmm.storage.classifier_folder import digest_file
    from kmm.text.tfidf import TfidfBaseline
    from kmm.text.vocabulary import Vocabulary

    s = make_settings("paper", {"image_encoder": encoder, "image_weights": None}) if encoder else make_settings("small")
    labelled, names = label_studies(studies, s.labels)
    trained = labelled[: len(labelled) // 2]
    text = TextPreparation(length=s.length)
    vocabulary = Vocabulary.fit([text.words(study) for study in trained])
    models = {}
    for part, (image, reports) in PARTS.items():
        spec = ModelSpec(
            s.image_encoder if image else None, s.text_encoder if reports else None, pixels=s.pixels, length=s.length,
            embedding_size=s.embedding_size, text_filters=s.text_filters, fusion_units=s.fusion_units,
        )  # fmt: skip
        models[part] = build_model(spec, label_count=len(names), vocabulary_size=len(vocabulary))
    if weights:
        load_image_weights(image_encoder_of(models["image"]), s.image_encoder, weights)
    copy_encoder_weights(models["image"], models["joint"])
    digests = [digest_file(study.frontal.path) for study in trained]
    labels = np.array([[study.labels[name] for name in names] for study in trained])
    return Classifier(
        models=models,
        batches=BatchMaker(ImagePreparation(s.pixels), text, vocabulary=vocabulary, label_names=tuple(names)),
        settings=s,
        temperatures={part: np.ones(len(names)) for part in models},
        thresholds={part: np.full(len(names), 0.5) for part in (*models, "tfidf")},
        prevalence=np.full(len(names), 0.5),
        tfidf=TfidfBaseline.fit([text.text(study) for study in trained], labels),
        seen={"train": gather_seen(trained, digests, [0] * len(trained), text)},
    )


def measure(classifier, studies, rounds, only=("evaluate", "predict", "separate")):
    """Times the bare joint model and kmm in turns, on the half of the studies that the classifier did not see."""
    import numpy as np

    half = len(studies) // 2
    chosen = ("bare", *only)
    warm = list_works(classifier, studies[:half], studies[half:][:32])
    for name in chosen:
        warm[name]()  # compiles
        print(f"{name} is compiled", file=sys.stderr)
    works = list_works(classifier, studies[:half], studies[half:])
    seconds = {name: [] for name in chosen}
    for _ in range(rounds):
        for name in chosen:
            start = time.process_time()
            works[name]()
            seconds[name].append(time.process_time() - start)
    print({name: [round(value, 2) for value in values] for name, values in seconds.items()}, file=sys.stderr)
    ratios = {f"{name}_ratio": round(float(np.median(np.divide(seconds[name], seconds["bare"]))), 3) for name in only}
    return {**ratios, "evaluate_seconds": statistics.median(seconds["evaluate"])}


def list_works(classifier, trained, new):
    """Returns `{name: function}`: the bare model, and what kmm does with studies that it was not trained on."""
    from kmm.evaluate.report import evaluate_studies

    arrays, joint = classifier.batches.batch(new).inputs(), classifier.models["joint"]

    def predict_separately():
        for part in classifier.models:
            classifier.predict(new, parts=[part])

    return {
        "bare": lambda: joint.predict(arrays, batch_size=32, verbose=0),
        "evaluate": lambda: evaluate_studies(classifier, [*trained, *new]),
        "predict": lambda: classifier.predict(new, parts=classifier.models),
        "separate": predict_separately,
    }


if __name__ == "__main__":
    main()
