"""The page of a comparison: valid, safe, offline, and saying what the summary says."""

import copy

import numpy as np
import pytest

from kmm.experiments.output import page as pages
from kmm.experiments.output.page import list_sections, render_comparison, write_pages
from kmm.experiments.schema import Summary
from kmm.explain.output.markup import FORBIDDEN
from kmm.pages.parts import Link, link_inside
from tests.factories.comparison_results import MadeComparison, make_comparison
from tests.factories.pages import NAMESPACES, check_page, find_section, parse, read_all, read_text

HOSTILE = "<script>alert(1)</script></style>\"'&amp; {{ 7 * 7 }} {cite:x} \x00 \ud800 \u202e"
OPTIONAL = {"wrong_report": "wrong-report", "errors_mended": "errors", "subgroups": "subgroups"}


def change(made=None, **changes):
    """The comparison with other values in its summary; None removes a key."""
    made = made or make_comparison()
    summary = {name: value for name, value in {**made.summary, **changes}.items() if value is not None}
    return MadeComparison(made.comparison, made.predictions, made.history, summary)


def read_table(tree, section, number=0):
    table = read_all(find_section(tree, section), "h:table")[number]
    return [[read_text(cell) for cell in row] for row in read_all(table, "h:tr")]


@pytest.fixture(scope="module")
def whole():
    return render_comparison(*make_comparison())


@pytest.fixture(scope="module")
def tree(whole):
    return parse(whole)


@pytest.fixture
def undrawn(monkeypatch):
    """Leaves figures out where they are not what is tested."""
    monkeypatch.setattr(pages, "list_figures", lambda *tables: {})


def test_the_page_is_offline_safe_and_readable_with_a_screen_reader(whole):
    check_page(whole)


def test_the_order_is_that_of_a_reader(tree):
    names = [part.get("aria-labelledby") for part in read_all(tree, "h:section")]
    assert names == [
        *(
            "question",
            "answer",
            "data",
            "training",
            "results",
            "labels",
            "parts",
            "over-epochs",
            "differences",
            "claim",
        ),
        *(
            "leak",
            "sides",
            "errors",
            "wrong-report",
            "calibration",
            "selective",
            "decision",
            "subgroups",
            "label-rules",
        ),
        *("variants", "limits", "cost", "reproduce", "cite"),
    ]
    assert "Not for diagnosis." in read_text(tree.find(".//h:header", NAMESPACES))


def show(value, sign=""):
    return f"{value:{sign}.3f}".replace("-", "−")


def test_the_results_are_those_of_the_summary(tree):
    rows = read_table(tree, "results")
    assert rows[0] == ["Model", "ROC AUC", "Accuracy", "AP", "Sensitivity", "Specificity"]
    for variant, models in make_comparison().summary["models"].items():
        start = rows.index([variant.replace("=", " = ")])
        for model, row in zip(models.values(), rows[start + 1 :]):
            for place, metric in ((1, "roc_auc"), (2, "accuracy")):
                low, high = model[metric]["interval"]
                assert row[place] == f"{show(model[metric]['mean'])} [{show(low)}, {show(high)}]"
            assert row[3] == show(model["average_precision"]["mean"])


def test_published_numbers_are_marked(tree):
    rows = [row for row in read_all(find_section(tree, "results"), "h:tr") if row.get("class") == "published"]
    assert [read_text(row) for row in rows] == [
        "Published: Joint (table 3, high rate)–0.81–––",
        "Published: Text only (table 3, high rate)–0.77–––",
        "Published: Image only (table 3, high rate)–0.74–––",
    ]
    assert read_table(tree, "parts")[-1] == ["Published: Text only (table 2, GloVe)", "0.88", "0.80", "0.75"]


def test_the_differences_are_those_of_the_summary(tree):
    rows = [row for row in read_table(tree, "differences")[1:] if len(row) > 1]
    found = make_comparison().summary["differences"]
    assert len(rows) == len(found)
    for row, one in zip(rows, found):
        assert row[2] in (show(one["difference"], "+"), "0.000")
        assert row[6] == (show(one["p_holm"]) if one["p_holm"] >= 0.0005 else "<0.001")
        assert row[8] == ("yes" if one["p_holm"] < 0.05 and min(one["interval"]) * max(one["interval"]) > 0 else "no")


