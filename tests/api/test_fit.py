"""`kmm.fit`: settings by name, parts, folders and resuming; arrays give exactly the numbers of files."""

import json
from collections import Counter
from dataclasses import replace

import keras
import numpy as np
import PIL.Image
import pytest

import kmm
import kmm.image.source
from kmm.api import fitting
from kmm.data.split import PARTS, Split
from kmm.data.study import Collection
from kmm.errors import InputError, LeakError
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.progress import Progress
from kmm.training.preparation.prepared_studies import prepare_studies
from tests.factories.frames import StubFrame
from tests.factories.studies import TINY


def to_memory(collection):
    """The same studies, their films as arrays."""
    studies = []
    for study in collection:
        images = []
        for image in study.images:
            with PIL.Image.open(image.path) as film:
                images.append(replace(image, memory=np.asarray(film)))
        studies.append(replace(study, images=tuple(images)))
    return replace(collection, studies=tuple(studies))


@pytest.mark.large
def test_a_fit_on_arrays_is_exactly_a_fit_on_files(tiny_run, tiny_folder, tmp_path):
    files = kmm.read(tiny_folder)
    arrays = to_memory(files)
    found = kmm.fit(arrays, preset="small", folder=tmp_path, progress=False, **TINY)
    expected = tiny_run[0]
    assert found.metrics == expected.metrics
    for part, model in expected.models.items():
        for mine, theirs in zip(found._record.models[part].get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert found.predict(arrays) == found.predict(files)
    assert found.evaluate(files).parts == found.evaluate(arrays).parts  # recognised either way
    np.testing.assert_array_equal(found.features(files), found.features(arrays))
    assert not list(tmp_path.glob(".work*")) and found.folder is None
    kept = found._folder
    history = (kept / "history.json").read_bytes()
    loaded = kmm.load(found.save(tmp_path / "mine"))
    assert loaded.metrics == found.metrics and (tmp_path / "mine" / "split.csv").exists() and found.folder
    assert (tmp_path / "mine" / "history.json").read_bytes() == history and not kept.parent.exists()


class Called(Exception):
    """Stops a fit before it trains."""


@pytest.fixture
def calls(monkeypatch):
    """The arguments of `fit_classifier`, which trains nothing here."""
    kept = {}

    def fit_classifier(collection, settings, **given):
        kept.update(given, collection=collection, settings=settings)
        raise Called

    monkeypatch.setattr(fitting, "fit_classifier", fit_classifier)
    return kept


def run(calls, studies, **arguments):
    with pytest.raises(Called):
        kmm.fit(studies, progress=False, **arguments)
    return calls


def make_table(count=20, **more):
    rows = [{"text": f"Report {row}.", "sick": row % 2, "who": f"p{row}", **more} for row in range(count)]
    return kmm.studies(rows, report="text", label="sick", patient="who")


def test_a_fit_warns_of_films_that_are_not_found_unless_it_reads_none(calls, tmp_path):
    found = [
        {"text": "Clear.", "sick": row, "who": row, "film": np.full((16, 16), row + 7, np.uint8)} for row in (0, 1)
    ]
    named = {"image": "film", "report": "text", "label": "sick", "patient": "who"}
    some = kmm.studies([*found, {"text": "A mass.", "sick": 1, "who": 2, "film": "gone.png"}], **named)
    none = some[2:]
    with pytest.warns(UserWarning, match=r"1 of 3 studies lack films .*gone\.png: film missing"):
        run(calls, some, folder=tmp_path)
    for wrong in ({"studies": none}, {"studies": some[:2], "test": none}):
        with pytest.raises(InputError, match="None of the 1 studies has a film"):
            kmm.fit(**wrong, folder=tmp_path, progress=False)
    run(calls, none, folder=tmp_path, image_encoder=None)


def test_a_preset_is_always_applied_and_every_setting_has_a_name(calls, tiny_folder, tmp_path):
    files = kmm.read(tiny_folder)
    settings = run(calls, files, folder=tmp_path, seed=3, epochs=2, sections=("findings",))["settings"]
    assert (settings.preset, settings.pixels, settings.schedule, settings.seed) == ("small", 64, "cosine", 3)
    assert settings.text_epochs == 2 and settings.sections == ("findings",) and settings.labels == "normal-abnormal"
    settings = run(calls, files, folder=tmp_path, preset="paper", text_encoder=None)["settings"]
    assert (settings.preset, settings.image_encoder, settings.text_encoder) == ("paper", "densenet121", None)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"epoch": 3}, r"Unknown setting 'epoch'. Did you mean epochs"),
        ({"batchsize": 3}, r"Did you mean batch_size"),
        ({"zzz": 3}, r"Unknown setting 'zzz'. Known: preset, seed"),
        ({"seed": "x"}, r"`seed` must be a whole number"),
        ({"preset": "tiny"}, r"Unknown preset 'tiny'. Known: small, paper"),
        ({"name": "a/b"}, r"`name` must be of letters"),
        ({"name": "7"}, r"and no number"),
        ({"resume": "yes"}, r"`resume` must be True, False or 'auto'"),
        ({"resume": True}, r"no stopped run"),
        ({"callbacks": [print]}, r"`callbacks` must be a list of keras\.callbacks\.Callback\. It contains: builtin"),
        ({"callbacks": keras.callbacks.TerminateOnNaN()}, r"`callbacks` must be a list .* Received: TerminateOnNaN"),
        ({"folder": __file__}, r"cannot be written to: a file has this name"),
        ({"split": {"1": "training"}}, r"parts of `split` must be train, validation, test. Received: 'training'"),
    ],
)
def test_wrong_arguments(arguments, says, tiny_folder, tmp_path):
    with pytest.raises(InputError, match=says):
        kmm.fit(kmm.read(tiny_folder), **{"folder": tmp_path, "progress": False, **arguments})
    with pytest.raises(InputError, match=r"made by `kmm\.read` or `kmm\.studies`\. Received: list"):
        kmm.fit([1], folder=tmp_path)
    assert not list(tmp_path.glob(".work*"))


