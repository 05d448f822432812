"""The processes of a study: who each is and whether it lives, what only one of them may do, and starting more of them.

More are the same command again, told to take part and to leave the end to the first: in a search they take trials
(``lab.studies.queue``), in a grid or a sweep trainings (``lab.studies.rows``).
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import torch

log = logging.getLogger(__name__)

#: The option by which a helper is told that it is one.
JOIN = "--join"
#: Seconds until a process on another machine, of which nothing is heard, counts as dead.
DEAD_S = 600.0


@contextmanager
def helpers(arguments: Sequence[str], workers: int) -> Iterator[None]:
    """Starts ``workers - 1`` processes with a study's arguments; they end when nothing is left to take.

    Each gets its share of the cores. Where this process fails or is interrupted they are ended; what they had taken is
    put back by whoever goes on with the study.
    """
    if workers <= 1:
        yield
        return
    before, share = torch.get_num_threads(), max(1, torch.get_num_threads() // workers)
    environment = {**os.environ, "OMP_NUM_THREADS": str(share), "TQDM_DISABLE": "1"}
    command = [sys.executable, "-m", "lab.study", *arguments, JOIN]
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(workers - 1)]
    torch.set_num_threads(share)
    try:
        yield
    except BaseException:
        for process in running:
            process.terminate()
        raise
    finally:
        torch.set_num_threads(before)
        for process in running:
            code = process.wait()
            if code:
                log.warning("a worker ended with %d: what it had taken was put back", code)


@contextmanager
def locked(file: Path, wait: bool = True) -> Iterator[bool]:
    """Holds a lock that dies with its holder, however that ends: the kernel's, on a file, whose directory is made.

    Whether it is held: where it is not to ``wait``, no if another process has it.
    """
    with _opened(file) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _opened(file: Path) -> IO[bytes]:
    while True:
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # a process at its end has just taken the directory away
            return file.open("ab")


def me() -> dict[str, Any]:
    """Who this process is, so that another one can tell whether it still lives."""
    return {"machine": _machine(), "host": socket.gethostname(), "pid": os.getpid(), "start": _start(os.getpid())}


def alive(owner: Mapping[str, Any], beat: float) -> bool:
    """Whether a process is alive, as far as can be told from here; ``beat`` is when it was last heard of."""
    if owner.get("machine") == _machine():
        return bool(owner["start"]) and _start(int(owner["pid"])) == owner["start"]
    return time.time() - beat < DEAD_S


def _machine() -> str:
    """The host in this boot and, in a container, this one: where a process number means the same process."""
    boot, space = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    try:
        return f"{socket.gethostname()} {boot.read_text().strip()} {space.readlink()}"
    except OSError:
        return socket.gethostname()


def _start(pid: int) -> str:
    """When a process started, in ticks since the boot; empty if there is none, or only the memory of one (a zombie)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
