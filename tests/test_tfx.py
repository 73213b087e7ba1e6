"""What TFX hands to a trainer becomes a model that answers tf.Examples; nothing of the records stays behind."""

import csv
import json
import logging
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from kmm import tfx
from kmm.errors import InputError, LeakError
from tests.factories.studies import TINY

SECRET = "Jane Doe has a mass"


def make_example(**features):
    example = tf.train.Example()
    for name, value in features.items():
        feature = example.features.feature[name.replace("label_", "label:")]
        if isinstance(value, float):
            feature.float_list.value.append(value)
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        else:
            feature.bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
    return example.SerializeToString()


def write_records(path, records):
    with tf.io.TFRecordWriter(str(path), "GZIP" if path.suffix == ".gz" else None) as writer:
        for record in records:
            writer.write(record)


@pytest.fixture(scope="module")
def rows(tiny_folder):
    """The tiny studies as features of records."""
    with open(tiny_folder / "indiana_reports.csv", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    made = []
    for row in table:
        image = tiny_folder / "images" / f"{row['uid']}.png"
        known = {"report": row["findings"], "image_bytes": image.read_bytes() if image.exists() else b""}
        made.append(
            {"id": row["uid"], "patient": f"p{row['uid']}", "label_mass": float(row["MeSH"] != "normal"), **known}
        )
    return made


@pytest.fixture
def arguments(rows, tmp_path, monkeypatch):
    """What TFX hands to `run_fn`, for records of 44 and 16 studies; temporary folders are made in `temporary`."""
    for name in ("train", "eval", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    examples = [make_example(**row) for row in rows]
    write_records(tmp_path / "train" / "data-00000-of-00002.gz", examples[:20])
    write_records(tmp_path / "train" / "data-00001-of-00002.gz", examples[20:44])
    write_records(tmp_path / "eval" / "data", examples[44:])
    return SimpleNamespace(
        train_files=[str(tmp_path / "train" / "*")],
        eval_files=[str(tmp_path / "eval" / "data")],
        serving_model_dir=str(tmp_path / "model" / "Format-Serving"),
        model_run_dir=str(tmp_path / "run"),
        custom_config={"preset": "small", **TINY},
    )


def add_records(arguments, *records):
    place = Path(arguments.train_files[0]).parent / "more"
    write_records(place, records)
    return place


def refuse(arguments, error, match):
    """Runs it, and makes sure that it fails with one clear line and leaves nothing."""
    with pytest.raises(error, match=match) as caught:
        tfx.run_fn(arguments)
    text = str(caught.value)
    assert "\n" not in text and "Doe" not in text and tempfile.tempdir not in text
    assert not Path(arguments.serving_model_dir).parent.exists() and not list_temporary()


def list_temporary():
    return list(Path(tempfile.tempdir).glob("kmm-*"))


@pytest.mark.large
def test_a_model_that_answers_examples(arguments, rows, tmp_path, monkeypatch, caplog):
    modes, trained, fit = [], [], tfx.fit_classifier

    def watch(collection, *given, **options):
        modes.append(collection.folder.stat().st_mode & 0o777)
        trained.extend(fit(collection, *given, **options))
        return trained

    monkeypatch.setattr(tfx, "fit_classifier", watch)
    monkeypatch.setattr(tfx, "export_to", partial(tfx.export_to, explanation=None, warmup=()))  # slow, tried elsewhere
    broken = make_example(id="broken", image_bytes=b"\x89PNG\r\n\x1a\n cut", label_mass=1)
    add_records(arguments, make_example(id="unknown", report="No mass.", label_mass=float("nan")), b"\xff", broken)
    arguments.custom_config |= {"strict": False, "epochs": 1, "tune_epochs": 0}
    with caplog.at_level(logging.WARNING, "kmm.tfx"):
        tfx.run_fn(arguments)
    assert modes == [0o700] and not list_temporary() and list((tmp_path / "run").rglob("events*"))
    left_out = [record.getMessage() for record in caplog.records if record.name == "kmm.tfx"]
    assert len(left_out) == 3 and "record 1: expected a known label" in left_out[0] and "tf.Example" in left_out[1]
    assert "study broken: records/images/broken.film: expected a complete PNG" in left_out[2]

    with open(tmp_path / "model" / "classifier" / "split.csv", encoding="utf-8") as file:
        parts = {row["study"]: row["part"] for row in csv.DictReader(file)}
    assert {study for study, part in parts.items() if part == "test"} == {row["id"] for row in rows[44:]}
    assert set(parts.values()) == {"train", "validation", "test"}

    export = Path(arguments.serving_model_dir)
    assert sorted(path.name for path in export.parent.iterdir()) == ["Format-Serving", "classifier"]
    found = tf.saved_model.load(str(export)).signatures["serving_default"]
    assert set(found.structured_input_signature[1]) == {"examples"}
    served = found(examples=tf.constant([make_example(**row) for row in rows[44:]]))["probabilities"].numpy()
    classifier, run = trained
    told = run.predictions["test"].logits["joint"]
    np.testing.assert_allclose(served, classifier.probabilities(told, run.predictions["test"].present), atol=1e-5)


@pytest.mark.large
@pytest.mark.parametrize(
    "features, match",
    [
        ({"label_mass": b"yes"}, r"record 1: expected 0, 1 or NaN in `label:mass`"),
        ({"label_mass": 0.5}, r"expected 0, 1 or NaN"),
        ({"label_mass": float("nan")}, r"expected a known label in a feature `label:<name>`. Found none"),
        ({"id": "../x"}, r"expected an `id` of at most 100 letters"),
        ({"id": b""}, r"expected an `id`"),
        ({"id": 7}, r"expected one record per study. An earlier one has the id 7"),
        ({"report": b"Jane Doe \xff"}, r"expected UTF-8 text in `report`"),
        ({"image_bytes": b"GIF89a"}, r"expected a PNG or JPEG file in `image_bytes`"),
        ({"image_bytes": b"\x89PNG\r\n\x1a\n cut"}, r"study new: records/images/new.film: expected a complete PNG"),
        ({"findings": SECRET}, r"expected either the column `report` or the column `findings`"),
    ],
)
def test_a_bad_record_is_one_line(arguments, features, match):
    add_records(arguments, make_example(**{"id": "new", "report": SECRET, "label_mass": 1.0, **features}))
    refuse(arguments, InputError, match)


def test_what_is_no_record(arguments, tmp_path):
    (tmp_path / "train" / "notes").write_text(SECRET, encoding="utf-8")
    refuse(arguments, InputError, r"notes: expected a whole TFRecord file. DataLossError")
    (tmp_path / "train" / "notes").unlink()
    add_records(arguments, SECRET.encode())
    refuse(arguments, InputError, r"more record 1: expected a tf.Example")
    arguments.eval_files = [str(tmp_path / "none" / "*")]
    add_records(arguments)
    refuse(arguments, InputError, r"none/\*: expected TFRecord files. Found none")


@pytest.mark.parametrize("same", ["patient", "report"])
def test_a_leak_from_train_to_eval(arguments, rows, same):
    add_records(arguments, make_example(**{**rows[0], "id": "new", "patient": "new", same: rows[50][same]}))
    refuse(arguments, LeakError, r"studies: 2, for example")


def test_wrong_arguments(arguments, tmp_path):
    for name, value, match in (
        ("serving_model_dir", "gs://bucket/model", "expected a folder on this machine"),
        ("custom_config", {"colour": 1}, "Unknown setting 'colour'"),
        ("custom_config", {"name": "../x"}, "`name` must be at most 100 letters"),
    ):
        with pytest.raises(InputError, match=match):
            tfx.run_fn(SimpleNamespace(**{**vars(arguments), name: value}))
    other = Path(arguments.serving_model_dir).with_name("classifier")
    other.mkdir(parents=True)  # not a saved classifier
    with pytest.raises(InputError, match=r"classifier already exists\. Choose another"):
        tfx.run_fn(arguments)
    Path(arguments.serving_model_dir).mkdir(parents=True)
    with pytest.raises(InputError, match="already exists"):
        tfx.run_fn(arguments)


@pytest.mark.large
def test_a_run_whose_export_failed_can_be_run_again(arguments, monkeypatch):
    def full(*given, **options):
        raise OSError(28, "No space left on device")

    arguments.custom_config |= {"epochs": 1, "image_encoder": None, "strict": False, "name": "chest"}
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(tfx, "export_to", full)
        tfx.run_fn(arguments)
    export = Path(arguments.serving_model_dir)
    assert (export.parent / "classifier" / "classifier.json").is_file() and not export.exists()
    monkeypatch.setattr(tfx, "export_to", partial(tfx.export_to, explanation=None, warmup=()))
    tfx.run_fn(arguments)
    found = tf.saved_model.load(str(export)).signatures["describe"]
    assert json.loads(found(query=tf.constant([b""]))["description"].numpy()[0])["name"] == "chest"


def test_push(tmp_path, monkeypatch):
    (tmp_path / "export" / "variables").mkdir(parents=True)
    (tmp_path / "export" / "saved_model.pb").write_bytes(b"model")
    monkeypatch.setattr(time, "time", lambda: 1234.9)
    place = tfx.push(tmp_path / "export", tmp_path / "served" / "mass")
    assert place == tmp_path / "served" / "mass" / "1234" and (place / "saved_model.pb").read_bytes() == b"model"
    assert place.stat().st_mode & 0o777 == 0o755 and [path.name for path in place.parent.iterdir()] == ["1234"]
    with pytest.raises(InputError, match=r"1234 already exists\. Push again"):
        tfx.push(tmp_path / "export", place.parent)
    with pytest.raises(InputError, match="expected an export"):
        tfx.push(tmp_path, place.parent)


def test_a_push_that_fails_leaves_nothing(tmp_path, monkeypatch):
    (tmp_path / "saved_model.pb").touch()

    def full(*given, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tfx.shutil, "copytree", full)
    with pytest.raises(OSError, match="No space"):
        tfx.push(tmp_path, tmp_path / "served")
    assert not list((tmp_path / "served").iterdir())