def test_parts_and_prevalence_are_counted(tree):
    made = make_comparison()
    rows = {tuple(row[:2]): row[2:] for row in read_table(tree, "data")[1:]}
    kept = (made.predictions["part"] == "test") & (made.predictions["label"] == "effusion")
    kept &= (made.predictions["model"] == "joint") & (made.predictions["variant"] == made.predictions["variant"][0])
    truth = made.predictions["truth"][kept]
    assert rows["test", "effusion"] == ["50", f"{truth.sum() / 3:.0f}", f"{100 * truth.mean():.1f} %"]
    assert rows["train", "effusion"][0] == "100"


def test_within_a_split_tests_are_counted_and_named(tree):
    rows = read_table(tree, "differences", 1)
    assert ["Joint − Text only, abnormal", "ROC AUC", "DeLong", "+0.010 to +0.010", "0 of 1"] in rows
    assert ["Joint − Text only, abnormal", "Accuracy", "McNemar", "+0.050 to +0.050", "1 of 1"] in rows


def test_a_text_that_gives_the_answer_away_is_named(undrawn):
    made = make_comparison()
    tree = parse(render_comparison(*made))
    assert "the text gives the answer away" in read_text(find_section(tree, "leak"))
    first, second = read_table(tree, "leak")[1:]
    assert first[1] == "0.999 [0.998, 1.000]" and second[1] == "–"
    assert first[2] == read_table(tree, "results")[5][1] and first[3] == read_table(tree, "results")[2][1][:5]


@pytest.mark.parametrize(
    ("probe", "gain", "words"), [(0.6, 0.3, None), (0.75, -0.05, "neither the film nor the order")]
)
def test_a_text_that_tells_little_is_not_called_telling(probe, gain, words, undrawn):
    made = make_comparison().summary
    models, beside = copy.deepcopy(made["models"]), copy.deepcopy(made["beside"])
    for found in models.values():
        found["tfidf"]["roc_auc"]["mean"], found["joint"]["roc_auc"]["mean"] = probe, 0.7  # on other studies
    for found in beside:
        found |= {"difference": gain, "interval": [gain - 0.1, gain + 0.1]}
    tree = parse(render_comparison(*change(models=models, beside=beside, leak=None)))
    text = read_text(find_section(tree, "leak"))
    assert "gives the answer away" not in text and (words in text if words else "does as well" not in text)
    head, first, _ = read_table(tree, "leak")
    assert head == ["Variant", "Probe", "Joint model", "Joint − probe"]
    assert first[3] == f"{show(gain, '+')} [{show(gain - 0.1, '+')}, {show(gain + 0.1, '+')}]"


def test_studies_link_to_their_explanations_inside_the_folder(tree):
    links = [link for link in read_all(find_section(tree, "errors"), "h:a")]
    assert [(read_text(link), link.get("href")) for link in links] == [("study-4", "explanations/study-4.html")]
    head, first, *_ = read_table(tree, "errors", 1)
    assert head[5:7] == ["Share of the film", "Share of the report"] and first[4:7] == ["0.900", "−0.050", "+0.450"]
    for path in ("/etc/passwd", "a/../../b", "https://x.example/a", "javascript:alert(1)", "//x", "a\\b", "", ".", 3):
        assert link_inside("study", path) == "study"
    assert link_inside("study", "a/b c.html") == Link("study", "a/b c.html")


