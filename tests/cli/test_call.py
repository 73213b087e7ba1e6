"""`kmm call` against a server of the stock stubs."""

import json

import grpc
import numpy as np
import pytest
from PIL import Image

from kmm.errors import ImageError
from tests.client.stub_server import StubServer, serve
from tests.conftest import run
from tests.image.test_dicom import encode, make_dataset


@pytest.fixture
def stub():
    return StubServer()


@pytest.fixture
def address(stub):
    with serve(stub) as port:
        yield f"127.0.0.1:{port}/openi"


@pytest.fixture
def folder(tmp_path):
    """Two films of which the second is broken, and a report."""
    y, x = np.mgrid[:32, :64]
    pixels = np.where((x - 44) ** 2 + (y - 18) ** 2 < 25, 220, 30).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "film.png")
    (tmp_path / "wrong.png").write_bytes(b"no image")
    (tmp_path / "report.txt").write_text("No mass.", encoding="utf-8")
    return tmp_path


def call(*arguments):
    result = run("call", *arguments)
    assert "Traceback" not in result.stderr and not isinstance(result.exception, Exception)
    return result


def test_predict(address, folder):
    result = call(address, "predict", folder / "film.png", folder / "wrong.png", "--json", folder / "out.json")
    assert result.exit_code == 0 and "film" in result.stdout
    assert result.stderr.count("set aside") == 1 and "wrong.png" in result.stderr
    said = json.loads((folder / "out.json").read_text())
    (row,) = said["predictions"]
    assert (row["study"], row["version"], row["text_present"]) == ("film", 3, False)
    assert set(row["probabilities"]) == {"mass", "effusion"} and len(said["set_aside"]) == 1


def test_a_list_of_views_decides_which_film_is_sent(address, folder):
    (folder / "studies.csv").write_text("id,image,report\n1,film.png,No mass.\n", encoding="utf-8")
    for view, image in (("frontal", str(folder / "film.png")), ("lateral", None)):
        (folder / "views.csv").write_text(f"file,view\nfilm.png,{view}\n", encoding="utf-8")
        given = ("predict", folder / "studies.csv", "--views", folder / "views.csv", "--json", folder / "out.json")
        assert call(address, *given).exit_code == 0
        (row,) = json.loads((folder / "out.json").read_text())["predictions"]
        assert row["image"] == image


def test_predict_with_a_report_and_of_a_report_alone(stub, address, folder):
    for files in ([folder / "film.png"], []):
        result = call(address, "predict", *files, "--report", folder / "report.txt", "--json", "-")
        assert result.exit_code == 0
        (row,) = json.loads(result.stdout)["predictions"]
        assert row["text_present"] and row["image_present"] == bool(files)
        assert row["probabilities"]["effusion"] == pytest.approx(0.08)


def test_explain_gives_places_in_pixels_of_the_file(address, folder):
    """The film of the fixture with every second row, twice as far apart: the same places, y in the file's 16 rows."""
    pixels = np.asarray(Image.open(folder / "film.png"))
    data = encode(make_dataset(pixels[::2], PixelSpacing=[0.2, 0.1], WindowCenter=128, WindowWidth=256))
    (folder / "oblong.dcm").write_bytes(data)
    result = call(address, "explain", folder / "film.png", folder / "oblong.dcm", "--json", folder / "out.json")
    assert result.exit_code == 0
    square, oblong = json.loads((folder / "out.json").read_text())["explanations"]
    (expected,), (region,) = square["regions"], oblong["regions"]
    assert region["x"] == expected["x"] and region["radius"] == expected["radius"]
    assert region["y"] == (expected["y"] + 0.5) / 2 - 0.5


def test_explain_counts_the_studies_that_were_set_aside(address, folder):
    result = call(address, "explain", folder / "film.png", folder / "wrong.png")
    assert result.exit_code == 0 and "1 of 2 studies explained" in result.output


def test_explain_writes_pictures_and_numbers(address, folder):
    out = folder / "explained"
    result = call(address, "explain", folder / "film.png", "--report", folder / "report.txt", "--out", out)
    assert result.exit_code == 0 and "film" in result.stdout
    said = json.loads((out / "film.json").read_text())
    assert said["target"] == "mass" and len(said["regions"]) == 1 and said["regions"][0]["x"] > 30
    assert [word["text"] for word in said["words"]] == ["no", "mass"]
    with Image.open(out / "film.png") as picture:
        pixels = np.asarray(picture)
    assert pixels.shape[0] > 32 and pixels.shape[1] == 320  # the film at the top left, and below it the caption
    assert pixels[:32, :64].any() and not pixels[:32, 64:].any() and pixels[32:].any()
    assert call(address, "explain", "--report", folder / "report.txt", "--target", "effusion").exit_code == 0
    decision = {True: " yes ", False: " no "}[said["decisions"]["mass"]]
    assert "decision" in result.stdout and decision in result.stdout


