"""The commands, as a user types them: most in this process, a few in one of their own."""

import configparser
import contextlib
import inspect
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kmm
from kmm.cli import main
from kmm.data.phantom.dataset import make_phantom
from kmm.errors import LeakError
from kmm.presets import make_settings
from tests.conftest import run

ROOT = Path(kmm.__file__).parent.parent
COMMANDS = [
    ("data", "phantom"),
    ("data", "verify"),
    ("data", "split"),
    ("data", "summary"),
    ("weights", "list"),
    ("weights", "check"),
    ("weights", "convert"),
    ("weights", "embed"),
    ("cache", "list"),
    ("cache", "clear"),
    ("model", "card"),
    ("fit",),
    ("evaluate",),
    ("predict",),
    ("explain",),
    ("fidelity",),
    ("model", "pack"),
    ("model", "verify"),
    ("export",),
    ("serve",),
    ("call",),
    ("completion",),
]
ROWS = ("joint", "image", "text", "tfidf", "majority", "chance")


def run_apart(*arguments, entry=("-m", "kmm")):
    command = [sys.executable, *entry, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def find_command(path):
    command = main
    for name in path:
        command = command.commands[name]
    return command


@pytest.fixture(scope="session")
def phantom(tmp_path_factory):
    """12 phantom studies."""
    folder = tmp_path_factory.mktemp("phantom") / "set"
    make_phantom(folder, studies=12, pixels=64)
    return folder


def read_one_document(text):
    """The one JSON document that a text is: nothing before it, nothing behind it."""
    value, end = json.JSONDecoder().raw_decode(text)
    assert not text[end:].strip()
    return value


# Help


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_help_has_an_example_that_can_be_typed(path):
    result = run(*path, "--help")
    assert result.exit_code == 0 and "Example" in result.stdout
    text = inspect.cleandoc(find_command(path).help)
    examples = re.findall(rf"kmm {' '.join(path)}\b[^\n]*", text[text.index("Example") :])
    assert examples
    for example in examples:
        assert example in " ".join(result.stdout.split())
        words = shlex.split(example.split(">>")[0])[1 + len(path) :]
        find_command(path).make_context("kmm", words)


def test_all_commands_are_tested_here():
    assert {path[0] for path in COMMANDS} == {name for name, command in main.commands.items() if not command.hidden}
    for group in ("data", "model", "weights", "cache"):
        assert {path[1] for path in COMMANDS if path[0] == group} == set(main.commands[group].commands)


def test_help_answers_at_once_and_imports_nothing_heavy():
    code = """
import sys
from kmm.cli import main
for path in sys.argv[1:]:
    try:
        main([*path.split(), "--help"], prog_name="kmm")
    except SystemExit as end:
        assert end.code == 0
heavy = {"keras", "tensorflow", "numpy", "sklearn", "cv2", "PIL", "pydicom", "gensim", "rich", "yaml", "h5py"}
sys.exit(", ".join(sorted(heavy & set(sys.modules))) or None)
"""
    result = run_apart("", "data", *map(" ".join, COMMANDS), entry=("-c", code))
    assert result.returncode == 0, result.stderr
    seconds = []
    for _ in range(8):  # the fastest: other work on the machine slows the rest
        start = time.perf_counter()
        assert run_apart("fit", "--help").returncode == 0
        seconds.append(time.perf_counter() - start)
        if seconds[-1] < 0.5:
            break
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    "arguments", [[], ["data"], ["nothing"], ["fit", "--nothing"], ["predict"], ["fit", "--seed", "x"]]
)
def test_wrong_usage_is_exit_code_2(arguments):
    result = run(*arguments)
    assert result.exit_code == 2 and "Usage: kmm" in result.output and "Traceback" not in result.output


def test_one_command_by_three_names(phantom, tmp_path):
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    module, function = setup["options.entry_points"]["console_scripts"].split("=")[1].strip().split(":")
    installed = f"import sys; from {module} import {function}; sys.exit({function}())"
    folder = tmp_path / "phantom"
    shutil.copytree(phantom, folder)
    next((folder / "images").iterdir()).write_bytes(b"")
    results = [
        run_apart("data", "verify", folder, "--json", "-", entry=entry)
        for entry in (("cli.py",), ("-m", "kmm"), ("-c", installed))
    ]
    assert [result.returncode for result in results] == [1, 1, 1]
    assert results[0].stdout == results[1].stdout == results[2].stdout != ""
    assert read_one_document(results[0].stdout)["ok"] is False


