"""Explaining a folder of studies: the share of time outside the gradient work, and the gain of a second process.

Each worker has one thread. The gain of the gradient work alone, with one process and with two at once, is reported
beside it: it is the most that this machine allows.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import ONE_THREAD


def measure_overhead(model, data, count, steps=None):
    """Measures the share of a folder's core-seconds that is not gradient work.

    Args:
        model, data: paths of a saved classifier and of a folder of studies.
        count: int. Number of studies.
        steps: int or None. Steps of each path; None lets kmm choose.

    Returns:
        float in [0, 1].
    """
    with tempfile.TemporaryDirectory() as out, _start("overhead", model, data, count, out, steps or "") as process:
        return _read(process)


def measure_gain(model, data, count, steps):
    """Explains a folder with one worker and with two, then repeats the gradient work alone in the same way.

    Args:
        model, data, count, steps: as for `measure_overhead`.

    Returns:
        dict: speedup of two workers over one, of the folder and of the gradient work alone, and the folder's seconds.
    """
    seconds = []
    for workers in (1, 2):
        with tempfile.TemporaryDirectory() as out, _start("folder", model, data, count, out, steps, workers) as process:
            seconds.append(_read(process))
    alone = [_time_gradients(model, data, count, steps, processes) for processes in (1, 2)]
    return {
        "two_workers_speedup": seconds[0] / seconds[1],
        "two_processes_speedup_of_gradients_alone": alone[0] / alone[1],
        "folder_seconds": {"one_worker": seconds[0], "two_workers": seconds[1]},
    }


def _time_gradients(model, data, count, steps, processes):
    started = [_start("gradients", model, data, count // processes, steps, number) for number in range(processes)]
    for process in started:
        process.stdout.readline()  # ready
    start = time.perf_counter()
    for process in started:
        print("go", file=process.stdin, flush=True)
    for process in started:
        process.stdout.readline()
    seconds = time.perf_counter() - start
    for process in started:
        process.communicate()
    return seconds


def _start(*arguments):
    command = [sys.executable, __file__, *map(str, arguments)]
    environment = {**os.environ, **ONE_THREAD, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.Popen(command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True, env=environment)


def _read(process):
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"A folder could not be explained. Run for the reason: {' '.join(process.args[1:])}")
    return json.loads(output.splitlines()[-1])


def _print_json(value):
    print(json.dumps(value), flush=True)


def overhead(model, data, count, out, steps):
    """Explains a folder, then repeats its gradient work alone, and prints the share of the rest."""
    from classifiers import read_complete_studies, record_cases

    from kmm.explain.folder.explain_folder import explain_folder
    from kmm.explain.settings import ExplainSettings

    recorded, began = [], []

    def run(worker, cut, begin, tell):
        """Works as `run_here`, warmed up, and records the cases that the gradient work receives."""
        batches, explainer = cut(1), worker.load().source.explainer
        for _ in explainer.explain(batches[0].studies[:1]):
            pass
        recorded.append(record_cases(explainer))
        begin()
        began.append(time.process_time())
        for batch in batches:
            yield batch, worker.run(batch)

    settings = ExplainSettings(steps=int(steps) if steps else None)
    explain_folder(model, read_complete_studies(data, int(count)), Path(out, "out"), settings=settings, runner=run)
    whole, (attribute, cases) = time.process_time() - began[0], recorded[0]
    start = time.process_time()
    for _ in attribute(iter(cases)):
        pass
    _print_json(1 - (time.process_time() - start) / whole)


def folder(model, data, count, out, steps, workers):
    """Prints the wall seconds of explaining a folder, from the time when the first worker has loaded the model."""
    from classifiers import read_complete_studies

    from kmm.engines.runners import run_workers
    from kmm.explain.folder.explain_folder import explain_folder
    from kmm.explain.settings import ExplainSettings

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(workers)])  # one core per worker
    began = []

    def run(worker, cut, begin, tell):
        yield from run_workers(
            worker, cut, lambda: (begin(), began.append(time.perf_counter())), tell, count=int(workers)
        )

    settings = ExplainSettings(steps=int(steps))
    explain_folder(model, read_complete_studies(data, int(count)), Path(out, "out"), settings=settings, runner=run)
    _print_json(time.perf_counter() - began[0])


def gradients(model, data, count, steps, core):
    """Does the gradient work of some studies, on one core, once a line arrives on standard input."""
    from classifiers import read_complete_studies, record_cases

    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[int(core) :][:1])
    explainer = Explainer.load(model, ExplainSettings(steps=int(steps)))
    attribute, cases = record_cases(explainer)
    for _ in explainer.explain(read_complete_studies(data, 2)):
        pass
    _print_json("ready")
    sys.stdin.readline()
    for _ in attribute(cases[number % len(cases)] for number in range(int(count))):
        pass
    _print_json("done")


if __name__ == "__main__":
    {"overhead": overhead, "folder": folder, "gradients": gradients}[sys.argv[1]](*sys.argv[2:])
