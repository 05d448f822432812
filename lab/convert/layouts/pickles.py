"""Pickles of arrays, read without running anything that a pickle could name.

A pickle is a program. This reader admits containers and what NumPy writes for an array, and even for those it runs code
of its own: NumPy's functions trust their input (a dtype's flags can be forged in a pickle, and an array of forged
pointers is a way in), so arrays are rebuilt here from their bytes, shape and a plain type.
"""

from __future__ import annotations

import collections
import math
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.convert.layouts.features import Choice, Features
from lab.errors import LabError


@contextmanager
def pickled(path: Path, choice: Choice) -> Iterator[Features]:
    """A dict from video ids to arrays (T, D) or (D,); NaN, an empty array or None for a video without."""
    found = read_pickle(path)
    if not isinstance(found, dict):
        raise LabError(f"{path} must hold a dict of arrays by video id, it holds a {type(found).__name__}")
    videos = {_key(path, name): value for name, value in found.items()}
    yield Features("pickle", path, list(videos), videos.__getitem__, choice.zeros_are_missing)


def read_pickle(path: Path) -> Any:
    """Containers, numbers, text and NumPy arrays from a pickle (of Python 2 too). Raises LabError for any other."""
    try:
        with path.open("rb") as file:
            return _arrays(_ArraysOnly(file, encoding="latin1").load())
    except _RefusedError as error:
        raise LabError(
            f"{path} is refused: {error}, and only arrays and containers are read; nothing in it was run"
        ) from None
    except FileNotFoundError:
        raise LabError(f"{path} does not exist: name a pickle of features") from None
    except Exception as error:  # a damaged pickle raises nearly anything
        raise LabError(f"{path} cannot be read as a pickle of arrays ({type(error).__name__}: {error})") from None


class _RefusedError(Exception):
    """A pickle that wants more than data."""


class _Dtype:
    """Stands for numpy.dtype: its name, and of its state only the byte order."""

    def __init__(self, name: object, *_: object) -> None:
        kind = np.dtype(name) if isinstance(name, str) and len(name) < 8 else None
        if kind is None or kind.kind not in "fiub":
            raise _RefusedError(f"it has an array of type {name!r:.40}")
        self.dtype = kind

    def __setstate__(self, state: Any) -> None:
        if state[1] in ("<", ">", "|", "="):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands for numpy.ndarray until its state has come."""

    def __init__(self, *_: object) -> None:
        self.values: NDArray[Any] = np.zeros(0)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, raw = state
        self.values = _rebuild(raw, dtype, shape, "F" if by_columns else "C")


class _Admitted:
    """A name that a pickle may call; it has no attributes that a pickle could set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise _RefusedError("it changes what it calls")


def _rebuild(raw: Any, dtype: Any, shape: Any, order: Any = "C") -> NDArray[Any]:
    if isinstance(raw, str):  # Python 2 wrote bytes as text
        raw = raw.encode("latin1")
    if not isinstance(dtype, _Dtype) or not isinstance(raw, bytes | bytearray | pickle.PickleBuffer):
        raise _RefusedError("it has an array of objects")
    sizes = tuple(int(size) for size in shape)
    held = memoryview(raw)
    if min(sizes, default=0) < 0 or math.prod(sizes) * dtype.dtype.itemsize != held.nbytes:
        raise _RefusedError(f"it has an array of {held.nbytes} bytes in the shape {sizes}")
    native = dtype.dtype.newbyteorder("=")
    return (
        np.frombuffer(held, dtype.dtype).reshape(sizes, order="F" if order == "F" else "C").astype(native, copy=False)
    )


def _from_buffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.values = _rebuild(raw, dtype, shape, order)
    return made


def _scalar(dtype: Any, raw: Any) -> Any:
    return _rebuild(raw, dtype, ()).item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """Bytes, as a pickle of protocol 2 has them; of the codecs only this one, since others decompress."""
    return text.encode("latin1" if encoding == "latin1" else "utf-8")


_ADMITTED: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("builtins", "bytes"): lambda: b"",  # old protocols call it for no bytes, and never with a length
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
}
for _core in ("numpy.core", "numpy._core"):
    _ADMITTED[f"{_core}.multiarray", "_reconstruct"] = _Array
    _ADMITTED[f"{_core}.multiarray", "scalar"] = _scalar
    _ADMITTED[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        admitted = _ADMITTED.get((module.replace("__builtin__", "builtins"), name))
        if admitted is None:
            raise _RefusedError(f"it asks for {module}.{name}")
        return _Admitted(admitted)

    def persistent_load(self, _: Any) -> Any:
        raise _RefusedError("it refers to something outside itself")


def _arrays(value: Any) -> Any:
    """Stand-ins for arrays replaced by arrays, in nested dicts, lists and tuples."""
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, dict):
        return {key: _arrays(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_arrays(inner) for inner in value]
    return value


def _key(path: Path, name: Any) -> str:
    if isinstance(name, bytes):
        name = name.decode("utf-8", "replace")
    if not isinstance(name, str | int):
        raise LabError(f"{path}: video ids must be text, got {name!r:.60}")
    return str(name)
