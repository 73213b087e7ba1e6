"""Small folders in the shape of ChestX-ray14 and CheXpert: a bright disk in the film decides its first label."""

import csv

import numpy as np
from PIL import Image

ENTRIES = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
OBSERVATIONS = (
    "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,Edema,Consolidation,Pneumonia,"
    "Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices"
)
CHEXPERT = f"Path,Sex,Age,Frontal/Lateral,AP/PA,{OBSERVATIONS}"


def draw_film(generator, *, disk, pixels=48):
    """Returns a film of noise, uint8, with a bright disk or without one."""
    y, x = np.mgrid[:pixels, :pixels]
    film = generator.normal(90, 12, (pixels, pixels))
    if disk:
        row, column = generator.uniform(12, pixels - 12, 2)
        film[(x - column) ** 2 + (y - row) ** 2 < 36] += 120
    film[:, :4] = film[:, -4:] = 0  # dark sides, as those of a film that is not inverted
    return film.clip(0, 255).astype(np.uint8)


def write_chestxray14(folder, patients=40, *, table="Data_Entry_2017_v2020.csv", end="", films="images"):
    """Writes two films of each patient, the last quarter of the patients as test; returns the folder.

    Args:
        folder: Path of the new folder.
        patients: int.
        table: name of the table of films.
        end: str that ends its header and rows, as the comma of 2017.
        films: folder of the films.
    """
    generator = np.random.default_rng(0)
    (folder / films).mkdir(parents=True)
    lines, lists = [ENTRIES + end], {"train_val_list.txt": [], "test_list.txt": []}
    for patient in range(1, patients + 1):
        for follow_up in range(2):
            name, disk = f"{patient:08}_{follow_up:03}.png", (patient + follow_up) % 2
            Image.fromarray(draw_film(generator, disk=disk)).save(folder / films / name)
            labels = "Mass|Pleural_Thickening" if disk else "No Finding"
            lines.append(f"{name},{labels},{follow_up},{patient},058Y,M,PA,2500,2048,0.168,0.168{end}")
            lists["test_list.txt" if 4 * patient > 3 * patients else "train_val_list.txt"].append(name)
    (folder / table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, names in lists.items():
        (folder / name).write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder


def write_chexpert(folder, patients=40, *, prefix="CheXpert-v1.0-small"):
    """Writes a frontal and a lateral film of each patient, the last quarter of the patients as valid.csv; returns the
    folder. A disk means Edema; every fifth patient has an uncertain Edema instead."""
    generator = np.random.default_rng(0)
    rows = {"train": [], "valid": []}
    for patient in range(1, patients + 1):
        part, disk = "valid" if 4 * patient > 3 * patients else "train", patient % 2
        edema = "-1.0" if patient % 5 == 0 and part == "train" else f"{disk}.0"
        for number, view, direction in ((1, "Frontal", "AP"), (2, "Lateral", "")):
            place = f"{part}/patient{patient:05}/study1/view{number}_{view.lower()}.jpg"
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw_film(generator, disk=disk)).save(folder / place, quality=95)
            labels = ["1.0" if not disk else "", *[""] * 4, edema, *[""] * 8]
            rows[part].append([f"{prefix}/{place}", "Female", "68", view, direction, *labels])
    for part, lines in rows.items():
        with open(folder / f"{part}.csv", "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([CHEXPERT.split(","), *lines])
    return folder
