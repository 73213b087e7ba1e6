"""What is answered over HTTP: TensorFlow Serving's JSON, codes and metrics."""

import json
import threading
import tracemalloc

import httpx
import numpy as np
import pytest

from kmm.server.rest.json_document import read_document
from kmm.server.rest.json_tensors import parse_inputs
from kmm.server.settings import ModelSettings
from kmm.server.status import ServingError
from tests.factories.saved_model import IMAGE, PNG64, ROW, TOKENS, stubs
from tests.factories.servers import running


@pytest.fixture(scope="module")
def rest(tiny):
    with httpx.Client(base_url=f"http://localhost:{tiny[0].rest_port}", timeout=20) as client:
        yield client


def ask(rest, path, **body):
    response = rest.post(f"/v1/models/{path}", json=body)
    return response.status_code, response.json()


def test_rows_and_columns(rest):
    score = 2 * float(IMAGE.sum()) + float(TOKENS.sum())
    assert ask(rest, "tiny:predict", instances=[ROW, ROW]) == (
        200,
        {"predictions": [{"scores": [score, score], "version": 2.0}] * 2},
    )
    columns = {"image": IMAGE.tolist(), "tokens": TOKENS.tolist()}
    assert ask(rest, "tiny:predict", inputs=columns) == (
        200,
        {"outputs": {"scores": [[score, score]], "version": [2.0]}},
    )


def test_an_only_input_and_output_need_no_name(rest):
    assert ask(rest, "tiny:predict", signature_name="double", instances=[0.1, 2]) == (200, {"predictions": [0.2, 4.0]})
    assert ask(rest, "tiny:predict", signature_name="double", inputs=[0.1]) == (200, {"outputs": [0.2]})
    body = '{"signature_name": "double", "instances": [NaN, Infinity]}'
    assert "[NaN, Infinity]" in rest.post("/v1/models/tiny:predict", content=body).text


def test_versions_and_labels(rest):
    for path in ("tiny/versions/1", "tiny/labels/stable"):
        assert ask(rest, f"{path}:predict", instances=[ROW])[1]["predictions"][0]["version"] == 1
        assert rest.get(f"/v1/models/{path}").json()["model_version_status"][0]["version"] == "1"


def test_whole_numbers_and_others_may_stand_together(rest):
    body = {"signature_name": "double", "instances": [0.5, 2, -3]}
    assert ask(rest, "tiny:predict", **body) == (200, {"predictions": [1.0, 4.0, -6.0]})


def test_the_head_of_what_is_looked_at(rest):
    for path in ("tiny", "tiny/metadata", "film"):
        head, full = rest.head(f"/v1/models/{path}"), rest.get(f"/v1/models/{path}")
        assert (head.status_code, head.content) == (full.status_code, b"")
        assert head.headers["content-length"] == full.headers["content-length"]
    assert rest.head("/v1/models/tiny:predict").status_code == 400


def test_bytes_are_base64(rest):
    row = {"image_bytes": PNG64, "report": "NO mass"}
    code, answer = ask(rest, "tiny:predict", signature_name="raw", instances=[row])
    assert (code, answer) == (200, {"predictions": [{"film_bytes": PNG64, "mean": 7.0, "words": "no mass"}]})


def test_classify_and_regress(rest):
    examples = [{"image_bytes": PNG64, "age": 3, "weights": [1.5, 2.5]}]
    assert ask(rest, "tiny:classify", signature_name="classify", examples=examples) == (
        200,
        {"results": [[["mass", 7.0], ["normal", 2.0]]]},
    )
    assert ask(rest, "tiny:classify", signature_name="classify", context=examples[0], examples=[{}])[0] == 200
    assert ask(rest, "tiny:regress", signature_name="regress", examples=examples) == (200, {"results": [7.5]})


