"""Kill it, interrupt it, fill its disk: the same command goes on, and the store is as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import worlds

from lab import cli, open_store
from lab.cache import main
from lab.store.verify import problems

KILLS = 20


def arguments(base: Path) -> list[str]:
    return [
        "--dataset",
        "folder",
        "--root",
        str(base / "root"),
        *worlds.tiny_networks(base),
        "--workers",
        "2",
    ]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    worlds.folder(tmp_path / "root", 53)
    return tmp_path


def test_killed_twenty_times(base: Path) -> None:
    script = Path(__file__).parent / "kill_pass.py"
    features = base / "features"
    command = [sys.executable, str(script), str(features), str(KILLS), "7", *arguments(base)]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert told["kills"] == KILLS
    assert set(told["codes"]) == {0}
    whole = worlds.contents(features / "whole.zarr")
    for name in told["finished"]:
        assert worlds.contents(features / f"{name}.zarr") == whole
        assert list(problems(open_store(features / f"{name}.zarr"))) == []


def test_interrupt_ends_cleanly_and_leaves_no_process(base: Path) -> None:
    command = [sys.executable, "-m", "lab.cache", *arguments(base), "--features", str(base / "f"), "--name", "s"]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    block = base / "f" / "s.zarr" / "tables" / "ledger" / "videos-000000.ndjson"
    end = time.monotonic() + 240
    while not block.exists() and child.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGINT)  # what a terminal does: the whole group gets it
    _, err = child.communicate(timeout=240)
    assert child.returncode == 130, err
    assert "run the same command to go on" in err
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.killpg(child.pid, 0)
    assert cli.run(main, [*arguments(base), "--features", str(base / "f"), "--name", "s"]) == 0
    assert list(problems(open_store(base / "f" / "s.zarr"))) == []


@contextlib.contextmanager
def small_disk(where: Path, size: str) -> Iterator[None]:
    """A file system of so many kB at ``where``; skips the test where mounting is not allowed."""
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(where)], capture_output=True)
    if made.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", str(where)], check=True)


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
def test_a_disk_that_fills_up(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = base / "disk"
    given = [*arguments(base), "--name", "s", "--features"]
    assert cli.run(main, [*given, str(base / "whole")]) == 0
    files = [file.stat().st_size for file in (base / "whole").rglob("*") if file.is_file()]
    needed = sum(-(-size // 4096) * 4096 for size in files)
    with small_disk(disk, f"{needed * 7 // 10 // 1024}k"):
        assert cli.run(main, [*given, str(disk)]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert "no space left on the disk" in line
        assert "run the same command again" in line
        store = open_store(disk / "s.zarr")
        done = sum(store.coverage(split).videos for split in store.splits)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert cli.run(main, [*given, str(disk)]) == 0
        assert worlds.contents(disk / "s.zarr") == worlds.contents(base / "whole" / "s.zarr")
        assert done < 53
