"""Everything that can be wrong with what comes in: one clear line, the right exit code, never a word of a report."""

import contextlib
import csv
import errno
import json
import os
import re
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kmm
from tests import conftest
from tests.conftest import TINY, write_studies

CANARY = "zyxcanary"  # stands in every report of these tests
PROGRESS = re.compile(
    r".*: \d+/\d+.*|.*: .*, \d+ stud(y|ies)|Words: \d+ of training.*|\d+ studies: \d+ without .*"
    r"|Calibrated on validation studies: .*|Fewer than \d+ (?:validation|training) studies of a class for .*"
)


def run(*arguments):
    result = conftest.run(*arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert "Traceback" not in result.output and CANARY not in result.output.lower()
    return result


def lines_of(result):
    """What is said on standard error besides progress."""
    return [line for line in result.stderr.splitlines() if not PROGRESS.fullmatch(line)]


def refuse(*arguments, says, code=2):
    """Runs a command that must end with one line that says some things, and with nothing on standard output."""
    result = run(*arguments)
    lines = [line for line in lines_of(result) if not line.startswith("set aside: ")]  # what may be why
    assert result.exit_code == code and len(lines) == 1, result.output
    assert lines[0].startswith("kmm: ")
    for words in [says] if isinstance(says, str) else says:
        assert words in lines[0], lines[0]
    assert result.stdout == ""
    return lines[0]


def set_aside(result):
    """The lines of a run that was finished without some of its studies."""
    lines = lines_of(result)
    assert result.exit_code == 0, result.output
    assert all(line.startswith("set aside: ") for line in lines), lines
    return lines


@pytest.fixture
def good(tiny_folder):
    return tiny_folder / "images" / "1.png"


# Images


def png(width, height, rows):
    """A gray PNG of one bit a pixel, of `rows`, bytes for the decoder."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def make_bomb():
    """20,000 x 20,000 black pixels in 50 kB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 20_000 // 8)
    return png(20_000, 20_000, b"".join(packer.compress(row) for _ in range(20_000)) + packer.flush())


def make_dicom_without_pixels():
    import io

    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian

    film = Dataset()
    film.PatientName = f"{CANARY}^Name"
    film.ImageComments = f"no mass {CANARY}"
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    file = io.BytesIO()
    film.save_as(file, enforce_file_format=True)
    return file.getvalue()


def make_png(pixels):
    import io

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
BAD_IMAGES = {
    "truncated.png": (lambda: make_png(NOISE)[:2000], "expected a complete PNG"),
    "zero.png": (lambda: b"", "The file is empty"),
    "text.png": (lambda: f"There is a mass {CANARY}.".encode(), "The content is none of these"),
    "black.png": (lambda: make_png(np.zeros((64, 64), np.uint8)), "Every pixel is black"),
    "dot.png": (lambda: make_png(np.full((1, 1), 9, np.uint8)), "at least 16x16 pixels. Received: 1x1"),
    "bomb.png": (make_bomb, "Received: 20000x20000"),
    "empty.dcm": (make_dicom_without_pixels, "It has no pixels"),
    "broken.dcm": (lambda: make_dicom_without_pixels()[:200], "expected a"),
}


@pytest.fixture(scope="module")
def bad_images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    for name, (make, _) in BAD_IMAGES.items():
        (folder / name).write_bytes(make())
    return folder


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_alone(model, bad_images, name):
    result = run("predict", model, bad_images / name)
    assert result.exit_code == 2 and result.stdout == ""
    (line,) = lines_of(result)
    assert str(bad_images / name) in line and BAD_IMAGES[name][1] in line


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_bad_image_with_strict(model, bad_images, good, name):
    refuse("predict", model, good, bad_images / name, "--strict", says=(str(bad_images / name), BAD_IMAGES[name][1]))


def test_bad_images_among_good_ones_are_set_aside(model, bad_images, good):
    result = run("predict", model, good, bad_images, good.with_name("2.png"), "--json", "-")
    lines = set_aside(result)
    assert len(lines) == len(BAD_IMAGES)
    assert all(sum(name in line for line in lines) == 1 for name in BAD_IMAGES)
    answer = json.loads(result.stdout)
    assert [row["study"] for row in answer["predictions"]] == ["1", "2"]
    assert len(answer["set_aside"]) == len(BAD_IMAGES)


def test_a_bomb_is_refused_before_it_is_decoded(bad_images, model):
    import tracemalloc

    assert (bad_images / "bomb.png").stat().st_size < 200_000
    tracemalloc.start()
    run("predict", model, bad_images / "bomb.png")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000  # the pixels would be 400 MB, and 50 MB at one bit each


def test_verify_calls_bad_images_bad_news(bad_images, tmp_path):
    (tmp_path / "images").mkdir()
    for name in BAD_IMAGES:
        shutil.copy(bad_images / name, tmp_path / "images")
    rows = [["id", "image"], *([name.replace(".", "-"), f"images/{name}"] for name in BAD_IMAGES)]
    write_table(tmp_path / "manifest.csv", rows)
    result = run("data", "verify", tmp_path, "--json", "-")
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert result.exit_code == 1 and lines_of(result) == []
    assert checks["unreadable images"]["found"] == len(BAD_IMAGES) - 2 and checks["empty images"]["found"] == 2


# Reports and tables


def write_table(path, rows, encoding="utf-8"):
    with open(path, "w", newline="", encoding=encoding) as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "1 to 20000 words. Received: 0"),
        (f"{CANARY} ".encode() * 100_000, "1 to 20000 words. Received: 100000"),
        (f"naïve {CANARY}".encode("latin-1"), "expected a report in UTF-8"),
        (f"{CANARY}".encode("utf-16"), "expected a report in UTF-8"),
        (None, "No such file"),
    ],
    ids=["empty", "long", "latin-1", "utf-16", "missing"],
)
def test_a_report_file_that_is_none(model, good, tmp_path, text, says):
    path = tmp_path / "report.txt"
    if text is not None:
        path.write_bytes(text)
    refuse("predict", model, good, "--report", path, says=(str(path), says))


