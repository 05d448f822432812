"""``python -m lab.cache --ray``: the pass on a Ray cluster; decoding on any CPU feeds encoders, each on a GPU.

    this process ──(shard I of N)──► Encoder, one a GPU ──(file)──► decode, a task on any CPU
                 ◄──(what it spent)─                    ◄──(Clip)──

It is a job array that hands out its shards by itself: each shard is one block of the store, written by one encoder that
runs ``lab.extract``'s pass over it, under the same locks, with the same ledger and passport. So a process that is
killed costs a block in work, a cluster that goes away leaves what a killed pass leaves, and the store cannot tell.

Ray Data is not what feeds the encoders: its rows go to whichever actor is free, so a row would have to be a whole block
(64 videos, 200 MB of pictures and sound), decoded before the first picture is encoded. Here a file is what travels.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lab import cli
from lab.errors import LabError
from lab.workers.cluster import ClusterPool, plain_errors
from lab.workers.process import end_with

if TYPE_CHECKING:
    from lab.datasets import Collection
    from lab.extract import Pass, Spent
    from lab.plan import Options
    from lab.store import Store

log = logging.getLogger(__name__)

#: A network file system frees the lock of a machine that crashed only after so many seconds (NFS: 90).
LEASE_S = 120.0
#: Encoders that die one after the other with no block finished in between: it is not the machines then.
LOSSES = 5
_POLL_S = 1.0
#: To start Ray here: it gives its own processes 15 s to start, and on a busy machine that is short.
_ATTEMPTS = 3


# -- encoding, one actor a GPU ----------------------------------------------------------------------------------------


class Encoder:
    """Does shards one after the other, as ``--shard I/N`` does. Its networks are loaded once, in ``ready``."""

    def __init__(self, given: list[Any], decoders: int, threads: str | None) -> None:
        # Ray allows torch a thread for each CPU that was asked for. Before torch is imported (``given`` is a reference
        # in a list, so nothing of ours is unpickled yet) that is undone: as many as the plain pass has.
        os.environ.pop("OMP_NUM_THREADS", None)
        if threads is not None:
            os.environ["OMP_NUM_THREADS"] = threads
        # At once, and not after the shard: its lock must not outlive the cluster.
        threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
        self._given, self._decoders = given[0], decoders
        self._pass: Pass | None = None
        self._notes: list[str] = []

    def ready(self) -> tuple[None, list[str]]:
        """Loads the networks and makes the store where there is none; answers as ``run`` does."""
        from lab import plan
        from lab.datasets import get_dataset

        self._options, self._collection, here = import_module("ray").get(self._given)
        logging.getLogger("lab").addHandler(_Notes(self._notes))
        if not Path(here).is_dir():
            raise LabError(f"{socket.gethostname()} has no {here}: all machines need the files at one path")
        os.chdir(here)  # for the names of files that were given relative to it
        self._networks = plan.backbones(self._options, get_dataset(self._options.dataset))
        self._path = plan.place(self._options, self._collection)
        return None, self._told()

    def run(self, index: int, count: int, again: bool) -> tuple[Spent, list[str]]:
        """One shard; ``again`` where an encoder died on it, whose lock may outlive it for a while."""
        from lab.extract import Spent
        from lab.plan import prepare
        from lab.store.lock import writing
        from lab.units import Share

        def pool(workers: int, job: Callable[[Path], Any], *, deadline_s: float) -> ClusterPool:
            return ClusterPool(workers, job, deadline_s=deadline_s, root=self._collection.root.resolve())

        until = time.monotonic() + LEASE_S * again
        with ExitStack() as held:
            while True:
                try:
                    held.enter_context(writing(self._path, (index, count)))
                    break
                except LabError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(_POLL_S)
            if self._pass is None:
                self._pass = prepare(self._path, self._options, self._collection, *self._networks)
            share = Share(index, count, None, self._options.share.retry)
            run = replace(self._pass, share=share, workers=self._decoders, pool=pool, bar=_quiet, spent=Spent())
            return run.run(), self._told()

    def _told(self) -> list[str]:
        told = self._notes[:]
        self._notes.clear()
        return told


def _quiet(*_: object) -> Any:
    """In place of a progress bar, which is the driver's."""
    return tqdm(disable=True)


