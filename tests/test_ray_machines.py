"""The pass on a Ray cluster of several machines, made of namespaces; skipped where those cannot be made."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from machines import Network
from ray_machines import Cluster, power


@pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (pip install 'retrieval-lab[ray]')")
def test_a_machine_that_loses_its_power_changes_nothing_but_the_time(net: Network, tmp_path: Path) -> None:
    cluster = Cluster(net, tmp_path, videos=90)
    code, told, _ = power(cluster, cluster.head, cluster.add(), "ray").end()
    assert code == 0, told
    assert "Traceback" not in told
    assert cluster.same("ray")
