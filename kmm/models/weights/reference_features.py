"""Features of weights as the program computes them that published them, to compare with those of kmm's network."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from kmm.errors import WeightsError, require
from kmm.models.encoders_image import IMAGE_ENCODERS
from kmm.models.weights.assignment import find_normalisation
from kmm.models.weights.weight_files import OpenedWeights

ALLOWED = 1e-4  # largest difference, relative to the largest feature
FILMS = 2
TORCHVISION = {
    "densenet121": "densenet121",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "swin-base": "swin_b",
    "swin-tiny": "swin_t",
    "vit-base": "vit_b_16",
}
TIMM = {
    "densenet121": "densenet121",
    "dinov2-base": "vit_base_patch14_dinov2",
    "dinov2-large": "vit_large_patch14_dinov2",
    "dinov2-small": "vit_small_patch14_dinov2",
    "resnet18": "resnet18",
    "resnet50": "resnet50",
    "swin-base": "swin_base_patch4_window7_224",
    "swin-tiny": "swin_tiny_patch4_window7_224",
    "vit-base": "vit_base_patch16_224",
    "vit-small": "vit_small_patch16_224",
}


def compare_features(opened: OpenedWeights, encoder_name: str, encoder: keras.Model, reference: str) -> dict[str, Any]:
    """Compares the feature map of films of noise with that of another program.

    Args:
        opened: `OpenedWeights` of PyTorch.
        encoder_name: str, a key of `IMAGE_ENCODERS`.
        encoder: `keras.Model` with the weights.
        reference: `"torchvision"`, `"timm"` or `"transformers"`, which must be installed.

    Returns:
        dict for JSON: `reference` (its name and version), `difference` (float, the largest difference divided by the
        largest feature of the reference), `allowed` (float) and `equal` (bool).

    Raises:
        WeightsError: if the program does not have the network, or does not read the file.
        MissingPackageError: if the program is not installed.
    """
    side = encoder.input.shape[1]
    films = np.random.default_rng(0).uniform(0, 255, (FILMS, side, side, 1)).astype(np.float32)
    kinds = find_normalisation(opened, encoder_name)
    mean, deviation = (np.array(values) for values in (kinds.mean, kinds.deviation))
    colour = ((films / 255 - mean) / deviation).transpose(0, 3, 1, 2).astype(np.float32)
    package, expected = _REFERENCES[reference](opened, encoder_name, colour)
    found = keras.ops.convert_to_numpy(encoder(films, training=False)["sequence"])
    if found.shape != expected.shape:
        raise WeightsError(f"{reference} computes features of the shape {expected.shape}, kmm of {found.shape}.")
    difference = float(np.abs(found - expected).max() / np.abs(expected).max())
    return {
        "reference": f"{reference} {package.__version__}",
        "difference": difference,
        "allowed": ALLOWED,
        "equal": difference <= ALLOWED,
    }


def _compute_torchvision(opened, encoder_name, films):
    package, torch = require("torchvision", "reference"), require("torch", "torch")
    name = _look_up(TORCHVISION, encoder_name, "torchvision")
    options = {"image_size": films.shape[-1]} if name.startswith("vit") else {}
    network = getattr(package.models, name)(weights=None, **options).eval()
    _load(torch, network, opened, encoder_name)
    with torch.no_grad():
        films = torch.tensor(films)
        if name.startswith("vit"):
            patches = network._process_input(films)
            tokens = torch.cat([network.class_token.expand(len(films), -1, -1), patches], dim=1)
            return package, network.encoder(tokens)[:, 1:].numpy()
        if name.startswith("swin"):
            return package, network.norm(network.features(films)).flatten(1, 2).numpy()
        if name.startswith("densenet"):
            return package, _to_places(torch.relu(network.features(films)))
        for part in list(network.children())[:-2]:  # without pooling and head
            films = part(films)
        return package, _to_places(films)


def _compute_timm(opened, encoder_name, films):
    package, torch = require("timm", "reference"), require("torch", "torch")
    name = _look_up(TIMM, encoder_name, "timm")
    registers = any(key.endswith(("reg_token", "register_tokens")) for key in opened.tensors)
    name = name.replace("_dinov2", "_reg4_dinov2") if registers else name
    options = {"img_size": films.shape[-1]} if name.startswith(("vit", "swin")) else {}
    network = package.create_model(name, pretrained=False, num_classes=0, **options).eval()
    _load(torch, network, opened, encoder_name)
    with torch.no_grad():
        found = network.forward_features(torch.tensor(films))
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        return package, found.flatten(1, 2).numpy()
    return package, found[:, network.num_prefix_tokens :].numpy() if found.ndim == 3 else _to_places(found)


def _compute_transformers(opened, encoder_name, films):
    package, torch = require("transformers", "reference"), require("torch", "torch")
    if not opened.path.is_dir() or not opened.folder.config:
        raise WeightsError("transformers reads a folder with config.json. Give the folder in place of its file.")
    try:
        network = package.AutoModel.from_pretrained(str(opened.path), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        raise WeightsError(f"transformers cannot read {opened.path.name} ({type(error).__name__}).") from error
    network = getattr(network, "vision_model", network)  # of a pair of towers, that of films
    with torch.no_grad():
        found = network.eval()(torch.tensor(films)).last_hidden_state
        if hasattr(network, "pre_layrnorm"):  # CLIP returns the tokens before their last normalisation
            found = network.post_layernorm(found)
    if found.ndim == 4:
        return package, _to_places(found)
    entry = IMAGE_ENCODERS[encoder_name]
    places = (films.shape[-1] // entry.multiple) ** 2 if entry.positions else found.shape[1]
    return package, found[:, found.shape[1] - places :].numpy()


_REFERENCES = {
    "torchvision": _compute_torchvision,
    "timm": _compute_timm,
    "transformers": _compute_transformers,
}


def _look_up(names: Mapping[str, str], encoder_name: str, reference: str) -> str:
    if encoder_name not in names:
        raise WeightsError(f"{reference} is compared for {', '.join(names)} only, not for {encoder_name}.")
    return names[encoder_name]


def _load(torch: Any, network: Any, opened: OpenedWeights, encoder_name: str) -> None:
    """Loads the tensors of a file, without their prefix; those of a head may be missing or left over."""
    names: Any = IMAGE_ENCODERS[encoder_name].torch_layers
    found = names.find_scheme(opened.tensors) if opened.state else None
    if found is None or opened.state is None:
        raise WeightsError(f"{opened.path.name} has no names of PyTorch, so its features are compared with none.")
    prefix = found[1]
    state = {
        name.removeprefix(prefix): torch.tensor(np.asarray(array))
        for name, array in opened.state.items()
        if name.startswith(prefix)
    }
    own = network.state_dict()
    same = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    missing = sorted(set(names.place(own)) - set(same))
    if missing:
        raise WeightsError(
            f"The file has other names than this program: {len(missing)} of its tensors are missing, first "
            f"{missing[0]}. Compare with the program that published the file."
        )
    network.load_state_dict(same, strict=False)


def _to_places(maps: Any) -> np.ndarray:
    """Turns maps `(n, d, rows, columns)` into rows of places `(n, m, d)`."""
    return maps.flatten(2).permute(0, 2, 1).numpy()
