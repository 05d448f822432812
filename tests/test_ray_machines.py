"""The pass on a Ray cluster of several machines, made of namespaces; skipped where those cannot be made."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from machines import Network
from ray_machines import Cluster, disk_of_stores, power


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install 'retrieval-lab[ray]')")
@pytest.mark.timeout(900)  # some forty seconds where nothing else runs
def test_a_disk_that_is_not_mounted_and_a_machine_that_loses_its_power(net: Network, tmp_path: Path) -> None:
    cluster = Cluster(net, tmp_path, videos=90)
    second, third = cluster.add(), cluster.add()
    code, told, _ = disk_of_stores(cluster, second, third, "ray").end()
    assert code == 2, told
    assert "machine3 has no " in told
    assert "which machine2 has: all machines need one file system, at one path" in told
    third.run(["umount", str(cluster.features)])
    code, told, _ = power(cluster, second, third, "ray").end()
    assert code == 0, told
    assert "an encoder died in block" in told
    assert "Traceback" not in told
    assert cluster.same("ray")
