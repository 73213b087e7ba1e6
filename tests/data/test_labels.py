import math
from dataclasses import replace

import pytest

from kmm.data.collection import read_collection
from kmm.data.headings import NOT_FINDINGS, POOR_QUALITY
from kmm.data.labels import LABEL_SCHEMES, audit_headings, describe_audit, find_heads, label_studies
from kmm.data.study import Study
from kmm.errors import InputError

NAN = math.nan


def make(*terms, automatic=(), labels=None):
    number = str(make.count)
    make.count += 1
    return Study(number, number, mesh_major=terms, mesh_automatic=automatic, labels=labels or {})


make.count = 0
STUDIES = [
    make("normal"),
    make("Opacity/lung/base", "Opacity/lung/apex", "Scoliosis/mild"),
    make("No Indexing"),
    make(POOR_QUALITY),
    make("Opacity", POOR_QUALITY),
    make(),
    make(automatic=("opacity",)),
    make("Normal variant"),
    make("normal", "Opacity"),
]


def same(found, expected):
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("normal-abnormal", [0, 1, 1, 1, 1, NAN, 1, 1, 1]),
        ("normal-abnormal-indexed-only", [0, 1, 1, 1, NAN, 1, 1, 1]),
        ("normal-abnormal-unindexed-unknown", [0, 1, NAN, 1, 1, NAN, 1, 1, 1]),
        ("normal-abnormal-poor-quality-unknown", [0, 1, 1, NAN, NAN, NAN, 1, 1, 1]),
    ],
)
def test_normal_or_abnormal(scheme, expected):
    labelled, names = label_studies(STUDIES, scheme)
    assert names == ("abnormal",)
    assert same([study.labels["abnormal"] for study in labelled], expected)
    assert [study.id for study in labelled] == [s.id for s in STUDIES if not ("indexed-only" in scheme and s.id == "2")]


def test_findings_with_a_minimum_count():
    labelled, names = label_studies(STUDIES, "findings", min_count=2, not_findings=())
    assert names == ("Opacity", POOR_QUALITY)
    rows = [[study.labels[name] for name in names] for study in labelled]
    for found, expected in zip(
        rows, [[0, 0], [1, 0], [NAN] * 2, [0, 1], [1, 1], [NAN] * 2, [NAN] * 2, [0, 0], [1, 0]], strict=True
    ):
        assert same(found, expected)


@pytest.mark.parametrize(
    "terms",
    [
        ("normal",),
        ("Normal",),
        ("NORMAL ",),
        ("normal", "normal"),
        ("Normal", "normal"),
    ],
)
def test_normal_in_any_case_and_number_is_normal(terms):
    studies = [make(*terms), make("Opacity", *terms), make("Normal variant"), make("normal", "no indexing")]
    labelled, _ = label_studies(studies)
    assert [study.labels["abnormal"] for study in labelled] == [0, 1, 1, 1]
    labelled, names = label_studies(studies, "findings", min_count=1)
    assert names == ("Normal variant", "Opacity")
    assert same([study.labels["Opacity"] for study in labelled], [0, 1, 0, NAN])
    assert find_heads(studies[0]) == set()
    labelled, _ = label_studies(studies, "normal-abnormal-unindexed-unknown")
    assert same([study.labels["abnormal"] for study in labelled], [0, 1, 1, NAN])


def test_order_of_terms_does_not_matter():
    one, other = make("Opacity/lung", "normal"), make("normal", "Opacity/lung")
    for scheme in ("normal-abnormal", "findings"):
        labelled, _ = label_studies([one, other, make("normal")], scheme, min_count=1)
        assert labelled[0].labels == labelled[1].labels


def test_spellings_of_one_head_are_one_label_under_the_most_frequent():
    studies = [
        make("Lung  mass"),
        make("lung mass/left"),
        make("Lung Mass"),
        make("lung mass", "Lung Mass"),
        make("normal"),
    ]
    labelled, names = label_studies(studies, "findings", min_count=4)
    assert len(names) == 1 and [study.labels[names[0]] for study in labelled] == [1, 1, 1, 1, 0]
    assert names == ("lung mass",)
    labelled, _ = label_studies(studies, "findings", names=("LUNG MASS",))
    assert [study.labels["LUNG MASS"] for study in labelled] == [1, 1, 1, 1, 0]


ORGANS = [
    make("Lung/hypoinflation", "Opacity/lung"),
    make("Lung", "thoracic  vertebrae/degenerative"),
    make("Aorta, Thoracic/tortuous", POOR_QUALITY.upper()),
    make("Cysts/lung", "Opacity"),
    make("normal"),
]