def test_a_table_is_labelled_by_its_columns_and_its_columns_are_kept(calls, tmp_path):
    settings = run(calls, make_table(), folder=tmp_path)["settings"]
    assert (settings.labels, settings.image_encoder, settings.text_encoder) == ("columns", None, "text-cnn")
    assert run(calls, make_table(), folder=tmp_path, labels="findings")["settings"].labels == "findings"
    assert calls["collection"].columns["report"] == "text"


def test_splits_of_every_kind(calls, tmp_path):
    table = make_table(6)
    parts = {str(row): part for row, part in enumerate(("train", "train", "validation", "validation", "test", "test"))}
    split = Split(parts, {study: f"p{study}" for study in parts})
    split.save(tmp_path / "split.csv")
    for given in (parts, split, Split(parts, {}), {int(row): part for row, part in parts.items()}):
        assert run(calls, table, folder=tmp_path, split=given)["split"] == split
    assert run(calls, table, folder=tmp_path, split=tmp_path / "split.csv")["split"] == tmp_path / "split.csv"
    assert run(calls, table, folder=tmp_path)["split"] is None


def test_parts_of_their_own(calls, tmp_path):
    train, validation, test = make_table(6), make_table(4), make_table(2)
    with pytest.raises(InputError, match="either `split=`"):
        kmm.fit(train, folder=tmp_path, progress=False, validation=validation, split={"0": "train"})
    given = run(calls, train, folder=tmp_path, validation=validation, test=test)
    assert [study.id for study in given["collection"]][4:8] == ["train-4", "train-5", "validation-0", "validation-1"]
    names = ["train"] * 6 + ["validation"] * 4 + ["test"] * 2
    assert [given["split"].parts[study.id] for study in given["collection"]] == names
    other = make_table(2, text="Another report.", who="q")
    given = run(calls, make_table(40), folder=tmp_path, test=other, shares=[0.65, 0.15, 0.2])
    prepared = prepare_studies(given["collection"], given["settings"], films=tmp_path, split=given["split"])
    assert [len(prepared.rows(part)) for part in PARTS] == [40 - round(40 * 0.15 / 0.8), round(40 * 0.15 / 0.8), 2]


