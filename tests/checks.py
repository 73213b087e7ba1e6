"""One check per kind of thing, for tests that run it on every entry of a table."""

import keras
import numpy as np


def to_numpy(tensors):
    """Brings a tensor or variable, or a dict of them, to NumPy on every backend."""
    if isinstance(tensors, dict):
        return {name: to_numpy(tensor) for name, tensor in tensors.items()}
    return keras.ops.convert_to_numpy(tensors.value if isinstance(tensors, keras.Variable) else tensors)


def compile_quickly(model):
    """Compiles a model for a few steps: a graph of a deep network takes minutes to trace, but JAX is slower without."""
    jax = keras.backend.backend() == "jax"
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=jax, run_eagerly=not jax)


def model_inputs(model, *, n=6, seed=0):
    """Makes inputs of a built model: films of noise, random words with padding, one image and one report absent."""
    random = np.random.default_rng(seed)
    inputs = {"present": np.ones((n, 2), "float32")}
    inputs["present"][1] = 0, 1
    inputs["present"][2] = 1, 0
    if "image" in model.input:
        inputs["image"] = random.uniform(0, 255, (n, *model.input["image"].shape[1:])).astype("float32")
    if "token_ids" in model.input:
        length = model.input["token_ids"].shape[1]
        inputs["token_ids"] = random.integers(1, 20, (n, length)).astype("int32")
        inputs["token_ids"][0, length // 2 :] = 0
    return inputs


def check_encoding(encoder, inputs):
    """An encoder returns a vector, a sequence and its mask, finite, of shapes that agree; it tells inputs apart."""
    encoding = to_numpy(encoder(inputs, training=False))
    n = len(next(iter(inputs.values())) if isinstance(inputs, dict) else inputs)
    assert set(encoding) == {"vector", "sequence", "mask"}
    assert encoding["vector"].shape == (n, encoder.output["vector"].shape[-1])
    assert encoding["sequence"].shape[:2] == encoding["mask"].shape
    assert encoding["sequence"].shape == (n, *encoder.output["sequence"].shape[1:])
    assert all(np.isfinite(array).all() for array in encoding.values())
    assert np.isin(encoding["mask"], (0, 1)).all()
    assert np.ptp(encoding["vector"], axis=0).max() > 0, "the vector ignores its input"


def check_learns(model, inputs, *, steps=6):
    """Training lowers the loss, leaves every weight finite and changes every part that may change."""
    labels = np.resize(np.eye(2), (len(inputs["present"]), model.output.shape[-1])).astype("float32")
    compile_quickly(model)
    before = [to_numpy(weight) for weight in model.trainable_weights]
    losses = [float(model.train_on_batch(inputs, labels)) for _ in range(steps)]
    after = [to_numpy(weight) for weight in model.trainable_weights]
    assert np.isfinite(losses).all() and min(losses[1:]) < losses[0]
    assert all(np.isfinite(to_numpy(weight)).all() for weight in model.weights)
    unchanged = [w.path for w, old, new in zip(model.trainable_weights, before, after) if np.array_equal(old, new)]
    assert not unchanged, f"no gradient reached {unchanged[:5]}"


def check_same_after_save_and_load(model, inputs, folder):
    """A saved and loaded model answers the same, in the same parts."""
    path = folder / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert np.allclose(to_numpy(model(inputs, training=False)), to_numpy(loaded(inputs, training=False)), atol=1e-6)
    return loaded
