"""The pass on a Ray cluster leaves what the plain pass leaves, whoever is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from socket import gethostname
from types import SimpleNamespace

import pytest
import worlds
from worker_jobs import job

from lab import cli, open_store
from lab.cache import main
from lab.cluster.connection import connected
from lab.cluster.decoders import decode, needs
from lab.cluster.encoder import Given
from lab.cluster.shards import _Hands
from lab.errors import LabError
from lab.extraction.options import Options
from lab.store.verify import problems

VIDEOS = 90  # two blocks


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install 'retrieval-lab[ray]')")
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_that_are_killed_and_a_cluster_that_goes_away(tmp_path: Path) -> None:
    worlds.folder(tmp_path / "root", VIDEOS, captions=6)
    features = tmp_path / "features"
    given = ["--dataset", "folder", "--root", str(tmp_path / "root"), *worlds.tiny_networks(tmp_path)]
    given += ["--features", str(features)]
    assert cli.run(main, [*given, "--name", "plain"]) == 0
    plain = worlds.contents(features / "plain.zarr")

    # Each of Ray's processes imports jsonschema, whose check of IRIs (it comes with the notebooks) builds a grammar for
    # two seconds; Ray gives its processes fifteen to start.
    quick = tmp_path / "quick"
    quick.mkdir()
    (quick / "rfc3987_syntax.py").write_text('raise ImportError("not needed here")\n')
    script = Path(__file__).parent / "ray_passes.py"
    command = [sys.executable, str(script), str(features), *given]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    # Ray would kill workers, too, where others take most of the memory.
    env = {**os.environ, "PYTHONPATH": str(quick), "RAY_memory_monitor_refresh_ms": "0"}
    passes = subprocess.Popen(command, env=env, **how)  # type: ignore[call-overload]
    try:
        out, err = passes.communicate(timeout=840)  # some forty seconds where nothing else runs
    finally:
        if passes.poll() is None:
            os.killpg(passes.pid, signal.SIGKILL)
    if "a busy machine is too slow for it" in err:
        pytest.skip("this machine is too busy to start Ray")
    assert passes.returncode == 0, err
    told = json.loads(out.splitlines()[-1])

    assert told["killed"] == [0, ["ray::Encoder", "ray::decode"]]
    assert "an encoder died in block 1 of 2: another one goes on" in err
    assert worlds.contents(features / "killed.zarr") == plain

    code, killed = told["left"]
    assert code == 2
    assert set(killed) == {"gcs/gcs_server", "raylet/raylet"}
    assert "is gone: what is done is kept, and the same command goes on, with --ray or without" in err
    assert "Traceback" not in err
    assert told["processes"] == []
    done = sum(entry.modality == "frames" for entry in open_store(features / "left.zarr").ledger)
    assert 16 <= done < VIDEOS
    assert cli.run(main, [*given, "--name", "left"]) == 0
    assert worlds.contents(features / "left.zarr") == plain
    assert list(problems(open_store(features / "left.zarr"))) == []


def test_without_ray_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")
    with (
        pytest.raises(LabError, match=r"^--ray needs Ray: pip install 'retrieval-lab\[ray\]'$"),
        connected("local"),
    ):
        pass


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:10001"])
def test_an_address_where_nobody_is(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    with pytest.raises(LabError, match=f"^--ray {address}: nobody is there"), connected(address):
        pass


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--ray", "--shard", "1/2"], "--ray divides the work itself: leave --shard and --limit out"),
        (["--ray", "--limit", "3"], "--ray divides the work itself: leave --shard and --limit out"),
        (["--decoders", "3"], "--encoders and --decoders are of a pass on a cluster: add --ray, or use --workers"),
        (["--ray", "--encoders", "0"], "--encoders must be at least 1, got 0"),
    ],
)
def test_options_that_do_not_go_together(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(main, ["--dataset", "folder", *arguments]) == 2
    assert capsys.readouterr().err.strip() == f"lab.cache: error: {told}"


@pytest.mark.parametrize(("gpus", "encoders"), [(0, None), (2, 3)])
def test_more_encoders_than_gpus(gpus: int, encoders: int | None) -> None:
    ray = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": float(gpus)}, nodes=lambda: [{}])
    given = Given(Options("folder", device="cuda", encoders=encoders), *[None] * 4)  # type: ignore[arg-type]
    with pytest.raises(LabError, match=f"the cluster has {gpus} GPUs for {encoders or 1} encoders"):
        _Hands(ray, given)


def test_a_machine_that_would_decode_something_else_says_so(tmp_path: Path) -> None:
    assert decode(job, b"squares", 20.0, needs(tmp_path), 3, seen=False) == 9  # type: ignore[arg-type]
    with pytest.raises(
        LabError, match=rf"^{gethostname()} has no .*/away.mp4: all machines need the files at one path"
    ):
        decode(job, b"squares", 20.0, needs(tmp_path), tmp_path / "away.mp4")
    with pytest.raises(LabError, match=r"'av': '1\.0'.*: install the same"):
        decode(job, b"other", 20.0, {**needs(tmp_path), "av": "1.0"}, tmp_path)
