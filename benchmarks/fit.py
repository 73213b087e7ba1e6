"""Training through kmm against plain Keras: time of an epoch, gain of cached features, peak memory.

Every figure is a ratio of two measurements taken in turns in one run: the median of the ratios of neighbours, since the
speed of a shared machine drifts. `--json` prints one JSON document.

    epoch_ratio      a training epoch through kmm (films read from disk, augmentation, modality and word dropout,
                     weights and state saved), relative to one of `keras.Model.fit` on the same arrays in memory; same
                     model, optimizer and batch, one batch of validation each; at most 1.05
    epoch_ratio_to_untuned   the same, relative to plain Keras on a `tf.data.Dataset` of the arrays with autotuning
                     off: with autotuning, plain Keras sometimes waits up to a second for a thread before an epoch
    cached_speedup   an end-to-end epoch with frozen encoders, relative to a head epoch on their cached features; at
                     least 50
    memory_ratio     peak memory of a whole fit on four times the studies, relative to that on the studies; at most 1.10

With `--augmentation` only this, on films of 224 pixels in batches of 32:

    augmentation_ratio   films per second that a layer in front of the model augments, on the device of TensorFlow,
                         relative to those that the feed reads and augments; with the films per second of both, and of
                         a feed that reads films and draws the numbers for the layer
"""

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from processes import read_peak_memory_gb

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--preset", default="small", help="preset of epoch_ratio")
    parser.add_argument("--fusion", default="concat", help="fusion of epoch_ratio")
    parser.add_argument("--only-epochs", action="store_true", help="epoch_ratio, and no other figure")
    parser.add_argument("--studies", type=int, default=1024, help="number of studies of epoch_ratio")
    parser.add_argument("--rounds", type=int, default=24, help="timed epochs of each kind, in turns")
    parser.add_argument("--augmentation", action="store_true", help="the figures of augmentation, and no others")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(fit_whole(options.child))
        return
    if options.augmentation:
        result = measure_augmentation(224, options.rounds)
    else:
        result = measure_epochs(options.preset, options.studies, options.rounds, fusion=options.fusion)
        if not options.only_epochs:
            result |= {**measure_cache(192, 3), **measure_memory(256)}
    if options.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:28} {value:.4g}" if isinstance(value, float) else f"{name:28} {value}")


def make_columns(pixels, studies, folder, vocabulary_size=2000, length=140):
    """Makes random studies: the columns that kmm trains from, the same as arrays in memory, and their labels."""
    import numpy as np

    from kmm.training.cache.array_store import ArrayStore

    generator = np.random.default_rng(0)
    films = generator.integers(0, 256, (studies, pixels, pixels, 1)).astype("uint8")
    store = ArrayStore(Path(folder) / "films")
    for row, film in enumerate(films):
        store.add(str(row), film)
    store.flush()
    column, films = store.column(list(map(str, range(studies))), "float32"), films.astype("float32")
    shared = {
        "token_ids": generator.integers(2, vocabulary_size, (studies, length)).astype("int32"),
        "present": np.ones((studies, 2), "float32"),
    }
    labels = generator.integers(0, 2, (studies, 1)).astype("float32")
    return {"image": column, **shared}, {"image": films, **shared}, labels


def build(preset, **overrides):
    """Builds the joint model of a preset; returns it with its specification and settings."""
    from kmm.models.build import ModelSpec, build_model
    from kmm.presets import make_settings
    from kmm.training.run_context import find_shape

    s = make_settings(preset, overrides)
    spec = ModelSpec(
        s.image_encoder, s.text_encoder, pixels=s.pixels, length=s.length, embedding_size=s.embedding_size,
        text_filters=s.text_filters, fusion_units=s.fusion_units, head=s.head,
        fusion=s.fusion, fusion_shape=find_shape(s),
    )  # fmt: skip
    return build_model(spec, label_count=1, vocabulary_size=2000), spec, s


def make_stage():
    from kmm.training.stages.recipe import Stage

    return Stage("epoch", epochs=2, learning_rate=1e-4, patience=9)


