"""``python -m lab.cache --ray``: the pass on a Ray cluster; decoding on any CPU feeds encoders, each on a GPU.

    this process ──(shard I of N)──► Encoder, one a GPU ──(file)──► decode, a task on any CPU
                 ◄──(what it spent)─                    ◄──(Clip)──

It is a job array that hands out its shards by itself: each shard is one block of the store, written by one encoder that
runs the plain pass (``lab.extraction.loop``) over it, under the same locks, with the same ledger and passport. So a
process that is killed costs a block in work, a cluster that goes away leaves what a killed pass leaves, and the store
cannot tell.

Ray Data is not what feeds the encoders: its rows go to whichever actor is free, so a row would have to be a whole block
(64 videos, 200 MB of pictures and sound), decoded before the first picture is encoded. Here a file is what travels.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab import cli
from lab.cluster.connection import connected, gone
from lab.cluster.decoders import is_there, plain_errors
from lab.cluster.encoder import Encoder, Given
from lab.errors import LabError, first_line

if TYPE_CHECKING:
    from lab.datasets import Collection
    from lab.extraction.loop import Spent
    from lab.extraction.options import Options
    from lab.store import Store

log = logging.getLogger(__name__)

#: Encoders that die of one block, or one after the other before they begin: it is not the machines then.
LOSSES = 5
_POLL_S = 1.0


def cache_on_cluster(options: Options, collection: Collection) -> tuple[Store, Spent]:
    """Runs the pass on a cluster, or goes on with it. Returns what ``lab.cache.cache`` does. Raises ``LabError``."""
    from lab.extraction.loop import Spent, timed
    from lab.extraction.plan import place
    from lab.store import CHUNK_VIDEOS, UNIT_CAPTIONS, open_store

    options = replace(options, features=options.features.resolve())
    text_only = set(options.only) == {"text"}
    rows, size, unit = (
        (collection.captions, UNIT_CAPTIONS, "caption") if text_only else (collection.videos, CHUNK_VIDEOS, "video")
    )
    count = max(1, -(-len(collection.videos) // CHUNK_VIDEOS), -(-len(collection.captions) // UNIT_CAPTIONS))
    spent = Spent()
    with ExitStack() as held:
        held.enter_context(timed(spent, "wall"))
        ray = held.enter_context(connected(str(options.ray), options.decoders))
        seen = held.enter_context(_seen(options.features, collection))
        bar = held.enter_context(cli.bar(len(rows), f"{unit}s", unit))
        given = Given(options, collection, Path.cwd(), socket.gethostname(), seen)
        for index, done in _Hands(ray, given).run(count):
            for stage in fields(Spent):
                setattr(spent, stage.name, getattr(spent, stage.name) + getattr(done, stage.name))
            bar.update(len(rows[(index - 1) * size : index * size]))
        spent.wall = 0.0  # of this process alone, which ``timed`` adds
    return open_store(place(options, collection)), spent


@contextmanager
def _seen(features: Path, collection: Collection) -> Iterator[tuple[Path, ...]]:
    """What every machine must see: a file of the collection, and one beside the stores that nobody else has.

    A directory of the same name is not enough: it is there where a disk is not mounted, too, and where each machine has
    its own; there an encoder would write what nobody misses.
    """
    features.mkdir(parents=True, exist_ok=True)
    ours = features / f".seen-{secrets.token_hex(8)}"
    ours.touch()
    try:
        yield (*[v.file.absolute() for v in collection.videos if v.file is not None and is_there(v.file)][:1], ours)
    finally:
        ours.unlink(missing_ok=True)


@dataclass(frozen=True)
class _Hired:
    """An encoder, and the machine that it was put on, "" where that was left to Ray."""

    actor: Any
    node: str


class _Hands:
    """The encoders of a pass: hired, given one shard after the other, and replaced when they die."""

    def __init__(self, ray: Any, given: Given) -> None:
        options, has = given.options, ray.cluster_resources()
        self._gpus = 1 if options.device.startswith("cuda") else 0
        self._ray = ray
        self._most = options.encoders or int(has.get("GPU", 0) if self._gpus else len(self._machines()))
        if self._gpus and not 0 < self._most <= has.get("GPU", 0):
            raise LabError(
                f"the cluster has {has.get('GPU', 0):g} GPUs for {max(self._most, 1)} encoders: use --device cpu"
            )
        decoders = options.decoders or max(1, int(has.get("CPU", 1)) - self._most)
        threads = os.environ.get("OMP_NUM_THREADS")
        told = ray.put(replace(given, options=replace(options, device="cuda" if self._gpus else options.device)))
        how = {"num_cpus": 0, "num_gpus": self._gpus, "scheduling_strategy": "SPREAD"}
        self._actor, self._given = ray.remote(**how)(Encoder), ([told], max(1, decoders // self._most), threads)
        self._gcs = str(ray.get_runtime_context().gcs_address)
        self._deaths = ray.exceptions.RayActorError, ray.exceptions.ActorUnschedulableError  # its machine is gone
        self._starting: dict[Any, _Hired] = {}  # what it will say → the encoder
        self._due: list[float] = []  # when more are to be hired
        self._on: Counter[str] = Counter()  # how many are on a machine, and how many died there
        self._died: Counter[str] = Counter()
        self._lost: Counter[int] = Counter()  # how many died of a block, or (0) before they began

    def run(self, count: int) -> Iterator[tuple[int, Spent]]:
        """Yields each shard's number and what it took, in the order in which they are done."""
        todo = deque((index, False) for index in range(1, count + 1))
        working: dict[Any, tuple[_Hired, int]] = {}
        idle: list[_Hired] = []
        said: set[str] = set()
        self._due = [0.0] * min(self._most, count)
        while todo or working:
            self._hire()
            while todo and idle:
                encoder, (index, again) = idle.pop(), todo.popleft()
                working[encoder.actor.run.remote(index, count, again)] = encoder, index
            finished: list[Any] = []
            if asked := [*self._starting, *working]:
                finished, _ = self._ray.wait(asked, timeout=_POLL_S)
            else:
                time.sleep(_POLL_S)
            self._require_cluster()
            for ref in finished:
                encoder, index = working.pop(ref) if ref in working else (self._starting.pop(ref), 0)
                try:
                    with plain_errors():
                        spent, notes = self._ray.get(ref)
                except self._deaths as error:
                    self._replace(encoder, error, index, count)
                    todo.extendleft([(index, True)] if index else [])
                    continue
                idle.append(encoder)
                self._lost[0] = 0
                for host, note in notes:
                    if note not in said:  # the others say it, too
                        log.warning("%s: %s", host, note)
                    said.add(note)
                if spent is not None:
                    yield index, spent

    def _hire(self) -> None:
        """Starts the encoders that are due, on CPUs one a machine: where fewest have died, then where fewest are."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        while self._due and self._due[0] <= time.monotonic():
            self._due.pop(0)
            machines = [] if self._gpus else self._machines()
            node = min(machines, key=lambda node: (self._died[node], self._on[node]), default="")
            # Ray spreads what asks for GPUs; what asks for nothing it puts anywhere, all on one machine at times, and
            # does so with ``soft=True`` as well.
            how = {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)} if node else {}
            encoder = _Hired(self._actor.options(**how).remote(*self._given), node)
            self._on[node] += 1
            self._starting[encoder.actor.ready.remote()] = encoder

    def _machines(self) -> dict[str, str]:
        """The machines that lend their CPUs: Ray's number → host name."""
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        lending = [node for node in alive if node["Resources"].get("CPU", 0)]
        return {node["NodeID"]: node["NodeManagerHostname"] for node in lending or alive}

    def _replace(self, encoder: _Hired, error: Exception, index: int, count: int) -> None:
        """Another encoder for one that died; its block is the next to be done."""
        self._require_cluster()
        with suppress(Exception):  # it may only be out of reach, and must not go on then
            self._ray.kill(encoder.actor)
        self._on[encoder.node] -= 1
        self._died[encoder.node] += 1
        self._lost[index] += 1
        lost, where = self._lost[index], f"in block {index} of {count}" if index else "at the start"
        if lost >= LOSSES:
            raise LabError(f"{lost} encoders died {where}, the last so: {first_line(error)}: is there memory enough?")
        log.warning("an encoder died %s: another one goes on", where)
        # A machine that is gone is taken for alive for half a minute, and whoever is sent there dies at once.
        self._due = sorted([*self._due, time.monotonic() + (0 if index else 2**lost)])

    def _require_cluster(self) -> None:
        """Raises ``LabError`` if nobody is at the cluster's address; Ray would end this process after a minute."""
        if gone(self._gcs):
            raise LabError(f"the Ray cluster at {self._gcs} is gone: what is done is kept, and the same command goes "
                           "on, with --ray or without")  # fmt: skip
