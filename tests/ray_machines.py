"""Passes on a Ray cluster of several machines, made of namespaces, with all that may go wrong between them.

``python tests/ray_machines.py`` (as root, some ten minutes on two cores) runs every case and says of each how the
command ended, after how long, and whether the store came out as that of the plain pass. test_ray_machines.py runs two.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import worlds
from machines import Machine, Network, network

import lab

BIN = Path(sys.executable).parent
VIDEOS = 150  # three blocks
#: Ray's own patience with a machine that says nothing is a minute; here it is some ten seconds.
QUICK = {"RAY_health_check_period_ms": "1000", "RAY_health_check_timeout_ms": "2000",
         "RAY_health_check_failure_threshold": "6", "RAY_health_check_initial_delay_ms": "1000",
         "RAY_memory_monitor_refresh_ms": "0"}  # fmt: skip
#: Where Ray keeps its sockets and its objects, which no two machines share.
OWN = ("/tmp/ray", "/dev/shm")  # noqa: S108


class Cluster:
    """``ray start --head`` on the first machine, ``ray start --address`` on each that is added."""

    def __init__(self, net: Network, folder: Path, videos: int = VIDEOS) -> None:
        self.net, self.folder, self.features = net, folder, folder / "features"
        self.root = worlds.folder(folder / "root", videos, captions=4)
        self.networks = folder / "networks"
        self.features.mkdir()
        self.networks.mkdir()
        given = ["--dataset", "folder", "--root", str(self.root), *worlds.tiny_networks(self.networks)]
        self.command = [str(BIN / "python"), "-m", "lab.cache", *given, "--features", str(self.features)]
        # Each of Ray's processes imports jsonschema, whose check of IRIs builds a grammar for two seconds.
        (folder / "quick").mkdir()
        (folder / "quick" / "rfc3987_syntax.py").write_text('raise ImportError("not needed here")\n')
        self.env = {**QUICK, "PYTHONPATH": str(folder / "quick"), "RAY_USAGE_STATS_ENABLED": "0",
                    "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # fmt: skip
        Path(OWN[0]).mkdir(exist_ok=True)
        self.head = self.add()

    def add(self, env: dict[str, str] | None = None) -> Machine:
        """One more machine."""
        machine = self.net.add(*OWN)
        if len(self.net.machines) == 1:
            self.address = f"{machine.address}:6379"
            where = ["--head", "--port=6379", "--include-dashboard=false"]
        else:
            where = [f"--address={self.address}"]
        small = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]
        start = [str(BIN / "ray"), "start", *where, f"--node-ip-address={machine.address}", *small]
        machine.run(start, env={**self.env, **(env or {})})
        return machine

    def begin(self, machine: Machine, name: str, *more: str) -> Command:
        """The command, begun on a machine."""
        return Command(self, machine, [*self.command, "--name", name, "--ray", self.address, *more], name)

    def plain(self, name: str, within_s: float = 300.0) -> float:
        """The plain command until nobody else writes to the store; how long that took."""
        begun = time.monotonic()
        while time.monotonic() - begun < within_s:
            done = subprocess.run(
                [*self.command, "--name", name], env={**os.environ, **self.env}, capture_output=True, text=True
            )
            if done.returncode == 0:
                return time.monotonic() - begun
            if "is being written by" not in done.stderr:
                break
        raise OSError(done.stderr)

    def same(self, name: str) -> bool:
        """Whether a store is the plain pass's, byte for byte."""
        if not (self.features / "plain.zarr").exists():
            self.plain("plain")
        return worlds.contents(self.features / f"{name}.zarr") == worlds.contents(self.features / "plain.zarr")


class Command:
    """A pass on the cluster that runs."""

    def __init__(self, cluster: Cluster, machine: Machine, words: Sequence[str], name: str) -> None:
        self.store = cluster.features / f"{name}.zarr"
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        self._process = machine.start(words, env=cluster.env, **how)

    def rows(self) -> int:
        """Videos that are in the ledger."""
        files = (self.store / "tables" / "ledger").glob("videos-*.ndjson")
        return sum('"frames"' in line for file in files for line in file.read_text().splitlines())

    def until(self, rows: int) -> None:
        """Waits until so many are."""
        while self.rows() < rows:
            if self._process.poll() is not None:
                raise OSError(f"ended at {self.rows()} rows: {self._process.communicate()[0]}")
            time.sleep(0.02)

    def end(self, within_s: float = 800.0) -> tuple[int, str, float]:
        """The exit code, what it said, and how long from now that took."""
        begun = time.monotonic()
        told, _ = self._process.communicate(timeout=within_s)
        lines = [line for line in told.splitlines() if line.strip() and "RANDOM" not in line]
        return self._process.returncode, "\n".join(lines), time.monotonic() - begun


