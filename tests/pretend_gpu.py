"""A GPU that is not there: tensors that say ``cuda:0``, whose values lie in this machine's memory.

What is computed of them is computed on the CPU, by the branches that the lab has for a GPU. The pretence refuses what a
GPU refuses (arrays of two devices in one operation), and notes what it would have to be waited for: a value asked for,
a copy that is not from or to pinned memory, an index on the host. It knows no streams and no speed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch._dynamo  # torch would do it at the first operation, and look at what is stubbed by then
from torch import Tensor
from torch.utils import _foreach_utils
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

GPU = torch.device("cuda", 0)
#: Operations that give a number, or a shape that depends on numbers. eigh asks whether it has converged.
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "_unique2", "_linalg_eigh")
COPIES = ("copy_", "_to_copy")
#: Not views by torch's word, and yet no kernels: what they give is not written, or is what they were given.
NO_KERNEL = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided", "_unsafe_view", "lift_fresh")


def _batch_norm(*args: Any) -> Any:
    return *torch.ops.aten.native_batch_norm(*args), torch.empty(0)


#: What a CPU has for kernels of cuDNN.
INSTEAD: dict[str, Callable[..., Any]] = {"cudnn_batch_norm": _batch_norm}


class Pretended(Tensor):
    """A tensor on ``cuda:0``; ``here`` is where its values are."""

    here: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, here: Tensor) -> Pretended:
        how = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype, "device": GPU}
        made: Pretended = Tensor._make_wrapper_subclass(cls, here.shape, **how, requires_grad=False)  # type: ignore[attr-defined]
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} of a pretended GPU outside of the pretence")

    def __deepcopy__(self, memo: dict[int, Any]) -> Pretended:
        """As torch has it, but for asking where the values lie."""
        if id(self) not in memo:
            copied = self.detach().clone().requires_grad_(self.requires_grad)
            copied._is_param = getattr(self, "_is_param", False)  # type: ignore[attr-defined]
            memo[id(self)] = copied
        return memo[id(self)]  # type: ignore[no-any-return]

    def tolist(self) -> Any:
        """As any tensor's, once it is on the host."""
        return self.cpu().tolist()

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        """Without its history. Set, the values are another tensor's, as for any tensor."""
        return self.detach()

    @data.setter
    def data(self, other: Pretended) -> None:
        Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.here = other.here

    def backward(self, *_: Any, **__: Any) -> None:
        """What autograd's engine does, which would ask the driver for its contexts: each node once, the last first."""
        start: Any = self.grad_fn
        given: dict[Any, list[Tensor | None]] = {start: [torch.ones_like(self)]}
        order, edges = [start], Counter()  # type: ignore[var-annotated]
        for node in order:
            for after, _ in node.next_functions:
                if after is not None:
                    edges[after] += 1
                    if after not in given:
                        given[after] = [None] * max(1, len(after._input_metadata))
                        order.append(after)
        ready = [start]
        while ready:
            node = ready.pop(max(range(len(ready)), key=lambda i: ready[i]._sequence_nr()))
            found = _called(node, given.pop(node))
            for (after, place), grad in zip(node.next_functions, found, strict=False):
                if after is None:
                    continue
                if grad is not None:
                    before, grad = given[after][place], _fitted(grad, after._input_metadata[place])
                    given[after][place] = grad if before is None else before + grad
                edges[after] -= 1
                if not edges[after]:
                    ready.append(after)


def _called(node: Any, grads: list[Tensor | None]) -> tuple[Tensor | None, ...]:
    if all(grad is None for grad in grads):
        return (None,) * len(node.next_functions)
    with torch.no_grad():
        if hasattr(node, "variable"):
            leaf, (grad,) = node.variable, grads
            if grad.stride() != leaf.stride():  # type: ignore[union-attr]
                grad = torch.empty_like(leaf).copy_(grad)  # what AdamW goes by, which reads both as they lie
            leaf.grad = grad if leaf.grad is None else leaf.grad + grad
            return ()
        found = node(*grads)
    return found if isinstance(found, tuple) else (found,)


def _fitted(grad: Tensor, wanted: Any) -> Tensor:
    """The gradient of what was spread out over others is the sum of theirs."""
    with torch.no_grad():
        return grad.sum_to_size(wanted.shape).to(wanted.dtype)


@dataclass(frozen=True)
class Done:
    """One operation on the GPU that is a kernel: its name, and the bytes of its arguments and of its results."""

    name: str
    read: int
    written: int


