"""Time grows with the number of films, not with its square."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kmm.data.names import UniqueNames
from kmm.data.views.ranking import match_overrides

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "growth.py"


def take_names(count):
    names = UniqueNames()
    assert [names.take("view1_frontal") for _ in range(count)][-1] == f"view1_frontal-{count}"


def match_views(count):
    images = {Path(f"d/patient{n}/view1_frontal.png"): Path(f"patient{n}/view1_frontal.png") for n in range(count)}
    views = {f"patient{n}/view1_frontal": "frontal" for n in range(count)}
    assert match_overrides(views, images) == dict.fromkeys(images, "frontal")


@pytest.mark.large
@pytest.mark.parametrize("work", [take_names, match_views])
def test_time_per_film_stays(work):
    """16 times the films: 1 if linear, 16 if every film is compared with every other; 5 leaves room for noise."""
    per_film = []
    for count in (250, 4000):
        seconds = []
        for _ in range(3):
            start = time.process_time()
            work(count)
            seconds.append(time.process_time() - start)
        per_film.append(min(seconds) / count)
    assert per_film[1] < 5 * per_film[0]


def test_the_benchmark_runs():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, BENCHMARK, "--studies", "10", "--rounds", "1", "--limit", "1000", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert set(said["growth"]) == set(said["microseconds_per_study"]) and {"verify", "split"} <= set(said["growth"])
    assert all(len(times) == 3 for times in said["microseconds_per_study"].values())