def compile_plainly(model):
    """Compiles a model as a user of Keras would, with the optimizer and loss of one of kmm's stages."""
    import keras

    from kmm.models.loss import MaskedCrossentropy

    stage = make_stage()
    optimizer = keras.optimizers.Adam(stage.learning_rate, global_clipnorm=stage.clip_norm)
    model.compile(optimizer, loss=MaskedCrossentropy(), jit_compile=False)
    return model


def time_epochs(model, *data, epochs=2, callbacks=(), **how):
    """Returns the seconds of each epoch of one `fit`, except the first, which starts the pipeline."""
    import keras

    marks = []
    note = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: marks.append(time.perf_counter()),
        on_train_end=lambda logs: marks.append(time.perf_counter()),
    )
    model.fit(*data, epochs=epochs, verbose=0, shuffle=False, callbacks=[*callbacks, note], **how)
    return [end - begin for begin, end in itertools.pairwise(marks[1:])]


def time_stage(model, dataset, validation, folder):
    """Returns the seconds of an epoch as kmm runs it: in a reproducible order, with its state saved at the end."""
    from kmm.training.stages.checkpoint import Checkpoint, EpochStart

    with tempfile.TemporaryDirectory(dir=folder) as state:
        checkpoint = Checkpoint(make_stage(), state, dataset)
        callbacks = [EpochStart(checkpoint), checkpoint]
        return time_epochs(model, dataset.as_input(), validation_data=validation.as_input(), callbacks=callbacks)


