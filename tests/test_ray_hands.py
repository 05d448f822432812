"""Who encodes on a cluster, with a Ray that is played: encoders die by a script, machines are names."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lab.cluster import connection, shards
from lab.cluster.decoders import ClusterPool, plain_errors
from lab.cluster.encoder import Encoder, Given
from lab.cluster.shards import LOSSES, _Hands
from lab.errors import LabError
from lab.extraction.options import Options

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")


class Died(Exception):  # noqa: N818 - says what happened
    pass


class Played:
    """Machines a, b and c; ``dies(machine, block)`` says where an encoder dies, block 0 being its start."""

    def __init__(self, dies: Callable[[str, int], bool], head_lends: bool = True) -> None:
        self.dies = dies
        self.begun: list[tuple[str, int]] = []  # what was asked, on which machine
        self.exceptions = SimpleNamespace(
            RayActorError=Died, ActorUnschedulableError=Died, RayTaskError=KeyError, RayError=KeyError
        )
        self.head_lends = head_lends

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}

    def nodes(self) -> list[dict[str, Any]]:
        lent = {"a": {"CPU": 1.0} if self.head_lends else {}, "b": {"CPU": 1.0}, "c": {"CPU": 1.0}}
        alive = [{"NodeID": n, "Alive": True, "Resources": r, "NodeManagerHostname": n} for n, r in lent.items()]
        return [*alive, {"NodeID": "old", "Alive": False, "Resources": {"CPU": 9.0}, "NodeManagerHostname": "old"}]

    def put(self, what: Any) -> Any:
        return what

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(gcs_address="played:1")

    def remote(self, **_: Any) -> Callable[[type], Any]:
        return lambda _: SimpleNamespace(options=lambda scheduling_strategy: SimpleNamespace(
            remote=lambda *_: self.actor(scheduling_strategy.node_id)))  # fmt: skip

    def actor(self, machine: str) -> Any:
        ask = lambda block: (machine, block, object())  # noqa: E731
        return SimpleNamespace(
            ready=SimpleNamespace(remote=lambda: ask(0)), run=SimpleNamespace(remote=lambda index, *_: ask(index))
        )

    def wait(self, refs: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return refs[:1], refs[1:]

    def get(self, ref: Any) -> Any:
        machine, block, _ = ref
        self.begun.append((machine, block))
        if self.dies(machine, block):
            raise Died("died\nand so on")
        return (block or None), [(machine, "is slow")]

    def kill(self, _: Any) -> None:
        raise Died


@pytest.fixture
def hands(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Played, _Hands]]:
    clock = SimpleNamespace(now=0.0)

    def sleep(seconds: float) -> None:
        clock.now += seconds

    monkeypatch.setattr(shards, "time", SimpleNamespace(monotonic=lambda: clock.now, sleep=sleep))
    monkeypatch.setattr(shards, "gone", lambda _: False)

    def make(dies: Callable[[str, int], bool], **how: Any) -> tuple[Played, _Hands]:
        ray = Played(dies, **how)
        monkeypatch.setitem(sys.modules, "ray", ray)
        monkeypatch.setitem(sys.modules, "ray.util.scheduling_strategies", SimpleNamespace(
            NodeAffinitySchedulingStrategy=lambda node_id, soft: SimpleNamespace(node_id=node_id)))  # fmt: skip
        given = Given(Options("folder"), None, Path(), "here", ())  # type: ignore[arg-type]
        return ray, _Hands(ray, given)

    return make


def test_one_encoder_a_machine_that_is_alive_and_lends_a_cpu(hands: Any, caplog: pytest.LogCaptureFixture) -> None:
    ray, played = hands(lambda machine, block: False)
    assert sorted(index for index, _ in played.run(5)) == [1, 2, 3, 4, 5]
    assert Counter(machine for machine, block in ray.begun if not block) == {"a": 1, "b": 1, "c": 1}
    assert [record.getMessage() for record in caplog.records] == ["a: is slow"]  # the others say the same
    ray, played = hands(lambda machine, block: False, head_lends=False)
    list(played.run(5))
    assert {machine for machine, _ in ray.begun} == {"b", "c"}


def test_a_machine_that_takes_all_its_encoders_along_is_left_alone(hands: Any) -> None:
    ray, played = hands(lambda machine, block: machine == "b")
    assert sorted(index for index, _ in played.run(9)) == list(range(1, 10))
    assert [machine for machine, _ in ray.begun].count("b") == 1


def test_a_block_that_kills_every_encoder_is_an_error(hands: Any) -> None:
    ray, played = hands(lambda machine, block: block == 2)
    with pytest.raises(LabError, match=rf"^{LOSSES} encoders died in block 2 of 3, the last so: died: is there memory"):
        list(played.run(3))
    assert [block for _, block in ray.begun].count(2) == LOSSES


def test_encoders_that_never_begin_are_an_error_after_half_a_minute(hands: Any) -> None:
    ray, played = hands(lambda machine, block: True)
    with pytest.raises(LabError, match=rf"^{LOSSES} encoders died at the start, the last so: died"):
        list(played.run(1))
    assert shards.time.monotonic() >= 2 + 4 + 8 + 16
    assert {machine for machine, _ in ray.begun} == {"a", "b", "c"}


@pytest.mark.parametrize("host", ["here", "there"])
def test_a_machine_without_the_files_is_named(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lab.cluster.encoder.socket.gethostname", lambda: "there")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get=lambda given: given))
    encoder = object.__new__(Encoder)
    encoder._notes = []
    away = tmp_path / "away.mp4"
    encoder._reference = Given(Options("folder"), None, tmp_path, host, (away,))  # type: ignore[arg-type]
    with pytest.raises(LabError, match=rf"^there has no {away}, which {host} has: all machines need one file system"):
        encoder.ready()
    away.touch()
    encoder._reference = Given(Options("folder", clip="nonsense"), None, Path.cwd(), host, (away,))  # type: ignore[arg-type]
    with pytest.raises(LabError, match="^on there: " if host == "here" else "^(?!on there)"):
        encoder.ready()


def test_a_file_is_decoded_again_where_its_machine_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machines, asked = ["a", "b"], []

    class Late(Exception):  # noqa: N818 - says what happened
        pass

    def get(ref: int, timeout: float) -> str:
        if ref == 1:
            machines[:] = ["a", "c"]
            raise Late
        return f"clip of ask {ref}"

    def ask(*given: Any) -> int:
        asked.append(given[-2:])
        return len(asked)

    ray = SimpleNamespace(
        nodes=lambda: [{"NodeID": machine, "Alive": True} for machine in machines],
        get=get,
        exceptions=SimpleNamespace(GetTimeoutError=Late, RayTaskError=KeyError, RayError=KeyError),
        remote=lambda **_: lambda _: SimpleNamespace(remote=ask),
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    away = tmp_path / "away.mp4"
    with ClusterPool(1, str, deadline_s=1.0, root=tmp_path) as pool:
        assert list(pool.run([tmp_path, away], 1)) == [(tmp_path, "clip of ask 2"), (away, "clip of ask 3")]
    assert asked == [(tmp_path, True), (tmp_path, True), (away, False)]


def test_a_machine_without_the_lab_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class RayError(Exception):
        pass

    class TaskError(Exception):
        def __init__(self, cause: Exception) -> None:
            super().__init__("ray::decode (pid=21, ip=10.77.0.3)")
            self.cause = cause

    ray = SimpleNamespace(exceptions=SimpleNamespace(RayError=RayError, RayTaskError=TaskError))
    monkeypatch.setitem(sys.modules, "ray", ray)
    told = (
        r"^the machine 10.77.0.3 cannot take part \(System error: No module named 'lab'\): install the same lab there"
    )
    with pytest.raises(LabError, match=told), plain_errors():
        raise TaskError(RayError("System error: No module named 'lab'\ntraceback: Traceback"))
    with pytest.raises(LabError, match=r"^as it was$"), plain_errors():
        raise TaskError(LabError("as it was"))


def test_a_cluster_that_does_not_let_go_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[Any] = []
    monkeypatch.setattr(connection.atexit, "register", registered.append)
    connection._leave(SimpleNamespace(shutdown=lambda: None))
    assert not registered
    monkeypatch.setattr(connection, "_LEAVE_S", 0.05)
    release = connection.threading.Event()
    connection._leave(SimpleNamespace(shutdown=release.wait))
    assert registered == [connection._end]
    release.set()
