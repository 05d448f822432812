"""Weight files as plain tensors, without running anything in them, and loading that names what does not fit."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab.backbones import torchscript
from lab.errors import LabError

State = dict[str, Tensor]


def read_state(path: Path) -> State:
    """The state dict in a .safetensors, .pt, .pth or .bin file, or in a TorchScript archive (OpenAI's own files).

    No pickle is ever executed: ``weights_only`` refuses every global that does not rebuild a tensor or an array, and
    TorchScript archives go through a reader of ours (see torchscript.py for why not ``torch.jit.load``).
    Raises LabError for a file that is missing, damaged, holds no state dict, or wants to run something.
    """
    if not path.is_file():
        raise LabError(f"a weight file must exist, and {path} does not: check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if torchscript.is_archive(path):
            return torchscript.read_state(path)
        # torch warns of what it then refuses: the error below says it once.
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged or hostile file raises whatever it likes
        raise LabError(_why_unreadable(path, error)) from error
    return _state_dict(content, path)


def _numpy_globals() -> list[Any]:
    """What rebuilds NumPy arrays, in NumPy 1's spelling and in NumPy 2's.

    Some PANN checkpoints keep their data sampler's state beside the weights (autrainer#66 stumbled on it).
    """
    builders: list[Any] = [np.empty(0).__reduce__()[0], np.float64(0).__reduce__()[0]]
    spelled = [(build, f"numpy.{core}.multiarray.{build.__name__}") for build in builders for core in ("core", "_core")]
    return [np.ndarray, np.dtype, *spelled, *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdSUO"}]


def _why_unreadable(path: Path, error: Exception) -> str:
    said = " ".join(str(error).split())
    culprit = re.search(r"(?:GLOBAL|function|class) (<[^>]+>|[\w.]*\w)", said)
    if isinstance(error, pickle.UnpicklingError) and culprit:
        return (
            f"a weight file may hold tensors only, and {path} wants to run or build {culprit[1]}: do not load it; "
            "if you trust its source, save its state dict as .safetensors and name that"
        )
    # torch's own text goes on to recommend weights_only=False.
    reason = "it is no pickle of tensors" if "weights_only" in said else said[:160].rstrip(".")
    return f"cannot read the weights in {path}: {reason}: the file is damaged or of another kind; fetch it again"


def _state_dict(content: Any, path: Path) -> State:
    """The state dict in what a training script saved: bare, or under ``state_dict`` (open_clip), ``model`` (PANN)."""
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not content:
        raise LabError(f"a weight file must hold a state dict, and {path} holds a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise LabError(f"a state dict must map names to tensors, and {path} has {key!r}: {type(value).__name__}")
    # DistributedDataParallel wraps a model as "module".
    return {key.removeprefix("module."): value for key, value in content.items()}


def load_state(model: nn.Module, state: Mapping[str, Tensor], source: str, *, may_lack: Collection[str] = ()) -> None:
    """Copy ``state`` into ``model``, all of it. ``may_lack`` names keys that the model computes itself.

    Raises LabError naming the first few keys that are missing, unexpected or of another shape, or a weight that is
    not finite.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state and key not in may_lack]
    unexpected = [key for key in state if key not in own]
    shapes = [
        f"{key} is {tuple(state[key].shape)}, not {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    faults = [_few("missing", missing), _few("unexpected", unexpected), _few("of another shape", shapes)]
    if any(faults):
        raise LabError(
            f"the weights in {source} must fit the model: {'; '.join(filter(None, faults))}. "
            "Name the model that the file was trained as"
        )
    for key, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise LabError(f"weights must be finite, and {key} in {source} is not: fetch the file again")
    model.load_state_dict(dict(state), strict=False)


def _few(what: str, names: list[str], most: int = 3) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} {what} ({', '.join(names[:most])}{rest})" if names else ""


def sha256_of_file(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_state(state: Mapping[str, Tensor]) -> str:
    """The SHA-256 over names and bytes of a state dict in sorted order: the identity of weights that have no file."""
    digest = hashlib.sha256()
    for key in sorted(state):
        digest.update(key.encode())
        digest.update(state[key].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
