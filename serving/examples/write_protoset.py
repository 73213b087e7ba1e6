"""Write the descriptors of TensorFlow Serving's messages for grpcurl, since its server has no reflection.

pip install tensorflow-serving-api
python write_protoset.py serving.protoset
"""

import sys
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from tensorflow_serving.apis import model_service_pb2, prediction_service_pb2


def add_file(descriptor: FileDescriptor, files: FileDescriptorSet) -> None:
    """Adds a file after the files that it imports."""
    for imported in descriptor.dependencies:
        add_file(imported, files)
    if descriptor.name not in {file.name for file in files.file}:
        descriptor.CopyToProto(files.file.add())


if __name__ == "__main__":
    files = FileDescriptorSet()
    for module in (prediction_service_pb2, model_service_pb2):
        add_file(module.DESCRIPTOR, files)
    Path(sys.argv[1]).write_bytes(files.SerializeToString())
