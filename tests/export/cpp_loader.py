"""The C++ loader inside the TensorFlow wheel, as TensorFlow Serving runs it: no check of Python's stands before it."""

import ctypes
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

DTYPES = {1: np.float32, 3: np.int32, 9: np.int64, 10: np.bool_}
STRING, STRING_BYTES = 7, 24


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("free", ctypes.c_void_p))


class CppError(Exception):
    """What the loader answered: `code` is that of gRPC."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def open_library():
    """The library, or None where the wheel does not carry it."""
    places = [
        *Path(tf.__file__).parent.glob("libtensorflow_cc.so*"),
        *Path(tf.__file__).parent.glob("libtensorflow_cc*dylib"),
    ]
    if not places:
        return None
    library = ctypes.CDLL(str(places[0]))
    pointers = (
        "TF_NewStatus TF_NewSessionOptions TF_NewGraph TF_NewBuffer TF_LoadSessionFromSavedModel TF_AllocateTensor "
        "TF_TensorData TF_GraphOperationByName TF_StringGetDataPointer"
    )
    for name in pointers.split():
        getattr(library, name).restype = ctypes.c_void_p
    library.TF_Message.restype = ctypes.c_char_p
    for name in ("TF_Dim", "TF_TensorByteSize", "TF_StringGetSize"):
        getattr(library, name).restype = ctypes.c_int64
    return library


class CppModel:
    """A SavedModel loaded by C++.

    Args:
        folder: path of the export.
    """

    def __init__(self, folder):
        self.c = open_library()
        p = ctypes.c_void_p
        self.status, self.graph = p(self.c.TF_NewStatus()), p(self.c.TF_NewGraph())
        meta = p(self.c.TF_NewBuffer())
        tags = (ctypes.c_char_p * 1)(b"serve")
        self.session = p(
            self.c.TF_LoadSessionFromSavedModel(
                p(self.c.TF_NewSessionOptions()), None, str(folder).encode(), tags, 1, self.graph, meta, self.status
            )
        )
        self._check()
        buffer = ctypes.cast(meta, ctypes.POINTER(_Buffer)).contents
        found = meta_graph_pb2.MetaGraphDef.FromString(ctypes.string_at(buffer.data, buffer.length))
        self.signatures = {name: one for name, one in found.signature_def.items() if not name.startswith("__")}

    def run(self, signature, inputs):
        """Runs a signature: dict of name to array in, dict of name to array out."""
        given, wanted = self.signatures[signature].inputs, self.signatures[signature].outputs
        names = list(wanted)
        feeds = (_Output * len(given))(*(self._find(given[name].name) for name in given))
        tensors = (ctypes.c_void_p * len(given))(*(self._write(inputs[name]) for name in given))
        fetches = (_Output * len(names))(*(self._find(wanted[name].name) for name in names))
        results = (ctypes.c_void_p * len(names))()
        self.c.TF_SessionRun(
            self.session, None, feeds, tensors, len(given), fetches, results, len(names), None, 0, None, self.status
        )
        self._check()
        return {name: self._read(ctypes.c_void_p(tensor)) for name, tensor in zip(names, results)}

    def _check(self):
        if code := self.c.TF_GetCode(self.status):
            raise CppError(code, self.c.TF_Message(self.status).decode("utf-8", "replace"))

    def _find(self, name):
        operation, index = name.split(":")
        return _Output(self.c.TF_GraphOperationByName(self.graph, operation.encode()), int(index))

    def _write(self, array):
        array = np.asarray(array)
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        if array.dtype == object:
            size = STRING_BYTES * array.size
            tensor = ctypes.c_void_p(self.c.TF_AllocateTensor(STRING, shape, array.ndim, ctypes.c_size_t(size)))
            data = self.c.TF_TensorData(tensor)
            for place, value in enumerate(array.ravel()):
                string = ctypes.c_void_p(data + STRING_BYTES * place)
                self.c.TF_StringInit(string)
                self.c.TF_StringCopy(string, value, ctypes.c_size_t(len(value)))
            return tensor
        number = next(number for number, dtype in DTYPES.items() if array.dtype == dtype)
        tensor = ctypes.c_void_p(self.c.TF_AllocateTensor(number, shape, array.ndim, ctypes.c_size_t(array.nbytes)))
        array = np.ascontiguousarray(array)
        ctypes.memmove(self.c.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
        return tensor

    def _read(self, tensor):
        shape = [self.c.TF_Dim(tensor, axis) for axis in range(self.c.TF_NumDims(tensor))]
        data, number = self.c.TF_TensorData(tensor), self.c.TF_TensorType(tensor)
        if number == STRING:
            strings = [ctypes.c_void_p(data + STRING_BYTES * place) for place in range(int(np.prod(shape)))]
            found = [ctypes.string_at(self.c.TF_StringGetDataPointer(s), self.c.TF_StringGetSize(s)) for s in strings]
            return np.array(found, object).reshape(shape)
        content = ctypes.string_at(data, self.c.TF_TensorByteSize(tensor))
        return np.frombuffer(content, DTYPES[number]).reshape(shape)