def test_a_fit_with_a_test_part_of_its_own_decodes_each_film_once(tmp_path, monkeypatch):
    def make(name, count):
        (tmp_path / name).mkdir()
        rows = []
        for row in range(count):
            level = np.random.default_rng([len(name), row]).integers(0, 256, (20, 20), dtype=np.uint8)
            PIL.Image.fromarray(level).save(path := tmp_path / name / f"{row}.png")
            rows.append({"film": path, "sick": row % 2, "who": f"{name} {row}"})
        return kmm.studies(rows, image="film", label="sick", patient="who")

    decoded, decode = Counter(), kmm.image.source.decode_image

    def count(data, name):
        decoded[name] += 1
        return decode(data, name)

    def train_models(context, features):
        raise Called

    monkeypatch.setattr("kmm.image.source.decode_image", count)
    monkeypatch.setattr("kmm.image.source.read_image", lambda path: pytest.fail("decoded elsewhere"))
    monkeypatch.setattr("kmm.training.fit.train_models", train_models)
    train, test = make("ward", 20), make("clinic", 4)
    with pytest.raises(Called):
        kmm.fit(train, test=test, folder=tmp_path / "out", progress=False)
    assert decoded == {str(study.images[0].path): 1 for study in (*train, *test)}
    split = (next((tmp_path / "out").glob(".work-*")) / "split.csv").read_text()
    assert [split.count(f",{part}\n") for part in PARTS] == [16, 4, 4]
    with pytest.raises(Called):
        kmm.fit(train, test=test, folder=tmp_path / "out", progress=False)
    assert set(decoded.values()) == {1}  # a second fit finds the prepared films


def test_own_patients_do_not_leak_between_collections(calls, tmp_path):
    with pytest.warns(UserWarning, match="patient of its own"):
        first, second = (
            kmm.studies({"t": [f"{name} {row}" for row in range(6)], "y": [0, 1] * 3}, report="t", label="y")
            for name in ("one", "two")
        )
    given = run(calls, first, folder=tmp_path, validation=second)
    assert len({study.patient for study in given["collection"]}) == 12


def test_a_patient_in_two_collections_is_a_leak(tmp_path):
    train, validation, test = make_table(6), make_table(4), make_table(2)
    with pytest.raises(LeakError, match="patient"):
        kmm.fit(train, folder=tmp_path, progress=False, validation=validation, test=test)


def test_a_patient_that_is_named_as_its_row_is_in_one_part(tmp_path):
    rows = [{"t": f"Report {row}.", "y": row % 2, "p": row} for row in range(6)]
    named = {"report": "t", "label": "y", "patient": "p"}
    later = [{**row, "t": f"Later {row['t']}"} for row in rows]
    with pytest.raises(LeakError, match="Patients that cross: 6"):
        kmm.fit(kmm.studies(rows, **named), test=kmm.studies(later, **named), folder=tmp_path, progress=False)


def test_a_part_without_usable_labels_is_refused(tmp_path):
    other = kmm.studies([{"t": f"T {row}.", "sick": 1, "p": f"q{row}"} for row in range(4)],
                        report="t", label="sick", patient="p")  # fmt: skip
    table = kmm.studies([{"t": f"R {row}.", "abnormal": row % 2, "p": row} for row in range(20)],
                        report="t", label="abnormal", patient="p")  # fmt: skip
    with pytest.raises(InputError, match=r"No study of `test` has a known value of 'abnormal', .* columns: 'sick'\."):
        kmm.fit(table, test=other, folder=tmp_path, progress=False)
    with pytest.raises(InputError, match=r"`test` has no studies"):
        kmm.fit(table, test=other[:0], folder=tmp_path, progress=False)


def test_a_run_without_a_name_is_that_of_its_films_and_split(calls, tmp_path):
    def name(level, **arguments):
        films = [np.full((16, 16), row + level, np.uint8) for row in range(6)]
        table = kmm.studies({"f": films, "y": [0, 1] * 3, "p": [*"abcdef"]}, image="f", label="y", patient="p")
        return run(calls, table, folder=tmp_path, **arguments)["work"].name

    parts = {str(row): "train" for row in range(6)}
    same, other = name(1), name(2)
    assert same == name(1) != other and name(1, split=parts) == name(1, split=dict(parts))
    assert len({same, other, name(1, split=parts), name(1, split={**parts, "0": "test"})}) == 4


def test_a_split_that_is_no_file_must_name_every_study(tmp_path):
    with pytest.raises(InputError, match=r"^The split must name every study\. It lacks 5, for example 1\.$"):
        kmm.fit(make_table(6), folder=tmp_path, progress=False, split={"0": "train"})
    with pytest.raises(InputError, match=r"`split` must be a Split, .*Received: StubFrame\.$"):
        kmm.fit(make_table(6), folder=tmp_path, progress=False, split=StubFrame([{"study": "0", "part": "train"}]))


