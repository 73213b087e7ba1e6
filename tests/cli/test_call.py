"""`kmm call` against a server of the stock stubs."""

import json
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from PIL import Image

from kmm.client import Prediction
from kmm.errors import ImageError
from tests.factories.commands import run
from tests.factories.dicom import encode, make_dataset
from tests.factories.stub_server import serve


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
    assert result.exit_code == 0 and result.stdout == ""
    assert result.stderr.count("set aside") == 1 and "wrong.png" in result.stderr
    said = json.loads((folder / "out.json").read_text())
    (row,) = said["predictions"]
    assert (row["study"], row["version"], row["text_present"]) == ("film", 3, False)
    assert set(row["probabilities"]) == {"mass", "effusion"} and len(said["set_aside"]) == 1
    assert said["schema"] == "kmm-results-1" and list(row)[4:] == list(Prediction.__dataclass_fields__)


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
    assert said["schema"] == "kmm-results-1" and list(said)[1:5] == ["study", "image", "image_present", "text_present"]
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
        assert json.loads((folder / "out.json").read_text())["schema"] == "kmm-results-1"
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
        (("status", "--version", 1, "--label", "a"), "Give either `version` or `label`"),
        (("predict", film, "--json", folder / "no" / "out.json"), "folder that exists"),
        (("status", "--timeout", "1e300"), "`timeout` must be"),
        (("status", "--timeout", "nan"), "`timeout` must be"),
        (("status", "--timeout", "-1"), "`timeout` must be"),
        (("status", "--version", 2**63), "`version` must be"),
        (("status", "--label", ""), "`label` must be"),
        (("status", "--tls-server-name", "a b"), "`server_name` of `Tls`"),
    ]:
        result = call(address, *arguments)
        assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
    for place in ("unix:kmm.sock", "[fe80::1%eth0]:1", "http://localhost", "::1"):
        result = call(place, "status")
        assert result.exit_code == 2 and result.stderr.count("\n") == 1 and place in result.stderr
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
    assert result.exit_code == 2 and "film.png already exists" in result.stderr
    assert (folder / "film.png").read_bytes() == data and not (folder / "film.json").exists()
    (folder / "wrong.png").unlink()
    for _ in range(2):
        assert call(address, "explain", folder, "--out", folder / "explained").exit_code == 0
        result = call(address, "predict", folder, "--json", folder / "out.json")
        assert [row["study"] for row in json.loads((folder / "out.json").read_text())["predictions"]] == ["film"]
    assert "skipped: 2 other files, 2 results of kmm" in result.stderr


def put_nan(outputs):
    outputs["probabilities"] = np.array([[np.nan, 0.5]], np.float32)


def refuse_constant(text):
    pytest.fail(f"{text} is no JSON")


@pytest.mark.parametrize("action", ["predict", "explain"])
def test_an_answer_that_cannot_be_right_is_an_error_and_no_row(stub, address, folder, action):
    stub.change = lambda outputs: put_nan(outputs) if "probabilities" in outputs else None
    more = ["--out", folder / "explained"] if action == "explain" else []
    result = call(address, action, folder / "film.png", "--json", folder / "out.json", *more)
    assert result.exit_code == 2 and '"probabilities" of the reply contains NaN' in result.stderr
    assert result.stderr.count("\n") == 1
    said = json.loads((folder / "out.json").read_text(), parse_constant=refuse_constant)
    assert said[{"predict": "predictions", "explain": "explanations"}[action]] == [] and len(said["set_aside"]) == 1
    assert not list(folder.glob("explained/*.json"))


def test_one_wrong_answer_of_two_costs_one_row(stub, address, folder):
    answers = []

    def change(outputs):
        answers.append(outputs)
        if len(answers) == 1:
            put_nan(outputs)

    stub.change = change
    (folder / "wrong.png").write_bytes((folder / "film.png").read_bytes())
    result = call(address, "predict", folder / "film.png", folder / "wrong.png", "--json", "-", "--concurrency", 1)
    said = json.loads(result.stdout, parse_constant=refuse_constant)
    assert result.exit_code == 0 and len(said["predictions"]) == len(said["set_aside"]) == 1