# Data and word vectors


def test_phantom_is_made_once_and_alike(tmp_path):
    for name in ("a", "b"):
        result = run("data", "phantom", tmp_path / name, "--studies", 6, "--pixels", 64, "--seed", 3)
        assert result.exit_code == 0 and "studies 6" in result.stdout and result.stderr == ""
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*")]
    assert len(files) > 6 and all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    result = run("data", "phantom", tmp_path / "a")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_verify_of_a_whole_set_is_0(phantom, tmp_path):
    result = run("data", "verify", phantom)
    assert result.exit_code == 0 and "wrong" not in result.stdout and "images" in result.stdout
    result = run("data", "verify", phantom, "--json", "-")
    assert result.exit_code == 0
    report = read_one_document(result.stdout)
    assert report["ok"] and report["counts"]["studies"] == 12
    assert run("data", "verify", phantom, "--json", tmp_path / "checks.json").exit_code == 0
    assert json.loads((tmp_path / "checks.json").read_text()) == report


def test_verify_of_a_damaged_set_is_1(phantom, tmp_path):
    folder = tmp_path / "phantom"
    shutil.copytree(phantom, folder)
    first, second = sorted((folder / "images").glob("*1001.png"))[:2]
    first.write_bytes(first.read_bytes()[:200])
    second.unlink()
    result = run("data", "verify", folder, "--json", "-")
    assert result.exit_code == 1
    wrong = {check["name"]: check for check in read_one_document(result.stdout)["checks"] if check["wrong"]}
    assert set(wrong) == {"unreadable images", "missing images"}
    assert first.name in wrong["unreadable images"]["examples"][0]
    assert wrong["missing images"]["examples"] == [second.name]
    result = run("data", "verify", folder)
    assert result.exit_code == 1 and first.name in result.stdout and second.name in result.stdout


@pytest.mark.parametrize("suffix", [".txt", ".bin"])
def test_embed_writes_vectors_that_load_and_repeat(tiny_folder, tmp_path, suffix):
    from kmm.text.word_vectors import load_word_vectors

    for name in ("a", "b"):
        place = tmp_path / f"{name}{suffix}"
        result = run("weights", "embed", tiny_folder, "--out", place, "--dimensions", 6, "--epochs", 2, "--seed", 4)
        assert result.exit_code == 0 and "6 dimensions" in result.stdout and str(place) in result.stdout
    vectors = load_word_vectors(tmp_path / f"a{suffix}")
    assert vectors.dimensions == 6 and {"mass", "cough", "no"} <= set(vectors.words)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_embed_reads_the_sections_asked_for(tiny_folder, tmp_path):
    from kmm.text.word_vectors import load_word_vectors

    result = run(
        "weights", "embed", tiny_folder, "--out", tmp_path / "v.txt", "--sections", "pre-read", "--dimensions", 3
    )
    assert result.exit_code == 0, result.stderr
    assert set(load_word_vectors(tmp_path / "v.txt").words) == {"cough", "none"}


# Settings of a fit


def test_settings_come_from_options_then_variables_then_set_then_file_then_preset(tiny_folder, tmp_path, fits):
    config = tmp_path / "settings.yaml"
    config.write_text("seed: 1\nfusion-units: 10\nlength: 20\nsections: [findings]\npixels: 40\ntext_epochs: 9\n")
    arguments = ["fit", tiny_folder, "--out", tmp_path, "--config", config, "--set", "fusion_units=12", "--pixels", 48]
    environment = {"KMM_FIT_SEED": "5", "KMM_FIT_PIXELS": "64", "KMM_FIT_SECTIONS": "pre-read", "KMM_FIT_EPOCHS": "4"}
    result = run(*arguments, env=environment)
    assert result.exit_code == 0, result.stderr
    settings = fits[-1]["settings"]
    assert (settings.seed, settings.fusion_units, settings.length, settings.pixels) == (5, 12, 20, 48)
    assert settings.sections == ("indication", "comparison")
    assert settings.text_epochs == 4 and settings.image_epochs <= 4
    assert settings.patience == make_settings("small").patience