def test_hostile_names_stay_text(undrawn):
    made = make_comparison()
    plain = parse(render_comparison(*made))
    summary = copy.deepcopy(dict(made.summary))
    for key in ("models", "shapley", "wrong_report", "selective", "subgroups", "label_schemes"):
        summary[key] = {HOSTILE: next(iter(summary[key].values()))}
    summary["models"][HOSTILE]["joint"] |= {HOSTILE: {"mean": 0.5}}
    summary["models"][HOSTILE][HOSTILE] = summary["models"][HOSTILE]["joint"]
    summary["errors_mended"][0] |= {"variant": HOSTILE, "label": HOSTILE, "other": HOSTILE}
    summary["errors_mended"][0]["studies"][0] |= {"study": HOSTILE, "what": HOSTILE, "explanation": HOSTILE}
    summary["subgroups"][HOSTILE][0] |= {"grouping": HOSTILE, "value": HOSTILE, "note": HOSTILE}
    summary["wrong_report"][HOSTILE]["per_label"] = {HOSTILE: summary["wrong_report"][HOSTILE]["per_label"]["abnormal"]}
    for found in summary["differences"]:
        found |= {"variant": HOSTILE, "label": HOSTILE}
    summary |= {"reduced": [HOSTILE], "notes": [HOSTILE], "command": ["kmm", HOSTILE], "versions": {HOSTILE: HOSTILE}}
    summary["data"] |= {"name": HOSTILE, "sections": [HOSTILE]}
    summary["published"][0] |= {"what": HOSTILE}
    columns = {**made.comparison, "label": np.array([HOSTILE] * len(made.comparison["label"]))}
    text = render_comparison(columns, made.predictions, made.history, summary)
    text.encode("utf-8")
    evil = parse(text)
    for name in ("script", "style", "img"):
        assert len(read_all(evil, f"h:{name}")) == len(read_all(plain, f"h:{name}"))
    assert not [attribute for element in evil.iter() for attribute in element.attrib if attribute.startswith("on")]
    assert FORBIDDEN.sub("\ufffd", HOSTILE) in "".join(evil.itertext())
    assert not [link for link in read_all(evil, "h:a") if "script" in link.get("href")]


@pytest.mark.large
@pytest.mark.parametrize("key", OPTIONAL)
@pytest.mark.parametrize("empty", [None, {}, []])
def test_what_is_absent_has_no_section(key, empty, undrawn):
    made = change(**{key: empty})
    tree = parse(render_comparison(*made))
    assert OPTIONAL[key] not in [part.get("aria-labelledby") for part in read_all(tree, "h:section")]


@pytest.mark.large
@pytest.mark.parametrize("key", Summary.__annotations__)
def test_every_key_of_the_summary_may_be_absent(key, undrawn):
    parse(render_comparison(*change(**{key: None})))
    made = make_comparison()
    alone = {name: value for name, value in made.summary.items() if name == key}
    parse(render_comparison(made.comparison, made.predictions, made.history, alone))


def test_no_section_is_empty():
    made = make_comparison()
    history = {name: column[:0] for name, column in made.history.items()}
    for summary in ({}, made.summary):
        for section in list_sections(made.comparison, made.predictions, history, summary, {}):
            assert section.lines or section.points or section.tables or section.code, section.name
            assert all(table.rows for table in section.tables), section.name
            for table in section.tables:
                assert {len(row) for row in table.rows} <= {1, len(table.head)}, (section.name, table.caption)


@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize(
    ("measure", "section"),
    [
        *(("shapley", "sides"), ("wrong_report", "wrong-report"), ("subgroups", "subgroups")),
        *(("label_schemes", "label-rules"), ("selective", "selective")),
    ],
)
def test_what_is_not_measured_says_why(measure, section, measured, undrawn):
    missing = [{"variant": "", "measure": measure, "reason": "No study has a film.", "splits": ["2", "3"]}]
    changes = {"not_measured": missing, **({} if measured else {measure: {}})}
    text = read_text(find_section(parse(render_comparison(*change(**changes))), section))
    assert "Not measured in splits 2, 3: No study has a film." in text


def test_variants_with_other_labels_say_so(undrawn):
    made = make_comparison().summary
    variants = {"labels=a": {"labels": "a"}, "labels=b": {"labels": "b"}}
    both = {"variant": "labels=b", "against": "labels=a", "first": "joint", "second": "joint", "metric": "roc_auc"}
    both |= {"label": "macro", "difference": 0.1, "interval": [0.0, 0.2], "labels": ["mass"]}
    apart = {**both, "variant": "labels=c", "difference": None, "interval": None, "labels": []}
    apart["reason"] = "the variants have no label in common"
    labels = {"labels=a": ["mass", "cyst"], "labels=b": ["mass"]}
    models = dict(zip(labels, made["models"].values(), strict=True))
    found = change(variants=variants, labels_by_variant=labels, differences=[both, apart], models=models)
    tree = parse(render_comparison(*found))
    text = read_text(find_section(tree, "differences"))
    assert "labels = b − labels = a: the means are over the labels that both have (mass)." in text
    assert "labels = c − labels = a: the variants have no label in common." in text
    text = read_text(find_section(tree, "variants"))
    assert "The variants have different labels (labels = a: mass, cyst; labels = b: mass)." in text
    assert "measured against the labels of its own rule" in text
    assert "ROC AUC: +0.100 [0.000, +0.200], not shown." in text
    assert "ROC AUC: not compared, because the variants have no label in common." in text


