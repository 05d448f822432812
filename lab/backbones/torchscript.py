"""The tensors of a TorchScript archive, which is how OpenAI published ViT-B-32.pt, without loading it as a program.

``torch.jit.load`` is not used: it compiles the archive's code and runs any ``__setstate__`` in it, PyTorch's own
security notes call that running untrusted code, and TorchScript is deprecated. An archive is a zip with ``data.pkl``,
a pickle of nested modules, and one member for each tensor's bytes. The pickle is read with an allow-list of five
names: modules become empty shells, tensors become tensors, and any other name is refused.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_archive(path: Path) -> bool:
    """Whether ``path`` is a TorchScript archive, and not what ``torch.save`` writes (a zip as well, without code)."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_state(path: Path) -> dict[str, Tensor]:
    """Every tensor in the archive under its dotted name, on the CPU, in the type it was saved in.

    Plain tensor attributes come along with parameters and buffers, which the format does not tell apart. Raises
    whatever a damaged archive makes zipfile, pickle or torch raise; checkpoints.py words it for the user.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise ValueError(f"a TorchScript archive has one data.pkl, this has {len(names)}")
        root = _Reader(archive, names[0].removesuffix("data.pkl")).load()
    state: dict[str, Tensor] = {}
    _collect(root, "", state)
    return state


class _Shell:
    """Stands in for a scripted module: holds its attributes and does nothing."""


def _collect(shell: object, prefix: str, state: dict[str, Tensor]) -> None:
    for name, value in vars(shell).items():
        if isinstance(value, Tensor):
            state[prefix + name] = value
        elif isinstance(value, _Shell):
            _collect(value, f"{prefix}{name}.", state)


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, prefix: str) -> None:
        super().__init__(io.BytesIO(_member(archive, prefix + "data.pkl")))
        self._archive, self._prefix = archive, prefix
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> Any:
        if module == "__torch__" or module.startswith("__torch__."):
            return _Shell
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch.jit._pickle":  # build_intlist and its kind, restore_type_tag: they return the value
            return _first
        raise pickle.UnpicklingError(f"refused: GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, _, count = pid
        if key not in self._storages:
            content = bytearray(_member(self._archive, f"{self._prefix}data/{key}"))
            whole = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            if len(whole) < count:
                raise ValueError(f"tensor data {key} holds {len(whole)} numbers of {count}")
            self._storages[key] = whole
        return self._storages[key]


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    # torch writes its members uncompressed: a compressed one may be a zip bomb.
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"member {name} must be stored, not compressed")
    return archive.read(name)


def _rebuild(storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Tensor:
    return storage.as_strided(size, stride, offset)  # torch checks the bounds


def _first(value: Any, *_: Any) -> Any:
    return value
