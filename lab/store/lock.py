"""Who may write to a store: one pass, or several passes over disjoint shares of it.

The kernel's file locks do it, because they vanish with the process however it dies: a SIGKILL leaves nothing to clean.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from lab.errors import LabError

#: What a file system says that has no file locks.
NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP})


@contextmanager
def writing(store: Path, shard: tuple[int, int] = (1, 1)) -> Iterator[None]:
    """Holds the right to write shard I of N. Raises ``LabError`` that tells who holds it.

    A whole pass (1 of 1) excludes every other; shards of one N exclude their own kind only; shards of another N would
    cut the work at other places, so they are excluded too.
    """
    index, count = shard
    whole = store / "tables" / ".lock"
    own = whole.with_name(f".lock-{index}-of-{count}") if count > 1 else whole
    with own.open("a+", encoding="utf-8") as held:
        with alone(store):  # so that of two rivals which start at once, one sees the other
            for other in [whole, *sorted(whole.parent.glob(".lock-*-of-*"))]:
                if other != own and not (count > 1 and other.name.endswith(f"-of-{count}")):
                    with other.open("a+", encoding="utf-8") as rival:
                        _acquire(rival, store)
            _acquire(held, store)
            held.seek(0)
            held.truncate()
            json.dump(_holder(), held)
            held.flush()
        yield


@contextmanager
def alone(store: Path) -> Iterator[None]:
    """Waits until no other pass is inside, for the short work that shards must not do at the same time."""
    with (store / "tables" / ".lock-gate").open("a+", encoding="utf-8") as gate:
        _flock(gate, fcntl.LOCK_EX, store)
        yield


def _holder() -> dict[str, object]:
    since = datetime.now(UTC).isoformat("T", "seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _flock(stream: IO[str], how: int, store: Path) -> None:
    try:
        fcntl.flock(stream, how)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        raise LabError(
            f"{store} is on a file system without file locks ({error.strerror}), where nothing would keep two passes "
            "apart: mount it with locks (Lustre: -o flock), or run the pass with --features on a disk that has them. A "
            "finished store can be moved here; to read its test split, link it into a directory there"
        ) from None


def _acquire(stream: IO[str], store: Path) -> None:
    try:
        _flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB, store)
    except BlockingIOError:
        stream.seek(0)
        try:
            told = json.loads(stream.read())
            who = f"process {told['pid']} on {told['host']}, since {told['since']}"
        except (ValueError, KeyError, TypeError):
            who = "another pass"
        raise LabError(
            f"{store} is being written by {who}: wait for it, stop it, or split the work with --shard I/N"
        ) from None
