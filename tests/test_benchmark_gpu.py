"""The benchmark of a GPU, with tiny sizes on a CPU: it runs, and what it counts is there."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_backbones as tiny
import torch
import worlds

import lab.training.loop

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import cache
import envelope
import gpu
import gpu_parts as parts
import table

SIZE = (7, 70)


def test_training_and_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "VALIDATION", SIZE)
    told = list(parts.training(SIZE, "cpu", 1, checked=True, epochs=1, dim=16))
    assert [set(told[0]), set(told[1])] == [
        {"seconds", "steps an epoch"},
        {"seconds", "steps an epoch", "eager over captured"},
    ]
    found = told[-1]
    assert set(found["seconds"]) == {"captured", "eager", "captured, validated"}
    assert found["losses apart, no dropout"] == 0
    assert found["steps an epoch"] == 3
    assert found["waits of the host an epoch, eager"] is None
    assert found["waits of the host an epoch, captured"] is None
    assert len(list(parts.training(SIZE, "cpu", 1, checked=False, epochs=1, dim=16))) == 2
    assert set(parts.many(SIZE, "cpu", 1, trials=2, epochs=1, dim=16)) == {"one", "2 at once", "over one"}


def test_a_warm_up_is_short_and_what_is_timed_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int, bool]] = []

    def noted(head: Any, texts: Any, videos: Any, recipe: Any, *, capture: bool) -> Any:
        seen.append((len(texts), recipe.epochs, capture))
        return SimpleNamespace(epochs=())

    monkeypatch.setattr(lab.training.loop, "train", noted)
    list(parts.training((7, 700), "cpu", 2, checked=False, dim=16))
    short = parts.FEW * parts.BATCH + 1
    assert seen == [(short, 1, True), (700, 5, True), (700, 5, True), (short, 1, False), (700, 5, False)]


def test_long_rounds_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 25))  # each look is 25 seconds after the one before
    monkeypatch.setattr(parts, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    rounds: list[int] = []
    assert parts.seconds(lambda: rounds.append(1), "cpu", 9, before=1) == 25
    assert len(rounds) == 3
    monkeypatch.setattr(parts, "ENOUGH", 1)
    parts.seconds(lambda: rounds.append(1), "cpu", 9, before=1)
    assert len(rounds) == 3 + 2  # one that does not count, one that does


def test_scoring_and_encoding(tmp_path: Path) -> None:
    assert set(parts.scoring(SIZE, "cpu", 1, dim=16)) == {"on the device", "brought to the host", "two bare products"}
    spec = f"{tiny.config(tmp_path, tiny.CLIP)}:random"
    found = parts.encoding("cpu", 1, spec=spec, precision="fp32", count=64)
    assert found["pictures/s"] > 0
    assert set(found["bare, by batch"]) == {"64"}


def test_the_pass_is_held_against_its_slower_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    took = {"end to end": 2.0, "decoding alone, wall": 1.8, "encoding alone, wall": 1.0}
    monkeypatch.setattr(cache, "measure", lambda base, given: took if base.is_dir() and given.workers else {})
    found = parts.passing("cuda")
    assert (found["over the slower stage"], found["seconds"], found["precision"]) == (0.9, took, "fp16")


def test_the_stages_of_a_pass_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "render", lambda root, clips: worlds.folder(root, clips))
    given = SimpleNamespace(clips=49, device="cpu", precision="fp32", workers=1)
    given.clip, given.panns = worlds.tiny_networks(tmp_path)[1::2]
    found = cache.measure(tmp_path, given)  # type: ignore[arg-type]
    assert all(value > 0 for value in found.values())
    assert {"end to end", "decoding alone, wall", "encoding alone, wall", "writing"} <= found.keys()


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
    assert parts.host_waits(waiting, "cuda") == 3
    assert modes == ["warn", "default"]


# -- part by part ----------------------------------------------------------------------------------------------------

TIMES = {"seconds": {"captured": 2.0, "eager": 6.0}, "eager over captured": 3.0}
SCORED = {"on the device": 4.0, "two bare products": 2.0, "brought to the host": 8.0}


def stub(name: str) -> Any:
    """A part that takes no time; the one that encodes lacks open_clip, the one of the pass breaks."""

    def part(device: str, rounds: int) -> Iterator[tuple[str, dict[str, Any]]]:
        if name == "encoding":
            raise ModuleNotFoundError("No module named 'open_clip'", name="open_clip")
        if name == "pass":
            raise RuntimeError("broken")
        if name == "trials":
            logging.getLogger("lab.training.stacked").warning("these heads train one by one")
        trained = {"msvd": "MSVD", "msrvtt": "MSR-VTT-9k"}.get(name)
        if trained:
            yield "training", {trained: {"seconds": {"captured": 1.0}}}
        yield ("training", {trained: TIMES}) if trained else ("scoring_ms", SCORED) if name == "scoring" else (
            "trials", {"over one": 3.5}
        )  # fmt: skip

    return part


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where results go, with parts that take no time."""
    monkeypatch.setattr(gpu, "PARTS", {name: stub(name) for name in gpu.PARTS})
    monkeypatch.setattr(gpu, "KEPT", tmp_path)
    monkeypatch.setattr(envelope, "RESULTS", tmp_path)
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    return tmp_path / "gpu.json"


