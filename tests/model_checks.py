"""Checks of one built model, on the backend that Keras runs on: each raises `AssertionError` and says what differs."""

import itertools
import warnings
from unittest import mock

import keras
import numpy as np
from keras import ops

from kmm.explain.attribution import split_model
from kmm.models.fusion import find_features
from kmm.models.views.feature_view import view_features, view_joint
from kmm.models.views.parts import core_of, embed_of, fusion_of, image_encoder_of, text_encoder_of
from kmm.models.views.path_view import view_path
from tests.gradient_memory import count_held_bytes

VOCABULARY_SIZE = 20
LEAST_SHARE = 0.1  # of the counted memory of a path point that a gradient holds; less would waste memory
FIRST_FALL = 0.02  # of the loss, that the first step of a check is predicted to bring
STEP_HALVINGS = 8  # the last step moves the loss by a hundred times what float32 adds to it
FALL_TOLERANCE = 0.1  # of what a gradient predicts


def to_numpy(tensors):
    """Brings a tensor or variable, or a dict of them, to NumPy on every backend."""
    if isinstance(tensors, dict):
        return {name: to_numpy(tensor) for name, tensor in tensors.items()}
    return keras.ops.convert_to_numpy(tensors.value if isinstance(tensors, keras.Variable) else tensors)


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
        inputs["token_ids"] = random.integers(1, VOCABULARY_SIZE, (n, length)).astype("int32")
        inputs["token_ids"][0, length // 2 :] = 0
    return inputs


def core_inputs(model, *, seed=0):
    """Makes inputs of a model's core: as `model_inputs`, with rows of words and their mask."""
    inputs = model_inputs(model, n=4, seed=seed)
    if "token_ids" in inputs:
        inputs.update(read_text(model, inputs))
        del inputs["token_ids"]
    return inputs


def read_text(model, inputs):
    mask = (inputs["token_ids"] != 0).astype(np.float32)
    return {"rows": to_numpy(embed_of(model)(inputs["token_ids"])), "padding_mask": mask}


def stir(model):
    """Makes the statistics and offsets of normalisation, which start at 0 and 1, random."""
    random = np.random.default_rng(0)
    for weight in model.weights:
        if len(weight.shape) == 1:
            weight.assign(weight + random.uniform(0.1, 0.5, weight.shape))


def compile_quickly(model, optimizer=None):
    """Compiles a model for a few steps: a graph of a deep network takes minutes to trace, but JAX is slower without."""
    jax = keras.backend.backend() == "jax"
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.Adam(1e-3), loss, jit_compile=jax, run_eagerly=not jax)


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


def check_learns(model, inputs, *, steps=2):
    """Gradients reach every trainable weight, and steps against them lower the loss by as much as they predict.

    The loss is that of one batch in training mode with the same dropout masks each time, so it depends on the weights
    alone. If every weight moves by `rate` against its gradient, it falls by `rate * sum(|gradient|)`, up to terms of
    the second order. Where a gradient is wrong, say by a sign or because one path to a weight is cut, the ratio of the
    two has another limit.

    Args:
        model: `keras.Model` that returns logits.
        inputs: dict of input name to array.
        steps: int. Steps against the gradient; a weight behind a gate that starts at zero has a gradient from the
            second on.
    """
    labels = np.resize(np.eye(2), (len(inputs["present"]), model.output.shape[-1])).astype("float32")
    reached = np.zeros(len(model.trainable_weights), bool)
    for _ in range(steps):
        gradients = loss_gradients(model, inputs, labels)
        reached |= [gradient.any() for gradient in gradients]
        _step_down(model, inputs, labels, gradients)
    unreached = [weight.path for weight, is_reached in zip(model.trainable_weights, reached) if not is_reached]
    assert not unreached, f"no gradient reached {unreached[:5]}"
    assert all(np.isfinite(to_numpy(weight)).all() for weight in model.weights)


