"""CPU time per study of reading, views, verify and split at 1, 4 and 16 times the studies: none may grow.

    python benchmarks/growth.py            a table; exit code 1 where time per study grows by more than `--limit`
    python benchmarks/growth.py --json     one JSON document

Every study has its own folder and a film of the same name, like CheXpert's `view1_frontal.jpg`. A linear operation
costs the same per study at every size; one that compares all studies with each other costs 16 times as much at the
largest. Each time is the CPU time of all threads, the best of the rounds; other programs on the machine disturb it
little.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from kmm.data.collection import bare_images, read_collection
from kmm.data.split import split_studies
from kmm.data.verify import verify_collection
from kmm.data.views.ranking import load_view_overrides
from kmm.image.read import read_image

TIMES = (1, 4, 16)


def write_studies(folder, count, rng):
    """Writes a manifest of `count` studies of `count / 2` patients with one film each, and a list of their views."""
    rows, views = ["id,patient,image,report,label:mass"], ["file,view"]
    for number in range(count):
        place = Path(folder, f"films/patient{number:06}/view1_frontal.png")
        place.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(place, compress_level=0)
        name = place.relative_to(folder).as_posix()
        rows.append(f"{number},p{number // 2},{name},Report {number}.,{number // 2 % 2}")
        views.append(f"{name},frontal")
    Path(folder, "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    Path(folder, "views.csv").write_text("\n".join(views) + "\n", encoding="utf-8")


def list_works(folder):
    """Returns `{name: function}`, the operations on a folder that `write_studies` wrote."""
    studies = read_collection(folder).studies
    views = Path(folder, "views.csv")
    return {
        "read a manifest": lambda: read_collection(folder),
        "read bare films": lambda: bare_images([Path(folder, "films")]),
        "views of a manifest": lambda: read_collection(folder, view_overrides=load_view_overrides(views)),
        "views of bare films": lambda: bare_images([folder / "films"], view_overrides=load_view_overrides(views)),
        "verify": lambda: verify_collection(folder, read_image),
        "split": lambda: split_studies(studies, seed=0, label_names=("mass",)),
    }


def measure(studies, *, rounds, seed):
    """Returns `{operation: [microseconds per study at each size]}`."""
    found = {}
    for times in TIMES:
        count = studies * times
        with tempfile.TemporaryDirectory() as folder:
            write_studies(folder, count, np.random.default_rng(seed))
            for name, work in list_works(Path(folder)).items():
                seconds = []
                for _ in range(rounds):
                    start = time.process_time()
                    work()
                    seconds.append(time.process_time() - start)
                found.setdefault(name, []).append(round(min(seconds) / count * 1e6, 1))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=400, help="studies of the smallest folder (default 400)")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds (default 3)")
    parser.add_argument("--limit", type=float, default=2.0, help="growth that is still called linear (default 2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    found = measure(options.studies, rounds=options.rounds, seed=options.seed)
    growth = {name: round(times[-1] / times[0], 2) for name, times in found.items()}
    if options.json:
        print(json.dumps({"studies": options.studies, "microseconds_per_study": found, "growth": growth}))
    else:
        print(
            f"{'microseconds per study':24}"
            + "".join(f"{options.studies * times:>10}" for times in TIMES)
            + "    growth"
        )
        for name, times in found.items():
            print(f"{name:24}" + "".join(f"{value:10.1f}" for value in times) + f"{growth[name]:10.2f}")
    sys.exit(any(value > options.limit for value in growth.values()))


if __name__ == "__main__":
    main()