def test_every_option_has_its_variable(tiny_folder, tmp_path, fits):
    environment = {
        "KMM_FIT_OUT": str(tmp_path),
        "KMM_FIT_NAME": "by-variables",
        "KMM_FIT_SET": "length=9 fusion_units=7",
        "KMM_FIT_STRICT": "1",
        "KMM_FIT_PRESET": "paper",
        "KMM_FIT_IMAGE_ENCODER": "none",
        "KMM_FIT_JSON": str(tmp_path / "results.json"),
    }
    result = run("fit", tiny_folder, env=environment)
    assert result.exit_code == 0, result.stderr
    settings = fits[-1]["settings"]
    assert (settings.length, settings.fusion_units, settings.strict, settings.preset) == (9, 7, True, "paper")
    assert settings.image_encoder is None
    assert (tmp_path / "by-variables" / "classifier.json").exists()
    assert "test" in json.loads((tmp_path / "results.json").read_text())


def test_other_options_of_fit_arrive(tiny_folder, tmp_path, fits):
    options = ["--split", tmp_path / "split.csv", "--tensorboard", tmp_path / "logs", "--word-vectors", "v.txt"]
    options += ["--word-pieces", "p.txt", "--labels", "findings"]
    result = run("fit", tiny_folder, "--out", tmp_path / "out", *options)
    assert result.exit_code == 0, result.stderr
    call = fits[-1]
    assert (call["split"], call["tensorboard"]) == (tmp_path / "split.csv", tmp_path / "logs")
    settings = call["settings"]
    assert (settings.word_vectors, settings.word_pieces, settings.labels) == ("v.txt", "p.txt", "findings")
    assert call["cache"] == tmp_path / "out" / ".cache" and len(call["collection"].studies) == 60


def test_a_bare_fit_uses_the_phantom_set(tmp_path, monkeypatch, fits):
    import kmm.data.phantom.dataset

    made = []
    monkeypatch.setattr(
        kmm.data.phantom.dataset, "make_phantom", lambda out, **_: made.append(make_phantom(out, studies=9, pixels=32))
    )
    monkeypatch.chdir(tmp_path)
    for name in ("small", "small-2"):
        result = run("fit")
        assert result.exit_code == 0 and f"Saved: {Path('saved_models', name)}" in result.stderr
    assert len(made) == 1 and len(fits[-1]["collection"].studies) == 9


# Results of a fit


def test_fit_prints_one_json_document_and_progress_apart(tiny_folder, tmp_path, fits, tiny_run):
    result = run("fit", tiny_folder, "--out", tmp_path, "--json", "-")
    assert result.exit_code == 0
    results = read_one_document(result.stdout)
    for part in ("test", "validation"):
        assert results[part]["n"] == tiny_run[0].metrics[part]["n"]
        assert all({"accuracy", "roc_auc", "f1", "brier", "log_loss"} <= set(results[part][row]) for row in ROWS)
    assert "60 studies" in result.stderr and "Saved" in result.stderr


def test_fit_shows_tables_and_writes_json_beside(tiny_folder, tmp_path, fits):
    result = run("fit", tiny_folder, "--out", tmp_path, "--json", tmp_path / "results.json")
    assert result.exit_code == 0
    for words in (
        "test: 12 studies",
        "│ Joint ",
        "Image only",
        "Text only",
        "TF-IDF",
        "Majority",
        "Chance",
    ):
        assert words in result.stdout, words
    assert set(json.loads((tmp_path / "results.json").read_text())) == {"test", "validation"}


def test_tables_show_intervals_and_tests_in_160_columns(tiny_folder, tmp_path, fits, tiny_run):
    result = run("fit", tiny_folder, "--out", tmp_path)
    test = tiny_run[0].metrics["test"]
    for metric in ("accuracy", "roc_auc"):
        low, high = test["joint"]["intervals"][metric]
        assert f"│ {test['joint'][metric]:.3f} [{low:.3f}, {high:.3f}] │" in result.stdout
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 160
    assert [line.split(",")[0] for line in lines if line.startswith("Joint minus")] == 2 * [
        "Joint minus Image only",
        "Joint minus Text only",
    ]
    assert sum(line.startswith("│ ") for line in lines) == 12  # a line a row: nothing is folded


