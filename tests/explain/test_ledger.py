"""What a killed run left of a file is cleaned, whoever wrote it."""

import os
import subprocess
import sys

import pytest

from kmm.explain.ledger import Ledger, lock_folder
from kmm.output_mark import MARK

WRITERS = {
    "1.png": "from kmm.explain.draw import write_png\nimport numpy\nwrite_png(path, numpy.zeros((4, 4), numpy.uint8))",
    "1.sr.dcm": "from kmm.explain.dicom import _save\nfrom pydicom.dataset import FileDataset, FileMetaDataset\n"
    "meta = FileMetaDataset()\nmeta.TransferSyntaxUID = '1.2.840.10008.1.2.1'\n"
    "meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = '1.2'\n"
    "_save(FileDataset(path, {}, file_meta=meta), path)",
    "1.json": "from kmm.settings import write_json\nwrite_json(path, {})",
    "explanations.csv": "from kmm.explain.table import TABLES\nTABLES['csv'].write(path, [])",
}
KILLED = (
    "import os, signal, sys\nos.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)\npath = sys.argv[1]\n"
)


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_that_is_killed_leaves_what_the_next_run_removes(tmp_path, name):
    with lock_folder(tmp_path):
        Ledger(tmp_path, {"run": 1}, {"1": "key"}).begin()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-c", KILLED + WRITERS[name], str(tmp_path / name)], env=environment)
    assert killed.returncode == -9
    assert len(list(tmp_path.iterdir())) == 3  # `.parts`, the mark of kmm's output, and the half of the file
    with lock_folder(tmp_path):
        Ledger(tmp_path, {"run": 1}, {"1": "key"}).begin()
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARK, ".parts"]
