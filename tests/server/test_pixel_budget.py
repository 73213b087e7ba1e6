"""The films of a request are measured before they are decoded, and a few are decoded at a time."""

import io
import socket
import threading
import time

import grpc
import numpy as np
import PIL.Image
import pytest

import kmm.server.requests.batching as batching
from kmm.errors import ImageError
from kmm.protocol.tensors import decode_tensor
from kmm.server.models.servable import run_signature
from kmm.server.requests.admission import Caller, check_running
from kmm.server.requests.films import count_pixels
from kmm.server.requests.inference import Inference
from kmm.server.requests.png_chunks import check_png
from kmm.server.requests.slices import SLICE_PIXELS, SLICE_ROWS, cut_rows, run_slices
from kmm.server.settings import ModelSettings, ServeSettings
from kmm.server.status import ServingError
from kmm.storage.file_kinds import PNG_HEAD
from tests.factories import jpegs
from tests.factories.images import IMAGES
from tests.factories.saved_model import make_examples, make_predict, make_spec, stubs
from tests.factories.servers import running
from tests.server.film_model import make_chunk, make_film, make_large_png, save_films, write_interlaced, write_png


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    save_films(folder / "1")
    return folder


@pytest.fixture(scope="module")
def served(exports):
    """A server of one place for requests: (server, stubs)."""
    with running(ModelSettings("films", exports), rest_port=0, threads=1) as found:
        found[1].predict.Predict(make_request([make_film()]), timeout=20)
        yield found


@pytest.fixture(scope="module")
def servable(served):
    with served[0]._inference.catalogue.lease(make_spec("films")) as found:
        yield found


@pytest.fixture
def sizes(monkeypatch):
    """The numbers of rows that the graph is given, in order."""
    seen = []

    def run(servable, key, arrays, wanted):
        seen.append(max(map(len, arrays.values())))
        return run_signature(servable, key, arrays, wanted)

    monkeypatch.setattr(batching, "run_signature", run)
    return seen


def make_request(films, reports=None, *, signature="serving_bytes"):
    reports = [b"Heart"] * len(films) if reports is None else reports
    inputs = {"image_bytes": np.array(films, object), "report": np.array(reports, object)}
    return make_predict(inputs, name="films", signature=signature)


def ask(served, request, **options):
    return served[1].predict.Predict(request, **{"timeout": 20, **options})


def refusal(served, request, code=grpc.StatusCode.INVALID_ARGUMENT):
    with pytest.raises(grpc.RpcError) as caught:
        ask(served, request)
    assert caught.value.code() == code
    return caught.value.details()


LARGE = make_large_png(7071, 7071)


def test_films_of_too_many_pixels_in_all_are_refused_unread(served, sizes):
    began = time.monotonic()
    said = refusal(served, make_request([LARGE] * 60))
    assert said == (
        "The films of this request have 2,999,942,460 pixels in all; at most 500,000,000 are allowed. "
        "Send fewer films at a time."
    )
    assert sizes == [] and time.monotonic() - began < 5


def test_the_examples_of_classify_count_too(served, sizes):
    request = stubs.classification_pb2.ClassificationRequest(
        model_spec=make_spec("films", signature="classify"), input=make_examples(*[LARGE] * 11)
    )
    with pytest.raises(grpc.RpcError, match="549,989,451 pixels in all") as caught:
        served[1].predict.Classify(request, timeout=20)
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT and sizes == []


def test_64_clinical_films_are_within_the_budget_and_the_option_sets_it(served):
    film = make_large_png(3000, 2500)
    assert sum(count_pixels([film] * 64)) == 480_000_000 <= ServeSettings().max_megapixels * 1_000_000
    catalogue = served[0]._inference.catalogue
    asked, request = Inference(catalogue, ServeSettings(max_megapixels=7)), make_request([film])
    with pytest.raises(ServingError, match="7,500,000 pixels in all; at most 7,000,000"):
        asked.predict(request.model_spec, request.inputs, (), Caller(), encode=lambda answer: answer)


def write_image(name):
    image, kind, options = IMAGES[name]
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue(), image.size[0] * image.size[1]


@pytest.mark.parametrize("name", IMAGES)
def test_headers_say_how_many_pixels_there_are(name):
    data, pixels = write_image(name)
    assert count_pixels([data, b"", b"GIF89a", data]) == [pixels, 0, 0, pixels]
    if data.startswith(PNG_HEAD):
        check_png(data, name)


def test_one_film_is_refused_by_its_number_and_size():
    huge = make_large_png(20, 20)[:16] + b"\0\0\x4e\x20" * 2 + make_large_png(20, 20)[24:]
    with pytest.raises(ServingError, match=r"image 1: expected at most 50000000 pixels\. Received: 20000x20000"):
        count_pixels([make_film(), huge])