def test_json_goes_through_links_and_into_pipes_without_replacing_them(tiny_folder, tmp_path, fits):
    link, pipe = tmp_path / "link.json", tmp_path / "pipe"
    link.symlink_to(tmp_path / "target.json")
    assert run("fit", tiny_folder, "--out", tmp_path, "--json", link).exit_code == 0
    assert link.is_symlink() and "test" in json.loads((tmp_path / "target.json").read_text())
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert run("fit", tiny_folder, "--out", tmp_path, "--json", pipe).exit_code == 0
    assert stat.S_ISFIFO(pipe.stat().st_mode) and "test" in json.loads(os.read(reader, 1 << 20))
    os.close(reader)


@pytest.mark.parametrize("command", ["fit", "evaluate", "predict", "verify", "embed"])
def test_a_place_that_cannot_be_written_is_said_before_the_work(tiny_folder, tmp_path, fits, model, command):
    place = tmp_path / "nowhere" / "file.txt"
    arguments = {
        "fit": ["fit", tiny_folder, "--out", tmp_path, "--json", place],
        "evaluate": ["evaluate", model, tiny_folder, "--json", place],
        "predict": ["predict", model, tiny_folder, "--json", place],
        "verify": ["data", "verify", tiny_folder, "--json", place],
        "embed": ["weights", "embed", tiny_folder, "--out", place],
    }[command]
    result = run(*arguments)
    assert result.exit_code == 2 and not fits
    assert result.stderr == f"kmm: {place}: expected the name of a file in a folder that exists.\n"


# Names


@pytest.mark.parametrize("name", ["../x", ".hidden", "a/b", "", "12", "a b", "a\n"])
def test_a_name_that_is_no_folder_name_is_refused(tiny_folder, tmp_path, fits, name):
    result = run("fit", tiny_folder, "--out", tmp_path, "--name", name)
    assert result.exit_code == 2 and not fits and not list(tmp_path.iterdir())
    assert result.stderr.count("\n") == 1 and "Expected a name of letters" in result.stderr


def test_a_taken_name_is_refused_unless_overwritten(tiny_folder, tmp_path, fits):
    arguments = ["fit", tiny_folder, "--out", tmp_path, "--name", "mine"]
    assert run(*arguments).exit_code == 0
    for more in ([], ["--resume"]):
        result = run(*arguments, *more)
        assert result.exit_code == 2 and "--overwrite" in result.stderr and len(fits) == 1
    assert run(*arguments, "--overwrite").exit_code == 0 and len(fits) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine"]


def test_without_a_name_the_first_free_number_is_taken(tiny_folder, tmp_path, fits):
    for name in ("small", "small-2", "small-3"):
        assert run("fit", tiny_folder, "--out", tmp_path).exit_code == 0
        assert (tmp_path / name / "classifier.json").exists()
    assert run("fit", tiny_folder, "--out", tmp_path, "--overwrite").exit_code == 0
    assert not (tmp_path / "small-4").exists()


def test_resume_finds_the_run_that_was_stopped(tiny_folder, tmp_path, fits):
    (tmp_path / "small").mkdir()
    (tmp_path / ".work-small-2" / "stages").mkdir(parents=True)
    assert run("fit", tiny_folder, "--out", tmp_path, "--resume").exit_code == 0
    assert fits[-1]["work"] == tmp_path / ".work-small-2" and (tmp_path / "small-2").exists()
    for name in ("a", "b"):
        (tmp_path / f".work-{name}").mkdir()
    result = run("fit", tiny_folder, "--out", tmp_path, "--resume")
    assert result.exit_code == 2 and "--name" in result.stderr and "a, b" in result.stderr
    assert run("fit", tiny_folder, "--out", tmp_path, "--resume", "--name", "b").exit_code == 0