def loss_gradients(model, inputs, labels):
    """Computes the gradient of the loss in training mode for each trainable weight, as Keras's own training does.

    A step of gradient descent at the rate 1 leaves the gradients in the momentum of the optimizer. All variables of the
    model have their values again afterwards.
    """
    variables = model.variables
    values = [to_numpy(variable) for variable in variables]
    optimizer = keras.optimizers.SGD(1.0, momentum=0.5)
    compile_quickly(model, optimizer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Gradients do not exist", UserWarning)
        keras.utils.set_random_seed(0)
        model.train_on_batch(inputs, labels)
    _assign(variables, values)
    gradients = [-to_numpy(momentum) for momentum in optimizer.momentums]
    assert all(np.isfinite(gradient).all() for gradient in gradients), "a gradient is not finite"
    return gradients


def _step_down(model, inputs, labels, gradients):
    """Takes the first of ever shorter steps whose fall of the loss is predicted by the gradients; it must exist.

    Every weight moves equally far against its gradient, so the loss falls by `rate * sum(|gradient|)`, and a wrong
    gradient of weights far from the loss counts too. The prediction must hold for the step and for half of it: one
    alone may agree by chance with a wrong gradient, where the curvature makes up for it.
    """
    lengths = [float(np.linalg.norm(gradient.astype(np.float64))) for gradient in gradients]
    total = sum(lengths)
    assert total > 0, "all gradients are zero"
    directions = [gradient / length if length else gradient for gradient, length in zip(gradients, lengths)]
    weights, others = model.trainable_weights, model.non_trainable_variables  # statistics, and seeds of dropout
    values, kept = ([to_numpy(variable) for variable in variables] for variables in (weights, others))

    def loss_at(rate):
        _assign(weights, [value - rate * direction for value, direction in zip(values, directions)])
        loss = _training_loss(model, inputs, labels)
        _assign(others, kept)
        return loss

    start, ratios = loss_at(0.0), []
    for halvings in range(STEP_HALVINGS):
        rate = FIRST_FALL * start / total / 2**halvings
        ratios.append((start - loss_at(rate)) / (rate * total))
        if all(abs(ratio - 1) <= FALL_TOLERANCE for ratio in ratios[-2:]) and halvings:
            return
    raise AssertionError(f"the loss falls by {np.round(ratios, 2).tolist()} of what the gradients predict")


def _training_loss(model, inputs, labels):
    """Returns the mean binary cross-entropy in training mode, summed in double precision.

    Keras on torch draws dropout masks from the generator of the process, whatever the seed of the layer.
    """
    keras.utils.set_random_seed(0)
    logits = to_numpy(model(inputs, training=True)).astype(np.float64)
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def _assign(variables, values):
    for variable, value in zip(variables, values):
        variable.assign(value)


def check_same_after_save_and_load(model, inputs, folder):
    """A saved and loaded model answers the same, in the same parts."""
    path = folder / "model.keras"
    model.save(path)
    loaded = keras.models.load_model(path)
    assert np.allclose(to_numpy(model(inputs, training=False)), to_numpy(loaded(inputs, training=False)), atol=1e-6)
    return loaded


def check_path_view(model, **encoders):
    """The halves of a model give its logits and share its weights; the first half is affine in film and rows.

    Args:
        model: `keras.Model` from `build_model`.
        encoders: as for `kmm.models.views.path_view.view_path`.

    Returns:
        `PathView`.
    """
    view, inputs = view_path(model, **encoders), core_inputs(model)
    expected = to_numpy(core_of(model)(inputs, training=False))
    assert np.ptp(expected, axis=0).min() > 1e-3, "the logits of different studies are equal"
    np.testing.assert_allclose(run_halves(view, inputs), expected, rtol=1e-5, atol=1e-5)
    own = {id(weight) for weight in core_of(model).weights}
    assert {id(weight) for half in (view.stem, view.rest) for weight in half.weights} <= own
    _check_affine(view.stem, inputs, core_inputs(model, seed=1))
    return view


def run_halves(view, inputs):
    """Returns the logits of a `PathView`, as NumPy."""
    inner = view.stem(_take(inputs, view.stem), training=False)
    return to_numpy(view.rest(_take({**inputs, **inner}, view.rest), training=False))


def _check_affine(stem, inputs, other):
    if "rows" in inputs:  # of words of their own, not of the few rows of the embedding
        other["rows"] = np.random.default_rng(2).normal(size=inputs["rows"].shape).astype(np.float32)
        other["padding_mask"] = inputs["padding_mask"]
    share = np.float32(0.3)
    between = {name: (1 - share) * value + share * other[name] for name, value in inputs.items()}
    between |= {"padding_mask": inputs["padding_mask"]} if "rows" in inputs else {}
    x, y, here = (to_numpy(stem(_take(values, stem), training=False)) for values in (inputs, other, between))
    for name in x:
        expected = (1 - share) * x[name] + share * y[name]
        assert (np.abs(x[name] - y[name]).max() > 1e-2) != name.endswith("mask"), f"{name} of the stem"
        np.testing.assert_allclose(here[name], expected, atol=1e-5 * np.abs(expected).max(), err_msg=name)


def check_feature_view(model):
    """A model goes on from the features of one side, or of both, to the same logits; features are found beside them."""
    inputs = model_inputs(model)
    expected, features = to_numpy(model(inputs, training=False)), {}
    if "image" in inputs:
        features["image"] = image_encoder_of(model)(inputs["image"], training=False)
    if "token_ids" in inputs:
        features["text"] = text_encoder_of(model)(read_text(model, inputs), training=False)
    known = {f"{side}_{part}": value for side, parts in features.items() for part, value in parts.items()} | inputs
    for count in range(1, len(features) + 1):
        for sides in itertools.combinations(features, count):
            found = view_features(model, sides)
            np.testing.assert_allclose(to_numpy(found(_take(known, found), training=False)), expected, atol=1e-5)
    found = to_numpy(view_joint(model)(inputs, training=False))
    np.testing.assert_allclose(found["logits"], expected, atol=1e-5)
    assert found["features"].shape == (len(expected), find_features(fusion_of(model)).shape[-1])


def check_mask_is_read(model):
    """Words that are masked change nothing of an answer whose fusion averages rows, in whole and in halves."""
    inputs = core_inputs(model)
    seen = {**inputs, "padding_mask": np.ones_like(inputs["padding_mask"])}
    logits = [to_numpy(core_of(model)(given, training=False)) for given in (inputs, seen)]
    assert np.abs(logits[0][0] - logits[1][0]).max() > 1e-6, "the mask does not reach the fusion"


def check_path_memory(view, inputs, *, least=LEAST_SHARE):
    """The memory that kmm counts for a path point covers what a gradient holds, of which that is at least a share."""
    gigabytes = 1e6
    with mock.patch.object(split_model, "MAX_CHUNK", 10**12):
        counted = gigabytes * 1e9 / split_model.choose_chunk(view.rest, gigabytes, view.held)
    inner = to_numpy(view.stem(_take(inputs, view.stem), training=False))
    held = count_held_bytes(view.rest, {name: {**inputs, **inner}[name] for name in view.rest.input})
    assert held <= counted, f"a path point holds {held:.0f} bytes, `held` counts {counted:.0f}"
    assert held >= least * counted, f"a path point holds {held:.0f} bytes, `held` counts {counted:.0f}"


def _take(inputs, model):
    return {tensor.name: ops.convert_to_tensor(inputs[tensor.name]) for tensor in model.inputs}
