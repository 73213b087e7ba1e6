"""Every row of TensorFlow Serving's errors, through gRPC with the stock stubs."""

import re

import grpc
import numpy as np
import pytest

from kmm.server.connections import Connections
from kmm.server.grpc.server import GrpcServer
from kmm.server.models.catalogue import Catalogue
from kmm.server.requests.inference import Inference
from kmm.server.settings import ServeSettings
from tests.factories.saved_model import (
    IMAGE,
    PNG,
    TOKENS,
    Stubs,
    make_examples,
    make_predict,
    make_spec,
    make_tensor,
    stubs,
)


def predict(*arguments, **options):
    return "predict.Predict", make_predict(*arguments, **options)


def predict_raw(image, report=b"mass"):
    return predict({"image_bytes": np.array([image], object), "report": np.array([report], object)}, signature="raw")


def change(request, **tensors):
    for name, tensor in tensors.items():
        request.inputs[name].CopyFrom(tensor)
    return request


def classify(stored, method="Classify", **spec):
    message = {"Classify": "classification_pb2.ClassificationRequest", "Regress": "regression_pb2.RegressionRequest"}
    module, name = message[method].split(".")
    return f"predict.{method}", getattr(getattr(stubs, module), name)(model_spec=make_spec(**spec), input=stored)


def metadata(*fields, **spec):
    request = stubs.get_model_metadata_pb2.GetModelMetadataRequest(model_spec=make_spec(**spec), metadata_field=fields)
    return "predict.GetModelMetadata", request


def status(**spec):
    return "models.GetModelStatus", stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=make_spec(**spec))


def infer(*tasks):
    request = stubs.inference_pb2.MultiInferenceRequest(input=make_examples(PNG))
    for name, signature, method in tasks:
        request.tasks.add(model_spec=make_spec(name, signature=signature), method_name=f"tensorflow/serving/{method}")
    return "predict.MultiInference", request


def reload(folder, **labels):
    request = stubs.model_management_pb2.ReloadConfigRequest()
    request.config.model_config_list.config.add(name="tiny", base_path=str(folder), version_labels=labels)
    return "models.HandleReloadConfigRequest", request


NO_SPEC = stubs.predict_pb2.PredictRequest()
BAD_TENSOR = stubs.tensor_pb2.TensorProto(dtype=1, tensor_content=b"123")
BAD_TENSOR.tensor_shape.dim.add(size=1)
EMPTY = stubs.input_pb2.Input()
NODE = r"\n\t \[\[\{\{node [^}]*\}\}\]\]"
MAYBE_NODE = f"(?:{NODE})?"  # TensorFlow names no node where it runs a function of one operation by itself