def test_a_header_that_stands_later_is_refused(served):
    film = make_film()
    hidden = film[:8] + make_chunk(b"prIv", b"\0\0\0\x10\0\0\0\x10\x08\0\0\0\0") + film[8:]
    said = "image 1: expected a complete PNG file whose header comes first."
    assert refusal(served, make_request([film, hidden])) == said


# Slices


def test_a_slice_ends_by_rows_and_by_pixels(servable):
    arrays = {name: np.array([b""] * 70, object) for name in ("image_bytes", "report")}
    cut = cut_rows(servable, "serving_bytes", arrays, [400] * 70)
    assert [(rows.start, rows.stop) for rows in cut] == [(0, SLICE_ROWS), (SLICE_ROWS, 2 * SLICE_ROWS), (64, 70)]
    cut = cut_rows(servable, "serving_bytes", arrays, [SLICE_PIXELS + 1, SLICE_PIXELS, 0, 1] + [0] * 66)
    assert [(rows.start, rows.stop) for rows in cut] == [(0, 1), (1, 3), (3, 35), (35, 67), (67, 70)]
    few = {name: array[:3] for name, array in arrays.items()}
    assert [(rows.start, rows.stop) for rows in cut_rows(servable, "explain_bytes", few, [])] == [
        (0, 1),
        (1, 2),
        (2, 3),
    ]


def test_what_the_graph_refuses_as_a_whole_stays_whole(served, sizes):
    film = make_film()
    assert "expected 1 to 1024 rows. Received: 1025" in refusal(served, make_request([film] * 1025))
    assert "expected as many rows" in refusal(served, make_request([film] * 41, [b"x"] * 40))
    column = make_request([film] * 40)
    column.inputs["report"].tensor_shape.dim.add(size=1)
    assert "report: expected the shape [batch]. Received: [40,1]" in refusal(served, column)
    assert "expected 1 to 64 rows. Received: 65" in refusal(
        served, make_request([film] * 65, signature="explain_bytes")
    )
    assert "expected 1 to 1024 rows. Received: 0" in refusal(served, make_request([]))
    assert sizes == [1025, 41, 40, 65, 0]


@pytest.mark.parametrize("signature, expected", [("serving_bytes", [32, 8]), ("explain_bytes", [1] * 40)])
def test_slices_give_what_the_whole_gives(served, servable, sizes, signature, expected):
    films = [make_film(number) if number % 7 else b"" for number in range(40)]
    request = make_request(films, [b"Row %d" % number for number in range(40)], signature=signature)
    answer = ask(served, request).outputs
    assert sizes == expected
    arrays = {name: decode_tensor(tensor) for name, tensor in request.inputs.items()}
    whole = run_signature(servable, signature, arrays, ["scores", "boxes", "words"])
    assert list(answer["scores"].float_val) == whole["scores"].tolist() and whole["scores"][0] == -1
    assert len(set(whole["scores"].tolist())) == 35
    assert list(answer["boxes"].int_val) == whole["boxes"].ravel().tolist()
    assert list(answer["words"].string_val) == [b"row %d" % number for number in range(40)]


def test_errors_number_the_rows_of_the_request(served):
    film, jpeg = make_film(), make_film(kind="JPEG")
    hole = jpegs.cut_hole(jpegs.WHOLE["gray"])
    for row, broken, said in (
        (37, film[:50] + b"\0" + film[51:], "[image 37: expected a whole PNG file."),
        (35, film[:-20], "[image 35: expected a complete PNG file."),
        (33, hole, "image 33: expected a complete JPEG image."),
        (3, hole, "image 3: expected a complete JPEG image."),
    ):
        films = [film, jpeg] * 20
        films[row] = broken
        assert said in refusal(served, make_request(films))
    reports = [b"x"] * 40
    reports[34] = b""
    assert "[study 34: expected a film or a report with words." in refusal(served, make_request([b""] * 40, reports))


def test_the_rows_of_an_error_keep_its_code():
    def run(rows, part):
        if rows.start == 32:
            raise ServingError("OUT_OF_RANGE", "assertion failed: [image 1: 5 of 7: expected]")
        return {"a": part["a"]}

    with pytest.raises(ServingError) as caught:
        run_slices(run, {"a": np.arange(40)}, [slice(0, 32), slice(32, 40)])
    assert (caught.value.code, str(caught.value)) == ("OUT_OF_RANGE", "assertion failed: [image 33: 5 of 7: expected]")


# Clients that are gone


