"""Studies of a few pixels and words, in memory and in files."""

import csv

import numpy as np
from PIL import Image

from kmm.data.study import ImageFile, Report, Study

TINY = {
    "pixels": 32,
    "length": 12,
    "embedding_size": 8,
    "word_vector_epochs": 2,
    "text_filters": 8,
    "fusion_units": 16,
    "text_epochs": 3,
    "image_epochs": 3,
    "joint_epochs": 3,
    "tune_epochs": 1,
    "batch_size": 16,
    "bootstrap_repeats": 20,
}


def write_studies(folder, count=60, *, pixels=48, seed=0):
    """Writes tiny studies in the Kaggle layout: a bright disk in the film and a word in the report decide the label.

    The last two studies lack a side: one has no image, one no report.
    """
    generator = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    rows, films = [], []
    y, x = np.mgrid[:pixels, :pixels]
    for uid in range(1, count + 1):
        abnormal = uid % 2
        film = generator.normal(90, 12, (pixels, pixels))
        if abnormal:
            row, column = generator.uniform(12, pixels - 12, 2)
            film[(x - column) ** 2 + (y - row) ** 2 < 36] += 120
        finding = "There is a mass" if abnormal else "There is no mass"
        report = f"{finding} in case {7 * 10**9 + generator.integers(10**6)}."
        mesh = "Mass/lung" if abnormal else "normal"
        rows.append([uid, mesh, mesh, "PA", "Cough.", "None.", "" if uid == count else report, ""])
        if uid != count - 1:
            Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{uid}.png")
            films.append([uid, f"{uid}.png", "Frontal"])
    rows[-1][4:] = [""] * 4
    header = ["uid", "MeSH", "Problems", "image", "indication", "comparison", "findings", "impression"]
    for name, head, lines in (
        ("indiana_reports.csv", header, rows),
        ("indiana_projections.csv", ["uid", "filename", "projection"], films),
    ):
        with open(folder / name, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head, *lines])
    return folder


def write_films(folder):
    """Writes films of noise with a bright disk as PNG; returns a dict of names, as `height`x`width`, to paths."""
    random = np.random.default_rng(0)
    paths = {}
    for height, width in ((48, 48), (40, 90), (100, 50)):
        y, x = np.mgrid[:height, :width]
        film = random.normal(60, 8, (height, width))
        film[(x - width * 0.7) ** 2 + (y - height * 0.3) ** 2 < 36] += 140
        paths[f"{height}x{width}"] = folder / f"{height}x{width}.png"
        Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(paths[f"{height}x{width}"])
    return paths


def make_studies(films):
    """One study per film, each with a report except the last; then a study of a report alone."""
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


def write_table(path, rows, encoding="utf-8"):
    """Writes rows as CSV; returns the path."""
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return path
