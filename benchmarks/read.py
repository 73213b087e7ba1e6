"""Films that kmm reads and prepares per second, against OpenCV's bare decode and resize of the same files.

    python benchmarks/read.py            a table
    python benchmarks/read.py --json     one JSON document

kmm decodes, checks that the file is complete, makes float32 gray, resizes with antialiasing and letterboxes to the
square. OpenCV does `imread(IMREAD_GRAYSCALE)` and `resize(INTER_AREA)` to the same square. Both use one thread and take
turns on the same files in each round; the ratio is the median over the rounds.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from kmm.image.prepare import ImagePreparation
from kmm.image.read import read_image

SIZES = ((1024, 1024), (2500, 2048))
SUFFIXES = (".png", ".jpg")


def make_film(height, width, rng):
    """Makes a smooth gray film with grain, uint8 `(height, width)`, which compresses better than noise."""
    coarse = rng.normal(128, 45, (12, 10)).astype(np.float32)
    film = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    film += cv2.GaussianBlur(rng.normal(0, 60, (height, width)).astype(np.float32), (0, 0), 4)
    film += rng.normal(0, 2, (height, width))
    return np.clip(film, 0, 255).astype(np.uint8)


def write_films(folder, count, rng):
    """Writes `count` films of each size and format and returns their paths."""
    paths = []
    for height, width in SIZES:
        for number in range(count):
            film = make_film(height, width, rng)
            for suffix in SUFFIXES:
                paths.append(Path(folder, f"{height}x{width}-{number}{suffix}"))
                cv2.imwrite(str(paths[-1]), film)
    return paths


def time_seconds(work, paths):
    """Returns `{path: seconds}` of `work(path)`."""
    seconds = {}
    for path in paths:
        start = time.perf_counter()
        work(path)
        seconds[path] = time.perf_counter() - start
    return seconds


def measure(paths, *, pixels, rounds):
    """Times kmm and OpenCV in turns and returns the figures to print."""
    preparation = ImagePreparation(pixels)

    def read_with_kmm(path):
        return preparation.apply(read_image(path))

    def read_with_opencv(path):
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        return cv2.resize(image, (pixels, pixels), interpolation=cv2.INTER_AREA)

    time_seconds(read_with_kmm, paths), time_seconds(read_with_opencv, paths)  # warm-up: disk cache, resize weights
    pairs = []
    for number in range(rounds):
        works = (read_with_kmm, read_with_opencv)
        timed = {work: time_seconds(work, paths) for work in (works if number % 2 else works[::-1])}
        pairs.append((timed[read_with_kmm], timed[read_with_opencv]))

    def find_ratio(chosen):
        return statistics.median(sum(peer[p] for p in chosen) / sum(ours[p] for p in chosen) for ours, peer in pairs)

    groups = {}
    for path in paths:
        groups.setdefault(path.stem.rsplit("-", 1)[0] + path.suffix, []).append(path)
    return {
        "read_ratio": round(find_ratio(paths), 3),
        "images_per_second": round(len(paths) / statistics.median(sum(ours.values()) for ours, _ in pairs), 1),
        "opencv_images_per_second": round(len(paths) / statistics.median(sum(peer.values()) for _, peer in pairs), 1),
        "files": len(paths),
        "size": pixels,
        "rounds": rounds,
        "ratio_by_kind": {kind: round(find_ratio(chosen), 3) for kind, chosen in groups.items()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=4, help="films of each size and format (default 4)")
    parser.add_argument("--rounds", type=int, default=15, help="timed rounds (default 15)")
    parser.add_argument("--pixels", type=int, default=224, help="side of the square (default 224)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = write_films(folder, options.files, np.random.default_rng(options.seed))
        numbers = measure(paths, pixels=options.pixels, rounds=options.rounds)
    if options.json:
        print(json.dumps(numbers))
    else:
        for name, value in numbers.items():
            print(f"{name:26} {value}")


if __name__ == "__main__":
    main()
