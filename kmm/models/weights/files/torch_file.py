"""State dicts of PyTorch, of files that may hold anything: nothing in them is run, nothing larger than they is made."""

import pickle
import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from kmm.errors import WeightsError, require

DAMAGED = (
    *(OSError, LookupError, ArithmeticError, RuntimeError, ValueError, TypeError, AttributeError, AssertionError),
    *(EOFError, MemoryError, struct.error, zipfile.BadZipFile, pickle.UnpicklingError),
)
INNER = ("state_dict", "model_state_dict", "model", "teacher")  # where training checkpoints keep the weights
MODULES = ("torchxrayvision.", "torchvision.", "timm.", "torch.nn.", "monai.")  # programs that pickle whole networks


def read_torch(path: Path, max_bytes: int) -> dict[str, np.ndarray]:
    """Reads a state dict, bare or in a training checkpoint, with `weights_only`, which makes nothing but tensors.

    Args:
        path: Path of the file.
        max_bytes: int. Most bytes that it may unpack to.

    Returns:
        dict of the name of each tensor to its array, float32.

    Raises:
        WeightsError: if the file holds other objects, is no state dict, or claims more values than it has.
        MissingPackageError: if torch is not installed.
    """
    torch = require("torch", "torch")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
        if size > max_bytes:
            raise WeightsError(f"{path.name} unpacks to {size:,} bytes. Allowed: at most {max_bytes:,}.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGED as error:
        raise _describe(path, error) from None
    for key in INNER:
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict):
        raise WeightsError(f"{path.name} contains a {type(state).__name__}. Expected a PyTorch state_dict.")
    tensors = {key: value for key, value in state.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if not tensors:
        raise WeightsError(f"{path.name} contains no tensors. Expected a PyTorch state_dict.")
    return {key: _to_array(torch, value, key, path) for key, value in tensors.items()}


def _to_array(torch: Any, tensor: Any, key: str, path: Path) -> np.ndarray:
    dense = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
    if not dense or tensor.is_complex():
        raise WeightsError(f"{path.name}: the tensor {key} is not dense and real. Save it as float32.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise WeightsError(f"{path.name} is damaged: the tensor {key} claims more values than the file has.")
    return tensor.detach().float().numpy()


def _describe(path: Path, error: Exception) -> WeightsError:
    """Says in one line what a file holds that is not a tensor."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    if found and found[1].startswith(MODULES):
        return WeightsError(
            f"{path.name} is a pickled {found[1]}, a program rather than weights. If you trust its publisher, write "
            f"its weights where that package is installed: `model = torch.load({path.name!r}, weights_only=False)`, "
            "`torch.save(model.state_dict(), 'weights.pth')`. Then give weights.pth."
        )
    reason = found[1] if found else type(error).__name__
    return WeightsError(
        f"{path.name} is damaged or contains more than weights ({reason}). Expected a PyTorch state_dict."
    )
