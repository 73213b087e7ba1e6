"""Names of a Swin transformer's weights: timm, its authors at Microsoft, torchvision, Hugging Face."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from kmm.models.networks.swin_transformer import SPREAD, SwinTransformer
from kmm.models.weights.names.torch_names import Kinds, Rule, Scheme, Shapes, TorchNames, finish_qkv

STAGES = (1, 2, 3, 4)
_WB = r"\.(weight|bias)"
_TABLE = "relative_position_bias_table"
_PARTS = {"norm1": "norm1", "qkv": r"attn\.qkv", "projection": r"attn\.proj", "norm2": "norm2"}
_TIMM = _PARTS | {"dense1": r"mlp\.fc1", "dense2": r"mlp\.fc2"}
_TORCHVISION = _PARTS | {"dense1": r"mlp\.0", "dense2": r"mlp\.3"}
_HUGGING_FACE = {
    **{"norm1": "layernorm_before", "projection": r"attention\.output\.dense", "norm2": "layernorm_after"},
    **{"dense1": r"intermediate\.dense", "dense2": r"output\.dense"},
}


def _name_stage(stage: int, blocks: str, parts: Mapping[str, str], merge: str) -> Iterator[Rule]:
    """Lists the rules of a stage, from the expression of its blocks and that of the layers before it."""
    block, end = rf"{blocks}\.(\d+)\.", rf"stage{stage}_block\1_"
    for part, expression in parts.items():
        yield rf"{block}{expression}{_WB}", f"{end}{part}", r"\2"
    yield rf"{block}attention\.self\.(query|key|value){_WB}", f"{end}qkv", r"\2 \3"
    yield rf"{block}(?:attn|attention\.self)\.{_TABLE}", f"{end}attention", "table"
    yield rf"{block}(?:attn\.|attention\.self\.)?(relative_position_index|attn_mask)", f"{end}attention", r"\2"
    yield rf"{merge}\.norm{_WB}", f"merge{stage}_norm", r"\1"
    yield rf"{merge}\.reduction\.(weight)", f"merge{stage}_reduction", r"\1"


def _name_stages(prefix: str, parts: Mapping[str, str], *, before: int = 0) -> Iterator[Rule]:
    """Lists the rules of stages that are numbered from 0; those whose layers before a stage are in the one before it
    have `before` 1."""
    for stage in STAGES:
        merge = rf"{prefix}layers\.{stage - 1 - before}\.downsample"
        yield from _name_stage(stage, rf"{prefix}layers\.{stage - 1}\.blocks", parts, merge)


def _name_rest(patches: str, patches_norm: str, norm: str) -> Iterator[Rule]:
    for layer, expression in {"patches": patches, "patches_norm": patches_norm, "norm": norm}.items():
        yield f"{expression}{_WB}", layer, r"\1"


_OF_TIMM = tuple(_name_rest(r"patch_embed\.proj", r"patch_embed\.norm", "norm"))
_SCHEMES = (
    Scheme(
        "Hugging Face",
        rf"encoder\.layers\.0\.blocks\.0\.attention\.self\.{_TABLE}",
        (
            *_name_rest(r"embeddings\.patch_embeddings\.projection", r"embeddings\.norm", "layernorm"),
            *_name_stages(r"encoder\.", _HUGGING_FACE, before=1),
        ),
    ),
    Scheme("Microsoft", r"layers\.0\.downsample\.norm\.weight", (*_OF_TIMM, *_name_stages("", _TIMM, before=1))),
    Scheme("timm", rf"layers\.0\.blocks\.0\.attn\.{_TABLE}", (*_OF_TIMM, *_name_stages("", _TIMM))),
    Scheme(
        "torchvision",
        rf"features\.1\.0\.attn\.{_TABLE}",
        (
            *_name_rest(r"features\.0\.0", r"features\.0\.2", "norm"),
            *(
                rule
                for stage in STAGES
                for rule in _name_stage(
                    stage, rf"features\.{2 * stage - 1}", _TORCHVISION, rf"features\.{2 * stage - 2}"
                )
            ),
        ),
    ),
)


def name_swin(network: SwinTransformer) -> TorchNames:
    """Returns the names of the weights of a `SwinTransformer`.

    Example:
        >>> names = name_swin(SwinTransformer(width=4, depths=(1, 1), heads=(1, 2), window=2))
        >>> table = "layers.0.blocks.0.attn.relative_position_bias_table"
        >>> state = {table: np.zeros((9, 1)), "layers.1.downsample.reduction.weight": np.zeros((8, 16))}
        >>> {name: [array.shape for array in arrays] for name, arrays in names(state).items()}
        {'stage1_block0_attention': [(9, 1)], 'merge2_reduction': [(16, 8)]}
    """
    return TorchNames(
        _SCHEMES,
        finish={"_qkv": finish_qkv, "_attention": _finish_attention},
        expected=_expect(network),
        recognises=partial(_recognise, network),
    )


def _finish_attention(kinds: Kinds) -> list[np.ndarray]:
    """Keeps the table of biases, without the constants that some files have beside it."""
    return [kinds["table"]] if "table" in kinds else []


def _expect(network: SwinTransformer) -> dict[str, Any]:
    return {
        "embed_dim": network.width,
        "depths": list(network.depths),
        "num_heads": list(network.heads),
        "window_size": network.window,
        "patch_size": network.patch,
        "mlp_ratio": SPREAD,
        "hidden_act": "gelu",
        "qkv_bias": True,
        "use_absolute_embeddings": False,
    }


def _recognise(network: SwinTransformer, layers: Mapping[str, Shapes]) -> bool:
    blocks = [re.fullmatch(r"stage(\d)_block\d+_attention", layer) for layer in layers]
    counts = Counter(int(match[1]) for match in blocks if match)
    kernel = layers.get("patches", {}).get("weight", ())
    table = next(iter(layers.get("stage1_block0_attention", {}).values()), ())
    found = counts, kernel[:1], kernel[2:], sorted(table)
    side = (network.patch, network.patch)
    depths = Counter(dict(enumerate(network.depths, start=1)))
    return found == (depths, (network.width,), side, sorted(((2 * network.window - 1) ** 2, network.heads[0])))