def test_a_description_with_nan_is_an_error(stub, address, folder):
    stub.change = lambda outputs: outputs.update(description=np.array([b'{"labels": [], "cut": NaN}'], object))
    for more in ([], ["--json", folder / "out.json"]):
        result = call(address, "describe", *more)
        assert result.exit_code == 2 and "not a valid JSON object" in result.stderr and result.stdout == ""
    assert not (folder / "out.json").exists()


def test_another_model_or_version_is_an_error(stub, address, folder):
    stub.spec = lambda spec: setattr(spec, "name", "other")
    for arguments in (("predict", folder / "film.png"), ("explain", folder / "film.png"), ("metadata",)):
        result = call(address, *arguments, "--json", folder / "out.json")
        assert result.exit_code == 2 and "comes from the model 'other'. Expected the model \"openi\"" in result.stderr
        assert result.stderr.count("\n") == 1 and not (folder / "out.json").exists()


def test_a_result_is_written_whole_or_not_at_all(address, folder, monkeypatch):
    (folder / "out.json").write_text("what was there")
    full = OSError(28, "No space left on device")

    def fill(self, text, **options):
        self.write_bytes(text.encode()[: len(text) // 2])
        raise full

    monkeypatch.setattr("pathlib.Path.write_text", fill)
    result = call(address, "predict", folder / "film.png", "--json", folder / "out.json")
    assert result.exit_code == 2 and result.stderr == f"kmm: {folder / 'out.json'}: No space left on device\n"
    assert (folder / "out.json").read_text() == "what was there" and len(list(folder.glob("*out.json*"))) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("where", ["/dev/full", "-"])
def test_a_full_disk_is_one_line(address, folder, where):
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "kmm", "call", address, "status", "--json", where]
        run = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1 and "No space left on device" in run.stderr


def test_another_host_is_asked_in_plain_text_only_where_allowed(folder, monkeypatch):
    monkeypatch.setattr("kmm.client.sync.grpc.insecure_channel", lambda *given: pytest.fail("a connection is made"))
    for host in ("192.0.2.1", "films.example", "127.0.0.1.nip.io"):
        result = call(f"{host}:8500/openi", "predict", folder / "film.png")
        assert result.exit_code == 2 and result.stderr.count("\n") == 1
        assert f"{host}:8500 is another host" in result.stderr and "--allow-plaintext" in result.stderr


def test_the_option_allows_it(monkeypatch):
    given = {}
    monkeypatch.setattr("kmm.client.Client", lambda address, **options: given.update(options) or pytest.skip("made"))
    with pytest.raises(pytest.skip.Exception):
        run("call", "films.example", "status", "--allow-plaintext", catch_exceptions=False)
    assert given["allow_plaintext"] is True


def test_a_unix_socket(stub, folder):
    with serve(stub, place=f"unix:{folder}/kmm.sock"):
        for place in ([f"unix:{folder}/kmm.sock", "--model", "openi"], [f"unix:{folder}/kmm.sock:openi"]):
            result = call(place[0], "predict", folder / "film.png", *place[1:], "--json", "-")
            assert result.exit_code == 0 and json.loads(result.stdout)["predictions"][0]["model"] == "openi"


def test_a_server_that_cannot_be_asked_is_one_error_for_all_studies(stub, address, folder):
    (folder / "wrong.png").write_bytes((folder / "film.png").read_bytes())
    for action in ("predict", "explain"):
        stub.failures = [(grpc.StatusCode.UNAVAILABLE, "The server is busy")] * 4
        result = call(address, action, folder)
        assert result.exit_code == 2 and result.stderr.count("busy") == 1 and result.stdout == ""
