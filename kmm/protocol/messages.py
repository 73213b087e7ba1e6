"""TensorFlow Serving's generated messages and services, without loading TensorFlow."""

import importlib
import importlib.util
import sys
import threading
from types import ModuleType, SimpleNamespace

DEFAULT_MODEL = "default"  # TensorFlow Serving's name for a single model that has no name of its own

# Short name of a generated module: the package that contains it.
MODULES = {
    "tensor_pb2": "tensorflow.core.framework",
    "tensor_shape_pb2": "tensorflow.core.framework",
    "types_pb2": "tensorflow.core.framework",
    "example_pb2": "tensorflow.core.example",
    "error_codes_pb2": "tensorflow.core.protobuf",
    "meta_graph_pb2": "tensorflow.core.protobuf",
    "model_server_config_pb2": "tensorflow_serving.config",
    "classification_pb2": "tensorflow_serving.apis",
    "get_model_metadata_pb2": "tensorflow_serving.apis",
    "get_model_status_pb2": "tensorflow_serving.apis",
    "inference_pb2": "tensorflow_serving.apis",
    "input_pb2": "tensorflow_serving.apis",
    "model_management_pb2": "tensorflow_serving.apis",
    "model_pb2": "tensorflow_serving.apis",
    "model_service_pb2": "tensorflow_serving.apis",
    "model_service_pb2_grpc": "tensorflow_serving.apis",
    "predict_pb2": "tensorflow_serving.apis",
    "prediction_log_pb2": "tensorflow_serving.apis",
    "prediction_service_pb2": "tensorflow_serving.apis",
    "prediction_service_pb2_grpc": "tensorflow_serving.apis",
    "regression_pb2": "tensorflow_serving.apis",
}
_lock = threading.Lock()
_loaded = None


def load_stubs() -> SimpleNamespace:
    """Imports the generated modules of tensorflow-serving-api and the few TensorFlow modules that they need.

    A plain import of these modules imports all of TensorFlow, which takes seconds and which the messages do not need.
    So an empty module that only knows TensorFlow's path replaces TensorFlow during the import. If that fails, or if
    TensorFlow is already loaded, the modules are imported plainly. A later `import tensorflow` works as usual and
    shares the messages, but no other thread should start one during the first call.

    Returns:
        `types.SimpleNamespace` with the modules under the names in `MODULES`; every call returns the same object.

    Raises:
        ImportError: if tensorflow-serving-api or TensorFlow is not installed.

    Example:
        >>> load_stubs().predict_pb2.PredictRequest(output_filter=["probabilities"]).output_filter[0]
        'probabilities'
    """
    global _loaded
    with _lock:
        if _loaded is None:
            _loaded = _import_plainly() if "tensorflow" in sys.modules else _import_apart()
        return _loaded


def _import_plainly():
    found = {name: importlib.import_module(f"{package}.{name}") for name, package in MODULES.items()}
    return SimpleNamespace(**found)


def _import_apart():
    """Imports with an empty module in place of TensorFlow, or plainly if that fails."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None:
        raise ImportError("kmm needs the package tensorflow for its messages. Install it: pip install tensorflow")
    bare = ModuleType("tensorflow")
    bare.__path__ = list(spec.submodule_search_locations)
    sys.modules["tensorflow"] = bare
    try:
        return _import_plainly()
    except (ImportError, AttributeError):
        for name in [name for name in sys.modules if name.startswith("tensorflow.")]:
            del sys.modules[name]
    finally:
        del sys.modules["tensorflow"]
    return _import_plainly()
