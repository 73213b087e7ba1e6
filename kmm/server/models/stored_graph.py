"""Run the graph of a SavedModel directly from its file, as TensorFlow's C++ server does.

`tf.saved_model.load` makes a Python object for each node of each function, which takes several times the memory and
time of the graph itself. Here the stored functions are passed unchanged to TensorFlow's runtime. Each function is
instantiated on its first run, and a function that several signatures call is instantiated once.
"""

import itertools
import weakref
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2
from tensorflow.python.eager import context
from tensorflow.python.framework import op_def_registry

from kmm.server.models.graph_parts import CALLS, cut_function, find_shared, list_functions

INIT_KEYS = ("saved_model_main_op", "legacy_init_op")
INIT_SIGNATURE = "__saved_model_init_op"
_numbers = itertools.count()


class UnsupportedGraph(Exception):
    """Raised for a graph that this module does not support; TensorFlow's own loader may load it."""


class StoredGraph:
    """The signatures of a graph as functions.

    Args:
        graph: `MetaGraphDef`; it is modified.
        folder: Path of the version.

    Attributes:
        functions: dict of name of a signature to a function that takes and returns tensors by name.
        uses_variables: bool. Whether a signature reads a variable.

    Raises:
        UnsupportedGraph: if the graph has another form than `tf.saved_model.save` gives it.
        tf.errors.OpError: if variables or assets cannot be read.
    """

    def __init__(self, graph: meta_graph_pb2.MetaGraphDef, folder: Path) -> None:
        self._variables: list[tf.Variable] = []
        self._values: dict[str, list] = {}
        self._folder, self._suffix = folder, f"__stored_{next(_numbers)}"
        _rename(graph.graph_def, self._suffix)
        self._nodes = {node.name: node for node in graph.graph_def.node}
        self._library = {one.signature.name: one for one in graph.graph_def.library.function}
        self._check(graph)
        signatures = {key: one for key, one in graph.signature_def.items() if key != INIT_SIGNATURE and one.outputs}
        calls = {key: self._find_call(signature) for key, signature in signatures.items()}
        roots = {node.attr["f"].func.name for node in calls.values()}
        shared = find_shared(sorted(roots), self._library)
        plans = {root: cut_function(root, self._library, shared) for root in sorted(roots)}
        self._registered: list[str] = []
        weakref.finalize(self, _remove, self._registered)
        self._register(self._library)
        self._set_up(graph)
        self.functions = {
            key: self._make_function(signature, calls[key], *plans[calls[key].attr["f"].func.name])
            for key, signature in signatures.items()
        }
        self.uses_variables = any(
            self._nodes[_split(value)[0]].op == "VarHandleOp" for node in calls.values() for value in node.input
        )
        self._forget_unused(plans)
        del self._nodes, self._library

    def _check(self, graph):
        known = {*CALLS, *_OPERATIONS, "VarHandleOp", "Placeholder", "NoOp", "VarIsInitializedOp"}
        for node in self._nodes.values():
            if node.op not in known:
                raise UnsupportedGraph(f"The operation {node.op}.")
        if any(self._nodes[key].op not in CALLS for key in [graph.saver_def.restore_op_name] if key):
            raise UnsupportedGraph("The form of an old saver.")

    def _find_call(self, signature):
        """Returns the only node whose outputs a signature returns."""
        nodes = {_split(info.name)[0] for info in signature.outputs.values()}
        node = self._nodes.get(next(iter(nodes)))
        if len(nodes) != 1 or node is None or node.op not in CALLS:
            raise UnsupportedGraph("A signature that is not one function.")
        return node

    def _register(self, functions):
        for name, function in functions.items():
            context.context().add_function_def(function)
            self._registered.append(name)

    def _set_up(self, graph):
        """Reads the variables and fills the tables."""
        for asset in graph.asset_file_def:
            path = tf.constant(str(self._folder / "assets" / asset.filename))
            self._values[_split(asset.tensor_info.name)[0]] = [path]
        place, saver = self._folder / "variables" / "variables", graph.saver_def
        if saver.restore_op_name and place.with_suffix(".index").is_file():
            self._values[_split(saver.filename_tensor_name)[0]] = [tf.constant(str(place))]
            self._run_node(saver.restore_op_name)
        for name in self._find_initializers(graph):
            self._run_node(name)

    def _find_initializers(self, graph):
        for key in INIT_KEYS:
            if key in graph.collection_def:
                return list(graph.collection_def[key].node_list.value)[:1]
        infos = graph.signature_def[INIT_SIGNATURE].outputs.values() if INIT_SIGNATURE in graph.signature_def else ()
        return [_split(info.name)[0] for info in infos]

    def _run_node(self, name):
        """Returns the values of a node in the outermost graph; each node runs once."""
        if name not in self._values:
            node = self._nodes[name]
            for value in node.input:
                if value.startswith("^"):
                    self._run_node(value[1:])
            self._values[name] = self._run_operation(node, [self._find(v) for v in node.input if v[0] != "^"])
        return self._values[name]

    def _find(self, value):
        name, place = _split(value)
        return self._run_node(name)[place]

    def _run_operation(self, node, inputs):
        if node.op in CALLS:
            name = node.attr["f"].func.name
            return _call(name, inputs, [one.type for one in self._library[name].signature.output_arg])
        if node.op == "VarHandleOp":
            shape = [dimension.size for dimension in node.attr["shape"].shape.dim]
            if node.attr["shape"].shape.unknown_rank or -1 in shape:
                raise UnsupportedGraph("A variable without a shape.")
            self._variables.append(tf.Variable(tf.zeros(shape, node.attr["dtype"].type), trainable=False))
            return [self._variables[-1].handle]
        if node.op in _OPERATIONS:
            return _OPERATIONS[node.op](node, *inputs)
        if node.op == "NoOp":
            return []
        raise UnsupportedGraph(f"The operation {node.op} before a signature.")

    def _make_function(self, signature, call, steps, results):
        """Makes a signature into a function of tensors by name."""
        aliases = {_split(info.name)[0]: alias for alias, info in signature.inputs.items()}
        arguments = [argument.name for argument in self._library[call.attr["f"].func.name].signature.input_arg]
        given, fixed = {}, {}
        for argument, value in zip(arguments, [value for value in call.input if value[0] != "^"], strict=True):
            if _split(value)[0] in aliases:
                given[argument] = aliases[_split(value)[0]]
            else:
                fixed[argument] = self._find(value)
        wanted = {alias: results[_split(info.name)[1]] for alias, info in signature.outputs.items()}
        plan = [
            (step.function, [(fixed.get(name), name) for name in step.inputs], step.outputs, step.dtypes)
            for step in steps
        ]
        root = self  # keeps the variables alive as long as the function

        def run(**tensors):
            values = {argument: tensors[alias] for argument, alias in given.items()}
            for function, inputs, outputs, dtypes in plan:
                arguments = [values[name] if known is None else known for known, name in inputs]
                values.update(zip(outputs, _call(function, arguments, dtypes), strict=True))
            return {alias: values[name] if name in values else fixed[name] for alias, name in wanted.items()}

        run.root = root
        return run

    def _forget_unused(self, plans):
        """Removes functions that no signature needs, such as those that save and restore."""
        needed, more = set(), {step.function for steps, _ in plans.values() for step in steps}
        while more:
            needed |= more
            called = {
                name
                for one in more
                for node in self._library[one].node_def
                for name in [node.op, *list_functions(node)]
            }
            more = (called & set(self._library)) - needed
        unused = [name for name in self._registered if name not in needed]
        self._registered[:] = [name for name in self._registered if name in needed]
        _remove(unused)


