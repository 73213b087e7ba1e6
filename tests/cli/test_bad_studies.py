"""A whole fit with bad studies among the good ones."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kmm
from tests.factories.bad_images import BAD_IMAGES
from tests.factories.commands import CANARY, PROGRESS, refuse
from tests.factories.studies import TINY, write_studies


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, bad_images):
    """The tiny studies, the canary in each report, and bad studies among them."""
    folder = write_studies(tmp_path_factory.mktemp("mixed") / "set")
    path = folder / "indiana_reports.csv"
    text = path.read_text().replace(" in case ", f" {CANARY} in case ")
    assert text.count(CANARY) == 59
    films = (folder / "indiana_projections.csv").read_text()
    for number, name in enumerate(BAD_IMAGES, start=101):
        shutil.copy(bad_images / name, folder / "images")
        text += f"{number},normal,normal,PA,Cough.,,No {CANARY}.,\n"
        films += f"{number},{name},Frontal\n"
    text += f"201,normal,normal,PA,,,{f'{CANARY} ' * 100_000},\n202,normal,normal,PA,,,,\n203,normal,{CANARY}\n"
    films += "1,../../secret.png,Frontal\n1,gone.png,Lateral\n"
    path.write_text(text)
    (folder / "indiana_projections.csv").write_text(films)
    return folder


SET_ASIDE = {
    **{name: says for name, (_, says) in BAD_IMAGES.items()},
    "study 201": "expected a report of at most 20000 words",
    "study 202": "expected a frontal image or a report with words",
    "indiana_reports.csv line": "expected 8 fields",
    "indiana_projections.csv line": "leads out of the folder",
}
NOTE = "note: gone.png: film missing; the study is used with its other film"


@pytest.fixture(scope="module")
def finished(mixed, tmp_path_factory):
    """The whole fit on the mixed studies, in a process of its own with a folder for temporary files of its own."""
    place = tmp_path_factory.mktemp("finished")
    (place / "tmp").mkdir()
    (place / "settings.yaml").write_text(json.dumps({**TINY, "tune_epochs": 1, "text_epochs": 1, "image_epochs": 1}))
    arguments = ["fit", mixed, "--out", place / "out", "--name", "x", "--config", place / "settings.yaml"]
    result = subprocess.run(
        [sys.executable, "-m", "kmm", *map(str, arguments), "--epochs", "1", "--json", "-"],
        cwd=Path(kmm.__file__).parent.parent,
        env={**os.environ, "TMPDIR": str(place / "tmp"), "HOME": str(place / "tmp")},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return result, place


@pytest.mark.large
def test_a_run_is_finished_without_its_bad_studies(finished):
    result, place = finished
    assert result.returncode == 0, result.stderr
    results = json.loads(result.stdout)
    for row in ("joint", "image", "text", "tfidf", "majority"):
        assert 0 <= results["test"][row]["accuracy"] <= 1 and 0 <= results["validation"][row]["roc_auc"] <= 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("set aside: ")]
    assert len(lines) == len(SET_ASIDE)
    for name, says in SET_ASIDE.items():
        assert any(name in line and says in line for line in lines), (name, lines)
    assert NOTE in result.stderr.splitlines()
    others = [line for line in result.stderr.splitlines() if line not in (*lines, NOTE)]
    assert all(PROGRESS.fullmatch(line) or line.startswith("Saved: ") for line in others), others
    provenance = json.loads((place / "out" / "x" / "classifier.json").read_text())["provenance"]
    assert provenance["set_aside"] == len(SET_ASIDE)


@pytest.mark.large
def test_words_of_reports_are_written_to_the_vocabulary_and_the_baseline_alone(finished):
    result, place = finished
    assert CANARY not in (result.stdout + result.stderr).lower()
    holders = set()
    for path in place.rglob("*"):
        if path.is_file() and path.name != "settings.yaml":
            data = [path.read_bytes()]
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    data += [archive.read(name) for name in archive.namelist()]
            if any(CANARY.encode() in part.lower() for part in data):
                holders.add(path.relative_to(place / "out").as_posix())
    assert holders == {"x/vocabulary.txt", "x/tfidf.npz"}


def test_a_run_with_strict_ends_at_the_first_bad_study(mixed, tmp_path):
    line = refuse("fit", mixed, "--out", tmp_path, "--strict", says="indiana_")
    assert "expected 8 fields" in line or "leads out" in line
    assert not list(tmp_path.iterdir())
