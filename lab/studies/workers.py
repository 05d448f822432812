"""More processes for a study: the same command again, told to take part in it and to leave the final to the first.

In a search they take trials; in a grid or a sweep, trainings, of which each is claimed by a lock that dies with its
holder.
"""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

log = logging.getLogger(__name__)

#: The option by which a helper is told that it is one.
JOIN = "--join"


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
def claimed(run: Path, wait: bool = True) -> Iterator[bool]:
    """Whether this process may make a run; where it is not to ``wait``, no if another process makes it just now."""
    file = run.parent.parent / "claims" / run.name
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("ab") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
