"""The list of models changes while the server runs: models and labels come, go and move, and no request fails."""

import logging
import threading
import time

import grpc
import pytest

from kmm.errors import InputError
from kmm.server.model_list import ModelList
from kmm.server.models.catalogue import Catalogue
from kmm.server.models.list_reloader import ListReloader
from kmm.server.policy import VersionPolicy
from kmm.server.server import Server
from kmm.server.settings import ModelSettings, ServeSettings
from tests.factories.servers import ask, running_list, wait_for


def write_list(path, **models):
    """Writes a list of models, whole: of each name the folder, and the labels with their versions."""
    text = "".join(
        f'config {{ name: "{name}" base_path: "{folder}" model_version_policy {{ all {{}} }} '
        + "".join(f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items())
        + "}\n"
        for name, (folder, labels) in models.items()
    )
    path.with_suffix(".new").write_text(f"model_config_list {{\n{text}}}\n")
    path.with_suffix(".new").replace(path)
    return path


def list_errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]


@pytest.fixture
def following(versions, tmp_path):
    """A server that follows a list with the model `first`: (server, stubs, path of the list)."""
    path = write_list(tmp_path / "models.config", first=(versions, {"stable": 1}))
    models = ModelList([ModelSettings("own", versions, VersionPolicy("specific", versions=(1,)))], path, ["own:old=1"])
    with running_list(models, models_poll_seconds=0.05) as (server, face):
        yield server, face, path


@pytest.mark.large
def test_models_and_labels_follow_their_file_and_no_request_fails(versions, following):
    server, face, path = following
    answers, failures, done = [], [], threading.Event()

    def ask_on():
        while not done.is_set():
            try:
                answers.append(ask(face, name="first", label="stable"))
                ask(face, name="own", label="old")
            except grpc.RpcError as error:
                failures.append(error)

    threads = [threading.Thread(target=ask_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(answers) > 5)
    write_list(path, first=(versions, {"stable": 2}), second=(versions, {}))
    wait_for(lambda: "second" in server.models)
    wait_for(lambda: answers[-1] == 2)
    assert ask(face, name="second") == 2
    write_list(path, first=(versions, {"stable": 1}))
    wait_for(lambda: "second" not in server.models)
    wait_for(lambda: answers[-1] == 1)
    done.set()
    for thread in threads:
        thread.join()
    assert not failures
    with pytest.raises(grpc.RpcError) as caught:
        ask(face, name="second")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("model_config_list {\n", "expected the text of a ModelServerConfig."),
        ("\n", "expected a model_config_list with a config. Received: none."),
        ('model_config_list { config { name: "own" base_path: "x" } }\n', "Two models have the same name."),
        ('model_config_list { config { name: "a" } }\n', "Model 'a' has no base_path."),
        ('model_config_list { config { name: "a" base_path: "/none" } }\n', "its folder cannot be read"),
    ],
)
def test_a_faulty_list_leaves_the_former_one_and_is_said_once(following, caplog, text, complaint):
    server, face, path = following
    caplog.clear()
    path.write_text(text)
    wait_for(lambda: list_errors(caplog))
    time.sleep(0.3)
    (said,) = list_errors(caplog)
    assert said.startswith("models: ") and complaint in said
    assert ask(face, name="first", label="stable") == 1 and set(server.models) == {"own", "first"}


def test_a_list_that_cannot_be_served_yet_is_tried_again(versions, tmp_path, monkeypatch):
    """The label's version comes after the list; it is tried as often as a version that does not load."""
    import kmm.server.models.list_reloader as module

    path = write_list(tmp_path / "models.config", tiny=(versions, {}))
    models, catalogue, now = ModelList(file=path), Catalogue(), [1000.0]
    catalogue.replace(models.models)
    reloader = ListReloader(catalogue, models, ServeSettings(max_load_retries=2, load_retry_seconds=10))
    tried, replace = [], catalogue.replace

    def replace_counted(wanted):
        tried.append(now[0])
        replace(wanted)

    monkeypatch.setattr(catalogue, "replace", replace_counted)
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    write_list(path, tiny=(versions, {"next": 3}))
    for _ in range(60):
        reloader.look()
        now[0] += 1
    assert tried == [1000, 1010, 1030]
    reloader.look(at_once=True)
    assert tried[3:] == [now[0]]
    write_list(path, tiny=(versions, {"next": 2}))
    reloader.look()
    assert len(tried) == 5
    reloader.look(at_once=True)
    assert len(tried) == 5  # it is served: nothing to try
    catalogue.close()


def test_what_the_command_line_says_stays(versions, tmp_path):
    path = write_list(tmp_path / "models.config", tiny=(versions, {"stable": 1, "next": 2}))
    own = ModelSettings("own", versions)
    models = ModelList([own], path, ["tiny:stable=2", "own:best=9223372036854775807"])
    assert [(model.name, model.labels) for model in models.models] == [
        ("own", {"best": 2**63 - 1}),
        ("tiny", {"stable": 2, "next": 2}),
    ]
    write_list(path, tiny=(versions, {"stable": 1}))
    assert models.reload(at_once=True) and models.models[1].labels == {"stable": 2}
    write_list(path, other=(versions, {}))  # the command line gives a label to `tiny`
    assert not models.reload(at_once=True) and [model.name for model in models.models] == ["own", "tiny"]


def test_labels_need_a_number_of_64_bits(versions):
    for label in ("tiny:best=9223372036854775808", "best=-1", "tiny:best=", "none:best=1"):
        with pytest.raises(InputError, match="Expected a label as MODEL:LABEL=VERSION"):
            ModelList([ModelSettings("tiny", versions)], labels=[label])


def test_versions_of_19_digits(versions, tmp_path):
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / str(2**63 - 1)).symlink_to(versions / "1")
    (tmp_path / "tiny" / str(2**63)).symlink_to(versions / "2")
    settings = ServeSettings(port=0, rest_port=None, poll_seconds=0)
    with Server([ModelSettings("tiny", tmp_path / "tiny")], settings) as server:
        assert server.models == {"tiny": [2**63 - 1]}