def make_manifest(folder, good, bad):
    """A manifest of two good studies and a bad one between them."""
    shutil.copy(good, folder / "film.png")
    rows = [["id", "image", "report"], ["a", "film.png", f"No mass {CANARY}."], bad, ["c", "", f"A mass {CANARY}."]]
    return write_table(folder / "list.csv", rows)


BAD_ROWS = {
    "empty report, no image": (["b", "", " "], "study b: expected a frontal image or a report with words"),
    "long report": (["b", "", f"{CANARY} " * 100_000], "study b: expected a report of at most 20000 words"),
    "way out": (["b", "../film.png", ""], "list.csv line 3: the file name leads out of the folder"),
    "absolute": (["b", "/etc/hostname", ""], "list.csv line 3: the file name leads out of the folder"),
    "missing image": (["b", "none.png", ""], "none.png: film missing"),
    "too few fields": (["b", "film.png"], "list.csv line 3: expected 3 fields"),
    "no id": ["", "", CANARY],
    "unsafe id": (["../b", "", CANARY], "list.csv line 3: expected an id"),
}
BAD_ROWS["no id"] = (BAD_ROWS["no id"], "list.csv line 3: expected an id")


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_among_good_ones_is_set_aside(model, good, tmp_path, name):
    row, says = BAD_ROWS[name]
    table = make_manifest(tmp_path, good, row)
    result = run("predict", model, table, "--json", "-")
    lines = set_aside(result)
    assert says in lines[0]
    assert [row["study"] for row in json.loads(result.stdout)["predictions"]] == ["a", "c"]
    refuse("predict", model, table, "--strict", says=says)


