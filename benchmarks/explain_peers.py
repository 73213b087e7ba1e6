"""Core-seconds per path point: kmm, captum and tf-keras-vis on one DenseNet121, each in a process of one thread.

Each process is warmed up before it is timed and stays alive; the processes take turns.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import ONE_THREAD

PIXELS = 224
CAPTUM_CHUNK = 16
LIBRARIES = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
SCORES_AGREE, MAPS_AGREE = 1e-4, 0.03  # rounding flips some ReLUs near zero, which changes a map by about 1 %


def measure_point_costs(rounds, points):
    """Times all implementations in turns.

    Args:
        rounds: int. Number of timed runs of each implementation.
        points: int. Path points per run; tf-keras-vis computes a quarter of them.

    Returns:
        dict of figures.
    """
    with tempfile.TemporaryDirectory() as folder:
        peers = {}
        try:
            for name in PEERS:  # captum first, which saves the weights
                peers[name] = _Peer(name, Path(folder, "weights.npz"))
            _compare(peers)
            seconds = {name: [] for name in PEERS}
            for number in range(rounds):
                for name in list(PEERS) if number % 2 else list(PEERS)[::-1]:
                    seconds[name].append(peers[name].time(points // 4 if name == "tf-keras-vis" else points))
        finally:
            for peer in peers.values():
                peer.stop()

    def divide(name, by):
        return statistics.median(ours / theirs for ours, theirs in zip(seconds[name], seconds[by], strict=True))

    return {
        "point_cost_to_captum": divide("kmm", "captum"),
        "point_cost_frozen_to_captum": divide("kmm-frozen", "captum"),
        "point_cost_to_tf_keras_vis": divide("kmm", "tf-keras-vis"),
        "point_core_seconds": {name: statistics.median(values) for name, values in seconds.items()},
    }


def _compare(peers):
    """Stops the benchmark unless both networks give the same score, and the same map at the same nodes."""
    import numpy as np

    ours, theirs = peers["kmm"].answer, peers["captum"].answer
    if abs(ours["score"] - theirs["score"]) > SCORES_AGREE:
        raise SystemExit(f"The networks differ: kmm's score is {ours['score']}, captum's {theirs['score']}.")
    mine, other = np.load(ours["map"]), np.load(theirs["map"])
    apart = np.abs(mine - other).sum() / np.abs(other).sum()
    if apart > MAPS_AGREE:
        raise SystemExit(f"The maps differ by {apart:.2%} at equal nodes.")


class _Peer:
    """A process that explains as many path points as it is sent."""

    def __init__(self, name, weights):
        command = [sys.executable, __file__, name, str(weights)]
        environment = {**os.environ, **ONE_THREAD, **LIBRARIES}
        self.process = subprocess.Popen(
            command, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL, text=True, env=environment
        )
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(
                f"{name} did not start. Run for the reason: python {Path(__file__).name} {name} weights.npz"
            )
        self.answer = json.loads(line)

    def time(self, points):
        print(points, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def make_films(count=8):
    """Makes smooth gray films with grain: float32 `(n, 224, 224, 1)`, 0 to 255."""
    import cv2
    import numpy as np

    random = np.random.default_rng(0)
    coarse = random.normal(128, 45, (count, 14, 14)).astype(np.float32)
    films = np.stack([cv2.resize(film, (PIXELS, PIXELS), interpolation=cv2.INTER_CUBIC) for film in coarse])
    return np.clip(films + random.normal(0, 8, films.shape), 0, 255).astype(np.float32)[..., None]


def _serve_captum(weights):
    import numpy as np
    import torch
    from captum.attr import IntegratedGradients
    from torch_densenet import make_network

    torch.set_num_threads(1)
    network = make_network(make_films())
    np.savez(weights, **{name: value.numpy() for name, value in network.state_dict().items()})
    film = torch.tensor(make_films()[:1]).permute(0, 3, 1, 2).contiguous()
    method = IntegratedGradients(network)

    def explain(points):
        found = method.attribute(film, torch.zeros_like(film), n_steps=points, internal_batch_size=CAPTUM_CHUNK)
        return found.detach()[0].permute(1, 2, 0).numpy()

    return network(film).item(), explain


def _serve_kmm(weights, *, freeze=False):
    import numpy as np

    from kmm.explain.attribution.integrated_gradients import PathIntegrator, integrated_gradients
    from kmm.explain.attribution.split_model import choose_chunk
    from kmm.explain.settings import ExplainSettings
    from kmm.models.encoders_image import IMAGE_ENCODERS
    from kmm.models.views.path_view import view_path

    view = view_path(_load_model(weights), image_encoder=IMAGE_ENCODERS["densenet121"])
    integrator = PathIntegrator(
        lambda inner, fixed: view.rest({**inner, **fixed}, training=False),
        stem=lambda inputs, fixed: view.stem(inputs, training=False),
        chunk=choose_chunk(view.rest, ExplainSettings().memory_gb, view.held),
        freeze=freeze,
    )
    inputs, fixed = {"image": make_films()[:1]}, {"present": np.float32([[1, 0]])}

    def explain(points):
        rule = "gauss-legendre"  # captum's default; the rule does not change the cost of a node
        found = integrated_gradients(integrator, inputs, {"image": 0}, fixed=fixed, rule=rule, steps=points)
        return found[0].values["image"]

    return float(integrator.score(inputs, fixed)[0, 0]), explain


def _serve_tf_keras_vis(weights):
    import keras
    import numpy as np
    from tf_keras_vis.saliency import Saliency

    from kmm.models.views.parts import core_of

    core = core_of(_load_model(weights))
    film = keras.Input((PIXELS, PIXELS, 1), name="film")
    present = keras.ops.concatenate(
        [keras.ops.ones_like(film[:, :1, 0, 0]), keras.ops.zeros_like(film[:, :1, 0, 0])], 1
    )
    model = keras.Model(film, core({"image": film, "present": present}))
    method, films = Saliency(model, clone=False), make_films()[:1]

    def explain(points):
        return method(lambda outputs: outputs[:, 0], films, smooth_samples=points, gradient_modifier=None)

    return float(np.asarray(model(films))[0, 0]), explain


def _load_model(weights):
    """Builds kmm's image model with the weights that the captum process saved."""
    import numpy as np

    from kmm.models.build import ModelSpec, build_model
    from kmm.models.views.parts import fusion_of, image_encoder_of
    from kmm.models.weights.names.densenet import name_densenet

    model = build_model(ModelSpec(image_encoder="densenet121"), label_count=1)
    with np.load(weights, allow_pickle=False) as file:
        state = dict(file)
    encoder, fusion = image_encoder_of(model), fusion_of(model)
    features = {name: value for name, value in state.items() if name.startswith("features.")}
    for name, arrays in name_densenet((6, 12, 24, 16))(features).items():
        encoder.get_layer(name).set_weights(arrays)
    for number, name in enumerate(("decoder_bn", "decoder", None, "joint", "logits")):
        if name:
            kinds = ("weight", "bias", "running_mean", "running_var")
            arrays = [state[f"head.{number}.{kind}"] for kind in kinds if f"head.{number}.{kind}" in state]
            fusion.get_layer(name).set_weights([arrays[0].T, *arrays[1:]])
    return model


PEERS = {
    "captum": _serve_captum,
    "kmm": _serve_kmm,
    "kmm-frozen": lambda weights: _serve_kmm(weights, freeze=True),
    "tf-keras-vis": _serve_tf_keras_vis,
}


def serve(name, weights):
    """Reads a number of path points per line of standard input; prints the core-seconds per point."""
    import numpy as np

    score, explain = PEERS[name](weights)
    place = Path(weights).with_name(f"{name}.npy")
    np.save(place, explain(CAPTUM_CHUNK))
    print(json.dumps({"score": score, "map": str(place)}), flush=True)
    for line in sys.stdin:
        start = time.process_time()
        explain(int(line))
        print((time.process_time() - start) / int(line), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
