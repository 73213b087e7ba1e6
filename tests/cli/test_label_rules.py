"""`--labels rules:FILE` from the audit to a classifier that evaluates without the file."""

import json

import pytest

from kmm.export.pack import pack_classifier
from kmm.storage.archive import open_classifier
from tests.factories.commands import run
from tests.factories.studies import TINY

RULES = r"""
labels:
  Mass: ['/\bmass(es)?\b/', tumor]
  Case: {mentions: [there is a], read: findings}
"""
MINED = "labels made from the words of FINDINGS and IMPRESSION, which the text model reads"


@pytest.fixture
def rules(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(RULES, encoding="utf-8")
    return path


def test_audit_is_printed_and_written(tiny_folder, rules):
    found = run("data", "summary", tiny_folder, "--labels", f"rules:{rules}", "--json", "-")
    labels = json.loads(found.stdout)["labels"]
    assert labels["scheme"] == "rules:mine.yaml" and str(rules.parent) not in found.stdout
    assert labels["sources"] == {"Mass": ["findings", "impression"], "Case": ["findings"]}
    mass = labels["rules"][0]
    assert (mass["positive"], mass["negative"], mass["unknown"], mass["without_text"]) == (30, 29, 1, 1)
    entry, idle = mass["entries"]
    assert (entry["studies"], entry["affirmed"], entry["negated"], entry["decided"]) == (59, 30, 29, 59)
    assert idle["studies"] == 0
    assert labels["counts"]["Mass"]["positive"] == 30
    assert labels["pairs"] == [{"label": "Mass", "other": "Case", "both": 30, "known": 59, "expected": 30 * 30 / 59}]
    printed = run("data", "summary", tiny_folder, "--labels", f"rules:{rules}").stdout
    assert "entries of the label rules" in printed and "labels that occur together" in printed
    assert "There is" not in printed  # no text of a report, but the entry itself is the user's


def test_page_has_the_audit(tiny_folder, rules, tmp_path):
    page = tmp_path / "summary.html"
    result = run("data", "summary", tiny_folder, "--labels", f"rules:{rules}", "--no-films", "--out", page)
    assert result.exit_code == 0, result.output
    text = page.read_text(encoding="utf-8")
    assert "Studies that each entry of the label rules took" in text and "Labels that occur together" in text


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("rules:none.yaml", "none.yaml: expected a readable file of rules, or chestxray14"),
        ("rule:none.yaml", "Unknown label scheme 'rule:none.yaml'. Known: normal-abnormal"),
    ],
)
def test_wrong_names_end_a_command_before_a_study_is_read(labels, message, tmp_path):
    result = run("data", "split", tmp_path / "none", "--out", tmp_path / "split.csv", "--labels", labels)
    assert result.exit_code == 2 and message in result.output


@pytest.mark.large
def test_a_fit_says_that_it_reads_what_its_labels_were_made_from(tiny_folder, rules, tmp_path):
    options = [f"--set={name}={value}" for name, value in TINY.items()]
    out = tmp_path / "models"
    text = ("--text-encoder", "text-cnn", "--image-encoder", "none")
    fitted = run("fit", tiny_folder, *text, "--labels", f"rules:{rules}", "--name", "mined", "--out", out, *options)
    assert fitted.exit_code == 0, fitted.output
    assert "Labels by the rules of mine.yaml: Mass 30 of 1, 29 of 0, 1 unknown" in fitted.output
    tables = [line for line in fitted.stdout.splitlines() if line.startswith(("test: ", "validation: "))]
    assert len(tables) == " ".join(fitted.stdout.split()).count(MINED) == 8  # in the title of every table
    card = (out / "mined" / "model_card.md").read_text(encoding="utf-8")
    assert card.count(MINED) == 2 and "rules that know negation" in card and str(rules) not in card
    facts = json.loads((out / "mined" / "classifier.json").read_text(encoding="utf-8"))["provenance"]
    assert facts["label_sources"]["Case"] == ["findings"] and facts["label_audit"][0]["label"] == "Mass"
    assert facts["label_rules"]["labels"]["Mass"]["mentions"] == [r"/\bmass(es)?\b/", "tumor"]
    rules.unlink()
    table = tmp_path / "labels.csv"
    again = run("evaluate", out / "mined", tiny_folder, "--json", "-", "--csv", table)
    assert again.exit_code == 0, again.output
    results = json.loads(again.stdout)
    assert (
        results["test"]["mined"] == ["findings", "impression"] and "rules:mine.yaml" in results["test"]["label_schemes"]
    )
    saved = (out / "mined" / "labels.csv").read_text(encoding="utf-8").splitlines()
    assert table.read_text(encoding="utf-8").splitlines()[0] == saved[0]
    (line,) = [line for line in saved if line.startswith("test,text,Case,")]
    assert line.endswith(",findings,findings impression")
    pack_classifier(out / "mined", tmp_path / "mined.zip")
    with open_classifier(tmp_path / "mined.zip") as folder:
        packed = json.loads((folder / "classifier.json").read_text(encoding="utf-8"))["provenance"]
        assert packed["label_rules"] == facts["label_rules"] and packed["label_audit"] == facts["label_audit"]
        assert json.loads((folder / "settings.json").read_text(encoding="utf-8"))["labels"] == "rules:mine.yaml"
