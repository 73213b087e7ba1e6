"""Reports, manifests, tables and XML that cannot be read: one line each, with no word of a report."""

import json
import shutil

import pytest

from tests.factories.commands import CANARY, refuse, run_safely, set_aside
from tests.factories.studies import write_table


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "1 to 20000 words. Received: 0"),
        (f"{CANARY} ".encode() * 100_000, "1 to 20000 words. Received: 100000"),
        (f"naïve {CANARY}".encode("latin-1"), "expected a report in UTF-8"),
        (f"{CANARY}".encode("utf-16"), "expected a report in UTF-8"),
        (None, "No such file"),
    ],
    ids=["empty", "long", "latin-1", "utf-16", "missing"],
)
def test_a_file_that_is_not_a_report_is_refused(model, good, tmp_path, text, says):
    path = tmp_path / "report.txt"
    if text is not None:
        path.write_bytes(text)
    refuse("predict", model, good, "--report", path, says=(str(path), says))


def make_manifest(folder, good, bad):
    """A manifest of two good studies and a bad one between them."""
    shutil.copy(good, folder / "film.png")
    rows = [["id", "image", "report"], ["a", "film.png", f"No mass {CANARY}."], bad, ["c", "", f"A mass {CANARY}."]]
    return write_table(folder / "list.csv", rows)


BAD_ROWS = {
    "empty report, no image": (["b", "", " "], "study b: expected a frontal image or a report with words"),
    "long report": (["b", "", f"{CANARY} " * 100_000], "study b: expected a report of at most 20000 words"),
    "way out": (["b", "../film.png", ""], "list.csv line 3: the file name leads out of the folder"),
    "absolute": (["b", "/etc/hostname", ""], "list.csv line 3: the file name leads out of the folder"),
    "missing image": (["b", "none.png", ""], "none.png: film missing"),
    "too few fields": (["b", "film.png"], "list.csv line 3: expected 3 fields"),
    "no id": ["", "", CANARY],
    "unsafe id": (["../b", "", CANARY], "list.csv line 3: expected an id"),
}
BAD_ROWS["no id"] = (BAD_ROWS["no id"], "list.csv line 3: expected an id")


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_among_good_ones_is_set_aside(model, good, tmp_path, name):
    row, says = BAD_ROWS[name]
    table = make_manifest(tmp_path, good, row)
    result = run_safely("predict", model, table, "--json", "-")
    lines = set_aside(result)
    assert says in lines[0]
    assert [row["study"] for row in json.loads(result.stdout)["predictions"]] == ["a", "c"]
    refuse("predict", model, table, "--strict", says=says)


def test_a_long_report_is_set_aside_by_embed(tmp_path):
    rows = [["id", "report"], *([name, "No mass at all."] for name in "ac"), ["b", f"{CANARY} " * 100_000]]
    result = run_safely(
        "weights", "embed", write_table(tmp_path / "list.csv", rows), "--out", tmp_path / "v.txt", "--dimensions", 4
    )
    (line,) = set_aside(result)
    assert "study b: expected a report of at most 20000 words. Received: 100000." in line
    assert CANARY not in (tmp_path / "v.txt").read_text()


def test_a_link_that_leads_out_is_not_followed(model, good, tmp_path):
    secret = tmp_path / "secret.png"
    shutil.copy(good, secret)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "way-out.png").symlink_to(secret)
    table = make_manifest(tmp_path / "set", good, ["b", "way-out.png", ""])
    result = run_safely("predict", model, table, "--json", "-")
    assert "list.csv line 3: the file is a link that leads out of the folder" in set_aside(result)[0]


TABLES = {
    "manifest.csv": (f"id,words\na,{CANARY}\n", ("manifest.csv", "expected a column", "id, words")),
    "manifest.jsonl": (f'{{"report": "{CANARY}"}}\n', ("manifest.jsonl", "Missing: id")),
    "indiana_reports.csv": (f"uid,findings\n1,{CANARY}\n", ("indiana_reports.csv", "Missing: MeSH, indication")),
}


@pytest.mark.parametrize("command", ["predict", "evaluate", "fit", "embed", "verify"])
@pytest.mark.parametrize("name", TABLES)
def test_a_table_with_missing_columns(model, tmp_path, name, command):
    text, says = TABLES[name]
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / name).write_text(text)
    (folder / "indiana_projections.csv").write_text("uid,filename,projection\n")
    refuse(*give_folder(command, model, folder, tmp_path), says=says)
    assert [path.name for path in tmp_path.iterdir()] == ["set"]


def give_folder(command, model, folder, out):
    return {
        "predict": ["predict", model, folder],
        "evaluate": ["evaluate", model, folder],
        "fit": ["fit", folder, "--out", out / "out"],
        "embed": ["weights", "embed", folder, "--out", out / "v.txt"],
        "verify": ["data", "verify", folder],
    }[command]


