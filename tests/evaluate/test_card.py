import numpy as np

from kmm.data.modalities import as_mapping
from kmm.evaluate.compare import compare_models
from kmm.evaluate.metrics import METRICS
from kmm.evaluate.output.card import evaluate_rows, label_rows, write_card
from kmm.evaluate.output.card_pictures import drop_pictures


def make_result(strength=4.0):
    rng = np.random.default_rng(0)
    labels = (rng.random(80) < 0.6).astype(float)
    scores = {
        name: 1 / (1 + np.exp(-strength * (labels - 0.5) - rng.normal(size=80))) for name in ("joint", "image", "text")
    }
    thresholds = dict.fromkeys(scores, 0.5)
    settings = {"groups": None, "label_names": ["abnormal"], "train_prevalence": 0.6, "repeats": 50}
    return compare_models(labels, scores, thresholds=thresholds, **settings)


def make_facts():
    return {
        "name": "openi",
        "model": {"preset": "paper", "image_encoder": "densenet121", "sections": ["indication", "comparison"]},
        "data": {"layout": "Open-i", "studies": 3955, "patients": 3955},
        "labels": {"scheme": "normal-abnormal", "names": ["abnormal | any"]},
        "split": {"digest": "0123abcd", "train": 2768, "validation": 396, "test": 791},
        "calibration": {
            "temperatures": {"joint": as_mapping([[1.25], [1.5], [0.75]]), "image": as_mapping([[0.8]] * 3)},
            "thresholds": {
                "joint": as_mapping([[0.43], [0.41], [0.47]]),
                "image": as_mapping([[0.5]] * 3),
                "tfidf": as_mapping([[0.6]] * 3),
            },
            "policy": "youden",
            "chosen_on": {
                "both": {"studies": 390, "pooled": []},
                "image": {"studies": 393, "pooled": []},
                "text": {"studies": 12, "pooled": ["abnormal | any"]},
            },
        },
        "results": {"test": make_result(), "validation": make_result()},
        "versions": {"kmm": "0.1.0", "keras": "3.15.0"},
        "digests": {"data": "feedbeef"},
    }


def test_rows_stand_from_the_baselines_to_the_joint_classifier():
    result = make_result()
    header, *rows = evaluate_rows(result)
    assert len(header) == 2 + len(METRICS) and all(len(row) == len(header) for row in rows)
    assert [row[0].split()[0] for row in rows] == ["Majority", "Chance", "Image", "Text", "Joint"]
    assert rows[-1][header.index("ROC AUC")] == f"{result['joint']['roc_auc']:.3f}"


def test_rows_show_intervals_when_asked_and_a_dash_for_the_undefined():
    result = make_result()
    result["image"]["f1"] = None
    header, *rows = evaluate_rows(result, intervals=True)
    low, high = result["joint"]["intervals"]["brier"]
    assert rows[-1][header.index("Brier")] == f"{result['joint']['brier']:.3f} [{low:.3f}, {high:.3f}]"
    assert rows[2][header.index("F1")] == "–"
    assert "[" not in "".join(rows[1])  # chance has no intervals


def test_some_columns_alone_show_their_intervals():
    header, *rows = evaluate_rows(make_result(), intervals=("accuracy", "roc_auc"))
    assert [name for name, cell in zip(header, rows[-1], strict=True) if "[" in cell] == ["Accuracy", "ROC AUC"]


def test_the_card_says_what_it_must():
    card = write_card(make_facts())
    for text in (
        "# openi\n", "Not for diagnosis", "labels come from the MeSH terms that index the reports", "0123abcd",
        "layout: Open-i", "studies: 3955",
        "sections: indication, comparison", "## Results on test studies", "## Results on validation studies",
        "| Joint (image and text) | film and report | abnormal \\| any | 1.25 | 0.43 |",
        "| Joint (image and text) | film alone | abnormal \\| any | 1.5 | 0.41 |",
        "| Joint (image and text) | report alone | abnormal \\| any | 0.75 | 0.47 |",
        "- film alone: 393 validation studies\n", "the other modality hidden",
        "compared with the joint classifier, on studies with a film; Text only and TF-IDF on studies with a report.",
        "- report alone: 12 validation studies; the numbers fitted on all validation studies are used for abnormal",
        "Threshold policy: youden", "## Limits",
        "| TF-IDF + logistic regression | report alone | abnormal \\| any | – | 0.6 |",
        "kmm predict saved_models/openi",
        "Not measured: TF-IDF", "keras: 3.15.0", "feedbeef", "Joint minus Image only, ROC AUC:",
    ):  # fmt: skip
        assert text in card, text
    assert "no more accurate" not in card
    assert card == write_card(make_facts())


