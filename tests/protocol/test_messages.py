"""The stubs come without TensorFlow, whatever is imported before and after."""

import subprocess
import sys

import pytest

from kmm.protocol.messages import MODULES, load_stubs

PROGRAMS = {
    "the client alone": """
import sys
import kmm.client
from kmm.protocol.messages import load_stubs
load_stubs().predict_pb2.PredictRequest()
for package in ("tensorflow", "keras", "kmm.explain.regions.find", "pydicom", "cv2"):
    assert package not in sys.modules, package
""",
    "TensorFlow afterwards": """
from kmm.protocol.messages import load_stubs
proto = load_stubs().tensor_pb2.TensorProto
import tensorflow as tf
made = tf.make_tensor_proto([1.0, 2.0])
assert type(made) is proto
assert float(tf.reduce_sum(tf.make_ndarray(made))) == 3.0
from tensorflow.core.framework import tensor_pb2
assert tensor_pb2.TensorProto is proto
""",
    "where a bare module does not do, all is imported plainly": """
import kmm.protocol.messages
seen = []
def fail_once():
    seen.append(sys.modules.get("tensorflow"))
    if len(seen) == 1:
        import tensorflow.core.framework.types_pb2
        raise ImportError
    assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)
    return "plain"
kmm.protocol.messages._import_plainly = fail_once
assert kmm.protocol.messages.load_stubs() == "plain"
assert seen[0].__path__ and seen[1] is None
""",
}


@pytest.mark.large
@pytest.mark.parametrize("program", PROGRAMS)
def test_stubs_in_a_process_of_their_own(program):
    done = subprocess.run([sys.executable, "-c", "import sys\n" + PROGRAMS[program]], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_all_names_are_there_and_always_the_same():
    stubs = load_stubs()
    assert load_stubs() is stubs
    assert set(vars(stubs)) == set(MODULES)
    assert stubs.prediction_service_pb2_grpc.PredictionServiceStub
