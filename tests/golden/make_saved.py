"""Writes the fixture of the saved format of this version: a tiny classifier, a folder of explanations, their answers.

    python tests/golden/make_saved.py FOLDER FILMS

FOLDER is a new folder. FILMS is where the films of `tests/golden/films` lie: their path is kept in the explanations, so
it should say nothing of a machine. README.md beside this file says which version wrote which fixture.
"""

import csv
import json
import os
import sys
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from keras import layers

from kmm.classifier import Classifier, describe_predictions
from kmm.data.collection import read_collection
from kmm.data.phantom.dataset import make_phantom
from kmm.data.study import ImageFile, Report, Study
from kmm.explain.explainer import Explainer
from kmm.explain.folder.explain_folder import explain_folder
from kmm.explain.output.files import Outputs
from kmm.explain.settings import ExplainSettings
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.presets import make_settings
from kmm.storage.classifier_folder import DESCRIPTION, digest_file, sign_description
from kmm.training.fit import fit_classifier

TINY = {
    "pixels": 32,
    "length": 12,
    "min_word_count": 8,
    "embedding_size": 3,
    "word_vector_epochs": 2,
    "text_filters": 2,
    "fusion_units": 4,
    "text_epochs": 2,
    "image_epochs": 2,
    "joint_epochs": 2,
    "tune_epochs": 1,
    "batch_size": 16,
    "bootstrap_repeats": 5,
}
SETTINGS = ExplainSettings(steps=8, baselines=("mean",))
OUTPUTS = Outputs(page=False)
EXPLAINED = (0, 4)  # of the studies below: a film with a report, a report alone
REPORTS = (
    "There is a small nodule in the left lung.",
    "",
    "No acute disease. The lungs are clear.",
    "Heart size is normal.",
)


def list_studies(films):
    """Lists the studies of the fixtures: four films, the second without a report, then a report alone."""
    studies = []
    for number, text in enumerate(REPORTS):
        image = ImageFile(Path(films, f"{number}.png"), view="frontal")
        report = Report(findings=text) if text else None
        studies.append(Study(f"s{number}", f"p{number}", (image,), report))
    return [*studies, Study("s4", "p4", (), Report(findings=REPORTS[0]))]


def three_maps(x, weights):
    """The network of `small-cnn` with three maps in each block, so that its files are small."""
    for number in range(1, 6):
        if number > 1:
            x = layers.MaxPooling2D(name=f"block{number}_pool")(x)
        x = layers.Conv2D(3, 3, padding="same", use_bias=False, name=f"block{number}_conv")(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"block{number}_bn")(x)
        x = layers.ReLU(name=f"block{number}_relu")(x)
    return x


def train(data, folder, work):
    """Trains the tiny classifier and saves it, its networks compressed."""
    IMAGE_ENCODERS["small-cnn"] = replace(IMAGE_ENCODERS["small-cnn"], network=three_maps)
    settings = make_settings("small", TINY)
    classifier, *_ = fit_classifier(read_collection(data), settings, work=work / "work", cache=work / "cache")
    classifier.save(folder)
    for path in folder.glob("*.keras"):
        compress(path)
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    description["files"] = {name: digest_file(folder / name) for name in description["files"]}
    text = json.dumps(sign_description(description), indent=2) + "\n"
    (folder / DESCRIPTION).write_text(text, encoding="utf-8")


def compress(path):
    """Compresses the members of an archive; Keras stores them as they are."""
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members:
            member = zipfile.ZipInfo(name)  # without a date
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, content)


def list_seen(data, classifier):
    """Lists some reports of studies that the classifier was trained or calibrated on: dict of part to rows."""
    from kmm.evaluate.seen import part_studies

    parts = part_studies(classifier, read_collection(data).studies)
    with open(data / "indiana_reports.csv", newline="", encoding="utf-8") as file:
        rows = {row["uid"]: row for row in csv.DictReader(file)}
    sections = ("indication", "findings", "impression")
    return {
        part: [
            {
                "id": study.id,
                "patient": study.patient,
                **{name: rows[study.id][name] for name in sections},
                "label": int(rows[study.id]["MeSH"] != "normal"),
            }
            for study in [study for study in parts[part] if study.report][:5]
        ]
        for part in ("train", "validation")
    }


def describe(classifier, studies):
    """What the classifier answers: dict of logits, probabilities, decisions and sums of attributions."""
    predictions = classifier.predict(studies, parts=classifier.models)
    rows = describe_predictions(classifier, predictions)
    explained = Explainer(classifier, SETTINGS).explain(studies)
    return {
        "logits": {part: logits[:, 0].tolist() for part, logits in predictions.logits.items()},
        "present": predictions.present.tolist(),
        "probabilities": [row["probabilities"]["abnormal"] for row in rows],
        "decisions": [row["decisions"]["abnormal"] for row in rows],
        "attribution_sums": {
            found.study: {name: float(value.sum()) for name, value in found.attribution.values.items()}
            for found in explained
        },
    }


def main(folder, films):
    folder = Path(folder)
    folder.mkdir(parents=True)
    studies = list_studies(films)
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        make_phantom(work / "data", studies=60, pixels=64)
        train(work / "data", folder / "classifier", work)
        classifier = Classifier.load(folder / "classifier")
        known = {**describe(classifier, studies), "studies": list_seen(work / "data", classifier)}
    (folder / "known.json").write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    chosen = [studies[number] for number in EXPLAINED]
    explain_folder(folder / "classifier", chosen, folder / "explanations", settings=SETTINGS, outputs=OUTPUTS)
    for name in ("lock", "gate"):  # empty files of the run
        (folder / "explanations" / ".parts" / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
