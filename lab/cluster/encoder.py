"""What encodes on a cluster: an actor, one a GPU, that writes shard after shard of a store."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lab.cluster.connection import end_without
from lab.cluster.decoders import ClusterPool, is_there
from lab.errors import LabError
from lab.workers.process import end_with

if TYPE_CHECKING:
    from lab.datasets import Collection
    from lab.extraction.loop import Pass, Spent
    from lab.extraction.options import Options

#: A network file system frees the lock of a machine that crashed only after so many seconds (NFS: 90).
LEASE_S = 120.0
_POLL_S = 1.0


@dataclass(frozen=True)
class Given:
    """What every encoder is told. ``seen`` are paths of this pass that its machine must see, too."""

    options: Options
    collection: Collection
    here: Path
    host: str
    seen: tuple[Path, ...]


class Encoder:
    """Does shards one after the other, as ``--shard I/N`` does. Its networks are loaded once, in ``ready``."""

    def __init__(self, given: list[Any], decoders: int, threads: str | None) -> None:
        # Ray allows torch a thread for each CPU that was asked for. Before torch is imported (``given`` is a reference
        # in a list, so nothing of ours is unpickled yet) that is undone: as many as the plain pass has.
        os.environ.pop("OMP_NUM_THREADS", None)
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
        # At once, and not after the shard: its lock must not outlive the cluster. Where the cluster is only out of
        # reach from here, somebody else is doing the shard already, or is about to.
        gcs = str(import_module("ray").get_runtime_context().gcs_address)
        for watch, what in ((end_with, os.getppid()), (end_without, gcs)):
            threading.Thread(target=watch, args=(what,), daemon=True).start()
        self._reference, self._decoders = given[0], decoders
        self._pass: Pass | None = None
        self._notes: list[tuple[str, str]] = []

    def ready(self) -> tuple[None, list[tuple[str, str]]]:
        """Loads the networks and makes the store where there is none; answers as ``run`` does."""
        self._given: Given = import_module("ray").get(self._reference)
        with _on(self._given.host):
            from lab.datasets import get_dataset
            from lab.extraction import plan

            logging.getLogger("lab").addHandler(_Notes(self._notes))
            for path in (self._given.here, *self._given.seen):
                if not is_there(path):
                    raise LabError(f"{socket.gethostname()} has no {path}, which {self._given.host} has: all machines "
                                   "need one file system, at one path")  # fmt: skip
            os.chdir(self._given.here)  # for the names of files that were given relative to it
            self._networks = plan.backbones(self._given.options, get_dataset(self._given.options.dataset))
            self._path = plan.place(self._given.options, self._given.collection)
        return None, self._told()

    def run(self, index: int, count: int, again: bool) -> tuple[Spent, list[tuple[str, str]]]:
        """One shard; ``again`` where an encoder died on it, whose lock may outlive it for a while."""
        from lab.extraction.loop import Spent
        from lab.extraction.plan import prepare
        from lab.extraction.units import Share
        from lab.store.lock import writing

        options, collection = self._given.options, self._given.collection

        def pool(workers: int, job: Callable[[Path], Any], *, deadline_s: float) -> ClusterPool:
            return ClusterPool(workers, job, deadline_s=deadline_s, root=collection.root.resolve())

        until = time.monotonic() + LEASE_S * again
        with ExitStack() as held, _on(self._given.host):
            while True:
                try:
                    held.enter_context(writing(self._path, (index, count)))
                    break
                except LabError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(_POLL_S)
            if self._pass is None:
                self._pass = prepare(self._path, options, collection, *self._networks)
            share = Share(index, count, None, options.share.retry)
            run = replace(self._pass, share=share, workers=self._decoders, pool=pool, bar=_no_bar, spent=Spent())
            return run.run(), self._told()

    def _told(self) -> list[tuple[str, str]]:
        told = self._notes[:]
        self._notes.clear()
        return told


@contextmanager
def _on(host: str) -> Iterator[None]:
    """What goes wrong on another machine than the command's says where."""
    try:
        yield
    except LabError as error:
        here = socket.gethostname()
        raise error if here == host or here in str(error) else LabError(f"on {here}: {error}") from None


def _no_bar(*_: object) -> Any:
    """In place of a progress bar, which is the driver's."""
    return tqdm(disable=True)


class _Notes(logging.Handler):
    """Keeps warnings, each with the machine, for the process that shows them."""

    def __init__(self, notes: list[tuple[str, str]]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.append((socket.gethostname(), record.getMessage()))
