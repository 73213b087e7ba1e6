"""A folder of studies: what is spent outside the gradient work, and what a second process gains.

Each worker has one thread. Beside the gain of the folder stands that of the gradient work alone, done by one process
and by two at once: what the machine itself gives.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ONE_THREAD = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def measure_overhead(model, data, count, steps=None):
    """Core-seconds of a folder that are not gradient work, as a share.

    Args:
        model, data: paths of a saved classifier and of a folder of studies.
        count: int. Studies.
        steps: int or None: of each path.

    Returns:
        float in [0, 1].
    """
    with tempfile.TemporaryDirectory() as out, _start("overhead", model, data, count, out, steps or "") as process:
        return _read(process)


def measure_gain(model, data, count, steps):
    """Explains a folder with one worker and with two, and does its gradient work alone likewise.

    Args:
        model, data, count, steps: as for `measure_overhead`.

    Returns:
        dict: how many times as fast two are, of the folder and of the gradient work alone.
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
        process.stdout.readline()  # it is ready
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
    said, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"a folder could not be explained: {' '.join(process.args[1:])} says why")
    return json.loads(said.splitlines()[-1])


def _say(value):
    print(json.dumps(value), flush=True)


def overhead(model, data, count, out, steps):
    """Explains a folder, then does its gradient work again without the rest."""
    from explain_models import keep_cases, read_whole

    from kmm.explain.folder.explain_folder import explain_folder
    from kmm.explain.settings import ExplainSettings

    kept, began = [], []

    def run(worker, cut, begin, tell):
        """`run_here`, warm, that keeps what the gradient work is given."""
        batches, explainer = cut(1), worker.load().source.explainer
        for _ in explainer.explain(batches[0].studies[:1]):
            pass
        kept.append(keep_cases(explainer))
        begin()
        began.append(time.process_time())
        for batch in batches:
            yield batch, worker.explain_batch(batch)

    settings = ExplainSettings(steps=int(steps) if steps else None)
    explain_folder(model, read_whole(data, int(count)), Path(out, "out"), settings=settings, runner=run)
    whole, (attribute, cases) = time.process_time() - began[0], kept[0]
    start = time.process_time()
    for _ in attribute(iter(cases)):
        pass
    _say(1 - (time.process_time() - start) / whole)


def folder(model, data, count, out, steps, workers):
    """Wall seconds of a folder from when the first worker has loaded the model."""
    from explain_models import read_whole

    from kmm.explain.folder.explain_folder import explain_folder
    from kmm.explain.folder.runners import run_workers
    from kmm.explain.settings import ExplainSettings

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(workers)])  # a thread for each core
    began = []

    def run(worker, cut, begin, tell):
        yield from run_workers(
            worker, cut, lambda: (begin(), began.append(time.perf_counter())), tell, count=int(workers)
        )

    settings = ExplainSettings(steps=int(steps))
    explain_folder(model, read_whole(data, int(count)), Path(out, "out"), settings=settings, runner=run)
    _say(time.perf_counter() - began[0])


def gradients(model, data, count, steps, core):
    """Does the gradient work of some studies when it is told to."""
    from explain_models import keep_cases, read_whole

    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings

    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[int(core) :][:1])
    explainer = Explainer.load(model, ExplainSettings(steps=int(steps)))
    attribute, cases = keep_cases(explainer)
    for _ in explainer.explain(read_whole(data, 2)):
        pass
    _say("ready")
    sys.stdin.readline()
    for _ in attribute(cases[number % len(cases)] for number in range(int(count))):
        pass
    _say("done")


if __name__ == "__main__":
    {"overhead": overhead, "folder": folder, "gradients": gradients}[sys.argv[1]](*sys.argv[2:])