def test_headings_that_are_no_finding_become_no_label():
    assert label_studies(ORGANS, "findings", min_count=1)[1] == ("Opacity", "Cysts")
    for rule, names in {
        "technical quality": ("Lung", "Opacity", "Aorta, Thoracic", "Cysts", "thoracic vertebrae"),
        "bare organs": ("Opacity", "Cysts", POOR_QUALITY.upper()),
    }.items():
        assert label_studies(ORGANS, "findings", min_count=1, not_findings=[rule])[1] == names
    left = label_studies(ORGANS, "findings", min_count=2, not_findings=["opacity", "Aorta,  thoracic"])[1]
    assert left == ("Lung",)


def test_the_audit_says_what_each_rule_left_out():
    rows = audit_headings(ORGANS, min_count=2, not_findings=[*NOT_FINDINGS, "Cysts", "Unheard"])
    assert rows == [
        {"rule": "bare organs", "heading": "Lung", "studies": 2, "label": True},
        {"rule": "bare organs", "heading": "Aorta, Thoracic", "studies": 1, "label": False},
        {"rule": "Cysts", "heading": "Cysts", "studies": 1, "label": False},
        {"rule": "technical quality", "heading": POOR_QUALITY.upper(), "studies": 1, "label": False},
        {"rule": "bare organs", "heading": "thoracic vertebrae", "studies": 1, "label": False},
        {"rule": "Unheard", "heading": None, "studies": 0, "label": False},
    ]
    assert describe_audit(rows) == (
        "Headings left out as non-findings: by 'bare organs' 3 (as labels: Lung 2); by 'Cysts' 1; "
        "by 'technical quality' 1; by 'Unheard' none"
    )
    assert describe_audit([]) == "Headings left out as non-findings: none, as no rule is set"


def test_rules_and_settings_name_the_same():
    from kmm.settings import FitSettings

    assert FitSettings().not_findings == tuple(NOT_FINDINGS)
    told = FitSettings.from_dict({"not_findings": "technical quality; Catheters, Indwelling"}).not_findings
    assert told == ("technical quality", "Catheters, Indwelling")
    assert FitSettings.from_dict({"not_findings": "none"}).not_findings == ()
    assert FitSettings.from_dict({"not_findings": ["Catheters, Indwelling"]}).not_findings == ("Catheters, Indwelling",)


def test_label_columns_that_a_scheme_does_not_read_are_named():
    studies = [make(labels={"mass": 1.0, "fluid": NAN}), make(labels={"mass": 0.0})]
    for scheme in ("normal-abnormal", "findings"):
        with pytest.raises(InputError, match=r"label:mass, label:fluid\. --labels columns reads them\.") as error:
            label_studies(studies, scheme)
        assert "\n" not in str(error.value)


def test_the_most_frequent_finding_comes_first_then_the_alphabet():
    studies = [make("B", "A", "C"), make("B", "A"), make("C"), make("C"), make("normal")]
    assert label_studies(studies, "findings", min_count=1)[1] == ("C", "A", "B")
    assert label_studies(studies[::-1], "findings", min_count=3)[1] == ("C",)


def test_heads_without_qualifiers():
    assert find_heads(make("Opacity/lung", "Opacity/apex", "normal", "No Indexing")) == {"Opacity"}


def test_labels_of_a_manifest():
    studies = [make(labels={"a": 1.0, "b": NAN}), make(labels={"a": 0.0, "b": 0.0}), make(labels={"b": 1.0})]
    labelled, names = label_studies(studies, "columns")
    assert names == ("a", "b") and math.isnan(labelled[2].labels["a"])


def test_labels_of_an_existing_classifier_are_taken_as_they_are():
    labelled, names = label_studies(STUDIES[:3], "findings", names=("Scoliosis", "Unheard"))
    assert names == ("Scoliosis", "Unheard")
    assert same([study.labels["Scoliosis"] for study in labelled], [0, 1, NAN])
    labelled, names = label_studies(STUDIES[:1], "normal-abnormal", names=("abnormal",))
    assert labelled[0].labels == {"abnormal": 0}