ROWS = {
    "no spec": (("predict.Predict", NO_SPEC), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "no spec of metadata": (
        ("predict.GetModelMetadata", stubs.get_model_metadata_pb2.GetModelMetadataRequest()),
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    ),
    "no spec of status": (
        ("models.GetModelStatus", stubs.get_model_status_pb2.GetModelStatusRequest()),
        "INVALID_ARGUMENT",
        "Missing ModelSpec",
    ),
    "empty name": (predict(name=""), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "unknown model": (predict(name="other"), "NOT_FOUND", "Servable not found for request: Latest(other)"),
    "unknown version": (predict(version=9), "NOT_FOUND", "Servable not found for request: Specific(tiny, 9)"),
    "unknown label": (predict(label="beta"), "INVALID_ARGUMENT", "Unrecognized servable version label: beta"),
    "unknown signature": (predict(signature="X"), "FAILED_PRECONDITION", 'Serving signature key "X" not found.'),
    "unknown signature, Classify": (
        classify(make_examples(PNG), signature="X"),
        "INVALID_ARGUMENT",
        "No signature was found with the name: X",
    ),
    "unknown signature, Regress": (
        classify(make_examples(PNG), "Regress", signature="X"),
        "INVALID_ARGUMENT",
        "No signature was found with the name: X",
    ),
    "too few inputs": (
        predict({"image": IMAGE}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 1!=2 len({image}) != len({image,tokens}). Sent extra: {}. Missing but "
        "required: {tokens}.",
    ),
    "too many inputs": (
        predict({"image": IMAGE, "tokens": TOKENS, "age": TOKENS}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 3!=2 len({age,image,tokens}) != len({image,tokens}). Sent extra: {age}. "
        "Missing but required: {}.",
    ),
    "wrong name": (
        predict({"image": IMAGE, "toks": TOKENS}),
        "INVALID_ARGUMENT",
        "Signature input alias: tokens(feed name: serving_default_tokens:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {image,toks}, or default input alias set: ",
    ),
    "bytes that do not fit": (
        ("predict.Predict", change(make_predict(), image=BAD_TENSOR)),
        "INVALID_ARGUMENT",
        "tensor parsing error: image",
    ),
    "tensor of no type": (
        ("predict.Predict", change(make_predict(), tokens=stubs.tensor_pb2.TensorProto())),
        "INVALID_ARGUMENT",
        "tensor parsing error: tokens",
    ),
    "unknown output": (
        predict(output_filter=["A"]),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: A Outputs expected to be in the set {scores,version}.",
    ),
    "output twice": (
        predict(output_filter=["scores", "scores"]),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: scores",
    ),
    "int64 for int32": (
        predict({"image": IMAGE, "tokens": TOKENS.astype(np.int64)}),
        "INVALID_ARGUMENT",
        "Expects arg[1] to be int32 but int64 is provided",
    ),
    "double for float": (
        predict({"image": IMAGE.astype(np.float64), "tokens": TOKENS}),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but double is provided",
    ),
    "wrong shape": (
        predict({"image": IMAGE[:, :5], "tokens": TOKENS}),
        "INVALID_ARGUMENT",
        re.compile(
            r"Shape of tensor \w+ \[1,5,8,1\] is not compatible with expected shape \[\?,8,8,1\]\." + MAYBE_NODE
        ),
    ),
    "not a number": (
        predict({"image": IMAGE * np.nan, "tokens": TOKENS}),
        "INVALID_ARGUMENT",
        re.compile("image contains NaN or Inf : Tensor had NaN values" + MAYBE_NODE),
    ),
    "token out of range": (
        predict({"image": IMAGE, "tokens": TOKENS + 1007}),
        "INVALID_ARGUMENT",
        re.compile(r"indices\[0,0\] = 1008 is not in \[0, 22\)" + MAYBE_NODE),
    ),
    "no image": (
        predict_raw(b"no image"),
        "INVALID_ARGUMENT",
        re.compile(r"Unknown image file format\. One of .* required\." + NODE),
    ),
    "image of no bytes": (predict_raw(b""), "INVALID_ARGUMENT", re.compile(r"Input is empty\." + NODE)),
    "corrupt example": (
        predict({"inputs": np.array([b"\xff\xfe report"], object)}, signature="classify"),
        "INVALID_ARGUMENT",
        re.compile(r"Could not parse example input, value: '\.\.\.'" + MAYBE_NODE),
    ),
    "example without a feature": (
        classify(stubs.input_pb2.Input(example_list={"examples": [{}]}), signature="classify"),
        "INVALID_ARGUMENT",
        re.compile(
            r"Name: <unknown>, Feature: image_bytes \(data type: string\) is required but could not be found\." + NODE
        ),
    ),
    "no field of metadata": (
        metadata(),
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    "other field of metadata": (metadata("X"), "INVALID_ARGUMENT", "Metadata field X is not supported"),
    "status of an unknown version": (status(version=9), "NOT_FOUND", "Could not find version 9 of model tiny"),
    "status of an unknown model": (status(name="film"), "NOT_FOUND", "Could not find any versions of model film"),
    "Classify with two inputs": (classify(make_examples(PNG)), "INVALID_ARGUMENT", "Expected one input Tensor."),
    "Classify with three outputs": (
        classify(make_examples(PNG), signature="many"),
        "INVALID_ARGUMENT",
        "Expected one or two output Tensors, found 3",
    ),
    "Classify with another input": (
        classify(make_examples(PNG), signature="double"),
        "INVALID_ARGUMENT",
        re.compile("No classification inputs found in SignatureDef: .*", re.DOTALL),
    ),
    "Classify without examples": (classify(EMPTY, signature="classify"), "INVALID_ARGUMENT", "Input is empty."),
    "Regress with two inputs": (
        classify(make_examples(PNG), "Regress"),
        "INVALID_ARGUMENT",
        "Expected one input Tensor.",
    ),
    "two models at once": (
        infer(("tiny", "classify", "classify"), ("film", "classify", "classify")),
        "INVALID_ARGUMENT",
        "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
    ),
    "a signature twice": (
        infer(("tiny", "classify", "classify"), ("tiny", "classify", "classify")),
        "INVALID_ARGUMENT",
        "Duplicate evaluation of signature: classify",
    ),
    "MultiInference of predict": (
        infer(("tiny", "classify", "predict")),
        "UNIMPLEMENTED",
        "Unsupported signature method_name: tensorflow/serving/predict",
    ),
    "reload without list": (
        ("models.HandleReloadConfigRequest", stubs.model_management_pb2.ReloadConfigRequest()),
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
        "supported",
    ),
}


def fail(server_stubs, method, request):
    """The code and text of a request that must fail."""
    with pytest.raises(grpc.RpcError) as caught:
        service, name = method.split(".")
        getattr(getattr(server_stubs, service), name)(request, timeout=20)
    return caught.value.code().name, caught.value.details()


@pytest.mark.parametrize("row", ROWS)
def test_codes_and_texts_are_those_of_tensorflow_serving(tiny, row):
    (method, request), code, text = ROWS[row]
    found_code, found_text = fail(tiny[1], method, request)
    assert found_code == code, found_text
    if isinstance(text, str):
        assert found_text == text
    else:
        assert text.fullmatch(found_text), found_text


def test_a_label_needs_a_version_that_is_served(tiny, versions):
    assert fail(tiny[1], *reload(versions, stable=7)) == (
        "FAILED_PRECONDITION",
        "Request to assign label to version 7 of model tiny, which is not currently available for inference",
    )
    answer = tiny[1].predict.Predict(make_predict(label="stable"), timeout=20)
    assert answer.model_spec.version.value == 1


def test_labels_before_the_first_list():
    inference = Inference(Catalogue(), ServeSettings(port=0))
    server = GrpcServer(inference, Connections(9), check_token=lambda header: None)
    server.start()
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        assert fail(Stubs(channel), *predict(label="beta")) == ("UNAVAILABLE", "Model labels does not init yet.beta")
    server.stop(0)


def test_long_texts_are_cut(tiny):
    code, text = fail(tiny[1], *predict(name="x" * 5000))
    assert (code, len(text), text[-12:]) == ("NOT_FOUND", 1024 + 12, "...TRUNCATED")


def test_methods_that_no_server_has(tiny):
    call = tiny[1].channel.unary_unary("/tensorflow.serving.PredictionService/Dream")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=20)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_what_the_stock_server_lets_pass(tiny):
    """An empty batch and bytes that are no UTF-8 are no errors."""
    answer = tiny[1].predict.Predict(make_predict({"image": IMAGE[:0], "tokens": TOKENS[:0]}), timeout=20)
    assert [dimension.size for dimension in answer.outputs["scores"].tensor_shape.dim] == [0, 2]
    answer = tiny[1].predict.Predict(predict_raw(PNG, b"\xff\xfe")[1], timeout=20)
    assert answer.outputs["words"].string_val[0] == b"\xff\xfe"


def test_a_tensor_that_declares_more_than_memory_is_refused(tiny):
    huge = make_tensor(np.float32(1))
    huge.tensor_shape.dim.add(size=2**40)
    request = change(make_predict(), image=huge)
    assert fail(tiny[1], "predict.Predict", request) == ("INVALID_ARGUMENT", "tensor parsing error: image")
