"""kmm.explain against captum and tf-keras-vis: core-seconds per path point, points per map, memory, folders.

    python benchmarks/explain.py            a table
    python benchmarks/explain.py --json     one JSON document
    python benchmarks/explain.py --quick    fewer rounds, studies and films

Peers and kmm explain DenseNet121 at 224 pixels with the same weights, each in a process of one thread, in turns.

    point_cost_to_captum         core-seconds per path point, relative to captum's IntegratedGradients
                                 (internal_batch_size 16); at most 0.90
    point_cost_to_tf_keras_vis   the same, relative to a sample of tf-keras-vis's SmoothGrad; at most 0.2
    points_to_left_rule          points of kmm's adaptive stopping for maps within 2 % of 512-step maps, relative to
    points_to_gauss_legendre     the size at which a rule brings as many studies within 2 %; at most 0.5 and 0.85.
                                 `..._of_mean`: relative to the size at which a rule's mean error is 2 %;
                                 `midpoint_to_...`: that size of the midpoint rule, relative to the other rules;
                                 `..._of_fewer`: the same for a classifier trained on 600 studies, since the number of
                                 points depends on the network. The rest is measured on the classifier that `kmm fit`
                                 trains by default
    map_error_to_true_error      the reported `map_error`, relative to the error against 512 steps; from 1/1.5 to 1.5
    time_to_captum               core-seconds to equal map error (cost per point times number of points), relative to
                                 captum with its Gauss-Legendre rule; at most 0.75
    memory_1, memory_64          peak memory in GB of explaining 1 and 64 films with 72 steps; within the limit of 3,
                                 and equal within 10 %
    cluster_50k_seconds          seconds to cluster 50,000 points; at most 0.5
    overlay_224_seconds          threshold, clusters, circles and heat of a 224-pixel map on a film of 224 pixels,
    overlay_2048_seconds         and on one of 2048 pixels; at most 0.03 and 0.3
    folder_overhead              share of a folder's core-seconds outside the gradient work: DenseNet121, 24 steps; at
                                 most 0.10. `..._small`: the 64-pixel CNN with adaptive steps, the hard case
    two_workers_speedup          speedup of a folder with two workers over one worker, one thread each, DenseNet121; at
                                 least 1.6 where the gradient work alone gains as much from two processes
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, studies and films")
    parser.add_argument("--model", type=Path, help="a saved classifier of films and reports; default: one is trained")
    parser.add_argument("--data", type=Path, help="folder of studies for --model")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="parts to run")
    options = parser.parse_args()
    if bool(options.model) != bool(options.data):
        parser.error("--model and --data go together")
    result = {}
    with tempfile.TemporaryDirectory() as folder:
        for part in options.only:
            start = time.perf_counter()
            found = PARTS[part](options, Path(folder))
            result.update(found)
            print(f"{part}: {time.perf_counter() - start:.0f} s, {json.dumps(found)}", file=sys.stderr)
    if {"point_cost_to_captum", "points_to_gauss_legendre"} <= set(result):
        result["time_to_captum"] = result["point_cost_to_captum"] * result["points_to_gauss_legendre"]
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        print(f"{name:44} {value:.4g}" if isinstance(value, float) else f"{name:44} {value}")


def measure_clusters(options, folder):
    """Clusters 50,000 points, crowded and scattered; the slower of the two counts."""
    import numpy as np

    from kmm.explain.regions.clusters import cluster_points

    random = np.random.default_rng(0)
    seconds = []
    for side in (512, 2048):
        places = random.choice(side * side, 50_000, replace=False)
        points = np.stack(np.divmod(places, side), 1)
        seconds.append(_time(lambda points=points: cluster_points(points, 10.0)))
    return {"cluster_50k_seconds": max(seconds)}


def measure_overlays(options, folder):
    """Times the steps from a map to a film with circles and a film with heat."""
    import numpy as np

    from kmm.explain.output.draw import draw_circles, draw_heat
    from kmm.explain.regions.find import find_regions
    from kmm.explain.settings import RegionSettings

    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:224, :224]
    heat = random.normal(0, 0.3, (224, 224))
    for row, column, spread in ((60, 70, 12), (140, 160, 20), (180, 60, 8)):
        heat += np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * spread**2))

    def overlay(film):
        regions = find_regions(heat, RegionSettings(), film_size=film.shape)
        return draw_circles(film, regions), draw_heat(film, heat)

    films = {side: random.integers(0, 255, (side, side)).astype(np.uint8) for side in (224, 2048)}
    return {f"overlay_{side}_seconds": _time(lambda film=film: overlay(film)) for side, film in films.items()}


def _time(work, repeats=7):
    """Returns the median core-seconds of some calls, after one warm-up call."""
    work()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


def measure_costs(options, folder):
    from explain_peers import measure_point_costs

    return measure_point_costs(*((2, 16) if options.quick else (7, 32)))


def measure_points(options, folder):
    import explain_points
    from classifiers import train_phantom

    if options.quick:
        return explain_points.measure_points(*_phantom(options, folder), 8)
    found = explain_points.measure_points(*_phantom(options, folder), 24)
    fewer = explain_points.measure_points(*train_phantom(folder / "fewer", studies=600), 24)
    names = ("points_to_left_rule", "points_to_gauss_legendre")
    return {**found, **{f"{name}_of_fewer": fewer[name] for name in names}}


def measure_memory(options, folder):
    import explain_memory

    return explain_memory.measure_memory(4 if options.quick else 64)


def measure_folders(options, folder):
    from classifiers import save_untrained
    from explain_folder import measure_gain, measure_overhead

    model, data = _phantom(options, folder)
    few, some, many = (4, 8, 32) if options.quick else (16, 48, 256)
    paper = save_untrained(folder / "paper", "densenet121")
    return {
        "folder_overhead": measure_overhead(paper, data, few, steps=24),
        "folder_overhead_small": measure_overhead(model, data, many),
        **measure_gain(paper, data, some, steps=24),
    }


def _phantom(options, folder):
    """Returns the paths of a classifier and its data: the given ones, or a phantom classifier that is trained once."""
    from classifiers import train_phantom

    if options.model:
        return options.model, options.data
    if not (folder / "phantom" / "model").exists():
        train_phantom(folder / "phantom")
    return folder / "phantom" / "model", folder / "phantom" / "data"


PARTS = {
    "clusters": measure_clusters,
    "overlays": measure_overlays,
    "costs": measure_costs,
    "points": measure_points,
    "memory": measure_memory,
    "folders": measure_folders,
}

if __name__ == "__main__":
    main()
