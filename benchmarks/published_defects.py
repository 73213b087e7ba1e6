"""What the defects of published systems do to a measured result, beside the right result, which kmm gives.

    python benchmarks/published_defects.py
    python benchmarks/published_defects.py --json

System A is that of https://arxiv.org/abs/1902.08888; B is a later one that predicts 22 findings (Do et al., Computers
in Biology and Medicine 208, 2026); C is a coursework. No code or data of theirs is used. All data are simulated and the
right answers are known: films show a bright disk or none, reports are those of the phantom set, and where splits and
thresholds are at issue nothing can be learned, so ROC AUC and balanced accuracy are 0.5. It takes about a minute.
"""

import argparse
import json
from importlib import import_module
from typing import NamedTuple


class Defect(NamedTuple):
    """A defect of a published system.

    Attributes:
        system: str, `A`, `B` or `C`.
        name: str, the defect in a few words.
        figure: str, what is measured.
        module, measure: str. The function that returns the right result and that with the defect.
    """

    system: str
    name: str
    figure: str
    module: str
    measure: str


DEFECTS = (
    Defect("A", "softmax over one output", "accuracy; 0.65 are abnormal", "defects_of_reports", "end_in_softmax"),
    Defect("A", "vocabulary refitted on the test reports", "accuracy", "defects_of_reports", "refit_vocabulary"),
    Defect("A", "validation films not scaled", "accuracy on validation", "defects_of_films", "validate_unscaled"),
    Defect("A", "epoch chosen on such films", "accuracy on test", "defects_of_films", "choose_epoch_unscaled"),
    Defect(
        "A",
        "films of one patient in train and test",
        "ROC AUC; nothing to learn",
        "defects_of_testing",
        "separate_siblings",
    ),
    Defect(
        "A",
        "evaluation splits a set of its own",
        "ROC AUC; nothing to learn",
        "defects_of_testing",
        "split_in_hash_order",
    ),
    Defect("A", '"no" and "not" dropped as stop words', "ROC AUC of TF-IDF", "defects_of_reports", "drop_stop_words"),
    Defect("B", "labels mined from the text that is read", "ROC AUC of TF-IDF", "defects_of_reports", "mine_labels"),
    Defect("B", "MONOCHROME1 not inverted", "ROC AUC of bright spots", "defects_of_films", "ignore_inversion"),
    Defect(
        "B", "window of a CT for films without one", "ROC AUC of bright spots", "defects_of_films", "apply_ct_window"
    ),
    Defect("B", "films mirrored in training", "ROC AUC, left against right", "defects_of_films", "mirror_films"),
    Defect(
        "B",
        "thresholds chosen on test",
        "balanced accuracy of random scores",
        "defects_of_testing",
        "choose_threshold_on_test",
    ),
    Defect("C", "label taken from a word", "share of right labels", "defects_of_reports", "take_labels_from_a_word"),
    Defect("C", "word list against leaks", "ROC AUC of TF-IDF", "defects_of_reports", "remove_words"),
    Defect(
        "C",
        "no majority class beside the result",
        "accuracy above the baseline",
        "defects_of_testing",
        "leave_out_majority",
    ),
    Defect(
        "C",
        "accuracy without predictive values",
        "share of alarms that are right",
        "defects_of_testing",
        "leave_out_predictive_value",
    ),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    if not options.json:
        print(f"{'':3}{'defect':42}{'figure':36}{'right':>8}{'defect':>8}")
    found = []
    for defect in DEFECTS:
        right, wrong = getattr(import_module(defect.module), defect.measure)()
        found.append({**defect._asdict(), "right": right, "defect": wrong})
        if not options.json:
            print(f"{defect.system:3}{defect.name:42}{defect.figure:36}{right:8.3f}{wrong:8.3f}", flush=True)
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
