"""Make the phantom set: drawn films and composed reports with lesions at known positions, in the Kaggle layout."""

import csv
import os
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from kmm.data.phantom.film import draw_frontal, draw_lateral
from kmm.data.phantom.relational import PLACES, Relation, compose_question, plan_relations
from kmm.data.phantom.report import Lesion, compose_report, name_mesh
from kmm.data.study import SECTIONS, Report
from kmm.errors import InputError

REPORTS, PROJECTIONS, BOXES, TRUTH = "indiana_reports.csv", "indiana_projections.csv", "boxes.csv", "phantom_truth.csv"
HEADERS = {
    REPORTS: ("uid", "MeSH", "Problems", "image", *SECTIONS),
    PROJECTIONS: ("uid", "filename", "projection"),
    BOXES: ("Image Index", "Finding Label", "x", "y", "w", "h"),
    TRUTH: ("uid", "in_image", "in_text", "finding", "words"),
}
RELATIONS = "relations.csv"  # manifest of the relational set: its label, and what film and report say of each place
RELATIONS_HEADER = (
    *("id", "image", "indication", "findings", "label:agrees"),
    *(f"label:{source} {side} {zone}" for source in ("film", "named") for side, zone in PLACES),
)
FINDING_SHARES = {"Nodule": 0.27, "Opacity": 0.25, "Effusion": 0.18, "Atelectasis": 0.15, "Cardiomegaly": 0.15}
ABNORMAL_SHARE, IMAGE_ONLY_SHARE, TEXT_ONLY_SHARE = 0.5, 0.3, 0.3
TWO_LESIONS_SHARE, LATERAL_SHARE, NO_IMAGE_SHARE, NO_REPORT_SHARE = 0.12, 0.05, 0.015, 0.015


@dataclass(frozen=True)
class Plan:
    """The plan of one study. All studies are planned before any is drawn, so that the shares are exact."""

    uid: int
    abnormal: bool
    in_image: bool
    in_text: bool
    has_image: bool
    has_report: bool
    lateral: bool