@pytest.mark.parametrize(
    ("studies", "scheme", "message"),
    [
        (STUDIES, "magic", "Unknown label scheme 'magic'. Known: normal-abnormal, .*, findings, columns"),
        (STUDIES[:1], "normal-abnormal", "expected studies of 0 and of 1 for the label 'abnormal'. Found: 1 of 0"),
        (STUDIES[5:6], "normal-abnormal", "Found: no known value"),
        (STUDIES, "findings", "expected a finding with at least 50 studies. The most frequent has 3"),
        (STUDIES[:1], "findings", "No study has MeSH findings"),
        (STUDIES, "columns", "columns named label:<name>. Found none"),
        ([make(labels={"a": 1.0}), make(labels={"a": 1.0})], "columns", "for the label 'a'. Found: 2 of 1"),
        ([], "normal-abnormal", "no known value"),
    ],
)
def test_what_cannot_be_labelled(studies, scheme, message):
    with pytest.raises(InputError, match=message):
        label_studies(studies, scheme)


def make_columns(**counts):
    """Studies with labels of the scheme `columns`: of each name so many of 0 and of 1, unknown in the rest."""
    studies = []
    for number in range(max(sum(pair) for pair in counts.values())):
        values = {
            name: float(number >= zeros) if number < zeros + ones else NAN for name, (zeros, ones) in counts.items()
        }
        studies.append(make(labels=values))
    return studies


def test_a_column_too_rare_to_train_is_left_out_with_a_note():
    notes = []
    studies = make_columns(mass=(5, 4), rare=(9, 2), gone=(4, 0), unknown=(0, 0))
    labelled, names = label_studies(studies, "columns", note=notes.append)
    assert names == ("mass",) and all(set(study.labels) == {"mass"} for study in labelled)
    assert notes == [
        "Label 'rare' is left out: 9 of 0, 2 of 1. Expected at least 3 of 0 and 3 of 1.",
        "Label 'gone' is left out: 4 of 0. Expected at least 3 of 0 and 3 of 1.",
        "Label 'unknown' is left out: no known value. Expected at least 3 of 0 and 3 of 1.",
    ]
    assert label_studies(studies, "columns")[1] == ("mass",)


def test_columns_that_are_all_rare_are_kept_where_they_have_both_classes():
    assert label_studies(make_columns(a=(2, 2), b=(4, 0)), "columns")[1] == ("a",)
    with pytest.raises(InputError, match=r"for the label 'a'\. Found: 2 of 0"):
        label_studies(make_columns(a=(2, 0), b=(0, 4)), "columns")


@pytest.mark.parametrize("scheme", LABEL_SCHEMES)
def test_studies_are_not_changed_and_answers_repeat(scheme):
    unsure = replace(make("normal", labels={"a": NAN}), uncertain=frozenset({"a"}))
    studies = [*STUDIES, make("normal", labels={"a": 1.0}), make("Opacity", labels={"a": 0.0}), unsure]
    before = [dict(study.labels) for study in studies]
    first, names = label_studies(studies, scheme, min_count=2)
    assert str(label_studies(studies, scheme, min_count=2)[0]) == str(first)
    assert [dict(study.labels) for study in studies] == before
    assert all(tuple(study.labels) == names for study in first)


@pytest.mark.openi
def test_the_real_labels(openi_folder):
    studies = read_collection(openi_folder).studies
    labelled, _ = label_studies(studies, "normal-abnormal")
    normal = sum(study.labels["abnormal"] == 0 for study in labelled)
    assert not any(math.isnan(study.labels["abnormal"]) for study in labelled)
    assert 0.30 < normal / len(labelled) < 0.40
    dropped, _ = label_studies(studies, "normal-abnormal-indexed-only")
    unknown, _ = label_studies(studies, "normal-abnormal-unindexed-unknown")
    assert len(studies) - len(dropped) == sum(math.isnan(study.labels["abnormal"]) for study in unknown) > 0
    labelled, names = label_studies(studies, "findings", min_count=100)
    assert {"Opacity", "Cardiomegaly", "Pulmonary Atelectasis"} <= set(names)
    for name in names:
        assert sum(study.labels[name] == 1 for study in labelled) >= 100
    rows = audit_headings(studies, min_count=50)
    assert sum(row["label"] for row in rows) >= 7 and {row["rule"] for row in rows} == set(NOT_FINDINGS)


def test_a_finding_that_another_folder_lacks_is_absent_there_and_not_unknown():
    studies = [Study("1", "1", mesh_major=("normal",)), Study("2", "2", mesh_major=("No Indexing",))]
    labelled, names = label_studies(studies, "findings", names=("Opacity", "Nodule"))
    assert names == ("Opacity", "Nodule") and labelled[0].labels == {"Opacity": 0.0, "Nodule": 0.0}
    assert all(math.isnan(value) for value in labelled[1].labels.values())
