"""Peak memory of explaining a few and many films with DenseNet121, each in a fresh process."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

STEPS = 72
FEW = 1


def measure_memory(many, image_encoder="densenet121"):
    """Explains 1 film and many at the default limit of memory.

    Args:
        many: int.
        image_encoder: name in `kmm.models.encoders_image.IMAGE_ENCODERS`.

    Returns:
        dict: `memory_1` and `memory_64` in GB (10^9 bytes), the limit, the points of a chunk, the images of the second.
    """
    from explain_models import save_untrained

    from kmm.data.phantom.dataset import make_phantom
    from kmm.explain.settings import ExplainSettings

    with tempfile.TemporaryDirectory() as folder:
        model, data = save_untrained(Path(folder, "model"), image_encoder), Path(folder, "data")
        make_phantom(data, studies=max(many + many // 4, 10))
        few, lots = (_run(model, data, count) for count in (FEW, many))
    return {
        "memory_1": few["gb"],
        "memory_64": lots["gb"],
        "memory_limit": ExplainSettings().memory_gb,
        "memory_chunk": lots["chunk"],
        "memory_images": many,
    }


def _run(*arguments):
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def explain(model, data, count):
    """What the process needed at most to explain some films."""
    from explain_models import read_whole

    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings

    explainer = Explainer.load(model, ExplainSettings(steps=STEPS))
    for _ in explainer.explain(read_whole(data, int(count))):
        pass
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # ru_maxrss would know the parent's peak too
    peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) * 1024 / 1e9
    print(json.dumps({"gb": peak, "chunk": explainer.chunk}))


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    explain(*sys.argv[1:])
