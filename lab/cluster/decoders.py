"""Decoding on a cluster: ``DecodePool``'s like, whose files are decoded by Ray's worker processes on any machine.

Imports little, since every process that decodes imports it.
"""

from __future__ import annotations

import pickle
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lab.errors import LabError, first_line
from lab.workers import DecodePool, in_order

#: How often a file that takes long is looked after.
LOOK_S = 10.0
_pools: dict[bytes, DecodePool[Path, Any]] = {}


def needs(root: Path) -> dict[str, str]:
    """What every machine must have alike: the directory of the files, and what decodes them."""
    return {"root": str(root), **{package: version(package) for package in ("av", "pillow")}}


def is_there(file: Path) -> bool:
    """Whether this machine sees a file, or a directory; a disk that does not answer has none."""
    try:
        return file.exists()
    except OSError:
        return False


def decode(
    job: Callable[[Path], Any], key: bytes, deadline_s: float, needed: dict[str, str], file: Path, seen: bool = True
) -> Any:
    """What ``job`` makes of a file, or the exception that stands for it; in a child, which may hang or crash.

    ``seen``: by the machine that asks. A file that is not there is a row in the ledger where nobody sees it; where only
    this machine does not, it lacks the disk, and its word must not stand.
    """
    if seen and not is_there(file):
        raise LabError(f"{socket.gethostname()} has no {file}: all machines need the files at one path")
    if key not in _pools:
        if (here := needs(Path(needed["root"]))) != needed:
            raise LabError(f"{socket.gethostname()} decodes with {here}, this pass with {needed}: install the same")
        while _pools:
            _pools.popitem()[1].close()
        _pools[key] = DecodePool(1, job, deadline_s=deadline_s)
    return next(_pools[key].run([file], 1))[1]


class ClusterPool:
    """``DecodePool`` on the cluster: ``decode`` as tasks, so many at a time, results in the order of the files.

    A task whose worker dies is done again by Ray, on another machine if need be.
    """

    def __init__(self, workers: int, job: Callable[[Path], Any], *, deadline_s: float, root: Path) -> None:
        self._ray = import_module("ray")
        self._task = self._ray.remote(num_cpus=1, max_retries=-1, scheduling_strategy="SPREAD")(decode)
        self._given = (job, pickle.dumps(job), deadline_s, needs(root))
        self._threads = ThreadPoolExecutor(workers)
        self._alive = self._machines()

    def __enter__(self) -> ClusterPool:
        """The pool itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Asks for nothing more; what is being decoded ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def run(self, items: Iterable[Path], ahead: int) -> Iterator[tuple[Path, Any]]:
        """Yields (file, clip or exception) in order, with at most ``ahead`` files taken and not yet yielded."""
        return in_order(items, lambda file: self._threads.submit(self._decode, file), ahead)

    def _decode(self, file: Path) -> Any:
        """Asked again where a machine is gone that may have had it: Ray, too, notices in the end, minutes later."""
        with plain_errors():
            while True:
                before, asked = self._alive, self._task.remote(*self._given, file, is_there(file))
                while before <= self._alive:
                    try:
                        return self._ray.get(asked, timeout=LOOK_S)
                    except self._ray.exceptions.GetTimeoutError:
                        self._alive = self._machines()

    def _machines(self) -> frozenset[str]:
        return frozenset(node["NodeID"] for node in self._ray.nodes() if node["Alive"])


@contextmanager
def plain_errors() -> Iterator[None]:
    """What a task of ours raised is raised as it was, without Ray's wrapping and the traceback in its text."""
    told = import_module("ray").exceptions
    try:
        yield
    except told.RayTaskError as error:
        if isinstance(error.cause, told.RayError):  # it could not even read what it was asked
            where = re.search(r"ip=([\w.:]+)", str(error))  # it has no attribute of that
            who = f"the machine {where[1]}" if where else "a machine of the cluster"
            raise LabError(f"{who} cannot take part ({first_line(error.cause)}): install the same lab there") from None
        raise error.cause from None
