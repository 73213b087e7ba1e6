"""What a killed run left of a file is cleaned, whoever wrote it."""

import os
import subprocess
import sys

import pytest

from kmm.data.study import Study
from kmm.errors import InputError
from kmm.explain.folder.journal import Journal, lock_folder
from kmm.explain.folder.lock import FolderLock
from kmm.explain.folder.worker import Stamp
from kmm.storage.output_mark import MARK

WRITERS = {
    "1.png": "from kmm.explain.output.draw import write_png\nimport numpy\n"
    "write_png(path, numpy.zeros((4, 4), numpy.uint8))",
    "1.sr.dcm": "from kmm.explain.dicom.objects import _save\n"
    "from pydicom.dataset import FileDataset, FileMetaDataset\n"
    "meta = FileMetaDataset()\nmeta.TransferSyntaxUID = '1.2.840.10008.1.2.1'\n"
    "meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = '1.2'\n"
    "_save(FileDataset(path, {}, file_meta=meta), path)",
    "1.json": "from kmm.storage.files import write_json\nwrite_json(path, {})",
    "explanations.csv": "from kmm.explain.output.table import TABLES\nTABLES['csv'].write(path, [])",
}


def begin(out):
    with lock_folder(out):
        journal = Journal(out, Stamp("run", "drawing", "1"), {"model": "1"}, [Study("1", "1")])
        journal.begin(["1"])


KILLED = (
    "import os, signal, sys\nos.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)\npath = sys.argv[1]\n"
)


@pytest.mark.parametrize("name", WRITERS)
def test_a_writer_that_is_killed_leaves_what_the_next_run_removes(tmp_path, name):
    begin(tmp_path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    killed = subprocess.run([sys.executable, "-c", KILLED + WRITERS[name], str(tmp_path / name)], env=environment)
    assert killed.returncode == -9
    assert len(list(tmp_path.iterdir())) == 4  # `.parts`, `maps`, the mark of kmm's output, and the half of the file
    begin(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {MARK, ".parts", "maps"}


def test_a_run_that_was_killed_leaves_no_folder_of_half_made_files(tmp_path):
    begin(tmp_path)
    half = tmp_path / ".parts" / "work-token-1-1"
    half.mkdir()
    (half / "1.png").write_bytes(b"half")
    begin(tmp_path)
    assert not half.exists()


def test_a_run_that_is_refused_changes_nothing_of_the_run_that_goes_on(tmp_path):
    with lock_folder(tmp_path) as token:
        with pytest.raises(InputError, match="another run writes"), lock_folder(tmp_path):
            pass
        with FolderLock(tmp_path, token).publishing():
            pass
