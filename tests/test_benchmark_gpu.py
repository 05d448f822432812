"""The benchmark of a GPU, with tiny sizes on a CPU: it runs, and what it counts is there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import tiny_backbones as tiny
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import gpu

SIZE = (7, 70)


def test_training_and_trials() -> None:
    found = gpu.training(SIZE, "cpu", 1, epochs=1, dim=16)
    assert found["losses apart, no dropout"] == 0
    assert found["steps an epoch"] == 3
    assert found["waits of the host an epoch, eager"] is None
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
