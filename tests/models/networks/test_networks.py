"""Tiny networks of each family: every promise of an entry, the features of PyTorch, and what is frozen."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

from kmm.errors import InputError, WeightsError
from kmm.explain.explainer import Explainer
from kmm.explain.settings import ExplainSettings
from kmm.models.build import ModelSpec, build_model
from kmm.models.encoders_image import IMAGE_ENCODERS, build_image_encoder
from kmm.models.networks.entries import describe_transformer
from kmm.models.networks.vision_layers import HIDDEN
from kmm.models.views.parts import image_encoder_of, set_trainable
from kmm.models.views.path_view import view_path
from kmm.models.weights.checkpoints import load_image_weights
from kmm.models.weights.encoder_weights import check_weights
from tests.checks import check_image_encoder
from tests.factories.tiny_networks import (
    PIXELS,
    TINY_BOTTLENECK,
    TINY_CLIP,
    TINY_DINOV2,
    TINY_ENTRIES,
    TINY_RESNET,
    TINY_SIGLIP,
    TINY_VIT,
)
from tests.factories.torch_networks import random_resnet, random_transformer, run_resnet, run_transformer
from tests.model_checks import check_path_memory, core_inputs, model_inputs, to_numpy

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)
RELATIVE = 1e-5  # of the largest feature; both sides compute in float32


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    for name, entry in TINY_ENTRIES.items():
        monkeypatch.setitem(IMAGE_ENCODERS, name, entry)


def build(name, pixels=None, seed=0):
    keras.utils.set_random_seed(seed)
    return build_image_encoder(IMAGE_ENCODERS[name], pixels=pixels or PIXELS[name])


def make_films(pixels, n=2):
    return np.random.default_rng(5).uniform(0, 255, (n, pixels, pixels, 1)).astype("float32")


def colour(torch, films, mean=MEAN, deviation=DEVIATION):
    return torch.tensor(((films / 255 - mean) / deviation).transpose(0, 3, 1, 2).astype("float32"))


def save(torch, state, path):
    torch.save({name: torch.tensor(array) for name, array in state.items()}, path)
    return path


def assert_equal_features(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= RELATIVE * np.abs(expected).max()


@pytest.mark.large
@pytest.mark.parametrize(
    "name",
    ["tiny-dinov2", *(pytest.param(name, marks=pytest.mark.large) for name in TINY_ENTRIES if name != "tiny-dinov2")],
)
def test_every_family_keeps_the_promises_of_an_entry(name, tmp_path):
    check_image_encoder(name, tmp_path, pixels=PIXELS[name])


@pytest.mark.parametrize(("name", "network"), [("tiny-resnet", TINY_RESNET), ("tiny-bottleneck", TINY_BOTTLENECK)])
@pytest.mark.parametrize("pixels", [64, 67])
def test_resnet_equals_its_definition_in_pytorch(name, network, pixels, tmp_path):
    torch = pytest.importorskip("torch")
    state = random_resnet(network)
    path = save(torch, {f"module.{key}": array for key, array in state.items()}, tmp_path / "resnet.pth.tar")
    encoder, films = build(name, pixels), make_films(pixels)
    report = load_image_weights(encoder, name, path)
    assert report.extra == ("module.fc",) and report.licence == "unknown" and not report.random
    with torch.no_grad():
        expected = run_resnet(torch, network, state, colour(torch, films)).flatten(2).permute(0, 2, 1).numpy()
    assert_equal_features(to_numpy(encoder(films, training=False))["sequence"], expected)


@pytest.mark.large
def test_the_memory_of_a_path_point_counts_attention_among_hundreds_of_patches():
    model = build_model(ModelSpec(image_encoder="dinov2-small", pixels=224), label_count=1)
    check_path_memory(view_path(model, image_encoder=IMAGE_ENCODERS["dinov2-small"]), core_inputs(model))


@pytest.mark.parametrize("side", [6, 5])  # of the table in the file; the films have 6 x 6 patches
@pytest.mark.parametrize("registers", [0, 4])
def test_dinov2_equals_its_definition_in_pytorch(side, registers, tmp_path):
    torch = pytest.importorskip("torch")
    state = random_transformer(TINY_DINOV2, side=side, registers=registers)
    path = save(torch, state, tmp_path / "dinov2.pth")
    encoder, films = build("tiny-dinov2"), make_films(42)
    report = load_image_weights(encoder, "tiny-dinov2", path)
    assert report.extra == ("head",)
    with torch.no_grad():
        expected = run_transformer(torch, TINY_DINOV2, state, colour(torch, films)).numpy()
    found = to_numpy(encoder(films, training=False))
    assert_equal_features(found["sequence"], expected)
    assert_equal_features(found["vector"], expected.mean(axis=1))
    hidden = to_numpy(encoder.get_layer("block0_attention").hidden)
    assert np.array_equal(hidden, np.full(4, 0 if registers else HIDDEN))


@pytest.mark.parametrize("side", [4, 7])
@pytest.mark.parametrize(("name", "network"), [("tiny-vit", TINY_VIT), ("tiny-siglip", TINY_SIGLIP)])
def test_vit_of_one_channel_equals_its_definition_in_pytorch_for_three(name, network, side, tmp_path):
    torch = pytest.importorskip("torch")
    state = random_transformer(network, side=side)
    encoder, films = build(name), make_films(32)
    load_image_weights(encoder, name, save(torch, state, tmp_path / "vit.pt"))
    assert encoder.get_layer("patches").kernel.shape == (8, 8, 1, 8)
    with torch.no_grad():
        expected = run_transformer(torch, network, state, colour(torch, films, HALF, HALF)).numpy()
    assert_equal_features(to_numpy(encoder(films, training=False))["sequence"], expected)


def test_weights_of_other_names_give_the_same_features(tmp_path):
    """Those of Hugging Face, torchvision and open_clip, made of timm's; they differ in how films are normalised."""
    torch = pytest.importorskip("torch")
    state, films = random_transformer(TINY_VIT, side=4), make_films(32)
    for name, (rename, mean, deviation) in RENAMES.items():
        encoder = build("tiny-vit", seed=3)
        load_image_weights(encoder, "tiny-vit", save(torch, rename(state), tmp_path / f"{name}.bin"))
        with torch.no_grad():
            expected = run_transformer(torch, TINY_VIT, state, colour(torch, films, mean, deviation)).numpy()
        assert_equal_features(to_numpy(encoder(films, training=False))["sequence"], expected)


