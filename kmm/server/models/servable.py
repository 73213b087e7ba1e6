"""One loaded version of a model: its signatures and their runs."""

from dataclasses import dataclass
from pathlib import Path

from kmm.server.memory import use_system_allocator
from kmm.server.models import graph_errors
from kmm.server.models.dtypes import STRING, as_object
from kmm.server.status import ServingError


@dataclass(frozen=True)
class Servable:
    """A loaded version.

    Attributes:
        name: str, of the model.
        version: int.
        signatures: dict of name to `SignatureDef`, as they are stored.
        functions: dict of name to a function that takes and returns tensors by name.
        root: what TensorFlow loaded; it must live as long as the functions.
        batches_itself: bool. Whether its graph puts calls together (`kmm export --batch`).
    """

    name: str
    version: int
    signatures: dict
    functions: dict
    root: object
    batches_itself: bool = False


def load_servable(name, version, folder):
    """Loads a version from its folder.

    Args:
        name: str, of the model.
        version: int.
        folder: path of the version.

    Returns:
        `Servable`.

    Raises:
        ServingError: if it cannot be loaded, with TensorFlow's code where it has one.
    """
    from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

    use_system_allocator()
    try:
        graph = _read_graph(folder)
        signatures = {key: SignatureDef.FromString(one.SerializeToString()) for key, one in graph.signature_def.items()}
        batches = any(node.op == "BatchFunction" for one in graph.graph_def.library.function for node in one.node_def)
        root, functions, uses_variables = _load_functions(graph, Path(folder))
    except ServingError:
        raise
    except Exception as error:
        raise graph_errors.translate_load(error) from error
    if uses_variables and not Path(folder, "variables", "variables.index").is_file():
        raise ServingError("NOT_FOUND", "The version has no file variables/variables.index.")
    return Servable(name, version, signatures, functions, root, batches)


def run_signature(servable, key, arrays, wanted):
    """Runs a signature.

    Args:
        servable: `Servable`.
        key: str, a name in `servable.functions`.
        arrays: dict of name to numpy array, of the types of the signature.
        wanted: names of outputs.

    Returns:
        dict of name to numpy array; strings as object arrays of bytes.

    Raises:
        ServingError: with the code and text of the operation that failed. Any other error, as that memory is short,
            passes as it is.
    """
    import tensorflow as tf

    signature = servable.signatures[key]
    try:
        tensors = {
            alias: tf.constant(array, tf.dtypes.as_dtype(signature.inputs[alias].dtype))
            for alias, array in arrays.items()
        }
        outputs = servable.functions[key](**tensors)
        arrays = {alias: outputs[alias].numpy() for alias in wanted}
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        raise graph_errors.translate(error) from error
    return {
        alias: as_object(array) if signature.outputs[alias].dtype == STRING else array
        for alias, array in arrays.items()
    }


def _read_graph(folder):
    """The `MetaGraphDef` that a C++ server loads."""
    from tensorflow.core.protobuf import saved_model_pb2

    path = Path(folder, "saved_model.pb")
    if not path.is_file():
        raise ServingError("NOT_FOUND", "The version has no file saved_model.pb.")
    graphs = saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs
    served = [graph for graph in graphs if "serve" in graph.meta_info_def.tags]
    if not served:
        raise ServingError("NOT_FOUND", "The version's file saved_model.pb has no graph with the tag serve.")
    return served[0]


def _load_functions(graph, folder):
    """The signatures of a graph as functions, what holds them, and whether they read variables."""
    import tensorflow as tf

    from kmm.server.models.stored_graph import StoredGraph, UnsupportedGraph

    try:
        root = StoredGraph(graph, folder)
        return root, root.functions, root.uses_variables
    except UnsupportedGraph:  # TensorFlow's own loader knows every form, and takes more room
        root = tf.saved_model.load(str(folder))
        functions = {key: _relax(tf, function) for key, function in root.signatures.items()}
        return root, functions, any(function.variables for function in root.signatures.values())


def _relax(tf, function):
    """A signature without Python's own checks of shapes, so that the graph's checks speak, as in the C++ server."""
    specs = {
        name: tf.TensorSpec(None, spec.dtype, name=name)
        for name, spec in function.structured_input_signature[1].items()
    }
    return tf.function(lambda **inputs: function(**inputs), autograph=False).get_concrete_function(**specs)