class Pretence(TorchDispatchMode):
    """While it is entered, ``cuda:0`` is there.

    ``done`` and ``waits`` note what was asked of it since the last ``taken``, ``numbers`` where kernels were given a
    number that lay in a tensor of the host.
    """

    # By which torch knows that no GPU is to be started for a tensor that is said to be on one.
    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __init__(self) -> None:
        super().__init__()
        self.done: list[Done] = []
        self.waits: list[str] = []
        self.numbers: Counter[str] = Counter()
        self._pinned: list[Tensor] = []
        self.capturing = False

    def taken(self) -> tuple[list[Done], list[str]]:
        """What was done since the last call, and what was waited for."""
        done, waits, self.done, self.waits = self.done, self.waits, [], []
        return done, waits

    def pinned(self, values: Tensor) -> bool:
        """Whether these values of the host lie in pinned memory."""
        start = values.untyped_storage().data_ptr()
        return any(each.untyped_storage().data_ptr() == start for each in self._pinned)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = dict(kwargs or {}), func.overloadpacket.__name__
        tensors = _tensors((args, kwargs))
        ours = [each for each in tensors if isinstance(each, Pretended)]
        asked = kwargs.get("device")
        on_gpu = bool(ours) if asked is None else torch.device(asked).type == "cuda"
        if on_gpu or ours:
            self._judge(name, func, args, kwargs, tensors, ours)
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        pin = name == "_pin_memory" or bool(kwargs.pop("pin_memory", None))
        if name == "is_pinned":
            return self.pinned(args[0])
        if name == "_pin_memory":
            found = args[0].clone()
        else:
            found = INSTEAD.get(name, func)(*_mapped(args, _here), **_mapped(kwargs, _here))
        if torch.Tag.inplace_view in func.tags:  # what is said of the shape must follow
            with no_dispatch():
                func(*args, **kwargs)
        if pin:
            self._pinned.append(found)
        if name == "copy_" and not isinstance(args[0], Pretended):
            return args[0]
        if on_gpu:
            known = {id(each.here): each for each in ours}
            found = _mapped(found, lambda each: known[id(each)] if id(each) in known else Pretended(each))
        moved = func.is_view or torch.Tag.inplace_view in func.tags
        if (on_gpu or ours) and not moved and name not in NO_KERNEL:
            self.done.append(Done(name, _size(ours), _size(_tensors(found))))
        return found

    def _judge(self, name: str, func: Any, args: Any, kwargs: Any, tensors: list[Tensor], ours: list[Any]) -> None:
        """Refuses what a GPU would refuse, and notes what it would make the host wait for."""
        others = [each for each in tensors if not isinstance(each, Pretended)]
        if name in COPIES:
            if len(ours) < len(tensors) or (ours and torch.device(kwargs.get("device") or GPU).type == "cpu"):
                begun = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
                alike = len({each.dtype for each in tensors}) == 1 and kwargs.get("dtype") in (None, tensors[0].dtype)
                if not (begun and alike and others and all(self.pinned(each) for each in others)):
                    self.waits.append(f"{name} between host and GPU")
        elif name in WAITS or (name == "repeat_interleave" and kwargs.get("output_size") is None):
            self.waits.append(name)
        elif name in ("index", "index_put_", "index_put"):
            rows = [each for each in args[1] if each is not None]
            if any(each.dtype == torch.bool or not isinstance(each, Pretended) for each in rows):
                self.waits.append(f"{name} by {'a mask' if rows[0].dtype == torch.bool else 'rows on the host'}")
        elif others:
            if any(each.ndim for each in others):
                raise RuntimeError(f"Expected all tensors to be on the same device: {func} of cuda:0 and cpu")
            # Read when the kernel is launched: nothing is waited for, but a graph has this number for ever.
            self.numbers[name] += 1


def _mapped(given: Any, work: Callable[[Tensor], Any]) -> Any:
    """With ``work`` done to each tensor. torch's own takes half of a test's time for it."""
    if isinstance(given, Tensor):
        return work(given)
    if isinstance(given, dict):
        return {key: _mapped(each, work) for key, each in given.items()}
    if type(given) in (list, tuple):
        return type(given)([_mapped(each, work) for each in given])
    return given


def _tensors(given: Any) -> list[Tensor]:
    found: list[Tensor] = []
    _mapped(given, found.append)
    return found


def _here(given: Tensor) -> Tensor:
    return given.here if isinstance(given, Pretended) else given


def _size(given: list[Any]) -> int:
    return sum(each.numel() * each.element_size() for each in given)


@contextmanager
def pretended_gpu() -> Iterator[Pretence]:
    """A GPU for as long as this lasts. Raises ``RuntimeError`` where there is a real one."""
    if torch.cuda.is_available():
        raise RuntimeError("there is a GPU: tests/test_gpu.py asks it itself")
    mode = Pretence()
    # Streams have no order to keep here: all is done when it is asked for.
    stream = SimpleNamespace(record_event=lambda: SimpleNamespace(synchronize=lambda: None))
    stubs: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda *_: True,
        "current_stream": lambda *_: stream,
        "is_current_stream_capturing": lambda: mode.capturing,  # which AdamW asks for, in newer versions as below
        "mem_get_info": lambda *_: (64 << 30, 80 << 30),
        "memory_reserved": lambda *_: 0,
        "memory_allocated": lambda *_: 0,
    }
    accelerator: dict[str, Callable[..., Any]] = {
        "current_accelerator": lambda **_: GPU,
        "current_stream": lambda *_: SimpleNamespace(is_capturing=lambda: mode.capturing),
    }
    lifts_on_host = torch._C._only_lift_cpu_tensors()
    with ExitStack() as stack:
        for name, stub in stubs.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stub))
        for name, stub in accelerator.items():
            stack.enter_context(mock.patch.object(torch.accelerator, name, stub))
        # A parameter of the host becomes another object when it moves, for it cannot become of another class.
        shallow = torch._has_compatible_shallow_copy_type

        def alike(one: Tensor, other: Tensor) -> bool:
            return isinstance(one, Pretended) == isinstance(other, Pretended) and bool(shallow(one, other))

        stack.enter_context(mock.patch.object(torch, "_has_compatible_shallow_copy_type", alike))
        # In inference mode operations come whole that come in parts elsewhere, and their parts are then refused.
        stack.enter_context(mock.patch.object(torch, "inference_mode", torch.no_grad))
        # Elsewhere torch would take its slow ways for tensors that it does not know.
        types = [*_foreach_utils._foreach_supported_types, Pretended]
        stack.enter_context(mock.patch.object(_foreach_utils, "_foreach_supported_types", types))
        torch._C._ensureCUDADeviceGuardSet()  # a guard that does nothing, where there is no driver
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") begins on the host, as it does
        stack.callback(torch._C._set_only_lift_cpu_tensors, lifts_on_host)
        yield stack.enter_context(mode)