def rename_open_clip(state):
    return {f"visual.trunk.{key}": array for key, array in state.items()} | {"text.proj": np.zeros(2, "float32")}


def rename_open_clip_tower(state):
    names = {"patch_embed.proj": "conv1", "norm_pre": "ln_pre", "norm": "ln_post"}
    names |= {"cls_token": "class_embedding", "pos_embed": "positional_embedding"}
    for number in range(TINY_CLIP.depth):
        old, new = f"blocks.{number}", f"transformer.resblocks.{number}"
        names |= {f"{old}.norm1": f"{new}.ln_1", f"{old}.norm2": f"{new}.ln_2", f"{old}.mlp.fc1": f"{new}.mlp.c_fc"}
        names |= {f"{old}.mlp.fc2": f"{new}.mlp.c_proj", f"{old}.attn.proj": f"{new}.attn.out_proj"}
        names[f"{old}.attn.qkv"] = f"{new}.attn.in_proj_"
    tower = {_rename(key, names).replace("in_proj_.", "in_proj_"): state[key] for key in state if "head" not in key}
    tower["class_embedding"], tower["positional_embedding"] = state["cls_token"][0, 0], state["pos_embed"][0]
    text = {"positional_embedding": np.zeros((7, 8), "float32"), "logit_scale": np.zeros((), "float32")}
    return {f"visual.{key}": array for key, array in tower.items()} | {"visual.proj": np.eye(8, dtype="float32")} | text