def test_a_long_report_is_set_aside_by_embed(tmp_path):
    rows = [["id", "report"], *([name, "No mass at all."] for name in "ac"), ["b", f"{CANARY} " * 100_000]]
    result = run(
        "weights", "embed", write_table(tmp_path / "list.csv", rows), "--out", tmp_path / "v.txt", "--dimensions", 4
    )
    (line,) = set_aside(result)
    assert "study b: expected a report of at most 20000 words. Received: 100000." in line
    assert CANARY not in (tmp_path / "v.txt").read_text()


def test_a_link_that_leads_out_is_not_followed(model, good, tmp_path):
    secret = tmp_path / "secret.png"
    shutil.copy(good, secret)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "way-out.png").symlink_to(secret)
    table = make_manifest(tmp_path / "set", good, ["b", "way-out.png", ""])
    result = run("predict", model, table, "--json", "-")
    assert "list.csv line 3: the file is a link that leads out of the folder" in set_aside(result)[0]


TABLES = {
    "manifest.csv": (f"id,words\na,{CANARY}\n", ("manifest.csv", "expected a column", "id, words")),
    "manifest.jsonl": (f'{{"report": "{CANARY}"}}\n', ("manifest.jsonl", "Missing: id")),
    "indiana_reports.csv": (f"uid,findings\n1,{CANARY}\n", ("indiana_reports.csv", "Missing: MeSH, indication")),
}


@pytest.mark.parametrize("command", ["predict", "evaluate", "fit", "embed", "verify"])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_with_missing_columns(model, tmp_path, name, command):
    text, says = TABLES[name]
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / name).write_text(text)
    (folder / "indiana_projections.csv").write_text("uid,filename,projection\n")
    refuse(*give_folder(command, model, folder, tmp_path), says=says)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def give_folder(command, model, folder, out):
    return {
        "predict": ["predict", model, folder],
        "evaluate": ["evaluate", model, folder],
        "fit": ["fit", folder, "--out", out / "out"],
        "embed": ["weights", "embed", folder, "--out", out / "v.txt"],
        "verify": ["data", "verify", folder],
    }[command]


def test_a_table_without_a_header_shows_no_sentence(tmp_path):
    rows = [["1", "film.png", f"There is no mass to be seen {CANARY}."], ["2", "film.png", f"A mass {CANARY}."]]
    refuse("fit", write_table(tmp_path / "list.csv", rows), "--out", tmp_path / "out", says=("list.csv", "Missing: id"))


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl", "indiana_reports.csv"])
def test_a_table_that_is_not_utf8(model, tmp_path, name):
    text = f'{{"id": "1", "report": "naïve {CANARY}"}}' if name.endswith("jsonl") else f"id,report\n1,naïve {CANARY}\n"
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / name).write_bytes(text.encode("latin-1"))
    for command in ("predict", "evaluate", "fit", "embed", "verify"):
        refuse(*give_folder(command, model, folder, tmp_path), says=(str(folder / name), "expected UTF-8"))


def test_a_label_with_one_class(tmp_path):
    rows = [["id", "report", "label:mass"], *([n, f"A mass {CANARY} {n}.", 1] for n in range(30))]
    table = write_table(tmp_path / "manifest.csv", rows)
    says = (str(tmp_path), "of 0 and of 1 for the label 'mass'. Found: 30 of 1")
    refuse("fit", table, "--out", tmp_path / "out", "--labels", "columns", says=says)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("command", ["predict", "evaluate", "fit", "embed", "verify"])
def test_a_folder_without_studies(model, tmp_path, command):
    folder = tmp_path / "set"
    folder.mkdir()
    says = "Found none" if command == "predict" else "no studies in it. Expected a folder with one of"
    refuse(*give_folder(command, model, folder, tmp_path), says=says)
    (folder / "manifest.csv").write_text("id,report\n")
    refuse(*give_folder(command, model, folder, tmp_path), says=(str(folder), "no studies in it"))
    refuse(*give_folder(command, model, tmp_path / "nowhere", tmp_path), says="nowhere: no such file or folder")