def _call(name, inputs, dtypes):
    return tf.raw_ops.StatefulPartitionedCall(args=inputs, Tout=dtypes, f=name, config_proto=_CONFIG)


def _make_config():
    """Limits graph optimization to one round, since a second round takes as long and improves almost nothing."""
    config = config_pb2.ConfigProto()
    config.graph_options.rewrite_options.meta_optimizer_iterations = 1
    return config.SerializeToString()


_CONFIG = _make_config()


def _make_table(node):
    return [
        tf.raw_ops.AnonymousHashTable(key_dtype=node.attr["key_dtype"].type, value_dtype=node.attr["value_dtype"].type)
    ]


def _assign(node, resource, value):
    tf.raw_ops.AssignVariableOp(resource=resource, value=value)
    return []


_OPERATIONS = {
    "Const": lambda node: [tf.constant(tf.make_ndarray(node.attr["value"].tensor))],
    "HashTableV2": _make_table,
    "ReadVariableOp": lambda node, one: [tf.raw_ops.ReadVariableOp(resource=one, dtype=node.attr["dtype"].type)],
    "AssignVariableOp": _assign,
}


def _split(value):
    """Splits a value into the name of its node and the index of the node's output."""
    name, _, place = value.partition(":")
    return name, int(place or 0)


def _rename(graph, suffix):
    """Gives functions and shared resources names that are unique among all loaded graphs."""
    names = {one.signature.name for one in graph.library.function}
    for function in graph.library.function:
        function.signature.name += suffix
    for place, nodes in enumerate([graph.node, *(one.node_def for one in graph.library.function)]):
        for node in nodes:
            if node.op in names:
                node.op += suffix
            for value in node.attr.values():
                functions = [value.func] if value.WhichOneof("value") == "func" else value.list.func
                for function in functions:
                    if function.name in names:
                        function.name += suffix
            definition = op_def_registry.get(node.op) if place else None
            if definition is not None and any(attribute.name == "shared_name" for attribute in definition.attr):
                shared = node.attr["shared_name"].s.decode() or node.name
                node.attr["shared_name"].s = f"{shared}{suffix}".encode()


def _remove(names):
    for name in names:
        context.context().remove_function(name)