@pytest.mark.parametrize("gone, code", [(True, "CANCELLED"), (False, "DEADLINE_EXCEEDED")])
def test_no_slice_runs_for_a_client_that_does_not_wait(served, monkeypatch, gone, code):
    catalogue, seen = served[0]._inference.catalogue, []
    call = Caller() if gone else Caller(1, limits_run=True)

    def run(*arguments):
        seen.append(1)
        if gone:
            call.cancel()
        else:
            time.sleep(1)
        return run_signature(*arguments)

    monkeypatch.setattr(batching, "run_signature", run)
    asked, request = Inference(catalogue, ServeSettings()), make_request([make_film()] * 100)
    with pytest.raises(ServingError) as caught:
        asked.predict(request.model_spec, request.inputs, (), call, encode=lambda answer: answer)
    assert caught.value.code == code and seen == [1]


def test_time_to_wait_is_not_time_to_run():
    check_running(Caller(0))
    with pytest.raises(ServingError, match="while the request was running"):
        check_running(Caller(0, limits_run=True))


COLOUR = make_large_png(5000, 5000, channels=4)


def wait_for_a_free_place(served, running):
    gate, end = served[0]._inference._gates["predict"], time.monotonic() + 20
    while (gate.running > 0) != running:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_client_that_leaves_frees_its_place(served):
    request, began = make_request([COLOUR] * 20), None  # seconds of work each
    for leave in (leave_grpc, leave_rest):
        go = leave(served, request)
        wait_for_a_free_place(served, running=True)
        time.sleep(0.3)
        began = time.monotonic()
        go()
        wait_for_a_free_place(served, running=False)
        assert time.monotonic() - began < 2


def leave_grpc(served, request):
    return served[1].predict.Predict.future(request, timeout=60).cancel


def leave_rest(served, request):
    import base64
    import json

    rows = [
        {"image_bytes": {"b64": base64.b64encode(film).decode()}, "report": "x"}
        for film in request.inputs["image_bytes"].string_val
    ]
    body = json.dumps({"signature_name": "serving_bytes", "instances": rows}).encode()
    client = socket.create_connection(("localhost", served[0].rest_port), timeout=20)
    client.sendall(
        b"POST /v1/models/films:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    return client.close


# Small files that inflate


def rows_of(pixels):
    return [b"\0" + row.tobytes() for row in pixels]


FILM = np.mgrid[0:21, 0:30].sum(0).astype(np.uint8) * 5


def test_a_whole_png_passes_whatever_its_layout(served):
    comment = make_chunk(b"zTXt", b"Comment\0\0" + b"x" * 60_000)
    text = make_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * 200_000)
    films = [write_png(30, 21, rows_of(FILM)), write_interlaced(FILM), write_png(30, 21, rows_of(FILM), before=[text])]
    for film in (*films, write_png(30, 21, rows_of(FILM), before=[comment, text])):
        check_png(film, "film")
        assert np.array_equal(np.asarray(PIL.Image.open(io.BytesIO(film))), FILM)
    scores = ask(served, make_request(films)).outputs["scores"].float_val
    assert scores[0] == scores[1] == scores[2]


BOMBS = {
    "behind": (write_png(30, 21, rows_of(FILM), behind=64), "more image data than its rows need"),
    "comments": (
        write_png(30, 21, rows_of(FILM), before=[make_chunk(b"zTXt", b"a\0\0" + b"x" * 33_000)] * 2),
        "at most 65536 bytes of compressed comments",
    ),
    "international comments": (
        write_png(30, 21, rows_of(FILM), before=[make_chunk(b"iTXt", b"a\0\1\0\0\0" + b"x" * 33_000)] * 2),
        "at most 65536 bytes of compressed comments",
    ),
    "chunks": (write_png(30, 21, rows_of(FILM), before=[make_chunk(b"tEXt", b"")] * 2**17), "at most 131072 chunks"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_png_that_holds_more_than_its_film_is_refused(name, served):
    data, said = BOMBS[name]
    with pytest.raises(ImageError, match=said):
        check_png(data, "film")
    if name == "behind":
        assert f"image 1: the PNG file has {said}" in refusal(served, make_request([make_film(), data]))


def test_a_damaged_png_is_left_to_the_decoder():
    film = make_film()
    for size in range(len(film)):
        check_png(film[:size], "film")


@pytest.mark.large
def test_films_are_decoded_on_all_cores(exports, monkeypatch):
    """Two batches with films run at the same time; requests without one are put together instead."""
    monkeypatch.setattr("kmm.server.requests.inference.count_cores", lambda: 2)
    both = threading.Barrier(2)

    def run(servable, key, arrays, wanted):
        if any(arrays["image_bytes"]):
            both.wait(20)
        return run_signature(servable, key, arrays, wanted)

    with running(ModelSettings("films", exports), rest_port=0, threads=4) as (_, stubs):
        stubs.predict.Predict(make_request([make_film()]), timeout=20)
        monkeypatch.setattr(batching, "run_signature", run)
        pending = [stubs.predict.Predict.future(make_request([make_film(number)]), timeout=20) for number in (1, 2)]
        assert all(one.result().outputs for one in pending)
    assert not both.broken