def test_a_fit_that_finds_nothing_to_read_says_why(tmp_path):
    with pytest.raises(
        InputError, match=r"no study with words in INDICATION, COMPARISON\. .*sections=\{'indication': "
    ):
        kmm.fit(make_table(6), folder=tmp_path, progress=False, sections="pre-read")
    films = {"f": [np.full((16, 16), 0.5)] * 6, "y": [0, 1] * 3, "p": [*"abcdef"]}
    table = kmm.studies(films, image="f", label="y", patient="p")
    with pytest.raises(InputError, match=r"The first of 6 set aside: study 0: .*Multiply them by 255"):
        kmm.fit(table, folder=tmp_path, progress=False)


def test_a_shared_template_is_a_leak_with_a_remedy(tmp_path):
    with pytest.raises(LeakError, match=r"the same part, or leave them out of the others\.$"):
        kmm.fit(make_table(20), test=make_table(1), folder=tmp_path, progress=False)


class Stopping(Progress):
    """Interrupts a fit once two of its stages have begun; keeps the titles of the steps."""

    def __init__(self, folder, stages):
        self.folder, self.stages, self.titles = folder, stages, []

    def step(self, title, total, done=0):
        if len(list(self.folder.glob(".work-*/stages/*"))) >= self.stages:
            raise KeyboardInterrupt
        self.titles.append((title, done))
        return super().step(title, total, done)


@pytest.mark.large
def test_an_interrupted_fit_goes_on(tiny_folder, tmp_path, tiny_run):
    files, first, second = kmm.read(tiny_folder), Stopping(tmp_path, 2), Stopping(tmp_path, 99)
    with pytest.raises(KeyboardInterrupt):
        kmm.fit(files, folder=tmp_path, progress=first, **TINY)
    assert len(list(tmp_path.glob(".work-small-*"))) == 1
    found = kmm.fit(files, folder=tmp_path, progress=second, **TINY)
    assert found.metrics == tiny_run[0].metrics and not list(tmp_path.glob(".work-*"))
    assert first.titles[-1] not in second.titles  # a stage that was done is not trained again


def test_errors_name_arguments_and_not_options(tmp_path, tiny_folder):
    one = kmm.read(tiny_folder)
    with pytest.raises(InputError) as caught:
        kmm.fit(one, folder=tmp_path, progress=False, split={study.id: "train" for study in one}, **TINY)
    assert "--" not in str(caught.value) and "split=" in str(caught.value)


def test_a_named_fit_is_saved(fits, tiny_folder, tmp_path, monkeypatch):
    from kmm.training import fit, save_run

    monkeypatch.setattr(fitting, "fit_classifier", fit.fit_classifier)
    monkeypatch.setattr(fitting, "save_run", save_run.save_run)
    files = kmm.read(tiny_folder)
    found = kmm.fit(files, name="ward", folder=tmp_path, progress=False, **TINY)
    assert found.folder == tmp_path / "ward" and json.loads((tmp_path / "ward" / "settings.json").read_text())
    assert fits[0]["cache"] == tmp_path / ".cache" and fits[0]["work"] == tmp_path / ".work-ward"
    with pytest.raises(InputError, match=r"already exists. Choose another name, or pass overwrite=True"):
        kmm.fit(files, name="ward", folder=tmp_path, progress=False, **TINY)
    kmm.fit(files, name="ward", folder=tmp_path, progress=False, overwrite=True, **TINY)
    assert isinstance(files, Collection)


def test_a_keras_model_is_an_encoder(calls, tiny_folder, tmp_path):
    image = keras.Input((32, 32, 1))
    x = keras.layers.Conv2D(4, 3, strides=2, name="first")(image)
    network = keras.Model(image, keras.layers.Conv2D(4, 3, strides=2, name="second")(x), name="mine")
    arguments = {"folder": tmp_path, "image_encoder": network}
    settings = run(calls, kmm.read(tiny_folder), **arguments)["settings"]
    try:
        assert settings.image_encoder.startswith("mine-") and settings.image_weights == "given"
        assert settings.pixels == 32 and IMAGE_ENCODERS[settings.image_encoder].feature_map == "second"
        settings = run(calls, kmm.read(tiny_folder), **arguments, image_weights=None)["settings"]
        assert settings.image_weights is None
    finally:
        IMAGE_ENCODERS.pop(settings.image_encoder, None)
    with pytest.raises(InputError, match=r"Expected the name of an encoder or a keras\.Model\. Received: int"):
        kmm.fit(make_table(), folder=tmp_path, text_encoder=3)