def test_a_table_without_a_header_shows_no_sentence(tmp_path):
    rows = [["1", "film.png", f"There is no mass to be seen {CANARY}."], ["2", "film.png", f"A mass {CANARY}."]]
    refuse("fit", write_table(tmp_path / "list.csv", rows), "--out", tmp_path / "out", says=("list.csv", "Missing: id"))


@pytest.mark.parametrize("name", ["manifest.csv", "manifest.jsonl", "indiana_reports.csv"])
def test_a_table_that_is_not_utf8(model, tmp_path, name):
    text = f'{{"id": "1", "report": "naïve {CANARY}"}}' if name.endswith("jsonl") else f"id,report\n1,naïve {CANARY}\n"
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / name).write_bytes(text.encode("latin-1"))
    for command in ("predict", "evaluate", "fit", "embed", "verify"):
        refuse(*give_folder(command, model, folder, tmp_path), says=(str(folder / name), "expected UTF-8"))


def test_a_label_with_one_class(tmp_path):
    rows = [["id", "report", "label:mass"], *([n, f"A mass {CANARY} {n}.", 1] for n in range(30))]
    table = write_table(tmp_path / "manifest.csv", rows)
    says = (str(tmp_path), "of 0 and of 1 for the label 'mass'. Found: 30 of 1")
    refuse("fit", table, "--out", tmp_path / "out", "--labels", "columns", says=says)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("command", ["predict", "evaluate", "fit", "embed", "verify"])
def test_a_folder_without_studies(model, tmp_path, command):
    folder = tmp_path / "set"
    folder.mkdir()
    says = "Found none" if command == "predict" else "no studies in it. Expected a folder with one of"
    refuse(*give_folder(command, model, folder, tmp_path), says=says)
    (folder / "manifest.csv").write_text("id,report\n")
    refuse(*give_folder(command, model, folder, tmp_path), says=(str(folder), "no studies in it"))
    refuse(*give_folder(command, model, tmp_path / "nowhere", tmp_path), says="nowhere: no such file or folder")


def test_evaluate_needs_studies_that_are_new(model, tiny_run, tmp_path):
    rows = [["id", "report"], *([n, f"A mass {CANARY}"] for n in range(9))]
    table = write_table(tmp_path / "list.csv", rows)
    refuse("evaluate", model, table, says="Expected labelled studies")


XML = """<eCitation><uId id="CXR{number}"/><MeSH><major>{major}</major></MeSH><Abstract>
<AbstractText Label="FINDINGS">There is {word} mass {canary}.</AbstractText></Abstract></eCitation>"""
BAD_XML = {
    "broken.xml": (f"<eCitation><uId id='CXR90'/><Abstract>{CANARY}", "not well-formed XML"),
    "bomb.xml": (
        '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><eCitation><uId id="CXR91"/>&b;</eCitation>',
        "declares XML entities",
    ),
    "outside.xml": (
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><eCitation><uId id="CXR92"/>&a;</eCitation>',
        "declares XML entities",
    ),
    "other.xml": (f"<html>{CANARY}</html>", "expected an <eCitation>"),
    "latin.xml": (f"<eCitation><uId id='CXR93'/>naïve {CANARY}</eCitation>".encode("latin-1"), "not well-formed XML"),
    "empty.xml": ("", "not well-formed XML"),
}


@pytest.fixture
def reports(tmp_path):
    """An Open-i folder of 8 good reports."""
    folder = tmp_path / "openi"
    (folder / "ecgen-radiology").mkdir(parents=True)
    for number in range(1, 9):
        word, major = ("no", "normal") if number % 2 else ("a", "Mass/lung")
        text = XML.format(number=number, major=major, word=word, canary=CANARY)
        (folder / "ecgen-radiology" / f"{number}.xml").write_text(text)
    return folder


def test_bad_xml_among_good_ones_is_set_aside(model, reports):
    for name, (text, _) in BAD_XML.items():
        (reports / "ecgen-radiology" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    result = run_safely("evaluate", model, reports, "--json", "-")
    lines = set_aside(result)
    assert len(lines) == len(BAD_XML)
    for name, (_, says) in BAD_XML.items():
        assert any(f"set aside: {name}: {says}" in line for line in lines), name
    assert json.loads(result.stdout)["test"]["n"] == 8


@pytest.mark.parametrize("name", BAD_XML)
def test_bad_xml_with_strict_and_alone(model, reports, name):
    text, says = BAD_XML[name]
    (reports / "ecgen-radiology" / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    refuse("evaluate", model, reports, "--strict", says=f"{name}: {says}")
    refuse("fit", reports, "--out", reports.parent / "out", "--strict", says=f"{name}: {says}")
    for path in (reports / "ecgen-radiology").glob("[0-9].xml"):
        path.unlink()
    refuse("evaluate", model, reports, says=(str(reports), "no studies in it", f"{name}: {says}"))


def test_a_damaged_archive(model, tmp_path):
    (tmp_path / "NLMCXR_reports.tgz").write_bytes(b"\x1f\x8b\x08\x00 no archive")
    refuse("evaluate", model, tmp_path, says=("NLMCXR_reports.tgz", "expected a whole .tgz"))