def test_an_id_that_a_file_system_would_refuse_has_a_safe_file(address, folder):
    film, out = folder / "CON.png", folder / "explained"
    film.write_bytes((folder / "film.png").read_bytes())
    assert call(address, "explain", film, "--out", out).exit_code == 0
    (path,) = out.glob("*.json")
    assert path.stem.startswith("CON-") and json.loads(path.read_text())["study"] == "CON"


def test_a_picture_that_cannot_be_drawn_costs_no_answer(address, folder, monkeypatch):
    def fail(*given, **options):
        raise ImageError("a film that cannot be drawn on")

    monkeypatch.setattr("kmm.client.results.ServedExplanation.draw", fail)
    result = call(address, "explain", folder / "film.png", "--json", folder / "out.json")
    assert result.exit_code == 0 and "set aside" not in result.stderr  # nothing is drawn without --out
    result = call(address, "explain", folder / "film.png", "--out", folder / "explained")
    assert result.exit_code == 0 and "a film that cannot be drawn on" in result.stderr
    assert json.loads((folder / "explained" / "film.json").read_text())["target"] == "mass"
    assert not (folder / "explained" / "film.png").exists()


def test_questions_about_the_model(address, folder):
    for action, said in [("status", "AVAILABLE"), ("metadata", "serving_bytes"), ("describe", "effusion")]:
        result = call(address, action)
        assert result.exit_code == 0 and said in result.stdout
        assert call(address, action, "--json", folder / "out.json").exit_code == 0
        assert said in (folder / "out.json").read_text()
    assert call(address.removesuffix("/openi"), "status", "--model", "openi").exit_code == 0


def test_the_token_is_read_from_a_file(stub, address, folder):
    (folder / "token").write_text("secret\n")
    assert call(address, "status", "--token-file", folder / "token").exit_code == 0
    assert stub.metadata[-1]["authorization"] == "Bearer secret"
    for wrong in (b"\xff", b"", b"two words", b"a" * 5000):
        (folder / "token").write_bytes(wrong)
        result = call(address, "status", "--token-file", folder / "token")
        assert result.exit_code == 2 and "ASCII" in result.stderr and result.stderr.count("\n") == 1


def test_wrong_usage(address, folder):
    film = folder / "film.png"
    for arguments, said in [
        (("predict",), "takes an image or a report"),
        (("status", film), "takes no files"),
        (("predict", film, "--target", "mass"), "belong to explain"),
        (("predict", folder / "gone.png"), "gone.png"),
        (("predict", film, "--tls-ca", folder / "gone.pem"), "gone.pem"),
        (("status", "--token-file", folder / "gone"), "gone"),
        (("status", "--version", 1, "--label", "a"), "Give `version` or `label`"),
        (("predict", film, "--json", folder / "no" / "out.json"), "folder that exists"),
    ]:
        result = call(address, *arguments)
        assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
    assert call(address, "train").exit_code == 2


def test_nothing_answered_is_exit_code_2(stub, address, folder):
    assert call(address, "predict", folder / "wrong.png").exit_code == 2
    assert call(address, "explain", folder / "wrong.png").exit_code == 2
    stub.failures = [(grpc.StatusCode.NOT_FOUND, "Servable not found for request: Latest(openi)")]
    result = call(address, "status")
    assert result.exit_code == 2 and "NOT_FOUND: Servable not found" in result.stderr


def test_explanations_never_replace_a_film_and_are_never_studies(address, folder):
    data = (folder / "film.png").read_bytes()
    result = call(address, "explain", folder / "film.png", "--out", folder)
    assert result.exit_code == 2 and "film.png: expected a free name" in result.stderr
    assert (folder / "film.png").read_bytes() == data and not (folder / "film.json").exists()
    (folder / "wrong.png").unlink()
    for _ in range(2):
        assert call(address, "explain", folder, "--out", folder / "explained").exit_code == 0
        result = call(address, "predict", folder, "--json", folder / "out.json")
        assert [row["study"] for row in json.loads((folder / "out.json").read_text())["predictions"]] == ["film"]
    assert "passed over: 2 other files, 2 results of kmm" in result.stderr
