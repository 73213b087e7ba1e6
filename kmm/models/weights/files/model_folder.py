"""Folders of weights as Hugging Face, timm and open_clip publish them: their files, configurations and licence."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kmm.errors import InputError, WeightsError
from kmm.models.weights.names.torch_names import Normalisation
from kmm.storage.config_file import read_config

FILES = (
    *("model.safetensors", "pytorch_model.bin"),
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
)
SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
CONFIGS = ("config.json", "open_clip_config.json")
MAX_TEXT_BYTES = 1 << 22
UNKNOWN = "unknown"


@dataclass(frozen=True)
class ModelFolder:
    """What a folder says of its weights.

    Attributes:
        files: tuple of Paths of the files of weights, more than one where an index divides them.
        config: dict, the configuration of the network; empty if there is none.
        normalisation: `Normalisation` of the films, or None if the folder does not say.
        licence: str, as its publisher writes it; `"unknown"` if the folder does not say.
    """

    files: tuple[Path, ...]
    config: Mapping[str, Any]
    normalisation: Normalisation | None
    licence: str


def open_folder(folder: Path) -> ModelFolder:
    """Reads the texts of a folder, and finds its files of weights.

    Raises:
        WeightsError: if it has none or several, an index names files outside it, or a text is damaged.
    """
    return _describe(folder, find_files(folder))


def digest_folder(folder: Path) -> str:
    """Returns the SHA-256, in hex, of what is read of a folder: its files of weights and its configurations."""
    digest = hashlib.sha256()
    names = (*CONFIGS, "preprocessor_config.json")
    for path in (*find_files(folder), *(folder / name for name in names if (folder / name).is_file())):
        with path.open("rb") as file:
            digest.update(f"{path.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()


def describe_file(path: Path) -> ModelFolder:
    """Reads the texts beside a file of weights, if it lies in such a folder, with a configuration."""
    if path.suffix in SUFFIXES and any((path.parent / name).is_file() for name in CONFIGS):
        return _describe(path.parent, (path,))
    return ModelFolder((path,), {}, None, UNKNOWN)


def _describe(folder, files):
    config: dict[str, Any] = {}
    for name in CONFIGS:
        if (folder / name).is_file():
            config = {**_read_config(folder / name), **config}
    inner = config.get("vision_config")
    network = inner if isinstance(inner, dict) else _read_open_clip(config) or config
    return ModelFolder(files, network, _find_normalisation(folder, config), _find_licence(folder, config))


def _read_open_clip(config):
    """Returns what the configuration of open_clip says of a tower of films of its own, under the names of Hugging Face;
    empty if it says nothing, or the tower is one of timm."""
    model = config.get("model_cfg")
    tower = model.get("vision_cfg") if isinstance(model, dict) else None
    if not isinstance(tower, dict) or "timm_model_name" in tower or not isinstance(tower.get("layers"), int):
        return {}
    names = {"width": "hidden_size", "layers": "num_hidden_layers", "patch_size": "patch_size"}
    found = {new: tower[old] for old, new in names.items() if old in tower}
    return {**found, "hidden_act": "quick_gelu" if model.get("quick_gelu") else "gelu"}


def find_files(folder: Path) -> tuple[Path, ...]:
    """Returns the files of weights of a folder: one, or those that an index names, which must be in the folder."""
    for name in FILES:
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return (folder / name,)
        if index.is_file():
            return _read_index(index)
    others = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())
    if len(others) != 1:
        raise WeightsError(f"{folder} has {len(others)} files of weights. Name the file, or give a folder with one.")
    return (others[0],)


def _read_index(index):
    named = _read_config(index).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(part, str) for part in named.values()):
        raise WeightsError(f"{index.name} names no files of weights. Download the folder again.")
    for part in sorted(set(named.values())):
        if Path(part).name != part or Path(part).suffix not in SUFFIXES:
            raise WeightsError(f"{index.name} names {part[:60]!r}, which is no file of weights in its folder.")
        if not (index.parent / part).is_file():
            raise WeightsError(f"{index.name} names {part}, which is missing. Download the folder again.")
    return tuple(index.parent / part for part in sorted(set(named.values())))


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return read_config(path)
    except InputError as error:
        raise WeightsError(f"{error} Download the folder again.") from None


def _find_normalisation(folder, config):
    """Finds the mean and deviation of films: Hugging Face keeps them in a file of their own, others in the config."""
    own = folder / "preprocessor_config.json"
    places = [(_read_config(own), "image_mean", "image_std")] if own.is_file() else []
    places += [(config.get(key), "mean", "std") for key in ("pretrained_cfg", "preprocess_cfg")]
    for values, mean, deviation in places:
        if not isinstance(values, dict):
            continue
        if values.get("do_normalize") is False:
            return Normalisation((0.0,) * 3, (1.0,) * 3)
        found = [_read_channels(values.get(name)) for name in (mean, deviation)]
        if all(found) and min(found[1]) > 0:
            return Normalisation(*found)
    return None


def _read_channels(values):
    """Returns one number for each of three channels; empty if the values are no such numbers."""
    values = values if isinstance(values, list) else [values]
    if len(values) not in (1, 3) or not all(type(value) in (int, float) and abs(value) < 1e3 for value in values):
        return ()
    return tuple(float(value) for value in values) * (3 // len(values))


def _find_licence(folder, config):
    """Finds the licence: of the header of the README, or of a configuration."""
    readme = folder / "README.md"
    if readme.is_file() and readme.stat().st_size <= MAX_TEXT_BYTES:
        text = readme.read_text(encoding="utf-8", errors="replace")
        header = re.match(r"---\s*\n(.*?)\n---", text, flags=re.DOTALL)
        for key in ("license_name", "license"):
            if header and (found := re.search(rf"^{key}:\s*(\S.*?)\s*$", header[1], flags=re.MULTILINE)):
                return clean_licence(found[1])
    inner = config.get("pretrained_cfg")
    for values in (config, inner if isinstance(inner, dict) else {}):
        if isinstance(values.get("license"), str):
            return clean_licence(values["license"])
    return UNKNOWN


def clean_licence(text: str) -> str:
    """Returns a licence as one short line without markup.

    Example:
        >>> clean_licence("[apache-2.0]"), clean_licence(" ")
        ('apache-2.0', 'unknown')
    """
    return re.sub(r"[^\w .,:/+()-]", "", text).strip()[:100] or UNKNOWN