def test_evaluate_needs_studies_that_are_new(model, tiny_run, tmp_path):
    rows = [["id", "report"], *([n, f"A mass {CANARY}"] for n in range(9))]
    table = write_table(tmp_path / "list.csv", rows)
    refuse("evaluate", model, table, says="Expected labelled studies")


# XML


XML = """<eCitation><uId id="CXR{number}"/><MeSH><major>{major}</major></MeSH><Abstract>
<AbstractText Label="FINDINGS">There is {word} mass {canary}.</AbstractText></Abstract></eCitation>"""
BAD_XML = {
    "broken.xml": (f"<eCitation><uId id='CXR90'/><Abstract>{CANARY}", "not well-formed XML"),
    "bomb.xml": (
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><eCitation><uId id="CXR91"/>&b;</eCitation>',
        "declares XML entities",
    ),
    "outside.xml": (
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><eCitation><uId id="CXR92"/>&a;</eCitation>',
        "declares XML entities",
    ),
    "other.xml": (f"<html>{CANARY}</html>", "expected an <eCitation>"),
    "latin.xml": (f"<eCitation><uId id='CXR93'/>naïve {CANARY}</eCitation>".encode("latin-1"), "not well-formed XML"),
    "empty.xml": ("", "not well-formed XML"),
}


@pytest.fixture
def reports(tmp_path):
    """An Open-i folder of 8 good reports."""
    folder = tmp_path / "openi"
    (folder / "ecgen-radiology").mkdir(parents=True)
    for number in range(1, 9):
        word, major = ("no", "normal") if number % 2 else ("a", "Mass/lung")
        text = XML.format(number=number, major=major, word=word, canary=CANARY)
        (folder / "ecgen-radiology" / f"{number}.xml").write_text(text)
    return folder


