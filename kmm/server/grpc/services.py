"""Implement the methods of TensorFlow Serving's gRPC services, from the bytes of a request to those of its answer."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from google.protobuf import message_factory
from google.protobuf.any_pb2 import Any
from google.protobuf.message import DecodeError

from kmm.errors import InputError
from kmm.protocol.messages import load_stubs
from kmm.protocol.tensors import encode_tensor
from kmm.server.requests.admission import Caller
from kmm.server.requests.inference import SIGNATURE_DEF, Inference, make_states
from kmm.server.settings import read_model_list
from kmm.server.status import ServingError, refuse

if TYPE_CHECKING:
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
    )

stubs = load_stubs()
SERVICES = (
    stubs.prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"],
    stubs.model_service_pb2.DESCRIPTOR.services_by_name["ModelService"],
)


def list_methods(inference: Inference) -> dict[str, Callable[[list[bytes], Caller], bytes]]:
    """Lists the methods of all services.

    Args:
        inference: `Inference`.

    Returns:
        dict of path, such as `"/tensorflow.serving.PredictionService/Predict"`, to a function of a list and a `Caller`.
        The list holds the bytes of the request; the function removes them when it parses them, to free the memory. It
        returns the bytes of the answer or raises `ServingError`.
    """
    methods = {}
    for service, servicer in zip(SERVICES, (PredictionService(inference), ModelService(inference))):
        for method in service.methods:
            message = message_factory.GetMessageClass(method.input_type)
            methods[f"/{service.full_name}/{method.name}"] = _wrap(message, getattr(servicer, method.name))
    return methods


def _wrap(message, method):
    def run(held, call):
        try:
            request = message.FromString(held.pop())
        except DecodeError:
            raise ServingError("INTERNAL", f"The request is not a {message.DESCRIPTOR.full_name}.") from None
        return method(request, call)

    return run


class PredictionService:
    """Implements `tensorflow.serving.PredictionService`; each method returns the bytes of its answer.

    Args:
        inference: `Inference`.
    """

    def __init__(self, inference: Inference) -> None:
        self._inference = inference
        self._as_content = inference.settings.tensor_content

    def Predict(self, request: "predict_pb2.PredictRequest", call: Caller) -> bytes:
        def encode(answer):
            return stubs.predict_pb2.PredictResponse(
                model_spec=answer.spec,
                outputs={
                    name: encode_tensor(array, as_content=self._as_content) for name, array in answer.outputs.items()
                },
            )

        def work(spec):
            return self._inference.predict(spec, request.inputs, request.output_filter, call, encode=encode)

        return _answer(self._inference, "Predict", request, work)

    def Classify(self, request: "classification_pb2.ClassificationRequest", call: Caller) -> bytes:
        def work(spec):
            spec, result = self._inference.classify(spec, request.input, call)
            return stubs.classification_pb2.ClassificationResponse(model_spec=spec, result=result)

        return _answer(self._inference, "Classify", request, work)

    def Regress(self, request: "regression_pb2.RegressionRequest", call: Caller) -> bytes:
        def work(spec):
            spec, result = self._inference.regress(spec, request.input, call)
            return stubs.regression_pb2.RegressionResponse(model_spec=spec, result=result)

        return _answer(self._inference, "Regress", request, work)

    def MultiInference(self, request: "inference_pb2.MultiInferenceRequest", call: Caller) -> bytes:
        def work(spec):
            response = stubs.inference_pb2.MultiInferenceResponse()
            for spec, result in self._inference.run_several(request.tasks, request.input, call):
                name = "regression_result" if "Regression" in type(result).__name__ else "classification_result"
                response.results.add(model_spec=spec, **{name: result})
            return response

        spec = request.tasks[0].model_spec if request.tasks else stubs.model_pb2.ModelSpec()
        return _run(self._inference, "MultiInference", spec, work)

    def GetModelMetadata(self, request: "get_model_metadata_pb2.GetModelMetadataRequest", call: Caller) -> bytes:
        def work(spec):
            if not request.metadata_field:
                raise refuse("GetModelMetadataRequest must specify at least one metadata_field")
            for name in request.metadata_field:
                if name != SIGNATURE_DEF:
                    raise refuse(f"Metadata field {name} is not supported")
            spec, signatures = self._inference.find_signatures(spec)
            packed = Any()
            packed.Pack(stubs.get_model_metadata_pb2.SignatureDefMap(signature_def=signatures))
            return stubs.get_model_metadata_pb2.GetModelMetadataResponse(
                model_spec=spec, metadata={SIGNATURE_DEF: packed}
            )

        return _answer(self._inference, "GetModelMetadata", request, work)


class ModelService:
    """Implements `tensorflow.serving.ModelService`; each method returns the bytes of its answer.

    Args:
        inference: `Inference`.
    """

    def __init__(self, inference: Inference) -> None:
        self._inference = inference

    def GetModelStatus(self, request: "get_model_status_pb2.GetModelStatusRequest", call: Caller) -> bytes:
        def work(spec):
            return make_states(self._inference.list_states(spec))

        return _answer(self._inference, "GetModelStatus", request, work)

    def HandleReloadConfigRequest(self, request: "model_management_pb2.ReloadConfigRequest", call: Caller) -> bytes:
        def work(spec):
            if request.config.WhichOneof("config") != "model_config_list":
                raise refuse(
                    "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                    "currently supported"
                )
            try:
                models = read_model_list(request.config.model_config_list)
            except InputError as error:
                raise refuse(str(error)) from None
            self._inference.reload(models)
            return stubs.model_management_pb2.ReloadConfigResponse()

        spec = stubs.model_pb2.ModelSpec()
        return _run(self._inference, "HandleReloadConfigRequest", spec, work)


def _answer(inference, api, request, work):
    def check(spec):
        if not request.HasField("model_spec"):
            raise refuse("Missing ModelSpec")
        return work(spec)

    return _run(inference, api, request.model_spec, check)


def _run(inference, api, spec, work):
    """Runs and counts a request, and returns the bytes of its answer."""
    with inference.record(spec, api, "GRPC") as entry:
        answer = work(spec).SerializeToString()
        entry.answer_bytes = len(answer)
        return answer
