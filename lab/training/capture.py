"""A training step on a GPU: recorded once as a CUDA graph and replayed, one launch in place of some hundred small ones.

``Replayed`` is the logic, which any machine can run; ``CudaGraphs`` is all that needs a GPU.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from typing import Protocol

import torch
from torch import nn

from lab.training.lifted import StackedStep
from lab.training.step import Step

log = logging.getLogger(__name__)

#: Plain steps before one is recorded: what is made on first use (AdamW's moments, cuBLAS's workspace) is there by then.
WARM = 3
#: Words are padded to multiples of this, so that a handful of graphs serves all batches.
WIDTH = 8


class Recorder(Protocol):
    """Makes a function of a piece of work that is not run now but each time that the function is called."""

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        """Raises ``RuntimeError`` for work that cannot be recorded."""
        ...

    def running(self) -> AbstractContextManager[None]:
        """Around an epoch: where recorded and plain work is to run."""
        ...


class Replayed:
    """A step for each batch of an epoch, replayed where it was recorded: one graph for each width of words.

    The first steps of a width and the smaller batch at the end of an epoch run plainly; they are steps of the training
    like the others. Where a step cannot be recorded that is said once, and all run plainly.
    """

    def __init__(self, step: Step | StackedStep, recorder: Recorder | None) -> None:
        self.step, self.recorder = step, recorder
        self.graphs: dict[int | None, Callable[[], None]] = {}
        self._plain: Counter[int | None] = Counter()

    def running(self) -> AbstractContextManager[None]:
        """Around an epoch."""
        return self.recorder.running() if self.recorder is not None else nullcontext()

    def __call__(self, size: int, width: int | None = None) -> None:
        """As ``Step``'s."""
        if self.recorder is None or size < self.step.recipe.batch:
            return self.step(size, width)
        width = None if width is None else -(-width // WIDTH) * WIDTH
        if width not in self.graphs:
            if self._plain[width] < WARM:
                self._plain[width] += 1
                return self.step(size, width)
            reason, handled = None, sys.exception()
            try:
                self.graphs[width] = self.recorder(partial(self.step, size, width))
            except RuntimeError as error:
                reason = _cause(error, handled)
            # Not within the except clause, where the traceback would keep the tensors of the attempt.
            if reason is not None:
                log.warning(
                    "the training step cannot be one CUDA graph (%s): its operations are launched singly", reason
                )
                self.recorder = None
                return self.step(size, width)
        return self.graphs[width]()


def _cause(error: BaseException, handled: BaseException | None) -> str:
    """The first line of the error that came first: to end a broken recording is an error again, which says less.

    ``handled``: one that was being handled before.
    """
    while error.__context__ is not None and error.__context__ is not handled:
        error = error.__context__
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class CudaGraphs:
    """Records on a stream of its own, on which the plain steps run, too: autograd ties its nodes to the first stream.

    Written by torch's documentation and not run yet: no GPU was at hand.
    """

    def __init__(self, device: torch.device) -> None:
        self._device, self._stream = device, torch.cuda.Stream(device)
        # One pool for all graphs: they run one after another, and none leaves anything in it for the next.
        self._pool = torch.cuda.graph_pool_handle()

    @contextmanager
    def running(self) -> Iterator[None]:
        """The stream waits for what came before, and what comes after waits for it; the host waits for neither."""
        outside = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(outside)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            outside.wait_stream(self._stream)

    def __call__(self, work: Callable[[], None]) -> Callable[[], None]:
        """See ``Recorder``."""
        graph, random = torch.cuda.CUDAGraph(), torch.cuda.default_generators[self._stream.device_index]
        before = random.clone_state()
        try:
            # Of this thread alone: another one may be training on the same GPU.
            with torch.cuda.graph(graph, self._pool, self._stream, capture_error_mode="thread_local"):
                work()
        except BaseException:
            random.graphsafe_set_state(before)  # a recording that broke off would leave it in the hands of the graph
            self._end_for_memory()
            raise
        return graph.replay

    def _end_for_memory(self) -> None:
        """Ends a recording that broke off for torch's allocator, too, where ``torch.cuda.graph`` has not done so.

        For the allocator it would go on for the rest of the process: ``torch.cuda.empty_cache`` would then be an error,
        and so be the next recording, and what is free would not be given back where memory is full.
        """
        with suppress(RuntimeError, AttributeError):  # it has ended, or torch is older than these names
            torch._C._cuda_endAllocateToPool(self._stream.device_index, self._pool)
            torch._C._cuda_releasePool(self._stream.device_index, self._pool)


def recorder_for(module: nn.Module, device: torch.device) -> Recorder | None:
    """What records the steps of a module: nothing on a CPU, nor for a head that may do more than its kernels.

    A graph repeats what was launched and none of the Python around it. The lab's heads and torch's modules have nothing
    there that changes from step to step; a head of one's own says so with the attribute ``capturable = True``.
    """
    known = all(type(part).__module__.startswith(("lab.heads.", "torch.nn.")) for part in module.modules())
    return CudaGraphs(device) if device.type == "cuda" and getattr(module, "capturable", known) else None
