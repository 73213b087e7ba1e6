"""Film and report read together: on relational phantoms attention between both answers what no sum of them can."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from kmm.data.collection import read_collection
from kmm.data.phantom.dataset import RELATIONS, make_phantom
from kmm.presets import make_settings
from kmm.training.fit import fit_classifier

SETTINGS = {
    "labels": "columns",
    **{"length": 40, "text_epochs": 8, "image_epochs": 14, "joint_epochs": 14, "tune_epochs": 0},
    **{"text_teacher": 0.0, "modality_dropout": 0.0, "word_dropout": 0.0, "bootstrap_repeats": 2},
}
CROSS = {"fusion": "cross-attention", "fusion_width": 64, "fusion_layers": 1, "stochastic_depth": 0.0}


@pytest.mark.large
def test_attention_tells_whether_film_and_report_agree_and_no_side_alone_does(tmp_path):
    make_phantom(tmp_path / "set", studies=1200, seed=20, pixels=96, relational=True)
    collection = read_collection(tmp_path / "set" / RELATIONS)
    settings = make_settings("small", {**SETTINGS, **CROSS})
    classifier, run = fit_classifier(collection, settings, work=tmp_path / "work", cache=tmp_path / "cache")
    assert classifier.provenance["head_choice"]["joint"]["kept"] == "joint head"
    label = classifier.label_names.index("agrees")
    rows = np.concatenate([run.prepared.rows(part) for part in ("validation", "test")])
    truth = run.prepared.labels[rows, label]
    areas = {side: roc_auc_score(truth, run.answers[side](rows)[:, label]) for side in ("joint", "image", "text")}
    assert areas["joint"] >= 0.75
    assert all(0.4 < areas[side] < 0.6 for side in ("image", "text"))  # three standard errors of chance are .1