def test_each_part_is_written_beside_those_before(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def written() -> dict[str, Any]:
        found: dict[str, Any] = json.loads(results.read_text())["results"]
        del found["warnings"]
        return found

    assert gpu.measure(["scoring"], "cpu", 3) == []
    assert written() == {"scoring_ms": SCORED}
    assert gpu.measure(["encoding", "msvd"], "cpu", 3) == ["encoding"]
    assert gpu.measure(["msrvtt"], "cpu", 3) == []
    assert written() == {"scoring_ms": SCORED, "training": {"MSVD": TIMES, "MSR-VTT-9k": TIMES}}
    assert "encoding: not measured, open_clip is not installed\n" in capsys.readouterr().out
    gpu.measure(["msrvtt"], "cpu", 5)  # of another kind than what is there
    assert written() == {"training": {"MSR-VTT-9k": TIMES}}


def test_what_was_measured_without_a_package_stands_beside_what_was_with_it(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {"torch": "2.11.0"}
    monkeypatch.setattr(envelope, "versions", lambda: versions)
    for name, now in (("scoring", {"torch": "2.11.0"}), ("trials", {"torch": "2.11.0", "zarr": "3.4.2"})):
        versions = now
        gpu.measure([name], "cpu", 3)
    told = json.loads(results.read_text())["results"]
    assert (set(told), told["warnings"]["trials"]) == (
        {"scoring_ms", "trials", "warnings"},
        ["these heads train one by one"],
    )
    versions = {"torch": "2.15.0"}
    assert gpu.earlier("cpu", 3) == {}


def test_results_elsewhere_begin_with_those_that_are_kept(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu.measure(["scoring"], "cpu", 3)
    kept = results.read_text()
    elsewhere = results.parent / "out"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", f"gpu.py --device cpu --only trials --results {elsewhere}".split())
    assert gpu.main() == 0
    assert results.read_text() == kept
    assert set(json.loads((elsewhere / "gpu.json").read_text())["results"]) == {"scoring_ms", "trials", "warnings"}


def test_what_breaks_off_leaves_the_parts_before(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.PARTS, "trials", lambda device, rounds: pytest.fail("killed"))
    with pytest.raises(pytest.fail.Exception):
        gpu.measure(gpu.PARTS, "cpu", 3)
    assert set(json.loads(results.read_text())["results"]) == {"scoring_ms", "warnings"}
    assert not logging.getLogger("lab").handlers


def test_what_fails_does_not_stop_the_next_and_is_told(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu"])
    assert gpu.main() == 1
    said = capsys.readouterr().out
    assert "RuntimeError: broken" in said
    assert said.splitlines()[-6:] == [
        "X-Pool, five epochs of MSVD's size, seconds: 2, holds (asked: at most 15)",
        "the eager loop, times that: 3, MISSED (asked: at least 4)",
        "16 trials at once, times one: 3.5, holds (asked: at most 4)",
        "X-Pool scoring of MSVD's test in float32, ms: 4, holds (asked: at most 30)",
        "ViT-B/32 encoding, of the bare model's rate: not measured (asked: at least 0.6)",
        "the pass, of its slower stage's rate: not measured (asked: at least 0.85)",
    ]


def test_parts_that_were_not_measured_are_rows_of_the_table_that_say_so(results: Path) -> None:
    def rows() -> dict[str, str]:
        found = re.findall(r"^\| (.*on a GPU.*?) \| (.*) \|$", table.block(), re.MULTILINE)
        return {what.split()[0]: said for what, said in found}

    missing = "not measured | "
    assert set(rows().values()) == {missing}
    gpu.measure(["scoring", "trials"], "cpu", 3)
    assert rows()["exact"].startswith("4 ms | 2.00 of its two bare matrix products")
    assert rows()["the"] == "3.5 × the time of one | "
    assert {rows()["five"], rows()["encoding"]} == {missing}
    gpu.measure(["msvd"], "cpu", 3)
    assert rows()["five"] == "2.0 s | 3.0 × the eager loop; MSR-VTT 9k not measured"
    gpu.measure(["msrvtt"], "cpu", 3)
    assert rows()["five"] == "2.0 s | 3.0 × the eager loop; MSR-VTT 9k 2.0 s, 3.0 ×"


def test_the_pass_stands_beside_the_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "RESULTS", tmp_path)
    encoded = {"pictures/s": 9000.0, "over bare": 0.8}
    whole = {"seconds": {"end to end": 0.2}, "unit": 16, "over the slower stage": 0.9}
    assert table.encoding_on_gpu({"encoding": {"fp16": encoded}}, {})[1] == "0.80 of the bare model at its best batch"
    assert table.encoding_on_gpu({"encoding": {"fp16": encoded}, "pass": whole}, {}) == (
        "9,000 pictures/s",
        "0.80 of the bare model at its best batch; the whole pass 80 videos/s, 0.90 of its slower stage",
    )


@pytest.mark.parametrize(
    ("given", "measured"), [([], list(gpu.PARTS)), (["--only", "msvd", "scoring"], ["scoring", "msvd"])]
)
def test_the_cheap_parts_come_first(
    given: list[str], measured: list[str], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(gpu, "measure", lambda parts, device, rounds: seen.extend(parts) or [])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", *given])
    assert gpu.main() == 0
    assert seen == measured
    assert list(gpu.PARTS) == ["scoring", "encoding", "trials", "msvd", "pass", "msrvtt"]