def rename_hugging_face_clip(state):
    names = {"patch_embed.proj": "embeddings.patch_embedding", "norm_pre": "pre_layrnorm", "norm": "post_layernorm"}
    renamed = {
        "embeddings.class_embedding": state["cls_token"][0, 0],
        "embeddings.position_embedding.weight": state["pos_embed"][0],
    }
    for number in range(TINY_CLIP.depth):
        old, new = f"blocks.{number}", f"encoder.layers.{number}"
        names |= {f"{old}.norm1": f"{new}.layer_norm1", f"{old}.norm2": f"{new}.layer_norm2"}
        names |= {f"{old}.mlp.fc1": f"{new}.mlp.fc1", f"{old}.mlp.fc2": f"{new}.mlp.fc2"}
        names |= {f"{old}.attn.proj": f"{new}.self_attn.out_proj"}
        for kind in ("weight", "bias"):
            for part, array in zip("qkv", np.split(state[f"{old}.attn.qkv.{kind}"], 3)):
                renamed[f"{new}.self_attn.{part}_proj.{kind}"] = array
    left = [key for key in state if ".qkv." not in key and key not in ("cls_token", "pos_embed") and "head" not in key]
    renamed |= {_rename(key, names): state[key] for key in left}
    tower = {f"vision_model.{key}": array for key, array in renamed.items()}
    return tower | {"text_model.final_layer_norm.weight": np.ones(3, "float32")}


CLIP_RENAMES = {
    "open_clip": rename_open_clip_tower,
    "hugging_face": rename_hugging_face_clip,
    "timm": lambda state: state,
}


@pytest.mark.parametrize("publisher", CLIP_RENAMES)
def test_clip_equals_its_definition_in_pytorch_under_every_name(publisher, tmp_path):
    torch = pytest.importorskip("torch")
    state, films = random_transformer(TINY_CLIP, side=4), make_films(32)
    path = save(torch, CLIP_RENAMES[publisher](state), tmp_path / "clip.pt")
    encoder = build("tiny-clip", seed=3)
    report = load_image_weights(encoder, "tiny-clip", path)
    assert report.tensors == len(encoder.weights)
    with torch.no_grad():
        expected = run_transformer(torch, TINY_CLIP, state, colour(torch, films, CLIP_MEAN, CLIP_DEVIATION)).numpy()
    assert_equal_features(to_numpy(encoder(films, training=False))["sequence"], expected)
    assert check_weights(path)["encoder"] == "tiny-clip"  # neither a ViT nor the tower of SigLIP


def test_the_configuration_tells_which_gelu_clip_has(tmp_path, monkeypatch):
    exact = dataclasses.replace(TINY_CLIP, activation="gelu")
    monkeypatch.setitem(IMAGE_ENCODERS, "tiny-clip-exact", describe_transformer(exact, "made for a test"))
    state = rename_open_clip_tower(random_transformer(TINY_CLIP, side=4))
    save_file({key: np.ascontiguousarray(array) for key, array in state.items()}, tmp_path / "model.safetensors")
    found = check_weights(tmp_path)
    assert not found["fits"] and "may be weights of tiny-clip or tiny-clip-exact. Name the encoder" in found["reason"]
    tower = {"width": 8, "layers": 4, "patch_size": 8, "image_size": 32}
    for quick, name in ((True, "tiny-clip"), (False, "tiny-clip-exact")):
        config = {"model_cfg": {"quick_gelu": quick, "vision_cfg": tower}}
        (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
        assert check_weights(tmp_path)["encoder"] == name
    with pytest.raises(WeightsError, match=r"`hidden_act` gelu, and tiny-clip has quick_gelu. Choose another encoder"):
        load_image_weights(build("tiny-clip"), "tiny-clip", tmp_path)
    config["model_cfg"]["vision_cfg"] = {**tower, "width": 10**9}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="`hidden_size` 1000000000, and tiny-clip has 8"):
        load_image_weights(build("tiny-clip"), "tiny-clip", tmp_path)


