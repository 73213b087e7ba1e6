"""`kmm fidelity` as users type it, on the tiny classifier and on one of reports alone."""

import csv
import json

import pytest

from kmm.cli.result_tables import MEASURES, print_fidelity
from kmm.data.collection import read_collection
from kmm.evaluate.seen import part_studies
from kmm.explain.settings import SENSITIVITY_FILE
from kmm.storage.output_mark import read_mark
from tests.factories.commands import run

QUICK = ("--steps", 8)


def write_boxes(path, uids, box=(4, 4, 40, 40), finding="Mass"):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["Image Index", "Finding Label", "Bbox [x", "y", "w", "h]"])
        writer.writerows([[f"{uid}.png", finding, *box] for uid in uids])
    return path


def write_words(path, finding="Mass"):
    lines = [f"{uid},{finding},mass\n" for uid in range(1, 60)]
    path.write_text("uid,finding,words\n" + "".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def parts(tiny_run, tiny_folder):
    """The ids of abnormal studies with a film by the part of the classifier's split that they are in."""
    found = part_studies(tiny_run[0], read_collection(tiny_folder).studies)
    return {part: [int(study.id) for study in own if int(study.id) % 2 and int(study.id) < 59]
            for part, own in found.items()}  # fmt: skip


@pytest.fixture(scope="module")
def of_reports(build_classifier, tmp_path_factory):
    """The folder of a classifier of reports alone, with three labels."""
    folder = tmp_path_factory.mktemp("models") / "reports"
    build_classifier(image=None).save(folder)
    return folder


def refuse(*arguments, says):
    result = run("fidelity", *arguments)
    assert result.exit_code == 2 and "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("kmm: ")]
    assert says in line
    assert "Trying" not in result.stderr and "Choosing" not in result.stderr
    return line


@pytest.mark.large
def test_chooses_measures_and_keeps_the_sensitivity(tiny_run, tiny_folder, tmp_path, capsys):
    boxes, words = write_boxes(tmp_path / "boxes.csv", range(1, 59, 2)), write_words(tmp_path / "words.csv")
    arguments = ("--boxes", boxes, "--words", words, "--method", "integrated-gradients", "--method", "gradient")
    places = ("--curve", tmp_path / "curve.png", "--json", tmp_path / "out.json", "--save")
    try:
        result = run("fidelity", tiny_run[2], tiny_folder, *arguments, *places, *QUICK)
        assert result.exit_code == 0, result.stderr
        kept = json.loads((tiny_run[2] / SENSITIVITY_FILE).read_text(encoding="utf-8"))
        film = tiny_folder / "images" / "1.png"
        auto = run("explain", tiny_run[2], film, "--out", tmp_path / "auto", "--sensitivity", "auto", *QUICK)
        assert auto.exit_code == 0, auto.stderr
    finally:
        (tiny_run[2] / SENSITIVITY_FILE).unlink(missing_ok=True)
    said = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert kept["schema"] == said["schema"] == "kmm-results-1"
    assert kept["sensitivity"] == said["sensitivity"]["chosen"] and said["sensitivity"]["rule"] == "iou"
    assert said["methods"]["random point"]["hit"]["mean"] == pytest.approx(1600 / 48**2)
    assert said["methods"]["image centre"]["hit"]["mean"] == 1
    assert said["methods"]["integrated-gradients"]["named"]["n"] > 0
    assert (tmp_path / "curve.png").stat().st_size > 1000
    assert read_mark(tmp_path).owns("curve.png") and not read_mark(tmp_path).owns("boxes.csv")
    (one,) = (tmp_path / "auto").glob("1*.json")
    settings = json.loads(one.read_text(encoding="utf-8"))["settings"]
    assert settings["regions"]["sensitivity"] == kept["sensitivity"]
    print_fidelity(said)
    check_print(capsys.readouterr().out, said["methods"])


def check_print(printed, methods):
    """Every measure is printed with its interval and the number of studies, and explained."""
    legend = {name: told for measures in MEASURES.values() for name, told in measures.items()}
    assert {name for found in methods.values() for name in found} <= set(legend)
    for found in methods.values():
        for name, measure in found.items():
            if measure["n"]:
                low, high = measure["interval"]
                assert f"{measure['mean']:.3f} [{low:.3f}, {high:.3f}] {measure['n']}" in printed
                assert f"  {name}: {legend[name]}" in printed


@pytest.mark.large
def test_films_with_a_box_are_found_before_the_number_of_studies_is_cut(model, tiny_folder, tmp_path, parts):
    boxes = write_boxes(tmp_path / "boxes.csv", [parts["validation"][-1], parts["test"][-1]])
    options = ("--boxes", boxes, "--studies", 1, "--method", "gradient", "--json", tmp_path / "out.json")
    result = run("fidelity", model, tiny_folder, *options)
    assert result.exit_code == 0, result.stderr
    said = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert said["methods"]["gradient"]["hit"]["n"] == 1 and said["sensitivity"]["sweep"][0]["films"] == 1


@pytest.mark.large
def test_boxes_on_test_films_alone_fail_first_or_take_a_sensitivity(model, tiny_folder, tmp_path, parts):
    boxes = write_boxes(tmp_path / "boxes.csv", parts["test"][:1])
    line = refuse(model, tiny_folder, "--boxes", boxes, says="films with a box of the classifier's validation part")
    assert "--sensitivity 0.8" in line
    options = ("--sensitivity", 0.5, "--method", "gradient", "--json", tmp_path / "out.json")
    result = run("fidelity", model, tiny_folder, "--boxes", boxes, *options)
    assert result.exit_code == 0, result.stderr
    said = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert said["methods"]["gradient"]["hit"]["n"] == 1 and "sensitivity" not in said


def test_boxes_on_films_of_the_training_alone_measure_nothing(model, tiny_folder, tmp_path, parts):
    boxes = write_boxes(tmp_path / "boxes.csv", parts["train"])
    refuse(model, tiny_folder, "--boxes", boxes, "--sensitivity", 0.5, says="and that are in --boxes or --words")


def test_boxes_of_a_larger_copy_are_refused(model, tiny_folder, tmp_path, parts):
    boxes = write_boxes(tmp_path / "boxes.csv", parts["test"][:1], box=(500, 300, 200, 100))
    says = (
        f"{parts['test'][0]}.png: expected boxes within the film of 48 x 48 pixels. Received one that ends at 700 x 400"
    )
    refuse(model, tiny_folder, "--boxes", boxes, "--sensitivity", 0.5, says=says)


@pytest.mark.parametrize("option", ["--save", "--curve"])
def test_a_number_leaves_nothing_to_keep(model, tiny_folder, tmp_path, option):
    place = [tmp_path / "curve.png"] if option == "--curve" else []
    refuse(model, tiny_folder, "--sensitivity", 0.5, option, *place, says="need --sensitivity auto")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "gradient", "--method", "grad-kam"), "Unknown method 'grad-kam'"),
        (("--method", "gradient", "--method", "rollout"), "--method rollout: Rollout follows attention"),
        (("--target", "fracture"), "must be a label of the model: abnormal"),
        (("--words", "nowhere.csv"), "nowhere.csv: cannot be read"),
        (("--boxes", "nowhere.csv"), "nowhere.csv: cannot be read"),
        (("--rule", "simpson", "--method", "gradient"), "Unknown rule 'simpson'"),
    ],
)
def test_bad_options_are_said_before_any_work(model, tiny_folder, options, says):
    refuse(model, tiny_folder, *options, says=says)


