import json
import math

import pytest

from kmm.errors import InputError
from kmm.rules.rule_file import MAX_BYTES, LabelRules, compile_entry, read_rules

FILE = """
# a comment
read: [findings, mesh, "text:diagnosis"]
unmentioned: unknown
labels:
  Mass: [mass, /nodul(e|es|ar)/]
  Effusion:
    mentions: [effusion]
    except: [pericardial effusion]
    absent: [clear angles]
    unknown: [poor film]
    read: impression
    unmentioned: 0
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def test_file(write):
    rules = read_rules(write(FILE))
    mass, effusion = rules.rules
    assert rules.name == "mine.yaml"
    assert (mass.label, mass.read) == ("Mass", ("findings", "mesh", "text:diagnosis"))
    assert math.isnan(mass.unmentioned) and effusion.unmentioned == 0
    assert mass.entries == {"mentions": ("mass", "/nodul(e|es|ar)/"), "except": (), "absent": (), "unknown": ()}
    assert effusion.read == ("impression",)
    assert {kind: len(found) for kind, found in effusion.entries.items()} == dict.fromkeys(effusion.entries, 1)


def test_json_and_saved_rules_are_the_same(write):
    rules = read_rules(write(FILE))
    kept = json.loads(json.dumps(rules.as_dict()))
    again = LabelRules.from_dict(kept)
    assert again.digest == rules.digest and again.as_dict() == rules.as_dict()
    as_json = read_rules(write(json.dumps({"labels": kept["labels"]}), "mine.json"))
    assert as_json.digest == rules.digest and as_json.name == "mine.json"


def test_digest_is_that_of_the_rules(write):
    rules = read_rules(write(FILE))
    assert read_rules(write(FILE.replace("# a comment", ""), "other.yaml")).digest == rules.digest
    assert read_rules(write(FILE.replace("poor film", "bad film"))).digest != rules.digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("labels: {Mass: [mass.*]}", "label 'Mass', `mentions`, 'mass.*': a phrase begins and ends with"),
        ("labels: {Mass: [/mass.*/]}", "`*` has no upper bound"),
        ("labels: {Mass: ['/(?=a)b/']}", "look-around"),
        (r"labels: {Mass: ['/(a{0,9}b{0,9}c{0,9}){0,9}d/']}", "it repeats what may be empty"),
        ("labels: {Mass: []}", "at least one entry of `mentions`"),
        ("labels: {Mass: mass}", "expected a list of entries"),
        ("labels: {Mass: [1]}", "expected text. Received: 1"),
        ("labels: {1: [mass]}", "expected a label in words. Received: 1"),
        ("labels: {Mass: {mentions: [mass], excepts: [x]}}", "Unknown key 'excepts'"),
        ("labels: {Mass: {mentions: [mass], read: finding}}", "Unknown source of a rule 'finding'"),
        ("labels: {Mass: {mentions: [mass], unmentioned: 1}}", "`unmentioned` must be 0 or unknown"),
        ("labels: {Mass: [mass], Mass: [masses]}", "'Mass' occurs twice"),
        ("labels: {Mass: &a [mass], Other: *a}", "references (*name) are not supported"),
        ("labels: {}", "1 to 200 labels"),
        ("label: {Mass: [mass]}", "Unknown key 'label'"),
        ("- Mass", "expected `labels:`"),
        ("", "expected `labels:`"),
        ("labels: {Mass: [mass", "not valid YAML or JSON at line 1"),
        ("labels: !!python/object/apply:os.system ['true']", "not valid YAML or JSON"),
        ("labels: {Mass: [" + "mass, " * (MAX_BYTES // 6) + "mass]}", f"at most {MAX_BYTES} bytes"),
        ("[" * 1500, "not valid YAML or JSON|nested too deeply"),
    ],
)
def test_errors_name_the_file_and_the_entry(write, text, message):
    path = write(text)
    with pytest.raises(InputError) as caught:
        read_rules(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and "\n" not in said
    assert any(part in said for part in (message.split("|") if "nested" in message else [message]))


def test_file_that_is_missing_or_no_text(tmp_path):
    with pytest.raises(InputError, match=r"expected a readable file of rules, or chestxray14"):
        read_rules(str(tmp_path / "none.yaml"))
    (tmp_path / "bytes.yaml").write_bytes(b"labels: {\xff: [mass]}")
    with pytest.raises(InputError, match="not valid UTF-8"):
        read_rules(str(tmp_path / "bytes.yaml"))


@pytest.mark.parametrize(
    ("entry", "text", "found"),
    [
        ("mass", "A MASS, seen", True),
        ("mass", "massive", False),
        ("mass", "biomass", False),
        ("ödem", "Lungenödem", False),
        ("no mass", "no\n mass", True),
        ("/mass/", "massive", True),
        (r"/\bmass\b/", "massive", False),
    ],
)
def test_entries_match_as_those_of_a_redaction(entry, text, found):
    assert bool(compile_entry(entry).search(text)) == found
