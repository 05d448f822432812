"""Who may write: one pass, or the shards of one N."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.store.lock import alone, writing

HOLD = """
import sys, time
from pathlib import Path
from lab.store.lock import writing
with writing(Path(sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3]))):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    (tmp_path / "s.zarr" / "tables").mkdir(parents=True)
    return tmp_path / "s.zarr"


def refused(store: Path, shard: tuple[int, int] = (1, 1)) -> str:
    with pytest.raises(LabError) as error, writing(store, shard):
        pass
    return str(error.value)


def test_a_whole_pass_excludes_every_other(store: Path) -> None:
    with writing(store):
        for shard in ((1, 1), (1, 2), (3, 7)):
            told = refused(store, shard)
            assert told.startswith(
                f"{store} is being written by process {os.getpid()} on {socket.gethostname()}, since "
            )
            assert told.endswith(": wait for it, stop it, or split the work with --shard I/N")
    with writing(store):
        pass


def test_shards_of_one_n_coexist(store: Path) -> None:
    with ExitStack() as held:
        for index in (1, 2, 3):
            held.enter_context(writing(store, (index, 3)))
        for shard in ((1, 1), (2, 3), (1, 2), (2, 13)):
            assert f"process {os.getpid()}" in refused(store, shard)
    with writing(store):
        pass


def test_shards_coexist_beside_files_that_other_shards_left(store: Path) -> None:
    """A lock file of another N is not a holder of it, and to look at it must not keep a brother from looking."""
    with writing(store, (1, 5)), writing(store, (2, 5)):
        pass
    with writing(store):
        pass
    with writing(store, (1, 2)), writing(store, (2, 2)):
        assert "is being written" in refused(store, (1, 5))
        assert "is being written" in refused(store)


def test_n_is_compared_as_a_number_and_not_as_letters(store: Path) -> None:
    with writing(store, (1, 11)):
        refused(store, (1, 1))
        refused(store, (2, 1))
        with writing(store, (2, 11)):
            pass


def test_an_error_inside_frees_it(store: Path) -> None:
    with pytest.raises(KeyError), writing(store):
        raise KeyError
    with writing(store, (1, 2)):
        pass


def test_a_holder_that_has_not_said_its_name(store: Path) -> None:
    with writing(store):
        (store / "tables" / ".lock").write_text("")
        assert refused(store).startswith(f"{store} is being written by another pass: ")


@pytest.mark.parametrize("second", [alone, writing])
def test_inside_the_gate_there_is_one_at_a_time(
    store: Path, second: Callable[[Path], AbstractContextManager[None]]
) -> None:
    """A second one waits, also with taking the lock: of two rivals that start at once one must see the other.

    Here it would wait for ever, so an alarm ends it.
    """

    def alarm(*_: object) -> None:
        raise TimeoutError

    def wait() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with second(store):
            pytest.fail("it did not wait")

    before = signal.signal(signal.SIGALRM, alarm)
    try:
        with alone(store), pytest.raises(TimeoutError):  # wherever the alarm meets it
            wait()
        with second(store):
            pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_told(store: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    told = f"{store} is on a file system without file locks ({os.strerror(number)}), where "
    assert refused(store).startswith(told)
    with pytest.raises(LabError, match="without file locks"), alone(store):
        pass


@pytest.mark.parametrize("shard", [(1, 1), (2, 3)])
def test_sigkill_frees_it(store: Path, shard: tuple[int, int]) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store), *map(str, shard)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == "held\n"
        told = refused(store)
        assert f"process {holder.pid} on {socket.gethostname()}" in told
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        holder.stdout.close()
    with writing(store):
        told = json.loads((store / "tables" / ".lock").read_text())
        assert told["pid"] == os.getpid()
