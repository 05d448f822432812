"""Commands in processes of their own that need not import torch and Optuna again: that takes longer than what they do.

A server process imports once and is forked for each command, before it has made any threads. What is started is a
process like any other: it can be killed, and it shares nothing but files and databases with those beside it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["lab.study", "optuna", "sqlalchemy", "scipy.stats", "sklearn.tree", "polars"])


def start_study(arguments: list[str], told: Path) -> ForkServerProcess:
    """``python -m lab.study ARGUMENTS``, what it says going to a file."""
    process = SERVER.Process(target=_study, args=(arguments, str(told)))
    process.start()
    return process


def _study(arguments: list[str], told: str) -> None:
    from lab import cli
    from lab.study import main

    os.environ["TQDM_DISABLE"] = "1"
    with Path(told).open("w") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        code = cli.run(main, arguments)
    sys.exit(code)