def hide(machine: Machine, folder: Path) -> None:
    """The machine's disk is not mounted there, or no longer: the directory is there and empty."""
    machine.run(["mount", "-t", "tmpfs", "none", str(folder)])


# -- what may happen --------------------------------------------------------------------------------------------------


def midway(cluster: Cluster, machine: Machine, name: str) -> Command:
    """A pass that a machine began, and that has 16 videos."""
    command = cluster.begin(machine, name)
    command.until(16)
    return command


def nothing(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    return cluster.begin(second, name)


def encoder_killed(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    command = midway(cluster, second, name)
    third.kill("ray::Encoder")
    return command


def decoders_killed(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    command = midway(cluster, second, name)
    for machine in (cluster.head, third):
        machine.kill("ray::decode")
    return command


def power(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    command = midway(cluster, second, name)
    cluster.net.power_off(third)
    return command


def cable(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    command = midway(cluster, second, name)
    cluster.net.unplug(third)
    return command


def disk_of_videos(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    hide(third, cluster.root)
    return cluster.begin(second, name)


def disk_of_stores(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    hide(third, cluster.features)
    return cluster.begin(second, name)


def disk_of_networks(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    hide(third, cluster.networks)
    return cluster.begin(second, name)


def without_the_lab(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    hide(third, Path(lab.__path__[0]))
    return cluster.begin(second, name)


def disk_after_a_while(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    command = midway(cluster, second, name)
    hide(third, cluster.root)
    return command


def other_versions(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    told = cluster.folder / "versions" / "av-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: av\nVersion: 1.0\n")
    path = f"{cluster.env['PYTHONPATH']}:{told.parent}"
    cluster.add(env={"PYTHONPATH": path})
    return cluster.begin(second, name)


def own_cable(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    command = midway(cluster, third, name)
    cluster.net.unplug(third)
    return command


def own_power(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    command = midway(cluster, third, name)
    cluster.net.power_off(third)
    return command


def interrupt(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    command = midway(cluster, second, name)
    for pid, line in second.processes().items():
        if "lab.cache" in line:
            os.kill(pid, signal.SIGINT)
    return command


def power_of_the_head(cluster: Cluster, second: Machine, third: Machine, name: str) -> Command:
    command = midway(cluster, second, name)
    cluster.net.power_off(cluster.head)
    return command


#: Each case but the last, which loses the cluster, leaves the head and the second machine as they were.
CASES: list[Callable[[Cluster, Machine, Machine, str], Command]] = [
    nothing, encoder_killed, decoders_killed, power, cable, disk_of_videos, disk_of_stores, disk_of_networks,
    disk_after_a_while, without_the_lab, other_versions, own_cable, own_power, interrupt, power_of_the_head,
]  # fmt: skip


def main(names: Sequence[str]) -> None:
    cases = [case for case in CASES if not names or case.__name__ in names]
    with tempfile.TemporaryDirectory(prefix="machines-") as folder, network() as net:
        cluster = Cluster(net, Path(folder))
        second = cluster.add()
        for case in cases:
            name, third = case.__name__, cluster.add()
            command = case(cluster, second, third, name)
            code, told, seconds = command.end()
            rows = command.rows()
            went_on = "" if code == 0 else f"; {cluster.plain(name):.0f} s later the plain command was done"
            print(f"{name}: exit code {code} after {seconds:.0f} s with {rows} of {VIDEOS} videos{went_on}; "  # noqa: T201
                  f"same store: {cluster.same(name)}")  # fmt: skip
            print("    " + told.replace("\n", "\n    "), flush=True)  # noqa: T201
            for machine in net.machines[2:]:
                net.power_off(machine)


if __name__ == "__main__":
    main(sys.argv[1:])
