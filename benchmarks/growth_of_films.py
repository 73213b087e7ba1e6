"""Peak memory, disk and time of preparing films at 1, 4 and 16 times the studies: memory may not grow with their films.

    python benchmarks/growth_of_films.py            a table; exit code 1 where memory grows by more than `--limit` MB
    python benchmarks/growth_of_films.py --json     one JSON document

Each size runs in two processes of its own: the first one decodes all films (cold), the second one finds them in the
cache (warm). Then each reads every film once, in random order, as an epoch does. Memory is the peak of the process
above what it had before, less 3 kB for each study, which its report, labels and digests may take.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from processes import read_peak_memory_gb

TIMES = (1, 4, 16)
STUDY_MB = 0.003


def write_studies(folder, count, side, rng):
    """Writes a manifest of `count` studies with a film of `side` pixels each."""
    rows = ["id,patient,image,report,label:mass"]
    for number in range(count):
        Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(
            folder / f"{number}.png", compress_level=0
        )
        rows.append(f"{number},p{number},{number}.png,Report {number}.,{number % 2}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def prepare(folder, pixels):
    """Prepares the studies of a folder and reads their films once; returns seconds and the growth of memory."""
    from kmm.data.collection import read_collection
    from kmm.presets import make_settings
    from kmm.training.preparation.prepared_studies import prepare_studies

    collection = read_collection(folder)
    settings = make_settings("small", {"labels": "columns", "pixels": pixels})
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: at what is in memory now
    before, start = read_peak_memory_gb(), time.perf_counter()
    prepared = prepare_studies(collection, settings, films=folder / "cache")
    between = time.perf_counter()
    for rows in np.array_split(np.random.default_rng(0).permutation(len(prepared.studies)), len(prepared.studies) // 8):
        prepared.films[rows]
    end = time.perf_counter()
    return {
        "prepare_seconds": round(between - start, 2),
        "epoch_seconds": round(end - between, 2),
        "memory_mb": round((read_peak_memory_gb() - before) * 1000, 1),
        "cache_mb": round(
            sum(path.stat().st_size for path in (folder / "cache").rglob("*") if path.is_file()) / 1e6, 1
        ),
    }


def run(folder, pixels):
    command = [sys.executable, __file__, "--child", str(folder), "--pixels", str(pixels)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=256, help="studies of the smallest folder (default 256)")
    parser.add_argument("--side", type=int, default=256, help="pixels of a side of the films (default 256)")
    parser.add_argument("--pixels", type=int, default=224, help="pixels of a side of the prepared films (default 224)")
    parser.add_argument("--limit", type=float, default=10.0, help="growth in MB that counts as none (default 10)")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(prepare(options.child, options.pixels)))
        return
    found = []
    for times in TIMES:
        count = options.studies * times
        with tempfile.TemporaryDirectory() as folder:
            write_studies(Path(folder), count, options.side, np.random.default_rng(0))
            for state in ("cold", "warm"):
                found.append({"studies": count, "cache": state, **run(folder, options.pixels)})
    growth = {
        state: round(
            rows[-1]["memory_mb"] - rows[0]["memory_mb"] - STUDY_MB * (rows[-1]["studies"] - rows[0]["studies"])
        )
        for state in ("cold", "warm")
        if (rows := [row for row in found if row["cache"] == state])
    }
    if options.json:
        print(json.dumps({"rows": found, "growth_mb": growth}))
    else:
        print("".join(f"{name:>16}" for name in found[0]))
        for row in found:
            print("".join(f"{value:>16}" for value in row.values()))
        print(f"growth of memory beyond {STUDY_MB * 1000:g} kB per study, in MB: {growth}")
    sys.exit(any(value > options.limit for value in growth.values()))


if __name__ == "__main__":
    main()
