"""Runs a pass, kills it with SIGKILL at a random instant, starts it again. No test itself: test_survival.py runs it.

The pass runs in forks of a process that has imported everything already, so that the kills fall into the pass and not
into the import of torch. Prints one JSON object: kills, and the stores that were finished.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch  # noqa: F401 - imported before forking

import lab.backbones.clip
import lab.backbones.panns  # noqa: F401
from lab import cli
from lab.cache import main


def start(arguments: list[str]) -> int:
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nowhere:  # noqa: PTH123
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        os._exit(cli.run(main, arguments))
    return child


def finish(child: int, within_s: float) -> int | None:
    """The exit code of a child that ended by itself within the time; else it is killed, and None."""
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run(features: Path, kills: int, seed: int, arguments: list[str]) -> None:
    rng = random.Random(seed)
    begin = time.monotonic()
    code = finish(start([*arguments, "--features", str(features), "--name", "whole"]), 300)
    usual = time.monotonic() - begin
    done, finished, codes = 0, [], [code]
    while done < kills or not finished or finished[-1] != f"killed{len(finished) - 1}":
        name = f"killed{len(finished)}"
        fresh, begin = not (features / f"{name}.zarr").exists(), time.monotonic()
        child = start([*arguments, "--features", str(features), "--name", name])
        code = finish(child, rng.uniform(0, usual) if done < kills else 300)
        if code is None:
            done += 1
        else:
            codes.append(code)
            finished.append(name)
            if fresh:  # the first pass may have been slow; of kills after the end there would be no end
                usual = min(usual, time.monotonic() - begin)
            if done >= kills:
                break
    print(json.dumps({"kills": done, "finished": finished, "codes": codes, "usual_s": usual}))  # noqa: T201


if __name__ == "__main__":
    run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
