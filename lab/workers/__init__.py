"""A pool of processes for a job that may hang or crash, as a decoder on a stranger's file does.

The standard pools break as a whole when one process dies, cannot end one that hangs, and start their processes by
importing the parent's main program, torch included. Here each process has a thread of ours that gives it one item at a
time, so what kills a process, or has to, costs that item alone; results are fetched while the caller is busy elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Generic, TypeVar

from lab.errors import LabError
from lab.workers.process import WorkerError, read, write

__all__ = ["DecodePool", "WorkerCrash", "WorkerError", "WorkerTimeout", "in_order"]

T = TypeVar("T")
R = TypeVar("R")

_Tasks = queue.SimpleQueue[tuple[Any, Future[Any]] | None]

_START_S = 60.0  # for a process to start and import its job: a busy machine is slow at this, and it is no item's fault
# What a process runs. ``lab`` is entered as a bare package: its __init__ names the study side, whose torch would cost
# each process two seconds and hundreds of MB.
_BOOT = """
import sys, types
fd, parent, home, *path = sys.argv[1:]
sys.path[:] = path
lab = sys.modules["lab"] = types.ModuleType("lab")
lab.__path__ = [home]
from lab.workers.process import serve
serve(int(fd), int(parent))
"""


class WorkerTimeout(WorkerError, TimeoutError):  # noqa: N818 - says what happened
    """The item took longer than the deadline and its process was ended."""


class WorkerCrash(WorkerError):  # noqa: N818 - says what happened
    """The process died on the item, by a signal or an exit of its own."""


class DecodePool(Generic[T, R]):
    """``workers`` processes that run ``job`` on items, results in the items' order; a context manager.

    ``job`` is a function of an importable module (or a ``functools.partial`` of one); it, its items and its results are
    picklable. An item whose job raises yields that exception; one that runs longer than ``deadline_s`` (wall clock)
    yields WorkerTimeout; one whose process dies yields WorkerCrash naming the signal or exit code. The process is then
    replaced. Processes are deaf to SIGINT (the parent decides) and end when the parent does, however it ends. POSIX.
    """

    def __init__(self, workers: int, job: Callable[[T], R], *, deadline_s: float) -> None:
        if workers < 1:
            raise LabError(f"`workers >= 1` must hold, got {workers}")
        if not deadline_s > 0:
            raise LabError(f"`deadline_s > 0` must hold, got {deadline_s}")
        self._tasks: _Tasks = queue.SimpleQueue()
        self._keepers = [_Keeper(pickle.dumps(job, protocol=5), deadline_s, self._tasks) for _ in range(workers)]
        self._closed = False

    def __enter__(self) -> DecodePool[T, R]:
        """The pool itself; its processes are starting already."""
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes at once."""
        self.close()

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers that are alive."""
        return [keeper.pid for keeper in self._keepers if keeper.pid]

    def close(self) -> None:
        """End all processes at once, whatever they are doing. Safe to call twice."""
        self._closed = True
        for keeper in self._keepers:
            keeper.stop()
        for _ in self._keepers:
            self._tasks.put(None)
        for keeper in self._keepers:
            keeper.join(5.0)

    def run(self, items: Iterable[T], ahead: int) -> Iterator[tuple[T, R | Exception]]:
        """Yield (item, result or exception) in order, with at most ``ahead`` items taken and not yet yielded.

        Items are drawn as needed, in the caller's thread, so ``items`` may be endless. ``ahead`` bounds the memory; to
        keep all processes busy while the caller works on a batch, let it be at least the batch plus the workers.
        """
        return in_order(items, self._begin, ahead)

    def _begin(self, item: T) -> Future[R | Exception]:
        if self._closed:
            raise RuntimeError("the pool was closed while it was running")
        future: Future[R | Exception] = Future()
        self._tasks.put((item, future))
        return future


def in_order(items: Iterable[T], begin: Callable[[T], Future[R]], ahead: int) -> Iterator[tuple[T, R]]:
    """(item, what came of it) in the items' order; those that nobody waits for any more are cancelled."""
    if ahead < 1:
        raise LabError(f"`ahead >= 1` must hold, got {ahead}")
    source = iter(items)
    waiting: deque[tuple[T, Future[R]]] = deque()
    try:
        while True:
            for item in source:
                waiting.append((item, begin(item)))
                if len(waiting) >= ahead:
                    break
            if not waiting:
                return
            item, future = waiting.popleft()
            yield item, future.result()
    finally:
        for _, future in waiting:
            future.cancel()