class _Notes(logging.Handler):
    """Keeps warnings for the process that shows them."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.append(f"{socket.gethostname()}: {record.getMessage()}")


# -- the process that was started -------------------------------------------------------------------------------------


def cache_on_cluster(options: Options, collection: Collection) -> tuple[Store, Spent]:
    """Runs the pass on a cluster, or goes on with it. Returns what ``lab.cache.cache`` does. Raises ``LabError``."""
    from lab.extract import Spent, timed
    from lab.plan import place
    from lab.store import CHUNK_VIDEOS, UNIT_CAPTIONS, open_store

    options = replace(options, features=options.features.resolve())
    text_only = set(options.only) == {"text"}
    rows, size = (collection.captions, UNIT_CAPTIONS) if text_only else (collection.videos, CHUNK_VIDEOS)
    count = max(1, -(-len(collection.videos) // CHUNK_VIDEOS), -(-len(collection.captions) // UNIT_CAPTIONS))
    spent = Spent()
    with timed(spent, "wall"), connected(options) as ray, cli.bar(len(rows), *_unit(text_only)) as bar:
        for index, done in _Hands(ray, options, collection).run(count):
            for stage in fields(Spent):
                setattr(spent, stage.name, getattr(spent, stage.name) + getattr(done, stage.name))
            bar.update(len(rows[(index - 1) * size : index * size]))
        spent.wall = 0.0  # of this process alone, which ``timed`` adds
    return open_store(place(options, collection)), spent


def _unit(text_only: bool) -> tuple[str, str]:
    return ("captions", "caption") if text_only else ("videos", "video")


class _Hands:
    """The encoders of a pass: hired, given one shard after the other, and replaced when they die."""

    def __init__(self, ray: Any, options: Options, collection: Collection) -> None:
        has = ray.cluster_resources()
        gpus = 1 if options.device.startswith("cuda") else 0
        self._most = options.encoders or int(has.get("GPU", 0) if gpus else len(ray.nodes()))
        if gpus and not 0 < self._most <= has.get("GPU", 0):
            raise LabError(
                f"the cluster has {has.get('GPU', 0):g} GPUs for {max(self._most, 1)} encoders: use --device cpu"
            )
        decoders = options.decoders or max(1, int(has.get("CPU", 1)) - self._most)
        threads = os.environ.get("OMP_NUM_THREADS")
        given = ray.put((replace(options, device="cuda" if gpus else options.device), collection, str(Path.cwd())))
        how = {"num_cpus": 0, "num_gpus": gpus, "scheduling_strategy": "SPREAD"}
        actor = ray.remote(**how)(Encoder)
        self._actor, self._given = actor, ([given], max(1, decoders // self._most), threads)
        self._ray, self._gcs = ray, str(ray.get_runtime_context().gcs_address)
        self._starting: dict[Any, Any] = {}  # what it will say → the encoder
        self._lost = 0

    def run(self, count: int) -> Iterator[tuple[int, Spent]]:
        """Yields each shard's number and what it took, in the order in which they are done."""
        todo = deque((index, False) for index in range(1, count + 1))
        working: dict[Any, tuple[Any, int]] = {}
        idle: list[Any] = []
        said: set[str] = set()
        for _ in range(min(self._most, count)):
            self._hire()
        while todo or working:
            while todo and idle:
                encoder, (index, again) = idle.pop(), todo.popleft()
                working[encoder.run.remote(index, count, again)] = encoder, index
            finished, _ = self._ray.wait([*self._starting, *working], timeout=_POLL_S)
            self._require_cluster()
            for ref in finished:
                encoder, index = working.pop(ref) if ref in working else (self._starting.pop(ref), 0)
                try:
                    spent, notes = self._outcome(ref)
                except self._ray.exceptions.RayActorError as error:
                    self._replace(error, f" in block {index} of {count}" if index else "")
                    todo.extendleft([(index, True)] if index else [])
                    continue
                idle.append(encoder)
                for note in notes:
                    if note not in said:
                        log.warning("%s", note)
                said.update(notes)
                if spent is not None:
                    self._lost = 0
                    yield index, spent

    def _hire(self) -> None:
        encoder = self._actor.remote(*self._given)
        self._starting[encoder.ready.remote()] = encoder

    def _outcome(self, ref: Any) -> tuple[Spent | None, list[str]]:
        with plain_errors():
            outcome: tuple[Spent | None, list[str]] = self._ray.get(ref)
            return outcome

    def _replace(self, error: Exception, where: str) -> None:
        """Another encoder for one that died; its block is the next to be done."""
        self._require_cluster()
        self._lost += 1
        if self._lost >= LOSSES:
            raise LabError(f"{self._lost} encoders died one after the other, the last so: {_line(error)}") from None
        log.warning("an encoder died%s: another one goes on", where)
        self._hire()

    def _require_cluster(self) -> None:
        """Raises ``LabError`` if nobody is at the cluster's address; Ray would end this process after a minute."""
        for attempt in range(3):
            if _answers(self._gcs):
                return
            time.sleep(0.5 * attempt)
        raise LabError(f"the Ray cluster at {self._gcs} is gone: what is done is kept, and the same command goes on, "
                       "with --ray or without")  # fmt: skip


@contextmanager
def connected(options: Options) -> Iterator[Any]:
    """Ray, connected to the cluster of ``--ray``, or to one of this machine alone that ends with the body."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    local = options.ray == "local"
    if local:  # reached over the loopback interface alone, by who knows a word of this process
        ours = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_AUTH_MODE": "token"}
        os.environ |= {**ours, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    try:
        ray = import_module("ray")
    except ImportError:
        raise LabError("--ray needs Ray: pip install 'retrieval-lab[ray]'") from None
    if options.ray not in ("local", "auto") and not _answers(str(options.ray)):  # Ray would try for minutes
        raise LabError(f"--ray {options.ray}: nobody is there: give HOST:PORT of `ray start --head`, or --ray alone")
    if ray.is_initialized():  # by a notebook, which keeps it
        yield ray
        return
    how: dict[str, Any] = {"address": options.ray, "log_to_driver": False, "logging_level": "ERROR"}
    if local:
        cpus = max(os.cpu_count() or 1, (options.decoders or 0) + 1)
        how |= {"num_cpus": cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    for attempt in reversed(range(_ATTEMPTS if local else 1)):
        try:
            ray.init(**how)
            break
        except Exception as error:
            ray.shutdown()
            if not attempt:
                remedy = "a busy machine is too slow for it" if local else "is it where `ray start --head` runs?"
                raise LabError(f"--ray {options.ray}: {_line(error)}: {remedy}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _answers(address: str) -> bool:
    """Whether somebody listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=5.0):
            return True
    except (OSError, ValueError):
        return False


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