def test_bad_xml_among_good_ones_is_set_aside(model, reports):
    for name, (text, _) in BAD_XML.items():
        (reports / "ecgen-radiology" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    result = run("evaluate", model, reports, "--json", "-")
    lines = set_aside(result)
    assert len(lines) == len(BAD_XML)
    for name, (_, says) in BAD_XML.items():
        assert any(f"set aside: {name}: {says}" in line for line in lines), name
    assert json.loads(result.stdout)["test"]["n"] == 8


@pytest.mark.parametrize("name", BAD_XML)
def test_bad_xml_with_strict_and_alone(model, reports, name):
    text, says = BAD_XML[name]
    (reports / "ecgen-radiology" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    refuse("evaluate", model, reports, "--strict", says=f"{name}: {says}")
    refuse("fit", reports, "--out", reports.parent / "out", "--strict", says=f"{name}: {says}")
    for path in (reports / "ecgen-radiology").glob("[0-9].xml"):
        path.unlink()
    refuse("evaluate", model, reports, says=(str(reports), "no studies in it", f"{name}: {says}"))


def test_a_damaged_archive(model, tmp_path):
    (tmp_path / "NLMCXR_reports.tgz").write_bytes(b"\x1f\x8b\x08\x00 no archive")
    refuse("evaluate", model, tmp_path, says=("NLMCXR_reports.tgz", "expected a whole .tgz"))


# Names, settings, weights and word vectors


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--preset", "x"], "Unknown preset 'x'. Known: small, paper"),
        (["--image-encoder", "x"], "Unknown image encoder 'x'. Known: densenet121, "),
        (["--text-encoder", "x"], "Unknown text encoder 'x'. Known: text-cnn, "),
        (["--labels", "x"], "Unknown label scheme 'x'. Known: normal-abnormal, "),
        (["--sections", "x"], "`sections` must be one of report, pre-read, "),
        (["--set", "fusion=x"], "Unknown fusion 'x'. Known: concat"),
        (["--set", "cleaning=x"], "Unknown cleaning mode 'x'. Known: standard, "),
        (["--set", "threshold_policy=x"], "Unknown threshold policy 'x'. Known: "),
        (["--set", "x=1"], "Unknown setting 'x'. Known: augment, "),
        (["--set", "x"], "Expected NAME=VALUE. Received: 'x'"),
        (["--set", "length=many"], "`length` must be a whole number. Received: 'many'"),
        (["--set", "shares=1,2"], "`shares` must be three numbers"),
        (["--epochs", "0"], "`epochs` must be a whole number of at least 1"),
        (["--pixels", "8"], "pixels"),
        (["--seed", "-1"], "seed"),
        (["--image-encoder", "none", "--text-encoder", "none"], "must not both be none"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: expected a readable settings file"),
        (["--split", "nowhere.csv"], "nowhere.csv"),
        (["--word-pieces", "nowhere.txt"], "nowhere.txt: expected a file for the setting `word_pieces`"),
        (["--word-vectors", "nowhere.txt"], "nowhere.txt: expected a file for the setting `word_vectors`"),
        (["--image-weights", "nowhere.h5"], "nowhere.h5: expected a file for the setting `image_weights`"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_name_or_value_that_is_not_known(tiny_folder, tmp_path, options, says):
    refuse("fit", tiny_folder, "--out", tmp_path, *options, says=says)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"a: [", b"- 1\n- 2", b"!!python/object/apply:os.getcwd []"])
def test_a_settings_file_that_is_none(tiny_folder, tmp_path, text):
    (tmp_path / "settings.yaml").write_bytes(text)
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--config", tmp_path / "settings.yaml"]
    refuse(*arguments, says=("settings.yaml", "expected"))


@pytest.mark.parametrize("data", [b"", bytes(range(256)) * 9, b"2 3\nmass 1 2 3\n", b"mass 1 2\ncyst 1 nan\n"])
def test_word_vectors_that_are_none(tiny_folder, tmp_path, data):
    (tmp_path / "vectors.txt").write_bytes(data)
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--word-vectors", tmp_path / "vectors.txt"]
    refuse(*arguments, "--image-encoder", "none", says=(str(tmp_path / "vectors.txt"), "expected word vectors"))


def test_word_pieces_that_are_none(tiny_folder, tmp_path):
    (tmp_path / "vocab.txt").write_text("no\nmass\n", encoding="utf-8")
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--word-pieces", tmp_path / "vocab.txt"]
    refuse(*arguments, "--image-encoder", "none", says=(str(tmp_path / "vocab.txt"), "expected the word pieces"))


IMAGES_ONLY = ["--text-encoder", "none", "--pixels", 32, "--epochs", 1, "--set", "bootstrap_repeats=2"]


def test_weights_of_another_network(tiny_folder, tmp_path):
    import keras

    other = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2, name="other")])
    path = tmp_path / "other.weights.h5"
    other.save_weights(path)
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--image-weights", path, *IMAGES_ONLY]
    refuse(*arguments, says=("other.weights.h5 holds weights for another network", "block1_conv is missing"))
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("data", [b"", b"\x89HDF\r\n\x1a\n damaged", b"words"])
def test_weights_that_are_none(tiny_folder, tmp_path, data):
    (tmp_path / "w.h5").write_bytes(data)
    arguments = ["fit", tiny_folder, "--out", tmp_path / "out", "--image-weights", tmp_path / "w.h5", *IMAGES_ONLY]
    refuse(*arguments, says="w.h5 ")


def test_imagenet_weights_without_a_network_end_the_run(tiny_folder, tmp_path, monkeypatch):
    from keras.src.utils import file_utils

    def fail(name, origin, **_):
        raise Exception(f"URL fetch failure on {origin}: None -- [Errno -3] Temporary failure in name resolution")

    monkeypatch.setattr(file_utils, "get_file", fail)
    arguments = ["fit", tiny_folder, "--out", tmp_path, "--preset", "paper", "--image-weights", "imagenet"]
    says = ("ImageNet weights of densenet121 could not be downloaded", "URL fetch failure", "Give a local file")
    refuse(*arguments, *IMAGES_ONLY, says=says)
    assert not list(tmp_path.iterdir())


