"""Names of a vision transformer's weights: timm and DINOv2, torchvision, Hugging Face, SigLIP, CLIP."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from kmm.errors import WeightsError
from kmm.models.networks.vision_layers import HIDDEN
from kmm.models.networks.vision_transformer import VisionTransformer
from kmm.models.weights.names.torch_names import (
    IMAGENET_CHANNELS,
    Kinds,
    Layers,
    Normalisation,
    Scheme,
    Shapes,
    TorchNames,
    finish_layer,
    finish_qkv,
)

ACTIVATIONS = {"gelu": "gelu", "gelu-tanh": "gelu_pytorch_tanh", "quick-gelu": "quick_gelu"}  # names of Hugging Face
HALF = Normalisation((0.5,) * 3, (0.5,) * 3)
CLIP = Normalisation((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_WB = r"\.(weight|bias)"
_TIMM = (
    (rf"patch_embed\.proj{_WB}", "patches", r"\1"),
    (r"cls_token", "tokens", "class"),
    (r"(?:register_tokens|reg_token)", "tokens", "registers"),
    (r"pos_embed", "tokens", "positions"),
    (rf"norm_pre{_WB}", "pre_norm", r"\1"),
    (rf"blocks\.(?:\d+\.)?(\d+)\.(norm[12]){_WB}", r"block\1_\2", r"\3"),
    (rf"blocks\.(?:\d+\.)?(\d+)\.attn\.qkv{_WB}", r"block\1_qkv", r"\2"),
    (rf"blocks\.(?:\d+\.)?(\d+)\.attn\.proj{_WB}", r"block\1_projection", r"\2"),
    (rf"blocks\.(?:\d+\.)?(\d+)\.mlp\.fc([12]){_WB}", r"block\1_dense\2", r"\3"),
    (r"blocks\.(?:\d+\.)?(\d+)\.ls([12])\.gamma", r"block\1_scale\2", "weight"),
    (rf"norm{_WB}", "norm", r"\1"),
)
_TORCHVISION = (
    (rf"conv_proj{_WB}", "patches", r"\1"),
    (r"class_token", "tokens", "class"),
    (r"encoder\.pos_embedding", "tokens", "positions"),
    (rf"encoder\.layers\.encoder_layer_(\d+)\.ln_([12]){_WB}", r"block\1_norm\2", r"\3"),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_(weight|bias)", r"block\1_qkv", r"\2"),
    (rf"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj{_WB}", r"block\1_projection", r"\2"),
    (rf"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1){_WB}", r"block\1_dense1", r"\2"),
    (rf"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2){_WB}", r"block\1_dense2", r"\2"),
    (rf"encoder\.ln{_WB}", "norm", r"\1"),
)
_LAYER, _PARTS = r"encoder\.layer\.(\d+)\.", r"(?:attention\.)?attention\."
_HUGGING_FACE = (
    (rf"embeddings\.patch_embeddings\.projection{_WB}", "patches", r"\1"),
    (r"embeddings\.cls_token", "tokens", "class"),
    (r"embeddings\.register_tokens", "tokens", "registers"),
    (r"embeddings\.position_embeddings", "tokens", "positions"),
    (rf"{_LAYER}(?:layernorm_before|norm1){_WB}", r"block\1_norm1", r"\2"),
    (rf"{_LAYER}(?:layernorm_after|norm2){_WB}", r"block\1_norm2", r"\2"),
    (rf"{_LAYER}{_PARTS}(query|key|value){_WB}", r"block\1_qkv", r"\2 \3"),
    (rf"{_LAYER}attention\.output\.dense{_WB}", r"block\1_projection", r"\2"),
    (r"encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1", r"block\1_scale\2", "weight"),
    (rf"{_LAYER}intermediate\.dense{_WB}", r"block\1_dense1", r"\2"),
    (rf"{_LAYER}output\.dense{_WB}", r"block\1_dense2", r"\2"),
    (rf"{_LAYER}mlp\.fc([12]){_WB}", r"block\1_dense\2", r"\3"),
    (rf"layernorm{_WB}", "norm", r"\1"),
)
_TOWER = (  # of SigLIP and CLIP
    (r"embeddings\.class_embedding", "tokens", "class"),
    (rf"pre_layrnorm{_WB}", "pre_norm", r"\1"),  # misspelt there
    (rf"embeddings\.patch_embedding{_WB}", "patches", r"\1"),
    (r"embeddings\.position_embedding\.weight", "tokens", "positions"),
    (rf"encoder\.layers\.(\d+)\.layer_norm([12]){_WB}", r"block\1_norm\2", r"\3"),
    (rf"encoder\.layers\.(\d+)\.self_attn\.(q|k|v)_proj{_WB}", r"block\1_qkv", r"\2 \3"),
    (rf"encoder\.layers\.(\d+)\.self_attn\.out_proj{_WB}", r"block\1_projection", r"\2"),
    (rf"encoder\.layers\.(\d+)\.mlp\.fc([12]){_WB}", r"block\1_dense\2", r"\3"),
    (rf"post_layernorm{_WB}", "norm", r"\1"),
)
_OPEN_CLIP = (
    (rf"conv1{_WB}", "patches", r"\1"),
    (r"class_embedding", "tokens", "class"),
    (r"positional_embedding", "tokens", "positions"),
    (rf"ln_pre{_WB}", "pre_norm", r"\1"),
    (rf"transformer\.resblocks\.(\d+)\.ln_([12]){_WB}", r"block\1_norm\2", r"\3"),
    (r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)", r"block\1_qkv", r"\2"),
    (rf"transformer\.resblocks\.(\d+)\.attn\.out_proj{_WB}", r"block\1_projection", r"\2"),
    (rf"transformer\.resblocks\.(\d+)\.mlp\.c_fc{_WB}", r"block\1_dense1", r"\2"),
    (rf"transformer\.resblocks\.(\d+)\.mlp\.c_proj{_WB}", r"block\1_dense2", r"\2"),
    (rf"ln_post{_WB}", "norm", r"\1"),
)


def name_transformer(network: VisionTransformer) -> TorchNames:
    """Returns the names of the weights of a `VisionTransformer`.

    Example:
        >>> tiny = VisionTransformer(size=4, depth=1, heads=2, patch=2)
        >>> state = {"patch_embed.proj.weight": np.zeros((4, 3, 2, 2)), "cls_token": np.ones((1, 1, 4))}
        >>> state["pos_embed"] = np.ones((1, 10, 4))
        >>> {name: [array.shape for array in arrays] for name, arrays in name_transformer(tiny)(state).items()}
        {'patches': [(2, 2, 3, 4)], 'tokens': [(1, 4), (3, 3, 4)]}
    """
    usual = IMAGENET_CHANNELS if network.residual_scale else HALF  # DINOv2 has the former, most others the latter
    timm = r"patch_embed\.proj\.weight"
    of_clip = (
        Scheme("open_clip", r"conv1\.weight", _OPEN_CLIP, CLIP, under="visual."),
        Scheme("Hugging Face", r"embeddings\.patch_embedding\.weight", _TOWER, CLIP),
        Scheme("timm", timm, _TIMM, CLIP),
    )
    schemes = (
        Scheme("open_clip", timm, _TIMM, CLIP, under="visual.trunk."),
        Scheme("DINOv2 and timm", timm, _TIMM, usual),
        Scheme("torchvision", r"conv_proj\.weight", _TORCHVISION),
        Scheme("Hugging Face", r"embeddings\.patch_embeddings\.projection\.weight", _HUGGING_FACE, usual),
        Scheme("SigLIP", r"embeddings\.patch_embedding\.weight", _TOWER, HALF),
    )
    return TorchNames(
        of_clip if network.pre_norm else schemes,
        finish={
            "tokens": partial(_finish_tokens, network),
            "patches": _finish_patches if network.pre_norm else finish_layer,
            "_qkv": finish_qkv,
        },
        complete=partial(_hide_registers, network),
        expected=_expect(network),
        recognises=partial(_recognise, network),
    )


def _finish_patches(kinds: Kinds) -> list[np.ndarray]:
    """Adds the bias that the patches of CLIP lack."""
    arrays = finish_layer(kinds)
    return arrays if len(arrays) > 1 else [*arrays, np.zeros(arrays[0].shape[-1:], np.float32)]


def _finish_tokens(network: VisionTransformer, kinds: Kinds) -> list[np.ndarray]:
    """Adds the positions of the prefix tokens to them, and arranges the others as a square."""
    table = np.asarray(kinds.get("positions", np.zeros((0, 0))))
    table = table.reshape(-1, table.shape[-1])
    prefix = [np.asarray(kinds[kind]).reshape(-1, table.shape[-1]) for kind in ("class", "registers") if kind in kinds]
    tokens = np.concatenate(prefix) if prefix else np.zeros((0, table.shape[-1]), table.dtype)
    side = math.isqrt(len(table))
    before = len(table) - side**2
    if before not in (0, 1) or before > len(tokens):
        raise WeightsError(
            f"The positions are {len(table)}, which is no square of patches. Expected those of square films."
        )
    if before:
        tokens = np.concatenate([tokens[:1] + table[:1], tokens[1:]])
    if network.registers and len(tokens) == network.prefix - network.registers:  # weights without registers
        tokens = np.concatenate([tokens, np.zeros((network.registers, table.shape[-1]), tokens.dtype)])
    places = table[before:].reshape(side, side, table.shape[-1])
    return [tokens, places] if network.prefix or len(tokens) else [places]


def _hide_registers(network: VisionTransformer, layers: Layers) -> None:
    """Adds what hides the registers in attention, for weights that lack them."""
    if network.registers and "tokens" in layers:
        missing = not layers["tokens"][0][network.prefix - network.registers :].any()
        for end in network.ends:
            layers[f"{end}_attention"] = [np.full(network.registers, HIDDEN if missing else 0.0, np.float32)]


def _expect(network: VisionTransformer) -> dict[str, Any]:
    return {
        "hidden_size": network.size,
        "num_hidden_layers": network.depth,
        "num_attention_heads": network.heads,
        "patch_size": network.patch,
        "intermediate_size": network.units or 4 * network.size,
        "mlp_ratio": (network.units or 4 * network.size) / network.size,
        "hidden_act": ACTIVATIONS[network.activation],
        "use_swiglu_ffn": False,
    }


def _recognise(network: VisionTransformer, layers: Mapping[str, Shapes]) -> bool:
    kernel = layers.get("patches", {}).get("weight", ())
    depth = sum(layer.endswith("_norm1") for layer in layers)
    if kernel[:1] != (network.size,) or kernel[2:] != (network.patch, network.patch) or depth != network.depth:
        return False
    found = ("class" in layers.get("tokens", {}), "block0_scale1" in layers, "pre_norm" in layers)
    return found == (network.class_token, network.residual_scale, network.pre_norm)
