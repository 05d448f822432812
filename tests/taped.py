"""A CUDA graph played on a CPU: what was done is noted, to be done again on the same memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Tape(TorchDispatchMode):
    """What a CUDA graph is, on a CPU: operations with the tensors that they had, done again on the same memory.

    Python is not run again, so a number that Python puts in stays what it was. A graph is recorded without being run,
    a tape by running it once: its first replay does nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.done: list[tuple[Any, Any, Any, Any]] = []
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        self.done.append((func, args, kwargs or {}, found))
        return found

    def replay(self) -> None:
        self.replays += 1
        if self.replays == 1:
            return
        with torch.no_grad():
            for func, args, kwargs, before in self.done:
                for old, new in zip(self.held(before), self.held(func(*args, **kwargs)), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.detach().copy_(new)

    def held(self, found: Any) -> list[Tensor]:
        """The tensors that an operation left, whose memory is written to anew."""
        return [each for each in tree_leaves(found) if isinstance(each, Tensor)]
