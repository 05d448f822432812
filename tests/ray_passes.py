"""Two passes on one Ray cluster of this machine: one whose workers are killed, one that loses the cluster.

No test itself: test_ray.py runs it. Prints one JSON object: what was killed, the exit codes, the processes left over.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from lab import cli
from lab.cache import main
from lab.cluster.connection import connected
from lab.store import CHUNK_VIDEOS


def family() -> dict[int, str]:
    """The processes of the session that this script leads, itself left out: pid → what it calls itself."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            session = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[3])
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
            name = (folder / "cmdline").read_text().replace("\0", " ")
        except (OSError, ValueError):
            continue
        if session == os.getsid(0) and state != "Z" and int(folder.name) != os.getpid():
            found[int(folder.name)] = name
    return found


def rows(store: Path) -> int:
    """Videos that are in the ledger."""
    return sum(file.read_text().count('"frames"') for file in (store / "tables" / "ledger").glob("videos-*.ndjson"))


def killed(names: list[str], store: Path, after: int, within_s: float = 240.0) -> list[str]:
    """Kills a process of each name, as soon as so many videos are done; the names that it found."""
    end = time.monotonic() + within_s
    found: list[str] = []
    while time.monotonic() < end and len(found) < len(names):
        if rows(store) >= after:
            for pid, called in family().items():
                for name in names:
                    if name in called and name not in found:
                        os.kill(pid, signal.SIGKILL)
                        found.append(name)
        time.sleep(0.005)
    return found


def run(arguments: list[str], store: Path, kills: dict[int, list[str]]) -> tuple[int, list[str]]:
    """A pass with kills: whom, by how many videos are done by then."""
    found: list[str] = []

    def strike() -> None:
        for after, names in kills.items():
            found.extend(killed(names, store, after))

    thread = threading.Thread(target=strike, daemon=True)
    thread.start()
    code = cli.run(main, [*arguments, "--ray", "--name", store.stem])
    thread.join(30.0)
    return code, found


def script(features: Path, arguments: list[str]) -> None:
    told = {}
    with connected("local", decoders=1):
        told["killed"] = run(arguments, features / "killed.zarr", {1: ["ray::Encoder"], CHUNK_VIDEOS: ["ray::decode"]})
        told["left"] = run(arguments, features / "left.zarr", {1: ["gcs/gcs_server", "raylet/raylet"]})
    end = time.monotonic() + 60
    while (ours := [name for name in family().values() if "Agent" not in name]) and time.monotonic() < end:
        time.sleep(0.1)
    for pid in family():  # Ray's agents notice late that their raylet was killed
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    print(json.dumps({**told, "processes": ours}))  # noqa: T201


if __name__ == "__main__":
    script(Path(sys.argv[1]), sys.argv[2:])
