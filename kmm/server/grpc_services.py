"""gRPC: TensorFlow Serving's services on its own stubs."""

from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf.any_pb2 import Any
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from kmm.errors import InputError
from kmm.server.access import TokenInterceptor
from kmm.server.requests.inference import SIGNATURE_DEF, make_states
from kmm.server.settings import read_model_list
from kmm.server.status import ServingError, refuse, truncate
from kmm.stubs import load_stubs
from kmm.wire import encode_tensor

stubs = load_stubs()
HEALTH_NAMES = ("", "PredictionService", "ModelService")
SPARE_THREADS = 16  # for status, health, metadata and refusals while all others wait
BACKLOG = 1024  # requests without a thread yet, so that in a flood the gate refuses, with its code


class PredictionService(stubs.prediction_service_pb2_grpc.PredictionServiceServicer):
    """`tensorflow.serving.PredictionService`.

    Args:
        inference: `Inference`.
    """

    def __init__(self, inference):
        self._inference = inference
        self._as_content = inference.settings.tensor_content

    def Predict(self, request, context):
        def encode(answer):
            return stubs.predict_pb2.PredictResponse(
                model_spec=answer.spec,
                outputs={
                    name: encode_tensor(array, as_content=self._as_content) for name, array in answer.outputs.items()
                },
            )

        def work(spec):
            return self._inference.predict(spec, request.inputs, request.output_filter, context, encode=encode)

        return _answer(self._inference, "Predict", request, context, work)

    def Classify(self, request, context):
        def work(spec):
            spec, result = self._inference.classify(spec, request.input, context)
            return stubs.classification_pb2.ClassificationResponse(model_spec=spec, result=result)

        return _answer(self._inference, "Classify", request, context, work)

    def Regress(self, request, context):
        def work(spec):
            spec, result = self._inference.regress(spec, request.input, context)
            return stubs.regression_pb2.RegressionResponse(model_spec=spec, result=result)

        return _answer(self._inference, "Regress", request, context, work)

    def MultiInference(self, request, context):
        def work(spec):
            response = stubs.inference_pb2.MultiInferenceResponse()
            for spec, result in self._inference.run_several(request.tasks, request.input, context):
                name = "regression_result" if "Regression" in type(result).__name__ else "classification_result"
                response.results.add(model_spec=spec, **{name: result})
            return response

        spec = request.tasks[0].model_spec if request.tasks else stubs.model_pb2.ModelSpec()
        return _run(self._inference, "MultiInference", spec, context, work)

    def GetModelMetadata(self, request, context):
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

        return _answer(self._inference, "GetModelMetadata", request, context, work)


class ModelService(stubs.model_service_pb2_grpc.ModelServiceServicer):
    """`tensorflow.serving.ModelService`.

    Args:
        inference: `Inference`.
    """

    def __init__(self, inference):
        self._inference = inference

    def GetModelStatus(self, request, context):
        def work(spec):
            return make_states(self._inference.list_states(spec))

        return _answer(self._inference, "GetModelStatus", request, context, work)

    def HandleReloadConfigRequest(self, request, context):
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
        return _run(self._inference, "HandleReloadConfigRequest", spec, context, work)


def make_server(inference, *, check_token=lambda header: None, credentials=None):
    """A gRPC server with all services, not started.

    As many requests as it lets run and wait have a thread each, and some more, in which the gate refuses the next ones.

    Args:
        inference: `Inference`.
        check_token: function that takes the header `authorization` and raises ServingError, see `Tokens.check`.
        credentials: gRPC's credentials of the server; None is plain text.

    Returns:
        (`grpc.Server`, `HealthServicer`, int: its port).

    Raises:
        InputError: if the address is taken or cannot be used.
    """
    settings = inference.settings
    threads = settings.threads + settings.explain_threads + 2 * settings.max_queue + SPARE_THREADS
    server = grpc.server(
        ThreadPoolExecutor(threads, thread_name_prefix="kmm-grpc"),
        maximum_concurrent_rpcs=threads + BACKLOG,
        interceptors=[TokenInterceptor(check_token, inference.count_refusal)],
        options=[
            ("grpc.max_receive_message_length", settings.max_message_mb << 20),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
        ],
    )
    stubs.prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(PredictionService(inference), server)
    stubs.model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(inference), server)
    probes = health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(probes, server)
    set_health(probes, serving=False)
    names = [
        stubs.prediction_service_pb2.DESCRIPTOR.services_by_name["PredictionService"].full_name,
        stubs.model_service_pb2.DESCRIPTOR.services_by_name["ModelService"].full_name,
        health.SERVICE_NAME,
        reflection.SERVICE_NAME,
    ]
    reflection.enable_server_reflection(names, server)
    return server, probes, _bind(server, settings, credentials)


def set_health(probes, *, serving):
    """What probes of health are told, by each name."""
    states = health_pb2.HealthCheckResponse
    for name in HEALTH_NAMES:
        probes.set(name, states.SERVING if serving else states.NOT_SERVING)


def _bind(server, settings, credentials):
    host = f"[{settings.host}]" if ":" in settings.host and "[" not in settings.host else settings.host
    address = f"{host}:{settings.port}"
    try:
        if credentials is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, credentials)
    except RuntimeError:
        raise InputError(f"{address}: expected an address that is free. It is taken, or not of this host.") from None


def _answer(inference, api, request, context, work):
    def check(spec):
        if not request.HasField("model_spec"):
            raise refuse("Missing ModelSpec")
        return work(spec)

    return _run(inference, api, request.model_spec, context, check)


def _run(inference, api, spec, context, work):
    """Does the work of a request; its error becomes the answer."""
    try:
        with inference.record(spec, api, "GRPC") as entry:
            answer = work(spec)
            entry.answer_bytes = answer.ByteSize()
            return answer
    except ServingError as error:
        context.abort(grpc.StatusCode[error.code], truncate(str(error)))