def test_a_study_that_cannot_be_explained_is_listed(model, tiny_folder, monkeypatch):
    import kmm.explain.fidelity.evaluation
    from kmm.data.study import Problem

    def try_methods(classifier, studies, methods, *, set_aside, **options):
        set_aside(Problem("study 7", "expected a film."))
        return []

    monkeypatch.setattr(kmm.explain.fidelity.evaluation, "try_methods", try_methods)
    result = run("fidelity", model, tiny_folder, "--sensitivity", 0.5)
    assert result.exit_code == 0 and "set aside: study 7: expected a film." in result.stderr


@pytest.mark.large
def test_a_model_of_reports_alone_is_measured_by_its_words(of_reports, tiny_folder, tmp_path, capsys):
    words = write_words(tmp_path / "words.csv")
    options = ("--words", words, "--studies", 3, "--json", tmp_path / "out.json")
    result = run("fidelity", of_reports, tiny_folder, *options, *QUICK)
    assert result.exit_code == 0, result.stderr
    assert "left out, because they explain films only: grad-cam, layer-cam" in result.stderr
    said = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert list(said["methods"]) == ["integrated-gradients", "gradient", "gradient-x-input", "smoothgrad"]
    for found in said["methods"].values():
        assert found["named"]["n"] == found["alike_words"]["n"] == 3 and "similarity" not in found
    print_fidelity(said)
    check_print(capsys.readouterr().out, said["methods"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "grad-cam"), "--method grad-cam: expected a model that reads films"),
        (("--boxes", "boxes.csv", "--save"), "--boxes, --save: expected a model that reads films"),
        (("--method", "grad-kam"), "Unknown method"),
    ],
)
def test_a_model_of_reports_alone_is_not_asked_for_films(of_reports, tiny_folder, options, says):
    refuse(of_reports, tiny_folder, *options, says=says)


def test_a_model_with_attention_is_measured_by_it_too(build_classifier, tiny_folder, tmp_path, monkeypatch):
    tried = []
    place = "kmm.explain.fidelity.evaluation.try_methods"
    monkeypatch.setattr(place, lambda model, studies, methods, **options: tried.extend(methods) or [])
    build_classifier(image=None, text="transformer-small").save(tmp_path / "saved")
    result = run("fidelity", tmp_path / "saved", tiny_folder, "--studies", 2)
    assert result.exit_code == 0, result.stderr
    paths = ["integrated-gradients", "gradient", "gradient-x-input", "smoothgrad"]
    assert tried == [*paths, "rollout", "gradient-rollout"]