def measure_epochs(preset, studies, rounds, **overrides):
    import numpy as np
    import tensorflow as tf

    from kmm.image.augment import Augmentation
    from kmm.training.stages.dataset import StudyDataset
    from kmm.training.stages.fit_stage import MANY_STEPS, compile_stage

    model, spec, s = build(preset, **overrides)
    plain_model = compile_plainly(build(preset, **overrides)[0])
    compile_stage(model, make_stage(), s.batch_size, steps=MANY_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        columns, arrays, labels = make_columns(spec.pixels, studies, folder)
        rows = np.arange(studies)
        dataset = StudyDataset(
            columns, labels, rows=rows, batch_size=s.batch_size, seed=0,
            augmentation=Augmentation(), modality_dropout=s.modality_dropout, word_dropout=s.word_dropout,
        )  # fmt: skip
        few = rows[: s.batch_size]
        check = StudyDataset(columns, labels, rows=few, batch_size=s.batch_size)
        checked = {name: array[few] for name, array in arrays.items()}, labels[few]
        untuned = tf.data.Options()
        untuned.autotune.enabled = False
        streams = [
            tf.data.Dataset.from_tensor_slices(part).batch(s.batch_size).prefetch(2).with_options(untuned)
            for part in ((arrays, labels), checked)
        ]
        kinds = {
            "keras": lambda: time_epochs(
                plain_model, x=arrays, y=labels, batch_size=s.batch_size, validation_data=checked
            ),
            "untuned": lambda: time_epochs(plain_model, streams[0], validation_data=streams[1]),
            "kmm": lambda: time_stage(model, dataset, check, folder),
        }
        seconds = {name: [] for name in kinds}
        for _ in range(rounds):
            for name, run in kinds.items():
                seconds[name] += run()
    ratios = {name: np.divide(seconds["kmm"], seconds[name]) for name in ("keras", "untuned")}
    return {
        "epoch_ratio": float(np.median(ratios["keras"])),
        "epoch_ratio_quartiles": np.quantile(ratios["keras"], [0.25, 0.75]).tolist(),
        "epoch_ratio_to_untuned": float(np.median(ratios["untuned"])),
        "epoch_ratio_to_untuned_quartiles": np.quantile(ratios["untuned"], [0.25, 0.75]).tolist(),
        "epoch_model": f"{s.image_encoder} {spec.pixels} px, {s.fusion}, batch {s.batch_size}, {studies} studies",
        "keras_epoch_seconds": statistics.median(seconds["keras"]),
    }


def measure_cache(studies, rounds):
    import numpy as np

    from kmm.models.views.feature_view import view_features
    from kmm.models.views.parts import set_trainable
    from kmm.training.stages.dataset import StudyDataset
    from kmm.training.stages.fit_stage import MANY_STEPS, compile_stage

    model, spec, s = build("paper", image_weights=None)
    set_trainable(model, spec, image=False, text=False)
    head = compile_stage(view_features(model, ("image", "text")), make_stage(), s.batch_size, steps=MANY_STEPS)
    compile_stage(model, make_stage(), s.batch_size, steps=MANY_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        columns, _, labels = make_columns(spec.pixels, studies, folder)
        sizes = {tensor.name: tensor.shape[1] for tensor in head.inputs if tensor.name != "present"}
        draw = np.random.default_rng(0)
        cached = {name: draw.normal(size=(studies, size)).astype("float32") for name, size in sizes.items()}
        cached["present"] = columns["present"]
        whole = StudyDataset(columns, labels, rows=np.arange(studies), batch_size=s.batch_size, seed=0)
        quick = StudyDataset(cached, labels, rows=np.arange(studies), batch_size=s.batch_size, seed=0)
        ratios = [
            min(time_epochs(model, whole.as_input())) / min(time_epochs(head, quick.as_input(), epochs=4))
            for _ in range(rounds)
        ]
    return {"cached_speedup": statistics.median(ratios)}


def measure_augmentation(pixels, rounds, batch=32):
    import numpy as np
    import tensorflow as tf

    from kmm.image.augment import Augmentation
    from kmm.training.stages.dataset import StudyDataset
    from kmm.training.stages.film_changes import CHANGES, FilmChanges

    with tempfile.TemporaryDirectory() as folder:
        columns, _, labels = make_columns(pixels, 8 * batch, folder)
        column = columns["image"]
        layer, numbers = tf.function(FilmChanges(), reduce_retracing=True), np.zeros((len(column), 0))
        how = {"rows": np.arange(len(column)), "batch_size": batch, "seed": 0, "augmentation": Augmentation()}
        feeds = {
            "feed": StudyDataset({"image": column}, labels, **how),
            "feed_with_numbers": StudyDataset({"image": column.as_stored(), CHANGES: numbers}, labels, **how),
        }
        given, *_ = feeds["feed_with_numbers"][0]
        kinds = {
            **{name: lambda at, feed=feed: feed[at % len(feed)] for name, feed in feeds.items()},
            "layer": lambda at: layer(given["image"], given[CHANGES], training=True).numpy(),
        }
        seconds = {name: [] for name in kinds}
        for at in range(rounds + 1):
            for name, run in kinds.items():
                begin = time.perf_counter()
                run(at)
                seconds[name].append(time.perf_counter() - begin)
    speeds = {f"{name}_films_per_second": batch / statistics.median(spent[1:]) for name, spent in seconds.items()}
    ratios = np.divide(seconds["feed"][1:], seconds["layer"][1:])
    device = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    return {
        "augmentation_ratio": float(np.median(ratios)),
        "augmentation_ratio_quartiles": np.quantile(ratios, [0.25, 0.75]).tolist(),
        **speeds,
        "augmentation_device": device,
    }


def measure_memory(studies):
    peaks = []
    for count in (studies, 4 * studies):
        command = [sys.executable, __file__, "--child", str(count)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        peaks.append(float(done.stdout.strip().splitlines()[-1]))
    return {"memory_ratio": peaks[1] / peaks[0], "memory_gb": peaks[0], "memory_gb_at_four_times": peaks[1]}


def fit_whole(studies):
    """Fits on the phantom set with one epoch per stage; returns the peak memory of this process in GB."""
    from kmm.data.collection import read_collection
    from kmm.data.phantom.dataset import make_phantom
    from kmm.presets import gather_settings
    from kmm.training.fit import fit_classifier

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(sys.stderr):
        folder = Path(folder)
        make_phantom(folder / "phantom", studies=studies)
        settings = gather_settings({"epochs": 1}, more=["bootstrap_repeats=10"])
        fit_classifier(read_collection(folder / "phantom"), settings, work=folder / "work", cache=folder / "cache")
    return read_peak_memory_gb()


if __name__ == "__main__":
    main()