def test_an_encoder_without_imagenet_weights(tiny_folder, tmp_path):
    arguments = ["fit", tiny_folder, "--out", tmp_path, "--image-weights", "imagenet", *IMAGES_ONLY]
    refuse(*arguments, says="There are no ImageNet weights of small-cnn")


# Saved classifiers


def predict_with(folder, good):
    return ["predict", folder, good]


@pytest.mark.parametrize("name", ["joint.keras", "vocabulary.txt", "settings.json", "tfidf.npz", "model_card.md"])
def test_an_altered_classifier(tiny_run, good, tmp_path, name):
    folder = tmp_path / "model"
    shutil.copytree(tiny_run[2], folder)
    with open(folder / name, "ab") as file:
        file.write(b"x")
    refuse("predict", folder, good, says=(str(folder / name), "Its digest differs"))
    (folder / name).unlink()
    refuse("predict", folder, good, says=(f"expected the file {name}", "missing"))


@pytest.mark.parametrize("change", ["format", "files", "parts", "way out", "nonsense", "empty", "missing"])
def test_a_classifier_that_is_none(tiny_run, good, tmp_path, change):
    folder = tmp_path / "model"
    shutil.copytree(tiny_run[2], folder)
    path = folder / "classifier.json"
    said = json.loads(path.read_text())
    if change == "way out":
        said["files"]["../secret"] = "0" * 64
        (tmp_path / "secret").write_text("x")
    elif change == "format":
        said["format"] = 99
    else:
        said.pop(change, None)
    texts = {"nonsense": "\x00", "empty": ""}
    path.write_text(texts.get(change, json.dumps(said)))
    if change == "missing":
        path.unlink()
    for arguments in (["predict", folder, good], ["evaluate", folder, good.parent.parent]):
        refuse(*arguments, says=(str(folder), "expected"))
    refuse("predict", tmp_path / "nowhere", good, says=("nowhere", "expected a classifier"))


# A full disk