def rename_torchvision(state):
    names = {"patch_embed.proj": "conv_proj", "cls_token": "class_token", "pos_embed": "encoder.pos_embedding"}
    names |= {"norm": "encoder.ln", "head": "heads.head"}
    for number in range(TINY_VIT.depth):
        old, new = f"blocks.{number}", f"encoder.layers.encoder_layer_{number}"
        names |= {f"{old}.norm1": f"{new}.ln_1", f"{old}.norm2": f"{new}.ln_2", f"{old}.mlp.fc1": f"{new}.mlp.0"}
        names |= {f"{old}.mlp.fc2": f"{new}.mlp.3", f"{old}.attn.proj": f"{new}.self_attention.out_proj"}
        names[f"{old}.attn.qkv"] = f"{new}.self_attention.in_proj_"
    return {_rename(key, names).replace("in_proj_.", "in_proj_"): array for key, array in state.items()}


def rename_hugging_face(state):
    names = {"patch_embed.proj": "embeddings.patch_embeddings.projection", "norm": "layernorm"}
    names |= {"cls_token": "embeddings.cls_token", "pos_embed": "embeddings.position_embeddings", "head": "classifier"}
    renamed = {}
    for number in range(TINY_VIT.depth):
        old, new = f"blocks.{number}", f"encoder.layer.{number}"
        names |= {f"{old}.norm1": f"{new}.layernorm_before", f"{old}.norm2": f"{new}.layernorm_after"}
        names |= {f"{old}.mlp.fc1": f"{new}.intermediate.dense", f"{old}.mlp.fc2": f"{new}.output.dense"}
        names |= {f"{old}.attn.proj": f"{new}.attention.output.dense"}
        for kind in ("weight", "bias"):
            parts = np.split(state[f"{old}.attn.qkv.{kind}"], 3)
            for part, array in zip(("query", "key", "value"), parts):
                renamed[f"vit.{new}.attention.attention.{part}.{kind}"] = array
    rest = {key: array for key, array in state.items() if ".qkv." not in key}
    return renamed | {f"vit.{_rename(key, names)}": array for key, array in rest.items()}


def _rename(key, names):
    module, dot, kind = key.rpartition(".") if key not in names else (key, "", "")
    return f"{names[module]}{dot}{kind}"


CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RENAMES = {
    "open_clip": (rename_open_clip, CLIP_MEAN, CLIP_DEVIATION),
    "torchvision": (rename_torchvision, MEAN, DEVIATION),
    "hugging_face": (rename_hugging_face, HALF, HALF),
}


def test_positions_of_converted_weights_are_resampled_once(tmp_path):
    """Weights that were saved for other films give the features of the file that they were made of."""
    torch = pytest.importorskip("torch")
    path = save(torch, random_transformer(TINY_DINOV2, side=9, registers=4), tmp_path / "dinov2.pth")
    wide, narrow, direct = build("tiny-dinov2", 63), build("tiny-dinov2"), build("tiny-dinov2", seed=1)
    load_image_weights(wide, "tiny-dinov2", path)
    wide.save_weights(tmp_path / "wide.weights.h5")
    load_image_weights(narrow, "tiny-dinov2", tmp_path / "wide.weights.h5")
    load_image_weights(direct, "tiny-dinov2", path)
    for own, other in zip(narrow.get_weights(), direct.get_weights(), strict=True):
        assert np.allclose(own, other, atol=1e-7)


def test_other_numbers_of_registers_and_of_channels_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    encoder = build("tiny-dinov2")
    before = encoder.get_weights()
    more = save(torch, random_transformer(TINY_DINOV2, side=6, registers=7), tmp_path / "more.pth")
    with pytest.raises(WeightsError, match=r"1 of 39 layers do not fit: tokens expected \(5, 12\), received \(8, 12\)"):
        load_image_weights(encoder, "tiny-dinov2", more)
    gray = save(torch, random_resnet(TINY_RESNET, channels=1), tmp_path / "gray.pth")
    with pytest.raises(WeightsError, match=r"\(films of 1 channel; this network reads 3\)"):
        load_image_weights(build("tiny-resnet"), "tiny-resnet", gray)
    assert all(np.array_equal(old, new) for old, new in zip(before, encoder.get_weights()))