def make_phantom(
    out: Path | str, *, studies: int = 600, seed: int = 0, pixels: int = 256, relational: bool = False
) -> dict[str, int]:
    """Writes the phantom set: normal and abnormal studies, half of each.

    Of the abnormal studies, 40 % show their lesion in the film and mention it in the report, 30 % show it in the film
    only and 30 % mention it in the report only, so no single modality can exceed 85 % accuracy. The output is the
    Kaggle layout of Open-i (`indiana_reports.csv`, `indiana_projections.csv`, `images/`), `boxes.csv` (ChestX-ray14's
    BBox columns, in pixels of the film) and `phantom_truth.csv` (the findings, where they appear, and the words that
    name them). A seed always gives the same bytes, for the same versions of NumPy and OpenCV. About 1.5 % of the
    studies have no film, and 1.5 % have no report.

    In the relational set each film has nodules at three of six places of the lungs, and each report asks for a nodule
    at one of them; half of the studies, the abnormal ones, have it. Film and report must be read together: neither of
    them alone says anything about the label, nor does a sum of what each says. Every study has both. `boxes.csv` has
    the nodule that the report asks for, and the words of `phantom_truth.csv` are those that name its place. A manifest,
    `relations.csv`, has the label `agrees` and, for encoders that learn the places first, labels of where the film has
    nodules and which place the report names.

    Args:
        out: Path or str. Folder to create; it may exist if it is empty.
        studies: int in 1 to 100,000.
        seed: int, 0 or more.
        pixels: int in 32 to 4,096. Longer side of the films.
        relational: bool. Make the relational set.

    Returns:
        dict of counts: studies, images, abnormal, in_image, in_text, one_lesion, boxes, laterals, without_image,
        without_report.

    Raises:
        InputError: if `out` exists and is not an empty folder, or a number is out of its range.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     make_phantom(folder, studies=10, pixels=64)["abnormal"]
        5
    """
    out = Path(out)
    for name, value, low, high in (("studies", studies, 1, 100_000), ("pixels", pixels, 32, 4096)):
        if not low <= value <= high:
            raise InputError(f"`{name}` must be in {low} to {high}. Received: {value}.")
    if seed < 0:
        raise InputError(f"`seed` must be 0 or more. Received: {seed}.")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(f"The folder {out} is not empty. Choose a new or an empty folder for the phantom set.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".phantom-", dir=out.parent) as workshop:
        folder = Path(workshop) / "set"
        (folder / "images").mkdir(parents=True)
        headers = {**HEADERS, RELATIONS: RELATIONS_HEADER} if relational else HEADERS
        tables: dict[str, list[tuple]] = {name: [] for name in headers}
        plans = _plan_studies(studies, seed)
        if relational:
            relations = plan_relations(studies, np.random.default_rng([seed, 0]))
            plans = [Plan(uid, one.agrees, one.agrees, True, True, True, False) for uid, one in enumerate(relations, 1)]
            for plan, relation in zip(plans, relations):
                _make_relational_study(plan.uid, relation, folder / "images", tables, seed=seed, pixels=pixels)
        else:
            for plan in plans:
                _make_study(plan, folder / "images", tables, seed=seed, pixels=pixels)
        for name, rows in tables.items():
            _write_table(folder / name, headers[name], rows)
        os.replace(folder, out)
    return _count(plans, tables)


def _plan_studies(studies: int, seed: int) -> list[Plan]:
    """Plans all studies: one shuffled list assigns roles, another assigns missing films and reports and laterals."""
    rng = np.random.default_rng([seed, 0])
    role, extra = rng.permutation(studies), rng.permutation(studies)
    abnormal, no_image, no_report, lateral = (
        round(share * studies) for share in (ABNORMAL_SHARE, NO_IMAGE_SHARE, NO_REPORT_SHARE, LATERAL_SHARE)
    )
    image_only, text_only = round(IMAGE_ONLY_SHARE * abnormal), round(TEXT_ONLY_SHARE * abnormal)
    plans = []
    for index in range(studies):
        is_abnormal = bool(role[index] < abnormal)
        has_image = bool(extra[index] >= no_image)
        has_report = not no_image <= extra[index] < no_image + no_report
        mentioned = role[index] >= image_only or not has_image
        shown = not image_only <= role[index] < image_only + text_only or not has_report
        plans.append(
            Plan(
                uid=index + 1,
                abnormal=is_abnormal,
                in_image=bool(is_abnormal and has_image and shown),
                in_text=bool(is_abnormal and has_report and mentioned),
                has_image=has_image,
                has_report=has_report,
                lateral=bool(extra[index] >= max(studies - lateral, no_image)),
            )
        )
    return plans


def _make_study(plan: Plan, folder: Path, tables: dict[str, list[tuple]], *, seed: int, pixels: int) -> None:
    """Draws and writes one study; its random numbers depend only on the seed and its uid."""
    plan_rng, film_rng, letters_rng, report_rng = (
        np.random.default_rng([seed, 1, plan.uid, purpose]) for purpose in range(4)
    )
    lesions = _sample_lesions(plan_rng) if plan.abnormal else []
    report: Report = Report()
    words: tuple[str, ...] = ()
    if plan.has_report:
        report, words = compose_report(lesions if plan.in_text else [], report_rng, abnormal=plan.abnormal)
    terms = [name_mesh(lesion) for lesion in lesions] or ["normal"]
    heads = ";".join(term.split("/")[0] for term in terms)
    views = "Chest, PA and lateral" if plan.lateral else "Chest, PA"
    sections = (getattr(report, name) for name in SECTIONS)
    tables[REPORTS].append((plan.uid, ";".join(terms), heads, views, *sections))
    finding = "|".join(lesion.finding for lesion in lesions)
    tables[TRUTH].append((plan.uid, int(plan.in_image), int(plan.in_text), finding, " ".join(words)))
    if plan.has_image:
        name = f"{plan.uid}_IM-{plan.uid:04d}-1001.png"
        shown = lesions if plan.in_image else []
        film, boxes = draw_frontal(shown, film_rng, pixels=pixels, letters_rng=letters_rng)
        _write_png(folder / name, film)
        tables[PROJECTIONS].append((plan.uid, name, "Frontal"))
        tables[BOXES].extend((name, lesion.finding, *box) for lesion, box in zip(shown, boxes))
    if plan.lateral:
        name = f"{plan.uid}_IM-{plan.uid:04d}-2001.png"
        _write_png(folder / name, draw_lateral(film_rng, pixels=pixels))
        tables[PROJECTIONS].append((plan.uid, name, "Lateral"))


def _make_relational_study(
    uid: int, relation: Relation, folder: Path, tables: dict[str, list[tuple]], *, seed: int, pixels: int
) -> None:
    """Draws and writes one study of the relational set."""
    order_rng, film_rng, report_rng = (np.random.default_rng([seed, 2, uid, purpose]) for purpose in range(3))
    report, words = compose_question(relation.named, report_rng)
    term = name_mesh(relation.named) if relation.agrees else "normal"
    sections = (getattr(report, name) for name in SECTIONS)
    tables[REPORTS].append((uid, term, term.split("/")[0], "Chest, PA", *sections))
    finding = relation.named.finding if relation.agrees else ""
    tables[TRUTH].append((uid, int(relation.agrees), 1, finding, " ".join(words)))
    shown = [relation.shown[number] for number in order_rng.permutation(len(relation.shown))]
    name = f"{uid}_IM-{uid:04d}-1001.png"
    film, boxes = draw_frontal(shown, film_rng, pixels=pixels)
    _write_png(folder / name, film)
    tables[PROJECTIONS].append((uid, name, "Frontal"))
    tables[BOXES].extend(
        (name, one.finding, *box) for one, box in zip(shown, boxes, strict=True) if one == relation.named
    )
    places = [{(one.side, one.zone) for one in lesions} for lesions in (shown, [relation.named])]
    found = [int(place in given) for given in places for place in PLACES]
    said = (report.indication, report.findings)
    tables[RELATIONS].append((uid, f"images/{name}", *said, int(relation.agrees), *found))


def _sample_lesions(rng: np.random.Generator) -> list[Lesion]:
    """Samples one lesion, or sometimes two with different findings, one on each side."""
    count = 2 if rng.random() < TWO_LESIONS_SHARE else 1
    findings = rng.choice(list(FINDING_SHARES), count, replace=False, p=list(FINDING_SHARES.values()))
    sides = rng.permutation(["left", "right"])
    zones = rng.choice(["upper", "middle", "lower"], count)
    return [Lesion(str(finding), str(side), str(zone)) for finding, side, zone in zip(findings, sides, zones)]


def _count(plans: Sequence[Plan], tables: dict[str, list[tuple]]) -> dict[str, int]:
    return {
        "studies": len(plans),
        "images": len(tables[PROJECTIONS]),
        "abnormal": sum(plan.abnormal for plan in plans),
        "in_image": sum(plan.in_image for plan in plans),
        "in_text": sum(plan.in_text for plan in plans),
        "one_lesion": sum(bool(row[3]) and "|" not in row[3] for row in tables[TRUTH]),
        "boxes": len(tables[BOXES]),
        "laterals": sum(plan.lateral for plan in plans),
        "without_image": sum(not plan.has_image for plan in plans),
        "without_report": sum(not plan.has_report for plan in plans),
    }


def _write_table(path: Path, header: Sequence[str], rows: Iterable[tuple]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _write_png(path: Path, film: np.ndarray) -> None:
    done, data = cv2.imencode(".png", film)
    if not done:
        raise InputError(f"The film could not be encoded as PNG: {path.name}.")
    path.write_bytes(data.tobytes())
