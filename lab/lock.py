"""Who may write to a store: one pass, or several passes over disjoint shares of it.

The kernel's file locks do it, because they vanish with the process however it dies: a SIGKILL leaves nothing to clean.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from lab.errors import LabError


@contextmanager
def writing(store: Path, shard: tuple[int, int] = (1, 1)) -> Iterator[None]:
    """Holds the right to write shard I of N. Raises ``LabError`` that tells who holds it.

    A whole pass (1 of 1) excludes every other; shards of one N exclude their own kind only; shards of another N would
    cut the work at other places, so they are excluded too.
    """
    index, count = shard
    with ExitStack() as held:
        gate = held.enter_context(_opened(store / ".lock"))
        if count == 1:
            _acquire(gate, fcntl.LOCK_EX, store)
        else:
            _acquire(gate, fcntl.LOCK_SH, store)
            for other in sorted(store.glob(".lock-*-of-*")):
                if not other.name.endswith(f"-of-{count}"):
                    _acquire(held.enter_context(_opened(other)), fcntl.LOCK_EX, store)
            gate = held.enter_context(_opened(store / f".lock-{index}-of-{count}"))
            _acquire(gate, fcntl.LOCK_EX, store)
        gate.seek(0)
        gate.truncate()
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now(UTC).isoformat("T", "seconds"),
        }
        json.dump(holder, gate)
        gate.flush()
        yield


@contextmanager
def _opened(file: Path) -> Iterator[IO[str]]:
    with file.open("a+", encoding="utf-8") as stream:
        yield stream


def _acquire(stream: IO[str], kind: int, store: Path) -> None:
    try:
        fcntl.flock(stream, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        stream.seek(0)
        try:
            told = json.loads(stream.read())
            who = f"process {told['pid']} on {told['host']}, since {told['since']}"
        except (ValueError, KeyError):
            who = "another pass (a shard, or one that is just starting)"
        raise LabError(
            f"{store} is being written by {who}: wait for it, stop it, or split the work with --shard I/N"
        ) from None