@contextlib.contextmanager
def full_disk(size):
    """No file may grow beyond some bytes: the system then refuses to write, in the middle of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


FULL = "File too large"  # what this kind of full disk is called; a real one: No space left on device


def test_a_full_disk_while_a_set_is_drawn(tmp_path):
    with full_disk(2_000):
        refuse("data", "phantom", tmp_path / "set", "--studies", 3, says=(str(tmp_path / "set"), FULL))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_while_word_vectors_are_written(tiny_folder, tmp_path):
    arguments = ["weights", "embed", tiny_folder, "--out", tmp_path / "v.txt", "--dimensions", 9, "--epochs", 1]
    (tmp_path / "v.txt").write_text("old")
    with full_disk(500):
        refuse(*arguments, says=(str(tmp_path / "v.txt"), FULL))
    assert [path.name for path in tmp_path.iterdir()] == ["v.txt"] and (tmp_path / "v.txt").read_text() == "old"


def test_a_full_disk_while_films_are_prepared(tiny_folder, tmp_path):
    with full_disk(20_000):
        refuse("fit", tiny_folder, "--out", tmp_path, *IMAGES_ONLY, says=(str(tmp_path), FULL))
    assert not list(tmp_path.iterdir())


def test_a_film_that_was_written_in_part_is_a_full_disk(tiny_folder, tmp_path, monkeypatch):
    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, offset: write(file, data[:100], offset))
    refuse("fit", tiny_folder, "--out", tmp_path, *IMAGES_ONLY, says=("films", "No space left on device"))
    assert not list(tmp_path.iterdir())


def test_too_little_room_for_films_is_said_before_they_are_read(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    refuse("fit", tiny_folder, "--out", tmp_path, *IMAGES_ONLY, says=(str(tmp_path), "free disk for prepared films"))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def trained(tiny_run, monkeypatch):
    """A fit that trains nothing and goes straight to saving."""
    import kmm.training.fit

    monkeypatch.setattr(kmm.training.fit, "fit_classifier", lambda *_, **__: tiny_run[:2])
    monkeypatch.setattr(
        kmm.training.fit, "save_run", lambda classifier, run, folder, overwrite: classifier.save(folder)
    )


def test_a_full_disk_while_a_classifier_is_saved(tiny_folder, tmp_path, trained):
    with full_disk(20_000):
        refuse("fit", tiny_folder, "--out", tmp_path, says=(str(tmp_path), FULL))
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_full_at_the_last_moment(tiny_folder, tmp_path, trained, model, good, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "answers.json").write_text("old")
    monkeypatch.setattr(os, "replace", fail)
    refuse("fit", tiny_folder, "--out", tmp_path, says=(str(tmp_path), "No space left on device"))
    refuse(
        "weights",
        "embed",
        tiny_folder,
        "--out",
        tmp_path / "v.txt",
        "--epochs",
        1,
        says=("v.txt", "No space left on device"),
    )
    refuse("data", "phantom", tmp_path / "set", "--studies", 3, says=("set", "No space left on device"))
    arguments = ["predict", model, good, "--json", tmp_path / "answers.json"]
    refuse(*arguments, says=("answers.json", "No space left on device"))
    assert {path.name for path in tmp_path.iterdir()} == {"answers.json"}
    assert (tmp_path / "answers.json").read_text() == "old"


# A whole run with bad studies in it


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
NOTE = "note: gone.png: film missing, study kept on its other film"


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


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_a_run_with_strict_ends_at_a_bad_image(tmp_path, bad_images, name):
    shutil.copy(bad_images / name, tmp_path)
    rows = [
        ["id", "image", "report", "mesh"],
        *([n, "", f"{CANARY} {n}", "normal" if n % 2 else "Mass"] for n in range(9)),
    ]
    table = write_table(tmp_path / "list.csv", [*rows, ["x", name, CANARY, "normal"]])
    says = ("study x: ", name, BAD_IMAGES[name][1])
    refuse("fit", table, "--out", tmp_path / "out", "--strict", *IMAGES_ONLY[2:], says=says)
    assert not list((tmp_path / "out").iterdir())


# Models of one side


def test_a_model_of_reports_alone_opens_no_film_and_one_of_films_no_report(bad_images, good):
    from kmm.batches import BatchMaker, TextPreparation
    from kmm.data.study import ImageFile, Report, Study
    from kmm.errors import ReportError
    from kmm.image.prepare import ImagePreparation
    from kmm.text.vocabulary import Vocabulary

    films = [(ImageFile(path, view="frontal"),) for path in (bad_images / "zero.png", good)]
    broken = Study("1", "1", films[0], Report(findings="A mass."))
    endless = Study("2", "2", films[1], Report(findings=f"{CANARY} " * 100_000))
    reports = BatchMaker(None, TextPreparation(), vocabulary=Vocabulary.fit([["mass"]]), label_names=("mass",))
    images = BatchMaker(ImagePreparation(32), None, vocabulary=None, label_names=("mass",))
    assert reports.batch([broken]).present.tolist() == [[0, 1]]
    assert images.batch([endless]).present.tolist() == [[1, 0]]
    with pytest.raises(ReportError, match=r"expected a report with words\. Found none"):
        reports.batch([Study("3", "3", films[1])])
    with pytest.raises(ReportError, match=r"expected a frontal image\. Found none"):
        images.batch([Study("4", "4", report=Report(findings="A mass."))])
    for maker in (reports, images):
        again = BatchMaker.from_dict(json.loads(json.dumps(maker.as_dict())), maker.vocabulary)
        assert (again.image, again.text) == (maker.image, maker.text)