@pytest.mark.parametrize(
    ("image", "lowest"), [("top", "layer4"), (0.2, "layer4"), (0.4, "layer3"), (0.6, "layer2"), (0.8, "layer1")]
)
@pytest.mark.parametrize("name", ["tiny-resnet", "tiny-bottleneck"])
def test_the_shortcut_of_a_block_is_trained_with_its_block_and_frozen_with_it(name, image, lowest):
    spec = ModelSpec(image_encoder=name, pixels=PIXELS[name])
    model = build_model(spec, label_count=1)
    set_trainable(model, spec, image=image, batch_norm="inference")
    encoder = image_encoder_of(model)
    convolutions = [layer.name for layer in encoder.layers if isinstance(layer, keras.layers.Conv2D)]
    trained = {layer.name for layer in encoder.layers if layer.trainable_weights}
    assert trained == {layer for layer in convolutions if layer.startswith("layer") and layer[:6] >= lowest}
    assert any("shortcut" in layer for layer in trained) and "conv1" not in trained


def test_the_layers_of_upper_blocks_of_a_transformer_are_trained():
    spec = ModelSpec(image_encoder="tiny-dinov2", pixels=42)
    model = build_model(spec, label_count=1)
    set_trainable(model, spec, image=0.5)
    trained = {layer.name.partition("_")[0] for layer in image_encoder_of(model).layers if layer.trainable_weights}
    assert trained == {"block2", "block3", "norm"}


def test_depths_of_a_transformer_are_means_of_patches_without_prefix_tokens():
    entry = IMAGE_ENCODERS["tiny-dinov2"]
    encoder = build_image_encoder(entry, pixels=42, depths=3)
    films = make_films(42)
    blocks = keras.Model(encoder.input, [encoder.get_layer(name).output for name in ("block1", "block2")])
    means = [to_numpy(tokens)[:, 5:].mean(axis=1) for tokens in blocks(films, training=False)]
    vector = to_numpy(encoder(films, training=False))["vector"]
    assert vector.shape == (2, 36) and np.allclose(vector[:, :24], np.concatenate(means, axis=1), atol=1e-5)


def test_films_that_patches_do_not_divide_are_refused_before_a_network_is_built():
    with pytest.raises(InputError, match=r"'tiny-dinov2' takes films of a multiple of 7 pixels. Set `pixels` to 35"):
        ModelSpec(image_encoder="tiny-dinov2", pixels=40)
    with pytest.raises(InputError, match=r"`pixels` must be a multiple of 8, the side of a patch. Received: 36"):
        build("tiny-vit", 36)


def test_a_feature_map_is_the_last_tokens_of_the_patches():
    model = build_model(ModelSpec(image_encoder="tiny-vit", pixels=32), label_count=1)
    films, encoder = model_inputs(model)["image"], image_encoder_of(model)
    found = keras.Model(encoder.input, [encoder.get_layer(name).output for name in ("norm", "map")])(films)
    tokens, places = (to_numpy(tensor) for tensor in found)
    assert places.shape == (6, 4, 4, 8) and np.array_equal(places.reshape(6, 16, 8), tokens[:, 1:])


@pytest.mark.parametrize("method", ["integrated-gradients", pytest.param("grad-cam", marks=pytest.mark.large)])
def test_the_decision_of_a_transformer_is_explained(method, build_classifier, studies):
    classifier = build_classifier(image="tiny-vit")
    explainer = Explainer(classifier, ExplainSettings(method=method, steps=3))
    found = next(explainer.explain(studies[:1]))
    assert found.heat.shape == (32, 32) and found.attribution.is_finite
    assert found.heat.max() > 0
    if method == "grad-cam":
        with pytest.raises(InputError, match=r"no layer 'block1' that returns a map .* Its blocks end with: map\."):
            Explainer(classifier, ExplainSettings(method=method, layer="block1"))