def test_state_and_metadata(rest):
    status = rest.get("/v1/models/tiny").json()["model_version_status"]
    assert status[0] == {"version": "2", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    found = rest.get("/v1/models/tiny/metadata").json()
    assert found["model_spec"]["version"] == "2"
    image = found["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["image"]
    assert (image["dtype"], image["tensor_shape"]["dim"][1]["size"]) == ("DT_FLOAT", "8")


BAD = {
    "unknown signature": (
        {"signature_name": "X", "instances": [1]},
        'Serving signature name: "X" not found in signature def',
    ),
    "no inputs": ({}, "Missing 'inputs' or 'instances' key"),
    "both": ({"inputs": [1], "instances": [1]}, "expecting only one of"),
    "no rows": ({"instances": []}, "No values in 'instances' array"),
    "rows of no list": ({"instances": 3}, "to be an list/array"),
    "plain rows for two inputs": ({"instances": [1]}, "instances is a plain list, but expecting list of objects"),
    "plain columns for two inputs": ({"inputs": [1]}, "inputs is a plain value/list, but expecting an object"),
    "a column is missing": ({"inputs": {"image": []}}, "Missing named input: tokens in 'inputs' object."),
    "a mixture of rows": ({"instances": [ROW, 1]}, "Expecting object but got list at item 1 of input list"),
    "an unknown input": (
        {"instances": [{**ROW, "age": 1}]},
        "Failed to process element: 0 key: age of 'instances' list. Error: INVALID_ARGUMENT: JSON object: does not "
        "have named input: age",
    ),
    "a key is missing": ({"instances": [{"image": 1}]}, "keys must be equal to: image,tokens"),
    "a string for a number": (
        {"instances": [{**ROW, "tokens": ["Cough."] * 5}]},
        "Failed to process element: 0 key: tokens of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: \"...\" "
        "Type: String is not of expected type: int32",
    ),
    "a fraction for a whole number": (
        {"instances": [ROW, {**ROW, "tokens": [1, 2, 3.5, 4, 5]}]},
        "Failed to process element: 1 key: tokens of 'instances' list. Error: INVALID_ARGUMENT: JSON Value: 3.5 Type: "
        "Number is not of expected type: int32",
    ),
    "rows that differ": ({"instances": [ROW, {**ROW, "tokens": [1]}]}, "Encountered list at unexpected size: 1"),
    "shape": ({"instances": [{**ROW, "tokens": [1]}]}, "is not compatible with expected shape [?,5]"),
    "name of a number": ({"signature_name": 3, "instances": [1]}, "'signature_name' key must be a string value"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_say_what_is_wrong(rest, case):
    body, text = BAD[case]
    code, answer = ask(rest, "tiny:predict", **body)
    assert code == 400 and text in answer["error"] and "Cough" not in answer["error"]


def test_codes_of_http(rest):
    for path, code, text in (
        ("film:predict", 404, "Servable not found for request: Latest(film)"),
        ("tiny/versions/9:predict", 404, "Servable not found for request: Specific(tiny, 9)"),
        ("tiny/labels/beta:predict", 400, "Unrecognized servable version label: beta"),
        ("tiny:dream", 400, "Malformed request: POST /v1/models/tiny:dream"),
    ):
        assert ask(rest, path, instances=[1]) == (code, {"error": text})
    assert rest.get("/v1/models/film").status_code == 404
    assert rest.get("/v2").status_code == 404
    for body, text in (
        (b"", "JSON Parse error: The document is empty"),
        (b"[1]", "JSON Value: [...] Is not object"),
        (b'{"a" 1}', "JSON Parse error: Expecting ':' delimiter at offset: 5"),
        (b'{"a": "\xff"}', "JSON Parse error: Invalid encoding in string. at offset: 7"),
        (rb'{"signature_name": "\uD800"}', "JSON Parse error: The surrogate pair in string is invalid."),
        (b'{"a": ' + b"[" * 100000, "JSON Parse error: a number is too long, or lists are nested too deeply."),
        (b'{"a": ' + b"9" * 5000 + b"}", "JSON Parse error: a number is too long, or lists are nested too deeply."),
    ):
        response = rest.post("/v1/models/tiny:predict", content=body)
        assert (response.status_code, response.json()) == (400, {"error": text})


def test_bad_examples(rest):
    for examples, text in (
        (None, "key 'examples' is expected and was not found"),
        ([], "'examples' value is an empty array"),
        ([3], "Example must be JSON object but got JSON Number"),
        ([{"age": [1, "two"]}], "Unexpected element type in feature: age expecting type: bytes"),
        ([{"age": None}], "Feature: age has element with unexpected JSON type: Null"),
        ([{"image_bytes": {"b64": "?"}}], "Unable to base64 decode"),
    ):
        code, answer = ask(rest, "tiny:classify", signature_name="classify", examples=examples)
        assert code == 400 and text in answer["error"]


def test_a_body_of_too_many_values_is_refused_before_it_is_parsed(rest):
    body = b'{"signature_name": "double", "instances": [' + b"1," * 2**22 + b"1]}"
    response = rest.post("/v1/models/tiny:predict", content=body)
    assert response.status_code == 400
    assert response.json()["error"].startswith("Expected at most 4194304 values in JSON.")


def test_the_default_name_finds_the_state_too(rest):
    assert rest.get("/v1/models/default").json() == rest.get("/v1/models/tiny").json()


def test_a_body_that_is_too_large(versions):
    with running(ModelSettings("tiny", versions), rest_port=0, max_message_mb=1) as (server, _):
        response = httpx.post(f"http://localhost:{server.rest_port}/v1/models/tiny:predict", content=b" " * 2**21)
    assert (response.status_code, response.json()) == (413, {"error": "A request may have at most 1 MiB."})


def test_health_and_metrics(rest, tiny):
    assert rest.get("/healthz").json() == {"status": "SERVING"}
    ask(rest, "tiny:predict", instances=[ROW])
    ask(rest, "film:predict", instances=[ROW])
    text = rest.get("/monitoring/prometheus/metrics").text
    assert ':tensorflow:serving:request_count{model_name="tiny",status="OK"} ' in text
    assert ':tensorflow:serving:request_count{model_name="",status="NOT_FOUND"} ' in text
    assert ':tensorflow:serving:request_latency_count{API="Predict",entrypoint="REST",model_name="tiny"} ' in text
    assert (
        ':tensorflow:serving:runtime_latency_bucket{API="Predict",le="10.0",model_name="tiny",runtime="TF2"} ' in text
    )
    assert 'kmm_requests_waiting{lane="explain"} 0.0' in text
    assert "film" not in text


DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: bool}


@pytest.mark.parametrize("number", DTYPES)
def test_nested_lists_become_arrays(number):
    info = {"x": stubs.meta_graph_pb2.TensorInfo(dtype=number)}
    values = np.array([[1, 0, 1], [0, 1, 1]]).astype(DTYPES[number])
    for document, rows in (({"instances": values.tolist()}, True), ({"inputs": {"x": values.tolist()}}, False)):
        arrays, found = parse_inputs(read_document(json.dumps(document).encode()), info)
        assert found is rows and arrays["x"].dtype == DTYPES[number]
        np.testing.assert_array_equal(arrays["x"], values)
    assert parse_inputs({"inputs": []}, info)[0]["x"].shape == (0,)


@pytest.mark.parametrize(
    "number, value, text",
    [
        (1, 2**24 + 1, "Cannot convert JSON value: 16777217 to float without loss of precision."),
        (1, 1e39, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        (1, True, "JSON Value: true Type: True is not of expected type: float"),
        (3, 2**31, "JSON Value: 2147483648 Type: Number is not of expected type: int32"),
        (9, 2**63, "is not of expected type: int64"),
        (10, 1, "JSON Value: 1 Type: Number is not of expected type: bool"),
        (7, 1, "JSON Value: 1 Type: Number is not of expected type: string"),
        (7, {"c64": ""}, "JSON Value: {...} not formatted correctly for base64 data"),
        (1, [0, [1]], "Encountered list at unexpected level: 1 expected < 1"),
        (4, 1, "Conversion of JSON to type: uint8"),
        (1, json.loads("[" * 70 + "]" * 70), "JSON Value: lists are nested more than 32 levels deep"),
        (1, json.loads("[" * 70 + "1" + "]" * 70), "JSON Value: lists are nested more than 32 levels deep"),
        (1, [1.5, True], "JSON Value: true Type: True is not of expected type: float"),
        (9, [1, False], "JSON Value: false Type: False is not of expected type: int64"),
        (10, [True, 1], "JSON Value: 1 Type: Number is not of expected type: bool"),
        (3, [1, 2.0], "JSON Value: 2.0 Type: Number is not of expected type: int32"),
        (1, [0.5, 2**24 + 1], "Cannot convert JSON value: 16777217 to float without loss of precision."),
        (1, [10**400, 0.5], "to float without loss of precision."),
        (1, ["x" * 2**20] + [""] * 10_000, 'JSON Value: "..." Type: String is not of expected type: float'),
    ],
)
def test_elements_that_do_not_fit_are_refused(number, value, text):
    info = {"x": stubs.meta_graph_pb2.TensorInfo(dtype=number)}
    with pytest.raises(ServingError) as caught:
        parse_inputs({"inputs": {"x": value if isinstance(value, list) else [value]}}, info)
    assert text in str(caught.value)


def test_a_long_string_gives_no_room_to_all_others():
    info, values = {"x": stubs.meta_graph_pb2.TensorInfo(dtype=1)}, ["x" * 2**16] + [""] * 1000
    tracemalloc.start()
    with pytest.raises(ServingError, match="is not of expected type: float"):
        parse_inputs({"inputs": values}, info)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**22


@pytest.mark.parametrize(
    "method, held",
    [
        ("predict", b'{"signature_name": "double", "instances": [{%s}]}'),
        ("predict", b'{"signature_name": "double", "instances": [{}%.0s' + b",{}" * 2**17 + b"]}"),
        ("classify", b'{"signature_name": "classify", "examples": [{%s}]}'),
    ],
)
def test_a_body_of_too_many_keys_is_refused_before_it_is_parsed(rest, method, held):
    response = rest.post(f"/v1/models/tiny:{method}", content=held % b",".join(b'"%d":0' % n for n in range(2**17 + 1)))
    assert response.status_code == 400
    assert response.json()["error"].startswith("Expected at most 131072 keys in JSON.")


def test_marks_within_strings_are_not_counted(rest):
    report = rb":,[{\"\\" * 2**17
    body = b'{"signature_name": "raw", "instances": [{"image_bytes": %s, "report": "%s"}]}'
    response = rest.post("/v1/models/tiny:predict", content=body % (json.dumps(PNG64).encode(), report))
    assert response.json()["predictions"][0]["words"] == ':,[{"\\' * 2**17


def test_other_threads_run_while_a_large_body_is_parsed():
    body = b'{"instances": [' + b"0.25,7," * 500_000 + rb'"\ud83d\ude00"]}'
    ended = threading.Event()

    def parse():
        assert len(read_document(body)["instances"]) == 1_000_001
        ended.set()

    threading.Thread(target=parse).start()
    turns = 0
    while not ended.wait(0.001):
        turns += 1
    assert turns > 20  # and not one or two, as when the parser lets no other thread run


def test_a_lone_surrogate_is_found_wherever_it_is():
    for document in (rb'{"a": ["\ud83d"]}', rb'{"a": {"\ud83d": 1}}', rb'{"a": [{"b": ["\ud83d\ud83d"]}]}'):
        with pytest.raises(ServingError, match="The surrogate pair in string is invalid"):
            read_document(document)
    assert read_document(rb'{"a": ["\ud83d\ude00", [1]]}') == {"a": ["\U0001f600", [1]]}
