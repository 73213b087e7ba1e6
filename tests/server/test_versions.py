"""Versions come and go while requests run, and none of them fails."""

import gc
import logging
import os
import shutil
import threading
import time
import weakref

import grpc
import numpy as np
import pytest

from kmm.errors import InputError
from kmm.server import policy
from kmm.server.model_list import ModelList
from kmm.server.models.catalogue import Catalogue
from kmm.server.models.model import Model
from kmm.server.policy import VersionPolicy, list_versions, parse_policy
from kmm.server.server import Server
from kmm.server.settings import ModelSettings, ServeSettings, parse_model
from kmm.server.status import ServingError
from tests.factories.saved_model import make_predict, make_spec, stubs
from tests.factories.servers import ask, running, wait_for


def add(versions, folder, version, *, source=None):
    """Publishes a version as an export does: under another name first."""
    shutil.copytree(versions / str(source or version), folder / ".tmp-new")
    os.rename(folder / ".tmp-new", folder / str(version))


def list_states(face, name="tiny"):
    request = stubs.get_model_status_pb2.GetModelStatusRequest(model_spec=make_spec(name))
    found = face.models.GetModelStatus(request, timeout=20).model_version_status
    return {one.version: (one.state, one.status.error_code, one.status.error_message) for one in found}


@pytest.mark.large
def test_no_request_fails_during_a_swap(versions, folder):
    answers, failures, done = [], [], threading.Event()

    def ask_on(face):
        while not done.is_set():
            try:
                answers.append(ask(face))
            except grpc.RpcError as error:
                failures.append(error)

    with running(ModelSettings("tiny", folder), poll_seconds=0.05) as (server, face):
        threads = [threading.Thread(target=ask_on, args=(face,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        wait_for(lambda: len(answers) > 20)
        add(versions, folder, 2)
        wait_for(lambda: server.models["tiny"] == [2])
        count = len(answers)
        wait_for(lambda: len(answers) > count + 20)
        done.set()
        for thread in threads:
            thread.join()
        assert list_states(face) == {2: (30, 0, ""), 1: (50, 0, "")}
    assert not failures and answers == sorted(answers) and set(answers) == {1, 2}


def cut_the_graph(path):
    (path / "saved_model.pb").write_bytes((path / "saved_model.pb").read_bytes()[:1000])


def drop_the_graph(path):
    (path / "saved_model.pb").unlink()


def drop_the_variables(path):
    shutil.rmtree(path / "variables")


def cut_the_variables(path):
    for file in (path / "variables").glob("*.data*"):
        file.write_bytes(file.read_bytes()[:4])


def spoil_the_warm_up(path):
    write_warm_up(path, make_predict(signature="X"))


def write_warm_up(path, *requests):
    import tensorflow as tf

    log = stubs.prediction_log_pb2
    (path / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        for request in requests:
            writer.write(log.PredictionLog(predict_log=log.PredictLog(request=request)).SerializeToString())


def garble_the_warm_up(path):
    """A record that TensorFlow reads, and that is no message."""
    import tensorflow as tf

    (path / "assets.extra").mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / "assets.extra" / "tf_serving_warmup_requests")) as writer:
        writer.write(b"garbage")


DAMAGES = (cut_the_graph, drop_the_graph, drop_the_variables, cut_the_variables, spoil_the_warm_up, garble_the_warm_up)


@pytest.mark.large
def test_a_bad_version_leaves_the_old_one_serving_and_is_said_once(versions, folder, caplog):
    with running(ModelSettings("tiny", folder), poll_seconds=0.05) as (server, face):
        for number, damage in enumerate(DAMAGES, 2):
            shutil.copytree(versions / "2", folder / ".tmp-new")
            damage(folder / ".tmp-new")
            os.rename(folder / ".tmp-new", folder / str(number))
            wait_for(lambda number=number: list_states(face).get(number, (0,))[0] == 50)
            _, code, text = list_states(face)[number]
            assert code and text and ask(face) == 1
        time.sleep(0.3)
        assert server.models == {"tiny": [1]}
        said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert len(said) == len(DAMAGES) and all("cannot be served" in text for text in said)
        add(versions, folder, 9, source=2)
        wait_for(lambda: server.models == {"tiny": [9]})
        assert ask(face) == 2


def test_a_bad_version_is_tried_again_when_its_files_change(versions, folder):
    add(versions, folder, 2)
    (folder / "2" / "saved_model.pb").rename(folder / "kept")
    model = Model(ModelSettings("tiny", folder))
    model.refresh()
    model.refresh()
    assert model.list_available() == [1] and model.list_states()[2].code == "NOT_FOUND"
    (folder / "kept").rename(folder / "2" / "saved_model.pb")
    model.refresh()
    assert model.list_available() == [2]


def test_each_version_is_tried_once_a_call(versions, folder, monkeypatch):
    """A broken version whose files change all the time, as one that is still being copied."""
    import kmm.server.models.model as module

    for version in (2, 3):
        add(versions, folder, version, source=2)
    tried, load = [], module.load_servable

    def load_servable(name, version, path):
        tried.append(version)
        if version > 1:
            (path / "more").write_bytes(bytes(len(tried)))
            assert len(tried) < 9, "it is tried again and again"
            raise module.ServingError("DATA_LOSS", "half a version")
        return load(name, version, path)

    monkeypatch.setattr(module, "load_servable", load_servable)
    model = Model(ModelSettings("tiny", folder))
    model.refresh()
    assert (tried, model.list_available()) == ([3, 2, 1], [1])


@pytest.mark.parametrize("failures", [3, 99])
def test_a_version_that_fails_for_a_while_is_tried_again(versions, folder, monkeypatch, caplog, failures):
    """As where memory is short; the failure is said once, and a version that never loads is not tried for ever."""
    import tensorflow as tf

    import kmm.server.models.model as module

    load, tried, times = module.load_servable, [], []
    add(versions, folder, 2)

    def load_servable(name, version, path):
        if version == 2:
            tried.append(now[0])
            if len(tried) <= failures:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM")
        return load(name, version, path)

    now = [1000.0]
    monkeypatch.setattr(module, "load_servable", load_servable)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    model = Model(ModelSettings("tiny", folder))
    for _ in range(100):
        model.refresh()
        now[0] += 5
    assert model.list_available() == ([2] if failures == 3 else [1])
    assert len(tried) == (4 if failures == 3 else 6)  # the first and five more, as TensorFlow Serving
    times = [time - tried[0] for time in tried]
    assert times == [0, 10, 30, 70, 150, 310][: len(times)]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert said == ["model tiny version 2 cannot be served: RESOURCE_EXHAUSTED: OOM"]


@pytest.mark.large
def test_a_label_keeps_its_version_beside_the_latest(versions, folder):
    model = ModelSettings("tiny", folder, labels={"stable": 1})
    with running(model, poll_seconds=0.05) as (server, face):
        add(versions, folder, 2)
        wait_for(lambda: server.models == {"tiny": [2, 1]})
        assert (ask(face), ask(face, label="stable")) == (2, 1)
    with running(model) as (server, face):
        assert (ask(face), ask(face, label="stable")) == (2, 1)


@pytest.mark.large
def test_a_fault_nobody_thought_of_does_not_end_the_watch(versions, folder, monkeypatch, caplog):
    import kmm.server.models.model as module

    faults = [KeyError("Cough"), KeyError("Cough")]

    def list_versions(path):
        if faults:
            raise faults.pop()
        return policy.list_versions(path)

    with running(ModelSettings("tiny", folder), poll_seconds=0.05) as (server, _):
        monkeypatch.setattr(module, "list_versions", list_versions)
        add(versions, folder, 2)
        wait_for(lambda: server.models == {"tiny": [2]})
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(said) == 1 and "Cough" not in said[0]
    assert said[0].startswith("model tiny: looking for new versions failed: KeyError at kmm/server/models/model.py:")


def test_what_a_warm_up_request_holds_is_never_told(folder, caplog):
    inputs = {"image_bytes": np.array([b"Cough"], object), "report": np.array([b"Cough"], object)}
    write_warm_up(folder / "1", make_predict(inputs, signature="raw"))
    model = Model(ModelSettings("tiny", folder))
    model.refresh()
    state = model.list_states()[1]
    assert (state.state, state.code, state.text) == ("END", "INVALID_ARGUMENT", "Warm-up request 1 failed.")
    assert "cannot be served: INVALID_ARGUMENT" in caplog.text and "Unknown image" not in caplog.text


@pytest.mark.large
def test_a_refused_list_changes_nothing(versions, tmp_path):
    one = ModelSettings("tiny", versions, VersionPolicy("specific", versions=(1,)))
    catalogue = Catalogue()
    catalogue.replace([one])
    for refused in (
        [ModelSettings("tiny", versions), ModelSettings("none", tmp_path)],
        [ModelSettings("tiny", versions, labels={"stable": 9})],
    ):
        with pytest.raises(ServingError):
            catalogue.replace(refused)
        model = catalogue.list_models()["tiny"]
        assert (model.list_available(), model.settings, list(model.list_states())) == ([1], one, [1])
        with catalogue.lease(make_spec()) as servable:
            assert servable.version == 1
    catalogue.close()


@pytest.mark.large
@pytest.mark.parametrize("fault", ["another model", "a label"])
def test_a_list_that_is_refused_is_not_served_meanwhile(versions, tmp_path, monkeypatch, fault):
    """Version 2 is loaded for the new list; what comes after it in the list fails."""
    import kmm.server.models.catalogue as module

    catalogue, seen = Catalogue(), []
    catalogue.replace([ModelSettings("tiny", versions, VersionPolicy("specific", versions=(1,)))])
    model, check = catalogue.list_models()["tiny"], module._check_labels

    def look(*arguments):
        seen.append((model.list_available(), model.list_states()[2].state))
        return [] if fault == "another model" else check(*arguments)

    monkeypatch.setattr(module, *(("list_versions", look) if fault == "another model" else ("_check_labels", look)))
    labels, others = ({}, [ModelSettings("none", tmp_path)]) if fault == "another model" else ({"stable": 9}, [])
    with pytest.raises(ServingError):
        catalogue.replace([ModelSettings("tiny", versions, labels=labels), *others])
    assert seen == [([1], "LOADING")] and model.list_available() == [1]
    catalogue.close()


@pytest.mark.large
@pytest.mark.parametrize("spec", [{}, {"label": "stable"}])
def test_a_request_that_a_new_list_overtakes_is_answered_by_it(versions, tmp_path, monkeypatch, spec):
    """The new list comes after the model or label was looked up and before the version is taken."""
    first = ModelSettings("tiny", versions, VersionPolicy("specific", versions=(1,)), {"stable": 1})
    if spec:  # the same model with another version under the label
        second = ModelSettings("tiny", versions, labels={"stable": 2})
    else:  # another model by the same name
        shutil.copytree(versions, tmp_path / "tiny")
        second = ModelSettings("tiny", tmp_path / "tiny")
    catalogue, take = Catalogue(), Model.take
    catalogue.replace([first])

    def take_late(model, version=None):
        monkeypatch.setattr(Model, "take", take)
        catalogue.replace([second])
        return model.take(version)

    monkeypatch.setattr(Model, "take", take_late)
    with catalogue.lease(make_spec(**spec)) as servable:
        assert servable.version == 2
    with pytest.raises(ServingError, match=r"Specific\(tiny, 9\)"), catalogue.lease(make_spec(version=9)):
        pass
    catalogue.close()


@pytest.mark.large
@pytest.mark.parametrize("busy", [False, True])
def test_the_memory_of_a_dropped_model_is_freed(versions, busy):
    catalogue = Catalogue()
    catalogue.replace([ModelSettings("tiny", versions)])
    gc.collect()
    gc.disable()
    try:
        with catalogue.lease(make_spec()) as servable:
            graph = weakref.ref(servable.functions["double"])  # it lies in a circle
            if busy:
                catalogue.replace([])
            del servable
        catalogue.replace([])
        if busy:
            assert graph() is not None
            catalogue.start_polling(0.01)
            wait_for(lambda: graph() is None)
        assert graph() is None
    finally:
        gc.enable()
        catalogue.close()


def test_half_exports_and_other_folders_are_not_seen(versions, folder):
    shutil.copytree(versions / "2", folder / ".tmp-3")
    (folder / "pictures").mkdir()
    (folder / "7").write_text("a file")
    model = Model(ModelSettings("tiny", folder))
    model.refresh()
    assert list(model.list_states()) == [1]


def test_a_version_is_held_until_its_requests_end(versions, folder):
    model = Model(ModelSettings("tiny", folder))
    model.refresh()
    held = model.take()
    add(versions, folder, 2)
    model.refresh()
    assert (model.list_available(), model.list_states()[1].state) == ([2], "UNLOADING")
    model.give_back(held)
    assert model.list_states()[1].state == "END"
    shutil.rmtree(folder / "2")
    model.refresh()
    assert (model.list_available(), model.list_states()[2].state) == ([1], "END")


def test_what_is_served_stays_when_its_folder_is_emptied_or_lost(folder, caplog):
    with running(ModelSettings("tiny", folder), poll_seconds=0.05) as (server, face):
        shutil.rmtree(folder / "1")
        time.sleep(0.2)
        assert ask(face) == 1
        folder.rmdir()
        wait_for(lambda: caplog.records)
        time.sleep(0.2)
        assert ask(face) == 1 and server.models == {"tiny": [1]}
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR] == [
        "model tiny: its folder cannot be read: No such file or directory"
    ]


def test_policies(versions):
    for text, served in (("latest", [2]), ("latest:2", [2, 1]), ("all", [2, 1]), ("1", [1]), ("1,2,8", [2, 1])):
        model = Model(ModelSettings("tiny", versions, parse_policy(text)))
        model.refresh()
        assert model.list_available() == served
    for text in ("", "newest", "latest:0", "latest:x", "1,", "-1"):
        with pytest.raises(InputError, match="is not a choice of versions"):
            parse_policy(text)


def test_of_two_names_for_a_version_the_shortest_counts(tmp_path):
    for name in ("001", "1", "0"):
        (tmp_path / name).mkdir()
    assert {version: path.name for version, path in list_versions(tmp_path).items()} == {0: "0", 1: "1"}


def test_warm_up_requests_run_before_a_version_serves(versions, folder, monkeypatch):
    import kmm.server.models.warmup as warmup

    runs = []
    monkeypatch.setattr(warmup, "run_signature", lambda servable, key, arrays, wanted: runs.append((key, wanted)))
    write_warm_up(folder / "1", make_predict(), make_predict(output_filter=["version"]))
    model = Model(ModelSettings("tiny", folder))
    model.refresh()
    assert runs == [("serving_default", ["scores", "version"]), ("serving_default", ["version"])]
    assert model.list_available() == [1]


@pytest.mark.parametrize("content", [b"", b"no records at all"])
def test_a_damaged_file_of_warm_up_requests(folder, content):
    (folder / "1" / "assets.extra").mkdir()
    (folder / "1" / "assets.extra" / "tf_serving_warmup_requests").write_bytes(content)
    model = Model(ModelSettings("tiny", folder))
    model.refresh()
    assert model.list_states()[1].code == ("DATA_LOSS" if content else "OK")


def test_a_server_without_a_version_does_not_start(tmp_path):
    (tmp_path / "empty").mkdir()
    for name, text in (("empty", "Some models did not become available: {empty}"), ("none", "Found no folder")):
        with pytest.raises(InputError, match=text):
            Server([ModelSettings(name, tmp_path / name)], ServeSettings(port=0, rest_port=None))


@pytest.mark.parametrize(
    "settings, text",
    [
        ({}, "Some models did not become available: {tiny}. tiny: version 1: The version has no file saved_model.pb."),
        (
            {"policy": VersionPolicy("specific", versions=(5,))},
            "Some models did not become available: {tiny}. tiny: the policy selects none of its versions 1.",
        ),
        (
            {"labels": {"stable": 7}},
            "Request to assign label to version 7 of model tiny, which is not currently available for inference.",
        ),
    ],
)
def test_a_start_that_fails_says_why(folder, settings, text):
    if not settings:
        drop_the_graph(folder / "1")
    with pytest.raises(InputError) as caught:
        Server([ModelSettings("tiny", folder, **settings)], ServeSettings(port=0, rest_port=None))
    assert str(caught.value) == text


def test_a_folder_without_versions_says_so(tmp_path):
    with pytest.raises(InputError, match=r"its folder has no version \(a subfolder named by a number"):
        Server([ModelSettings("tiny", tmp_path)], ServeSettings(port=0, rest_port=None))


@pytest.mark.large
def test_a_model_that_is_served_alone_has_the_default_name_too(versions, tmp_path):
    models = [
        ModelSettings(name, versions, policy=VersionPolicy("all"), labels={"stable": 1})
        for name in ("tiny", "default", "other")
    ]
    spec = make_spec("default", label="stable")
    catalogue = Catalogue()
    try:
        catalogue.replace(models[:1])
        assert catalogue.find(spec) == (catalogue.list_models()["tiny"], 1)
        catalogue.replace(models[:2])
        assert catalogue.find(spec) == (catalogue.list_models()["default"], 1)
        catalogue.replace(models[::2])
        assert catalogue.find(make_spec("default")) == (None, None)
    finally:
        catalogue.close()


@pytest.mark.large
def test_several_models_from_a_file(versions, tmp_path):
    file = tmp_path / "models.config"
    file.write_text(
        f"""model_config_list {{
          config {{ name: "first" base_path: "{versions}" model_platform: "tensorflow"
                    model_version_policy {{ specific {{ versions: 1 }} }}
                    version_labels {{ key: "stable" value: 1 }} }}
          config {{ name: "second" base_path: "{versions}" }}
        }}"""
    )
    models = ModelList(file=file).models
    assert models[0].policy == VersionPolicy("specific", versions=(1,)) and models[1].policy == VersionPolicy()
    with running(*models) as (server, face):
        assert server.models == {"first": [1], "second": [2]}
        assert (ask(face, name="first", label="stable"), ask(face, name="second")) == (1, 2)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("model_config_list {", "expected the text of a ModelServerConfig"),
        ("", "expected a model_config_list with a config"),
        ('model_config_list { config { name: "a" } }', "Model 'a' has no base_path"),
        ('model_config_list { config { name: "a/b" base_path: "x" } }', "must not contain a slash"),
        (
            'model_config_list { config { name: "a" base_path: "x" } config { name: "a" base_path: "y" } }',
            "have the same name",
        ),
    ],
)
def test_bad_lists_of_models(tmp_path, text, complaint):
    (tmp_path / "models.config").write_text(text)
    with pytest.raises(InputError, match=complaint):
        ModelList(file=tmp_path / "models.config")


def test_names_of_models(tmp_path):
    assert parse_model(tmp_path / "film").name == "film"
    assert parse_model(f"best={tmp_path}").folder == tmp_path
    with pytest.raises(InputError, match="a slash, colon or space"):
        parse_model("a:b=x")
