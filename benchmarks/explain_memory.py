"""Peak memory of explaining one film and many films with DenseNet121, each in a fresh process."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from processes import read_peak_memory_gb

STEPS = 72


def measure_memory(many, image_encoder="densenet121"):
    """Explains one film and many films under the default memory limit.

    Args:
        many: int. Number of films in the second process.
        image_encoder: name in `kmm.models.encoders_image.IMAGE_ENCODERS`.

    Returns:
        dict: `memory_1` and `memory_64` (GB, 10^9 bytes) of the first and the second process, `memory_limit` (GB),
        `memory_chunk` (path points per chunk) and `memory_images` (films of the second process).
    """
    from classifiers import save_untrained

    from kmm.data.phantom.dataset import make_phantom
    from kmm.explain.settings import ExplainSettings

    with tempfile.TemporaryDirectory() as folder:
        model, data = save_untrained(Path(folder, "model"), image_encoder), Path(folder, "data")
        make_phantom(data, studies=max(many + many // 4, 10))
        one, more = (_run(model, data, count) for count in (1, many))
    return {
        "memory_1": one["gb"],
        "memory_64": more["gb"],
        "memory_limit": ExplainSettings().memory_gb,
        "memory_chunk": more["chunk"],
        "memory_images": many,
    }


def _run(*arguments):
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def explain(model, data, count):
    """Explains some films and prints the peak memory of this process as JSON."""
    from classifiers import read_complete_studies

    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings

    explainer = Explainer.load(model, ExplainSettings(steps=STEPS))
    for _ in explainer.explain(read_complete_studies(data, int(count))):
        pass
    print(json.dumps({"gb": read_peak_memory_gb(), "chunk": explainer.chunk}))


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    explain(*sys.argv[1:])
