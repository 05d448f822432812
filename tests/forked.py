"""Commands in processes of their own that need not import torch and Optuna again: that takes longer than what they do.

A server process imports once and is forked for each command, before it has made any threads. What is started is a
process like any other: it can be killed, and it shares nothing but files and databases with those beside it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import time
from multiprocessing.context import ForkServerProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["lab.study", "optuna", "sqlalchemy", "scipy.stats", "sklearn.tree", "polars"])


def start_study(arguments: list[str], told: Path, together: int = 1) -> ForkServerProcess:
    """``python -m lab.study ARGUMENTS``, what it says going to a file; begins when so many of that file are there."""
    process = SERVER.Process(target=_study, args=(arguments, str(told), together), daemon=True)
    process.start()
    return process


def _study(arguments: list[str], told: str, together: int) -> None:
    from lab import cli
    from lab.study import main

    os.environ["TQDM_DISABLE"] = "1"
    there = Path(f"{told}.there")
    there.mkdir(exist_ok=True)
    (there / str(os.getpid())).touch()
    while len(list(there.iterdir())) < together:
        time.sleep(0.01)
    with Path(told).open("w") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        code = cli.run(main, arguments)
    sys.exit(code)
