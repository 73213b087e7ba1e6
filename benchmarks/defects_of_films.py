"""Defects of published systems in reading films, on simulated films of a bright disk.

Each function returns two numbers: the right result, which kmm's own reading gives, and the result with the defect.
"""

import io
from functools import cache

import cv2
import keras
import numpy as np
import pydicom
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid
from sklearn.neighbors import KNeighborsClassifier

from kmm.evaluate.metrics import METRICS
from kmm.image.augment import Augmentation
from kmm.image.read import decode_image
from kmm.models.build import ModelSpec, build_model
from kmm.models.loss import LOSSES

PIXELS, TOP = 32, 4095  # side of a film; largest stored value of 12 bits
EPOCHS = 10


def draw_films(n, seed, *, sides=False):
    """Draws films of noise, with a bright disk in those of label 1.

    Args:
        n: int. Number of films.
        seed: int.
        sides: bool. Every film has a disk, and the label says whether it is in the right half of the film.

    Returns:
        float32 `(n, PIXELS, PIXELS)`, 0..255, and labels `(n,)`, bool.
    """
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n) % 2 == 1)
    films = rng.normal(90, 12, (n, PIXELS, PIXELS))
    y, x = np.mgrid[:PIXELS, :PIXELS]
    for film, label in zip(films, labels, strict=True):
        row, column = rng.uniform(8, PIXELS - 8, 2)
        if sides:
            column = rng.uniform(6, PIXELS / 2 - 6) + label * PIXELS / 2
        if label or sides:
            film[(x - column) ** 2 + (y - row) ** 2 < 16] += 60
    return films.clip(0, 255).astype(np.float32), labels


@cache
def train_on_films():
    """Trains an image model of kmm, and validates it after each epoch with films as in training, and without scaling.

    kmm divides gray levels by 255 in a layer of the model. A validation that forgets to, in a system that divides
    outside of it, therefore shows this model films of 255 times the values.

    Returns:
        dict of `right` and `defect` to the accuracies of the epochs on validation, and of `test` to those on test, each
        a list of floats.
    """
    model = build_model(ModelSpec(image_encoder="small-cnn", pixels=PIXELS), label_count=1, seed=0)
    model.compile(keras.optimizers.Adam(1e-3), LOSSES["bce"].build())
    sets = {
        name: draw_films(300 if name == "train" else 200, seed) for seed, name in enumerate(("train", "val", "test"))
    }
    found = {"right": [], "defect": [], "test": []}
    for _ in range(EPOCHS):
        films, labels = sets["train"]
        model.fit(as_inputs(films), labels[:, None].astype(np.float32), batch_size=32, verbose=0)
        for name, part, scale in (("right", "val", 1), ("defect", "val", 255), ("test", "test", 1)):
            films, labels = sets[part]
            logits = model.predict(as_inputs(films * scale), verbose=0)
            found[name].append(float(np.mean((logits[:, 0] > 0) == labels)))
    return found


def as_inputs(films):
    """Returns the inputs of an image model of kmm."""
    return {"image": films[..., None], "present": np.tile(np.float32([1, 0]), (len(films), 1))}


def validate_unscaled():
    """Measures the accuracy on validation after the last epoch, with validation films as in training, and unscaled."""
    found = train_on_films()
    return found["right"][-1], found["defect"][-1]


def choose_epoch_unscaled():
    """Measures the accuracy on test of the epoch that is best on validation, the first of equal ones."""
    found = train_on_films()
    return tuple(found["test"][int(np.argmax(found[name]))] for name in ("right", "defect"))


def encode_dicom(film, *, inverted):
    """Encodes a film as DICOM of 12 bits without a window, as MONOCHROME1 (0 is white) if `inverted`; returns bytes."""
    stored = np.rint(film / 255 * TOP).astype(np.uint16)
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = ComputedRadiographyImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = generate_uid(entropy_srcs=["defects"])
    file.Modality, file.SamplesPerPixel = "CR", 1
    file.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    file.Rows, file.Columns = stored.shape
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 12, 11, 0
    file.PixelData = (TOP - stored if inverted else stored).tobytes()
    file["PixelData"].VR = "OW"
    content = io.BytesIO()
    pydicom.dcmwrite(content, file, enforce_file_format=True)
    return content.getvalue()


def ignore_inversion():
    """Measures how well bright spots tell the label, if MONOCHROME1 is inverted, and if it is read as it is stored."""
    return _compare_readers(lambda file: file.pixel_array / TOP * 255)


def apply_ct_window():
    """Measures the same, if a film without a window is shown in a CT's: level 40, width 400."""

    def read(file):
        values = TOP - file.pixel_array if file.PhotometricInterpretation == "MONOCHROME1" else file.pixel_array
        return np.clip((values.astype(float) - (40 - 200)) / 400, 0, 1) * 255

    return _compare_readers(read)


def _compare_readers(read):
    films, labels = draw_films(200, 5)
    files = [encode_dicom(film, inverted=bool(number % 2)) for number, film in enumerate(films)]
    right = [decode_image(data, "film.dcm") for data in files]
    wrong = [read(pydicom.dcmread(io.BytesIO(data))) for data in files]
    return measure_spots(right, labels), measure_spots(wrong, labels)


def measure_spots(films, labels):
    """Returns the ROC AUC of the brightest spot of each film, above the film's median."""
    smooth = [cv2.GaussianBlur(np.asarray(film, np.float32), (0, 0), 2) for film in films]
    scores = np.array([film.max() - np.median(film) for film in smooth])
    return measure_auc(labels, scores)


def mirror_films():
    """Measures how well neighbours tell sides, if no training film is mirrored, and if half of them are."""
    (films, labels), (others, truth) = draw_films(300, 7, sides=True), draw_films(200, 8, sides=True)

    def measure(mirrored):
        change = Augmentation(rotation_degrees=0, zoom=0, shift=0, horizontal_flip=mirrored)
        shown = np.concatenate([change.apply(films[..., None], np.random.default_rng(turn)) for turn in range(2)])
        known, asked = (
            [cv2.GaussianBlur(np.squeeze(film), (0, 0), 2).ravel() for film in part] for part in (shown, others)
        )
        model = KNeighborsClassifier(15).fit(known, np.tile(labels, 2))
        return measure_auc(truth, model.predict_proba(asked)[:, 1])

    return measure(False), measure(True)


def measure_auc(labels, scores):
    return float(METRICS["roc_auc"].measure(np.asarray(labels, float), np.asarray(scores), np.asarray(scores)))