def test_a_plain_split_is_called_leaking(undrawn):
    resampling = {**make_comparison().summary["resampling"], "plain": True}
    leaks = [{"patients": 3, "bodies": 2, "films": 0, "studies": 9}]
    text = read_text(find_section(parse(render_comparison(*change(resampling=resampling, leaks=leaks))), "data"))
    assert "3 patients, 2 report bodies and 0 films are in more than one part" in text and "too optimistic" in text


def read_folder(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.large
def test_everything_is_written_and_again_the_same(tmp_path, monkeypatch):
    made = make_comparison()
    drawings = {"subgroups": pages.list_figures(made.comparison, made.history, made.summary, {})["subgroups"]}
    monkeypatch.setattr(pages, "list_figures", lambda *tables: drawings)
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "old.png").write_bytes(b"")
    (tmp_path / "comparison.csv").write_text("kept")
    write_pages(tmp_path, *made)
    first = read_folder(tmp_path)
    assert {"comparison.html", "methods.md", "references.bib", "comparison.csv"} < set(first)
    assert {"figures/subgroups.png", "figures/subgroups.svg"} < set(first) and "figures/old.png" not in first
    parse(first["comparison.html"].decode())
    write_pages(tmp_path, *made)
    assert read_folder(tmp_path) == first


def test_nothing_is_written_if_something_fails(tmp_path, monkeypatch):
    (tmp_path / "comparison.html").write_text("before")
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "before.png").write_bytes(b"")
    before = read_folder(tmp_path)

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(pages, "list_figures", lambda *tables: {})
    monkeypatch.setattr(pages, "write_bibtex", fail)
    with pytest.raises(OSError, match="disk full"):
        write_pages(tmp_path, *make_comparison())
    monkeypatch.undo()
    monkeypatch.setattr(pages, "list_figures", lambda *tables: {})
    monkeypatch.setattr(pages.Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        write_pages(tmp_path, *make_comparison())
    assert read_folder(tmp_path) == before and not [path for path in tmp_path.iterdir() if path.name[0] == "."]


def test_small_subgroups_are_noted(undrawn):
    rows = read_table(parse(render_comparison(*make_comparison())), "subgroups")
    found = {row[0]: row[1:] for row in rows if len(row) > 1}
    assert (
        found["PA, abnormal"][-1] == "too small in 1 of 3 splits" and found["PA, abnormal"][2] == "0.900 [0.820, 0.980]"
    )
    assert found["AP, abnormal"] == ["9", "3", "–", "0.900", "3 positives, 6 negatives: fewer than 10"]
    assert found["all, abnormal"][3:] == ["0.900 [0.870, 0.930]", ""]


def test_counts_of_studies_are_those_of_the_collection(undrawn):
    made = change(data=None, studies={"train": 100, "validation": 25, "test": 875})
    assert "1000 studies." in read_text(find_section(parse(render_comparison(*made)), "data"))


@pytest.mark.large
def test_a_chance_without_spread_has_no_interval(undrawn):
    models = copy.deepcopy(make_comparison().summary["models"])
    for found in models.values():
        found["chance"] = {"roc_auc": {"mean": 0.5, "sd": 0.0, "interval": None, "values": [0.5] * 3}}
    rows = read_table(parse(render_comparison(*change(models=models))), "results")
    assert ["Chance", "0.500", "–", "–", "–", "–"] in rows


def test_differences_of_single_labels_are_folded(undrawn):
    made = make_comparison()
    single = {**made.summary["differences"][0], "label": "effusion"}
    tree = parse(render_comparison(*change(differences=[*made.summary["differences"], single])))
    section = find_section(tree, "differences")
    folded = [read_text(part.find("h:summary", NAMESPACES)) for part in read_all(section, "h:details")]
    assert folded[0] == "Differences of each label across splits" and len(folded) == 3
    assert len([row for row in read_table(tree, "differences")[1:] if len(row) > 1]) == len(made.summary["differences"])
    assert read_table(tree, "differences", 1)[1][:2] == ["Joint − Text only", "ROC AUC, effusion"]
