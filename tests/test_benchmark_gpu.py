"""The benchmark of a GPU, with tiny sizes on a CPU: it runs, and what it counts is there."""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_backbones as tiny
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import envelope
import gpu
import table

SIZE = (7, 70)


def test_training_and_trials() -> None:
    found = gpu.training(SIZE, "cpu", 1, checked=True, epochs=1, dim=16)
    assert found["losses apart, no dropout"] == 0
    assert found["steps an epoch"] == 3
    assert found["waits of the host an epoch, eager"] is None
    assert found["waits of the host an epoch, captured"] is None
    assert set(gpu.training(SIZE, "cpu", 1, checked=False, epochs=1, dim=16)) == {
        "seconds",
        "eager over captured",
        "steps an epoch",
    }
    assert set(gpu.many(SIZE, "cpu", 1, trials=2, dim=16)) == {"one", "2 at once", "over one"}


def test_scoring_and_encoding(tmp_path: Path) -> None:
    assert set(gpu.scoring(SIZE, "cpu", 1, dim=16)) == {"on the device", "brought to the host", "two bare products"}
    spec = f"{tiny.config(tmp_path, tiny.CLIP)}:random"
    found = gpu.encoding("cpu", 1, spec=spec, precision="fp32", count=64)
    assert found["pictures/s"] > 0
    assert set(found["bare, by batch"]) == {"64"}


def test_without_a_gpu_it_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py"])
    gpu.main()
    assert capsys.readouterr().out == "benchmarks/gpu.py: torch sees no GPU, nothing was measured\n"


def test_waits_are_counted_by_what_torch_says_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []

    def mode(name: str) -> None:
        modes.append(name)
        if name == "warn":
            warnings.warn("Synchronization debug mode is a prototype feature and does not yet detect all", stacklevel=1)

    def waiting() -> None:
        for _ in range(3):
            warnings.warn("called a synchronizing CUDA operation (Triggered internally at ...)", stacklevel=1)
        warnings.warn("something else", stacklevel=1)

    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", mode)
    assert gpu.host_waits(waiting, "cuda") == 3
    assert modes == ["warn", "default"]


# -- part by part ----------------------------------------------------------------------------------------------------

TIMES = {"seconds": {"captured": 2.0, "eager": 6.0}, "eager over captured": 3.0}
SCORED = {"on the device": 4.0, "two bare products": 2.0, "brought to the host": 8.0}


def stub(name: str) -> Any:
    """A part that takes no time; the one that encodes lacks open_clip."""

    def part(device: str, rounds: int) -> dict[str, dict[str, Any]]:
        if name == "encoding":
            raise ModuleNotFoundError("No module named 'open_clip'", name="open_clip")
        trained = {"msvd": "MSVD", "msrvtt": "MSR-VTT-9k"}
        return {"training": {trained[name]: TIMES}} if name in trained else {f"{name}_ms": SCORED}

    return part


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go, with parts that take no time."""
    monkeypatch.setattr(gpu, "PARTS", {name: stub(name) for name in gpu.PARTS})
    monkeypatch.setattr(envelope, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    return tmp_path / "gpu.json"


def test_each_part_is_written_beside_those_before(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(results.read_text())["results"]
        return found

    gpu.measure(["scoring"], "cpu", 3)
    assert written() == {"scoring_ms": SCORED}
    gpu.measure(["encoding", "msvd"], "cpu", 3)
    gpu.measure(["msrvtt"], "cpu", 3)
    assert written() == {"scoring_ms": SCORED, "training": {"MSVD": TIMES, "MSR-VTT-9k": TIMES}}
    assert "encoding: not measured, open_clip is not installed\n" in capsys.readouterr().out
    gpu.measure(["msrvtt"], "cpu", 5)  # of another kind than what is there
    assert written() == {"training": {"MSR-VTT-9k": TIMES}}


def test_what_breaks_off_leaves_the_parts_before(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.PARTS, "trials", lambda device, rounds: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        gpu.measure(gpu.PARTS, "cpu", 3)
    assert set(json.loads(results.read_text())["results"]) == {"scoring_ms"}


def test_parts_that_were_not_measured_are_rows_of_the_table_that_say_so(results: Path) -> None:
    def rows() -> dict[str, str]:
        found = re.findall(r"^\| (.*on a GPU.*?) \| (.*) \|$", table.block(), re.MULTILINE)
        return {what.split()[0]: said for what, said in found}

    missing = "not measured | "
    assert set(rows().values()) == {missing}
    gpu.measure(["scoring"], "cpu", 3)
    assert rows()["exact"].startswith("4 ms | 2.00 of its two bare matrix products")
    assert {rows()["five"], rows()["encoding"]} == {missing}
    gpu.measure(["msvd"], "cpu", 3)
    assert rows()["five"] == "2.0 s | 3.0 × the eager loop; MSR-VTT 9k not measured"
    gpu.measure(["msrvtt"], "cpu", 3)
    assert rows()["five"] == "2.0 s | 3.0 × the eager loop; MSR-VTT 9k 2.0 s, 3.0 ×"


@pytest.mark.parametrize(
    ("given", "measured"), [([], list(gpu.PARTS)), (["--only", "msvd", "scoring"], ["scoring", "msvd"])]
)
def test_the_cheap_parts_come_first(given: list[str], measured: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(gpu, "measure", lambda parts, device, rounds: seen.extend(parts))
    monkeypatch.setattr(gpu, "torch", SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: True)))
    monkeypatch.setattr(sys, "argv", ["gpu.py", *given])
    gpu.main()
    assert seen == measured
    assert list(gpu.PARTS) == ["scoring", "encoding", "trials", "msvd", "msrvtt"]
