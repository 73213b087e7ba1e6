"""An archive of a classifier: what it holds, and which archives are refused before a member is unpacked."""

import json
import stat
import zipfile

import numpy as np
import pytest

from kmm.errors import ArtefactError
from kmm.storage.archive import (
    MOST_MEMBERS,
    digest_classifier,
    open_classifier,
    peek_description,
    unpack_archive,
    write_archive,
)
from kmm.storage.classifier_folder import DESCRIPTION, digest_description, write_classifier_folder

pytestmark = pytest.mark.large  # its fixtures train whole classifiers


@pytest.fixture
def artefact(tmp_path):
    """The folder of something that is saved as classifiers are, with a file in a folder."""

    def write(folder):
        (folder / "pictures").mkdir()
        (folder / "pictures" / "roc.png").write_bytes(b"picture")
        (folder / "settings.json").write_text("{}", encoding="utf-8")

    write_classifier_folder(tmp_path / "saved", write, {"parts": []})
    (tmp_path / "saved" / "split.txt").write_text("not of the description", encoding="utf-8")
    return tmp_path / "saved"


def read_members(path):
    with zipfile.ZipFile(path) as archive:
        return {member.filename: archive.read(member) for member in archive.infolist()}


def pack(path, members, *, mode=stat.S_IFREG | 0o644, compress=zipfile.ZIP_DEFLATED):
    """Writes an archive of any members: pairs of name and bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members:
            member = zipfile.ZipInfo(name)
            member.external_attr, member.compress_type = mode << 16, compress
            archive.writestr(member, data)


def test_an_archive_holds_the_files_of_the_description_and_no_others(artefact, tmp_path):
    path = tmp_path / "saved.zip"
    write_archive(artefact, path)
    assert set(read_members(path)) == {DESCRIPTION, "pictures/roc.png", "settings.json"}
    assert digest_classifier(path) == digest_description(artefact) == digest_classifier(artefact)
    assert peek_description(path) == peek_description(artefact)
    with open_classifier(path) as folder:
        unpacked = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.*")}
        assert unpacked == read_members(path)
    assert not folder.exists()


def test_the_same_classifier_gives_the_same_archive(artefact, tmp_path):
    write_archive(artefact, tmp_path / "one.zip")
    write_archive(artefact, tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/evil", "a/../../evil", "..", "a\\..\\evil", "C:evil", "a/b/c/d", "", "./a", "n\u00e4me", "a\nb"],
)
def test_names_that_are_not_plain_are_refused(artefact, tmp_path, name):
    write_archive(artefact, tmp_path / "good.zip")
    members = read_members(tmp_path / "good.zip")
    pack(tmp_path / "bad.zip", [*members.items(), (name, b"evil")])
    with pytest.raises(ArtefactError, match=r"plain name|exactly the files"):
        unpack_archive(tmp_path / "bad.zip", tmp_path / "out" / "folder")
    assert not [path for path in tmp_path.rglob("*") if "evil" in path.name]


def test_a_link_in_an_archive_is_refused(artefact, tmp_path):
    write_archive(artefact, tmp_path / "good.zip")
    pack(tmp_path / "bad.zip", read_members(tmp_path / "good.zip").items(), mode=stat.S_IFLNK | 0o777)
    with pytest.raises(ArtefactError, match="not a regular file"):
        unpack_archive(tmp_path / "bad.zip", tmp_path / "folder")


def test_other_compressions_are_refused(artefact, tmp_path):
    write_archive(artefact, tmp_path / "good.zip")
    pack(tmp_path / "bad.zip", read_members(tmp_path / "good.zip").items(), compress=zipfile.ZIP_BZIP2)
    with pytest.raises(ArtefactError, match="not a regular file"):
        unpack_archive(tmp_path / "bad.zip", tmp_path / "folder")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("name", ["settings.json", "Settings.JSON"])
def test_a_name_that_comes_twice_is_refused(artefact, tmp_path, name):
    write_archive(artefact, tmp_path / "good.zip")
    pack(tmp_path / "bad.zip", [*read_members(tmp_path / "good.zip").items(), (name, b"{}")])
    with pytest.raises(ArtefactError, match="two files of the same name"):
        unpack_archive(tmp_path / "bad.zip", tmp_path / "folder")


def test_files_that_the_description_does_not_list_are_refused(artefact, tmp_path):
    write_archive(artefact, tmp_path / "good.zip")
    members = read_members(tmp_path / "good.zip")
    pack(tmp_path / "more.zip", [*members.items(), ("more.txt", b"")])
    members.pop("settings.json")
    pack(tmp_path / "fewer.zip", members.items())
    for name in ("more.zip", "fewer.zip"):
        with pytest.raises(ArtefactError, match="exactly the files"):
            unpack_archive(tmp_path / name, tmp_path / "folder")


def test_an_archive_that_declares_more_than_it_can_hold_is_refused_before_it_is_unpacked(tmp_path):
    pack(tmp_path / "bomb.zip", [(DESCRIPTION, bytes(2**28))])  # 256 MiB of zeros in 256 KiB
    assert (tmp_path / "bomb.zip").stat().st_size < 2**19
    with pytest.raises(ArtefactError, match="declares too many bytes"):
        peek_description(tmp_path / "bomb.zip")
    pack(tmp_path / "many.zip", [(f"f{number}", b"") for number in range(MOST_MEMBERS + 1)])
    with pytest.raises(ArtefactError, match=f"at most {MOST_MEMBERS}"):
        peek_description(tmp_path / "many.zip")


def test_a_member_that_lies_about_its_size_is_refused(artefact, tmp_path):
    path = tmp_path / "good.zip"
    write_archive(artefact, path)
    with zipfile.ZipFile(path) as archive:
        member = archive.getinfo("pictures/roc.png")
    data = path.read_bytes()
    # the size stands in the local header and, of 4 bytes, in the directory: make the latter smaller
    place = data.rindex(b"pictures/roc.png") - 46 + 24
    assert int.from_bytes(data[place : place + 4], "little") == member.file_size == 7
    path.write_bytes(data[:place] + (3).to_bytes(4, "little") + data[place + 4 :])
    with pytest.raises(ArtefactError, match="neither a classifier's folder nor an archive"):
        unpack_archive(path, tmp_path / "folder")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no archive at all", bytes(1000)])
def test_a_file_that_is_no_archive_is_refused_in_one_line(tmp_path, data):
    (tmp_path / "x.zip").write_bytes(data)
    for function in (digest_classifier, peek_description, lambda path: unpack_archive(path, tmp_path / "folder")):
        with pytest.raises(ArtefactError, match=r"x\.zip is neither a classifier's folder nor an archive"):
            function(tmp_path / "x.zip")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', "[" * 5000])
def test_an_invalid_description_is_refused(tmp_path, text):
    pack(tmp_path / "x.zip", [(DESCRIPTION, text.encode())])
    with pytest.raises(ArtefactError, match=DESCRIPTION):
        unpack_archive(tmp_path / "x.zip", tmp_path / "folder")


def test_an_altered_file_of_an_archive_is_named_without_the_temporary_folder(build_classifier, tmp_path):
    from kmm.classifier import Classifier

    build_classifier(None, "text-cnn").save(tmp_path / "reader")
    write_archive(tmp_path / "reader", tmp_path / "reader.zip")
    members = read_members(tmp_path / "reader.zip")
    members["settings.json"] = members["settings.json"].replace(b'"seed": 0', b'"seed": 1')
    pack(tmp_path / "reader.zip", members.items())
    with pytest.raises(ArtefactError) as caught:
        Classifier.load(tmp_path / "reader.zip")
    assert str(caught.value).startswith(f"{tmp_path / 'reader.zip'}/settings.json was altered after it was saved")


def test_a_model_file_that_is_a_bomb_is_refused(build_classifier, tmp_path):
    from kmm.classifier import Classifier
    from kmm.storage.classifier_folder import digest_file, sign_description

    folder = tmp_path / "reader"
    build_classifier(None, "text-cnn").save(folder)
    pack(folder / "text.keras", [("model.weights.h5", bytes(2**28))])
    description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    description["files"]["text.keras"] = digest_file(folder / "text.keras")
    (folder / DESCRIPTION).write_text(json.dumps(sign_description(description)), encoding="utf-8")
    with pytest.raises(ArtefactError, match="declares too many bytes"):
        Classifier.load(folder)


def test_a_classifier_in_an_archive_predicts_as_its_folder(tiny_run, loaded, tmp_path):
    from kmm.classifier import Classifier

    write_archive(tiny_run[2], tmp_path / "tiny.zip")
    found = Classifier.load(tmp_path / "tiny.zip", main_only=True)
    batch = loaded.batches.batch(tiny_run[1].prepared.studies[:4]).inputs()
    one, other = (classifier.models["joint"](batch, training=False) for classifier in (loaded, found))
    np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