def test_a_stopped_run_is_not_lost_without_a_word(tiny_folder, tmp_path, fits):
    (tmp_path / ".work-small" / "stages").mkdir(parents=True)
    result = run("fit", tiny_folder, "--out", tmp_path)
    assert result.exit_code == 2 and "--resume" in result.stderr and "--overwrite" in result.stderr
    assert run("fit", tiny_folder, "--out", tmp_path, "--overwrite").exit_code == 0


def test_two_runs_of_one_name_do_not_meet(tiny_folder, tmp_path, fits):
    import fcntl

    with open(tmp_path / ".lock-small", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = run("fit", tiny_folder, "--out", tmp_path)
    assert result.exit_code == 2 and "another run of this name" in result.stderr


# Exit codes


def test_bad_news_is_1_and_an_interrupt_130(tiny_folder, tmp_path, monkeypatch, fits):
    import kmm.data.phantom.dataset
    import kmm.training.fit

    def stop(error):
        def stop(*_, **__):
            raise error

        return stop

    monkeypatch.setattr(kmm.training.fit, "fit_classifier", stop(LeakError("Patient 7 is in train and test.")))
    result = run("fit", tiny_folder, "--out", tmp_path)
    assert result.exit_code == 1 and result.stderr.splitlines()[-1] == "kmm: Patient 7 is in train and test."
    monkeypatch.setattr(kmm.training.fit, "fit_classifier", stop(KeyboardInterrupt()))
    result = run("fit", tiny_folder, "--out", tmp_path)
    assert result.exit_code == 130 and "--resume" in result.stderr.splitlines()[-1]
    monkeypatch.setattr(kmm.data.phantom.dataset, "make_phantom", stop(KeyboardInterrupt()))
    result = run("data", "phantom", tmp_path / "x")
    assert result.exit_code == 130 and result.stderr == "kmm: interrupted.\n"


def test_an_error_is_one_line_whatever_the_file_is_called(model, tmp_path):
    place = tmp_path / "a\nb\x1b[31m.png"
    place.write_bytes(b"")
    for arguments in ([place], [place, "--strict"], [f"{place}x"]):
        result = run("predict", model, *arguments)
        progress = re.compile(r"Predicting.*|.*: images, \d+ stud(y|ies)")
        lines = [line for line in result.stderr.splitlines() if not progress.fullmatch(line)]
        assert result.exit_code == 2 and len(lines) == 1 and "\x1b" not in result.output


# Evaluate and predict


def test_evaluate_repeats_the_results_of_the_fit(tiny_run, tiny_folder, tmp_path):
    result = run("evaluate", tiny_run[2], tiny_folder, "--json", "-")
    assert result.exit_code == 0, result.stderr
    results = read_one_document(result.stdout)
    for part in ("test", "validation"):
        for row in ROWS:
            assert results[part][row]["accuracy"] == pytest.approx(tiny_run[0].metrics[part][row]["accuracy"])


def test_evaluate_shows_tables_and_draws_pictures(model, tiny_folder, tmp_path):
    place = tmp_path / "pictures"
    result = run("evaluate", model, tiny_folder, "--json", tmp_path / "results.json", "--pictures", place)
    assert {path.relative_to(place).as_posix() for path in place.rglob("*.png")} == {
        f"{part}/{name}.png"
        for part in ("test", "validation")
        for name in ("roc", "precision_recall", "calibration", "confusion")
    }
    assert "60 studies: 0 without a known label and" in result.stderr
    assert result.exit_code == 0 and "test: 12 studies" in result.stdout and "Joint" in result.stdout
    assert json.loads((tmp_path / "results.json").read_text())["test"]["n"] == 12


def test_a_refusal_comes_with_what_was_set_aside(model, tiny_folder, tmp_path):
    folder = tmp_path / "set"
    shutil.copytree(tiny_folder, folder)
    for path in (folder / "images").iterdir():
        path.write_bytes(b"")
    reports = folder / "indiana_reports.csv"
    head, *rows = reports.read_text().splitlines()
    reports.write_text("\n".join([head, *(",".join([*row.split(",")[:4], "", "", "", ""]) for row in rows)]) + "\n")
    for arguments in (["fit", folder, "--out", tmp_path / "out"], ["evaluate", model, folder]):
        result = run(*arguments)
        lines = [line for line in result.stderr.splitlines() if line.startswith("set aside: ")]
        assert result.exit_code == 2 and len(lines) == 6 and lines[-1] == "set aside: 55 more", result.stderr
        assert ".png: expected" in lines[0]
        assert result.stderr.splitlines()[-1].startswith("kmm: ") and "was not trained on" not in result.stderr


def test_predict_a_report_alone(model, loaded, tmp_path):
    from kmm.data.study import Report, Study

    (tmp_path / "note.txt").write_text("There is a mass.")
    (row,) = read_predictions(run("predict", model, "--report", tmp_path / "note.txt", "--json", "-"))["predictions"]
    study = Study("note", "note", report=Report(findings="There is a mass."))
    expected = loaded.probabilities(loaded.predict([study]).logits["joint"], [[0, 1]])[0, 0]
    assert (row["study"], row["image_present"], row["text_present"]) == ("note", False, True)
    assert row["probabilities"]["abnormal"] == pytest.approx(expected, abs=1e-6)
    result = run("predict", model)
    assert result.exit_code == 2 and "Expected FILES, or --report" in result.stderr


def test_it_is_said_where_a_report_is_put_that_is_not_read_as_findings(build_classifier, tmp_path, monkeypatch):
    from kmm.classifier import Classifier

    classifier = build_classifier(sections=("indication", "comparison"))
    monkeypatch.setattr(Classifier, "load", lambda folder, main_only=False: classifier)
    (tmp_path / "note.txt").write_text("A small mass.")
    result = run("predict", tmp_path, "--report", tmp_path / "note.txt", "--json", "-")
    assert read_predictions(result)["predictions"][0]["text_present"]
    assert "taken as INDICATION: this classifier reads INDICATION, COMPARISON alone" in result.stderr


def read_predictions(result):
    assert result.exit_code == 0, result.stderr
    return read_one_document(result.stdout)


def test_predict_an_image_with_and_without_its_report(model, loaded, tiny_folder, tmp_path):
    from kmm.data.study import ImageFile, Report, Study

    film, report = tiny_folder / "images" / "1.png", tmp_path / "report.txt"
    report.write_text("There is a mass.")
    probabilities = []
    for text, options in ((None, []), (Report(findings="There is a mass."), ["--report", report])):
        answer = read_predictions(run("predict", model, film, *options, "--json", "-"))
        (row,) = answer["predictions"]
        study = Study("1", "1", (ImageFile(film, view="frontal"),), text)
        present = [[1, text is not None]]
        expected = loaded.probabilities(loaded.predict([study]).logits["joint"], present)[0, 0]
        assert row["probabilities"]["abnormal"] == pytest.approx(expected, abs=1e-6)
        assert (row["study"], row["image_present"], row["text_present"]) == ("1", True, text is not None)
        assert row["decisions"]["abnormal"] == (expected >= loaded.thresholds_for(present)[0, 0])
        assert answer["set_aside"] == [] and answer["model"] == str(model)
        probabilities.append(expected)
    assert probabilities[0] != probabilities[1]


def test_predict_from_a_fresh_load_shows_a_table(tiny_run, tiny_folder, tmp_path):
    films = [tiny_folder / "images" / f"{number}.png" for number in (1, 2)]
    result = run("predict", tiny_run[2], *films, "--json", tmp_path / "answers.json")
    assert result.exit_code == 0 and "abnormal" in result.stdout and "│ 2 " in result.stdout
    assert len(json.loads((tmp_path / "answers.json").read_text())["predictions"]) == 2


def write_dicom(path, pixels):
    """Writes an 8-bit DICOM film whose window shows each value as itself."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    film = Dataset()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film.file_meta.MediaStorageSOPClassUID = film.SOPClassUID = DigitalXRayImageStorageForPresentation
    film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID = generate_uid()
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated, film.BitsStored, film.HighBit = 8, 8, 7
    film.WindowCenter, film.WindowWidth = 128, 256
    film.PixelData = pixels.tobytes()
    film.save_as(path, enforce_file_format=True)


def test_predict_a_dicom_film_as_the_same_png(model, tiny_folder, tmp_path):
    film = tiny_folder / "images" / "1.png"
    write_dicom(tmp_path / "film.dcm", np.asarray(Image.open(film)))
    answer = read_predictions(run("predict", model, film, tmp_path / "film.dcm", "--json", "-"))
    png, dicom = (row["probabilities"]["abnormal"] for row in answer["predictions"])
    assert dicom == pytest.approx(png, abs=1e-6)


def test_predict_manifests_and_folders(model, tiny_folder, tmp_path):
    manifest = tmp_path / "list.jsonl"
    rows = [{"id": "a", "report": "There is a mass."}, {"id": "b", "report": "There is no mass."}]
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    answer = read_predictions(run("predict", model, manifest, "--json", "-"))
    assert [(row["study"], row["image"], row["text_present"]) for row in answer["predictions"]] == [
        ("a", None, True),
        ("b", None, True),
    ]
    bare = read_predictions(run("predict", model, tiny_folder / "images", "--json", "-"))
    assert len(bare["predictions"]) == 59 and not any(row["text_present"] for row in bare["predictions"])
    layout = read_predictions(run("predict", model, tiny_folder, "--json", "-"))
    assert len(layout["predictions"]) == 60 and sum(row["text_present"] for row in layout["predictions"]) == 59
    assert "│ 60 " in run("predict", model, tiny_folder).stdout


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell):
    result = run("completion", shell)
    assert result.exit_code == 0 and f"_KMM_COMPLETE={shell}_complete" in result.stdout.replace('"', "")
    environment = {"_KMM_COMPLETE": f"{shell}_complete", "COMP_WORDS": "kmm data ", "COMP_CWORD": "2"}
    completed = run(env={**environment, "COMP_CWORD": "" if shell == "fish" else "2"})
    assert {"phantom", "verify", "split"} <= set(re.split(r"[,\s]+", completed.stdout))


def test_completion_of_an_unknown_shell_is_refused():
    result = run("completion", "dos")
    assert result.exit_code == 2 and "fish" in result.stderr


# A run that is stopped

SMALL = ("text_epochs=16", "patience=16", "length=12", "embedding_size=8", "text_filters=8", "bootstrap_repeats=2")
LONG = ["--image-encoder", "none", "--epochs", 16, "--batch-size", 16]
LONG += [part for setting in SMALL for part in ("--set", setting)]
START = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from kmm.cli import main; main()"


@contextlib.contextmanager
def start_fit(folder, out, *options):
    """A fit in a process of its own, in which Ctrl-C works even where the tests run in the background."""
    command = [sys.executable, "-c", START, "fit", folder, "--out", out, "--name", "x", *LONG, *options]
    process = subprocess.Popen(
        [str(part) for part in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_epoch(process, out, epoch):
    state, end = out / ".work-x" / "stages" / "text" / "state.json", time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        if state.exists() and (now := json.loads(state.read_text())["epoch"]) >= epoch:
            return now
        time.sleep(0.01)
    raise AssertionError("the fit ended, or did not begin, before it could be stopped")


def test_after_ctrl_c_and_a_kill_resume_ends_in_the_same_metrics(tiny_folder, tmp_path):
    out = tmp_path / "stopped"
    with start_fit(tiny_folder, out) as process:
        first = wait_for_epoch(process, out, 2)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.splitlines()[-1].startswith("kmm: interrupted.") and "Traceback" not in said
    assert not (out / "x").exists()
    with start_fit(tiny_folder, out, "--resume") as process:
        wait_for_epoch(process, out, first + 3)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL and not (out / "x").exists()

    result = run("fit", tiny_folder, "--out", out, "--name", "x", *LONG, "--seed", 1, "--resume")
    assert result.exit_code == 2 and "Changed: seed" in result.stderr
    resumed = run("fit", tiny_folder, "--out", out, "--name", "x", *LONG, "--resume", "--json", "-")
    assert resumed.exit_code == 0, resumed.stderr
    assert sorted(path.name for path in out.iterdir() if path.name != ".cache") == ["x"]
    whole = run("fit", tiny_folder, "--out", tmp_path / "whole", *LONG, "--json", "-")
    assert read_one_document(resumed.stdout) == read_one_document(whole.stdout)
    assert json.loads((out / "x" / "history.json").read_text()) == json.loads(
        (tmp_path / "whole" / "small" / "history.json").read_text()
    )
