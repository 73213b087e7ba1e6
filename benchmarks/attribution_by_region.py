"""Where on frontal films a classifier's attribution lies: on lungs, heart and mediastinum, or elsewhere.

    python benchmarks/attribution_by_region.py saved_models/mine FOLDER --films 200
    python benchmarks/attribution_by_region.py saved_models/mine FOLDER --json

The films are those of the test studies of the classifier, in the order of the folder, prepared as it reads them. The
regions are boxes in fractions of the film, the same for every film. They are a rough guide, since no film is
segmented: they say whether a classifier looks at the chest at all.

    thorax     rows .15 to .75, columns .08 to .92: lungs, heart and mediastinum, and the ribs and spine behind them
    abdomen    rows from .75 on
    neck       rows up to .15, columns .35 to .65: neck, and the spine above the lungs
    margin     the rest: shoulders, arms, what surrounds the patient, and letters

    share      mean over films of the share of the absolute attribution that lies in the region
    density    share divided by the share of the film's area: 1 if attribution were spread evenly
    circles    fraction of all circles whose centre lies in the region
    strongest  fraction of the strongest circles of the films
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BOXES = {  # rows, then columns, as fractions of the film; a place belongs to the first that contains it
    "thorax": (0.15, 0.75, 0.08, 0.92),
    "abdomen": (0.75, 1.0, 0.0, 1.0),
    "neck": (0.0, 0.15, 0.35, 0.65),
    "margin": (0.0, 1.0, 0.0, 1.0),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a saved classifier")
    parser.add_argument("data", type=Path, help="the folder of its studies")
    parser.add_argument("--films", type=int, default=200, help="most test studies")
    parser.add_argument("--steps", type=int, help="path points; refined to the tolerances when not given")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    options = parser.parse_args()
    found = measure_regions(options.model, options.data, options.films, options.steps)
    if options.json:
        print(json.dumps(found, indent=2))
        return
    print(f"{found['films']} films, {found['circles']} circles, median map error {found['map_error']:.3f}")
    print(f"{'':10}{'share':>10}{'density':>10}{'circles':>10}{'strongest':>10}")
    for name, row in found["regions"].items():
        print(f"{name:10}" + "".join(f"{row[key]:10.3f}" for key in ("share", "density", "circles", "strongest")))


def measure_regions(model, data, count, steps=None):
    """Measures the attribution of test films by region.

    Args:
        model: path of a saved classifier.
        data: path of the folder of its studies.
        count: int. Most test studies with a film.
        steps: int or None. Path points of integrated gradients.

    Returns:
        dict of plain values: `films`, `circles`, `map_error` and `regions`.
    """
    import numpy as np

    from kmm.data.collection import read_collection
    from kmm.evaluate.seen import part_studies
    from kmm.explain.explainer import Explainer
    from kmm.explain.settings import ExplainSettings

    explainer = Explainer.load(model, ExplainSettings(steps=steps))
    parts = part_studies(explainer.classifier, read_collection(data).studies)
    studies = [study for study in parts["test"] if study.frontal][:count]
    shares, areas, centres, strongest, errors = [], [], [], [], []
    for found in explainer.explain(studies):
        places = locate(np.indices(found.heat.shape) + 0.5, found.heat.shape)
        total = np.abs(found.heat).sum()
        shares.append([np.abs(found.heat)[places == number].sum() / max(total, 1e-30) for number in range(len(BOXES))])
        areas.append([(places == number).mean() for number in range(len(BOXES))])
        own = [int(locate(np.array([region.y, region.x]), found.film.shape)) for region in found.regions]
        centres.extend(own)
        strongest.extend(own[:1])
        errors.append(found.attribution.map_error)
    share, area = np.mean(shares, axis=0), np.mean(areas, axis=0)
    regions = {
        name: {
            "share": float(share[number]),
            "density": float(share[number] / area[number]),
            "circles": float(np.mean(np.array(centres) == number)),
            "strongest": float(np.mean(np.array(strongest) == number)),
        }
        for number, name in enumerate(BOXES)
    }
    return {"films": len(shares), "circles": len(centres), "map_error": float(np.median(errors)), "regions": regions}


def locate(places, shape):
    """Returns the number of the region of places.

    Args:
        places: float array `(2, ...)`: row and column, in pixels.
        shape: tuple: height and width of the film.

    Returns:
        int array `(...)`: index in `BOXES`.
    """
    import numpy as np

    row, column = places[0] / shape[0], places[1] / shape[1]
    inside = [
        (top <= row) & (row < below) & (left <= column) & (column < right) for top, below, left, right in BOXES.values()
    ]
    return np.argmax([*inside[:-1], np.ones_like(inside[-1])], axis=0)


if __name__ == "__main__":
    main()
