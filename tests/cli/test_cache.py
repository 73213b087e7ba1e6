"""`kmm cache`: what fits keep beside saved classifiers, and what may be removed."""

import fcntl
import json
import os
import time

import numpy as np
import pytest

from kmm.training.cache.array_store import ArrayStore
from kmm.training.run_folders import open_work_folder
from kmm.training.source_code import digest_code
from tests.factories.commands import run

FILMS, FEATURES = ".cache/films-8-0123456789abcdef", ".cache/features-tiny-0123456789abcdef"


@pytest.fixture
def out(tmp_path):
    """A folder of classifiers with four stopped runs, films, features, the phantom set and a saved classifier."""
    out = tmp_path / "saved"
    for name in ("good", "old", "early", "saved"):
        (out / f".work-{name}").mkdir(parents=True)
        (out / f".work-{name}" / "state").write_bytes(bytes(1000))
    for name, code in (("good", digest_code()), ("old", "0" * 64), ("saved", digest_code())):
        (out / f".work-{name}" / "stages" / "text").mkdir(parents=True)
        (out / f".work-{name}" / "data.json").write_text(json.dumps({"code": code}))
    (out / "saved").mkdir()
    (out / "saved" / "classifier.json").write_text("{}")
    for entry in (FILMS, FEATURES):
        store = ArrayStore(out / entry)
        store.add("a", np.ones(1000, np.float32))
        store.flush()
    (out / ".phantom").mkdir()
    (out / ".phantom" / "film.png").write_bytes(bytes(500))
    return out


def list_cache(out):
    result = run("cache", "list", "--out", out, "--json", "-")
    assert result.exit_code == 0, result.output
    return {one["name"]: one for one in json.loads(result.stdout)["kept"]}


def clear(out, *names, **options):
    return run("cache", "clear", *names, "--out", out, **options)


def test_list_says_size_owner_and_whether_a_run_can_be_resumed(out):
    kept = list_cache(out)
    assert set(kept) == {".work-early", ".work-good", ".work-old", ".work-saved", FILMS, FEATURES, ".phantom"}
    states = {name: (one["state"], one["reason"]) for name, one in kept.items()}
    assert states[".work-good"] == ("can be resumed", "")
    assert states[".work-old"] == ("cannot be resumed", "the code of kmm has changed")
    assert states[".work-early"] == ("cannot be resumed", "no stage has begun")
    assert states[".work-saved"][0] == "cannot be resumed" and "--overwrite" in states[".work-saved"][1]
    assert kept[".work-early"]["bytes"] == 1000 and kept[".phantom"]["bytes"] == 500
    assert kept[".work-good"]["belongs_to"].startswith("run good: ") and states[FEATURES][0] == "reused"
    assert [kept[name]["belongs_to"] for name in (FILMS, FEATURES)] == [
        "prepared films, for all runs",
        "features of frozen encoders, for all runs",
    ]
    assert 4000 < kept[FILMS]["bytes"] < 5000 and kept[FILMS]["days"] == 0
    shown = run("cache", "list", "--out", out)
    assert "7 folders" in shown.stdout and "can be resumed" in shown.stdout
    assert "Films and features may take 50 GB (KMM_CACHE_GB)" in shown.stdout


def test_list_says_when_an_entry_was_last_used(out):
    for path in (out / FILMS).iterdir():
        os.utime(path, (time.time() - 3 * 86_400,) * 2)
    assert list_cache(out)[FILMS]["days"] == pytest.approx(3, abs=0.1)
    ArrayStore(out / FILMS)
    assert list_cache(out)[FILMS]["days"] == 0


def test_films_that_a_process_uses_are_not_removed(out):
    store = ArrayStore(out / FILMS)
    result = clear(out, FEATURES, FILMS, "--yes")
    assert result.exit_code == 2 and "cannot be removed: a process uses it" in result.stderr
    assert {FILMS, FEATURES} <= set(list_cache(out))
    del store
    assert clear(out, FEATURES, FILMS, "--yes").exit_code == 0 and not (out / ".cache").exists()


def test_a_limit_that_is_no_number_is_refused(out, monkeypatch):
    monkeypatch.setenv("KMM_CACHE_GB", "much")
    result = run("cache", "list", "--out", out)
    assert result.exit_code == 2 and "KMM_CACHE_GB must be a number of GB above 0. Received: 'much'." in result.stderr


def test_list_of_nothing_makes_nothing(tmp_path):
    result = run("cache", "list", "--out", tmp_path / "none")
    assert result.exit_code == 0 and "0 folders" in result.stdout and not (tmp_path / "none").exists()
    result = run("cache", "clear", "--all", "--yes", "--out", tmp_path / "none")
    assert result.exit_code == 0 and "0 folders removed" in result.stdout


def test_clear_removes_what_is_named_and_nothing_else(out):
    before = set(list_cache(out))
    result = clear(out, ".work-old", ".work-early", "--yes")
    assert result.exit_code == 0 and "2 folders removed" in result.stdout
    assert before - set(list_cache(out)) == {".work-old", ".work-early"}
    assert not list(out.glob(".lock-*")) and (out / "saved" / "classifier.json").exists()


def test_clear_all_leaves_the_saved_classifiers(out):
    assert clear(out, "--all", "--yes").exit_code == 0
    assert [path.name for path in out.iterdir()] == ["saved"]


@pytest.mark.parametrize(("answer", "removed"), [("y\n", True), ("n\n", False), ("", False)])
def test_clear_asks_first(out, answer, removed):
    result = clear(out, ".work-old", input=answer)
    assert (result.exit_code == 0) == removed and (out / ".work-old").exists() != removed
    assert "Remove .work-old in" in result.stderr and "?" in result.stderr


@pytest.mark.parametrize("names", [[], [".work-old", "--all"], ["saved"], ["../saved/.work-old"], [".work-none"]])
def test_clear_refuses_other_names_and_removes_nothing(out, names):
    before = set(list_cache(out))
    result = clear(out, *names, "--yes")
    assert result.exit_code == 2 and result.stderr.count("\n") == 1 and set(list_cache(out)) == before


def test_a_folder_that_a_running_fit_may_use_is_never_removed(out):
    with open_work_folder(out / ".work-good", resume=True):
        assert list_cache(out)[".work-good"]["state"] == "running"
        before = set(list_cache(out))
        for names in ([".work-good"], [".work-old", ".work-good"], ["--all"], [".phantom"]):
            result = clear(out, *names, "--yes")
            assert result.exit_code == 2 and "the run good may use it" in result.stderr
            assert result.stderr.count("\n") == 1 and set(list_cache(out)) == before
        assert clear(out, ".work-old", "--yes").exit_code == 0
    assert list_cache(out)[".work-good"]["state"] == "can be resumed"


def test_shared_folders_wait_for_a_run_that_has_no_folder_yet(out):
    with open(out / ".lock-new", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = clear(out, ".phantom", "--yes")
    assert result.exit_code == 2 and "the run new may use it" in result.stderr and (out / ".phantom").exists()
    assert clear(out, ".phantom", "--yes").exit_code == 0 and not (out / ".lock-new").exists()  # left by a kill


def test_links_are_neither_listed_nor_followed(out, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "film.png").write_bytes(bytes(10**4))
    (out / ".work-link").symlink_to(tmp_path / "mine")
    (out / ".work-early" / "link").symlink_to(tmp_path / "mine")
    kept = list_cache(out)
    assert ".work-link" not in kept and kept[".work-early"]["bytes"] < 2000
    assert clear(out, "--all", "--yes").exit_code == 0 and (tmp_path / "mine" / "film.png").exists()