class _Keeper(threading.Thread):
    """Keeps one process alive and feeds it; lives until the pool is closed."""

    def __init__(self, job: bytes, deadline_s: float, tasks: _Tasks) -> None:
        super().__init__(name="decode-keeper", daemon=True)
        self._job, self._deadline_s, self._tasks = job, deadline_s, tasks
        self._lock = threading.Lock()  # between starting a process and being told to stop
        self._stopped = False
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: socket.socket | None = None
        self._ready = False
        self.start()

    @property
    def pid(self) -> int:
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def run(self) -> None:
        with contextlib.suppress(OSError):  # a failure to start is told to the first item
            self._launch()
        while (task := self._tasks.get()) is not None:
            item, future = task
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(self._work(item))
            except Exception as error:  # whatever goes wrong is the outcome of this item, and the pool goes on
                future.set_result(error)
        self._end()

    def stop(self) -> None:
        """End the process from another thread; the thread itself follows."""
        with self._lock:
            self._stopped = True
            if self._process is not None:
                self._process.kill()

    def _work(self, item: Any) -> Any:
        """The result of one item, or the exception that stands for it."""
        message = pickle.dumps(item, protocol=5)
        if self._process is None or self._process.poll() is not None:  # the first one, or it died while idle
            self._launch()
        try:
            limit_s = _START_S
            if not self._ready:
                succeeded, why = self._receive(limit_s)
                if not succeeded:
                    self._end()
                    return why
                self._ready = True
            limit_s = self._deadline_s
            self._send(message, limit_s)
            return self._receive(limit_s)[1]
        except TimeoutError:
            what = (
                f"no result after {limit_s:g} s" if self._ready else f"the process did not start within {limit_s:g} s"
            )
            self._end()
            return WorkerTimeout(f"{what}: the worker process was ended")
        except OSError:
            why = WorkerCrash(f"the worker process {self._death()}")
            self._end()
            return why

    def _launch(self) -> None:
        self._end()
        home = str(Path(__file__).resolve().parent)
        ours, theirs = socket.socketpair()
        with self._lock, theirs:
            if self._stopped:
                ours.close()
                raise WorkerError("the pool is closed")
            # In a process group of its own: Ctrl-C in a terminal goes to the parent alone, from the first instant.
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, str(theirs.fileno()), str(os.getpid()), home, *sys.path],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
                process_group=0,
            )
        self._pipe, self._ready = ours, False
        with contextlib.suppress(OSError):
            self._send(self._job, _START_S)

    def _send(self, message: bytes, limit_s: float) -> None:
        if self._pipe is None:
            raise OSError("no process")
        self._pipe.settimeout(limit_s)
        write(self._pipe, [message])

    def _receive(self, limit_s: float) -> tuple[bool, Any]:
        """(whether the job succeeded, its result or exception), within ``limit_s`` from now to the last byte."""
        if self._pipe is None:
            raise OSError("no process")
        head, *buffers = read(self._pipe, time.monotonic() + limit_s)
        succeeded, value = pickle.loads(head, buffers=buffers)  # noqa: S301 - from our own child
        return succeeded, value

    def _death(self) -> str:
        """How the process ended, in words."""
        process = self._process
        if process is None:
            return "is gone"
        try:
            code = process.wait(5.0)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code >= 0:
            return f"exited with code {code}"
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-code).name}"
        return f"was killed by signal {-code}"

    def _end(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5.0)
        self._process = self._pipe = None