def test_the_card_says_where_labels_come_from():
    facts = make_facts()
    assert "from the label columns" not in write_card(facts)
    card = write_card({**facts, "labels": {"scheme": "columns", "names": ["mass"]}})
    assert "The labels come from the label columns of the data (in a manifest `label:<name>`)." in card
    assert "from the MeSH terms" not in card


def test_the_commands_of_the_card_name_the_folder_of_the_classifier():
    assert "kmm predict saved_models/openi " in write_card(make_facts())
    card = write_card({**make_facts(), "path": "my models/one"})
    assert "kmm predict 'my models/one' " in card and "kmm evaluate 'my models/one' FOLDER" in card
    assert 'kmm.Classifier.load("my models/one")' in card and "saved_models" not in card


def test_the_card_states_the_confusion_counts_of_each_part():
    card, point = write_card(make_facts()), make_result()["joint"]["operating_point"]
    counts = " | ".join(str(point[name]) for name in ("tp", "fp", "tn", "fn"))
    assert card.count("Decisions at the stored thresholds") == 2 and card.count(f"| Joint | {counts} | ") == 2
    earlier = make_facts()
    for row in filter(None, earlier["results"]["test"].values()):
        isinstance(row, dict) and row.pop("operating_point", None)
    assert write_card(earlier).count("Decisions at the stored thresholds") == 1


def test_a_card_shows_the_pictures_that_exist_and_can_be_sent_without_them():
    plain = write_card(make_facts())
    assert "![" not in plain and "Pictures" not in plain and drop_pictures(plain) == plain
    card = write_card({**make_facts(), "pictures": ["confusion.png", "roc.png"]})
    assert card.index("](pictures/roc.png)") < card.index("](pictures/confusion.png)") < card.index("## Limits")
    assert card.count("![") == 2 and drop_pictures(card) == plain


def test_every_row_of_a_table_has_as_many_cells():
    tables = [line.replace("\\|", "") for line in write_card(make_facts()).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in tables} == {3 + len(METRICS), 6, 10}  # results, calibration, decisions


def make_labels_result():
    rng = np.random.default_rng(0)
    labels = (rng.random((80, 2)) < [0.6, 0.3]).astype(float)
    scores = {name: 1 / (1 + np.exp(-3 * (labels - 0.5) - rng.normal(size=(80, 2)))) for name in ("joint", "text")}
    settings = {"groups": None, "label_names": ["Opacity", "Nodule"], "train_prevalence": 0.5, "repeats": 50}
    return compare_models(labels, scores, thresholds=dict.fromkeys(scores, 0.5), **settings)


def test_each_label_has_a_line_with_its_intervals():
    result = make_labels_result()
    header, *rows = label_rows(result)
    assert header == ["Label", "Studies", "Positive", "Text only", "Joint"]
    single = result["joint"]["per_label"]["Nodule"]
    low, high = single["intervals"]["roc_auc"]
    positive = str(result["majority"]["per_label"]["Nodule"]["n_positive"])
    assert rows[1][:3] == ["Nodule", "80", positive]
    assert rows[1][-1] == f"{single['roc_auc']:.3f} [{low:.3f}, {high:.3f}]"
    card = write_card({**make_facts(), "results": {"test": result}})
    assert "ROC AUC of each label:" in card and f"| {' | '.join(rows[1])} |" in card
    assert label_rows(make_result()) == [] and "of each label:" not in write_card(make_facts())


def test_the_console_shows_each_label_in_160_columns(capsys):
    from kmm.cli.result_tables import print_results

    print_results({"test": make_labels_result()})
    lines = capsys.readouterr().out.splitlines()
    assert "test: ROC AUC of each label [95 % interval]" in [line.strip() for line in lines]
    assert any(line.startswith("│ Nodule ") and line.count("[") == 2 for line in lines) and max(map(len, lines)) <= 160


def test_a_classifier_that_is_no_better_than_the_majority_is_called_so():
    facts = make_facts()
    facts["results"] = {"test": make_result(strength=-4.0)}
    assert "no more accurate than always predicting the majority class" in write_card(facts)


def test_what_is_absent_is_said_to_be_not_recorded():
    card = write_card({"name": "a\nb", "data": {"layout": None, "studies": 3}})
    assert card.startswith("# a b\n")
    assert "layout: not recorded" in card and "studies: 3" in card
    assert card.count("Not recorded.") == 8
