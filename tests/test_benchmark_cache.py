"""The benchmark of the pass: encoding alone is measured as the pass encodes, unit after unit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lab.media import Clip
from lab.preprocess import ImageSpec

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))
import cache as benchmark


class Network:
    """Notes when something is launched, with how much, and when it is waited for."""

    def __init__(self, log: list[tuple[str, int]]) -> None:
        self.log, self.image = log, ImageSpec(2)

    def launch_frames(self, pictures: Any) -> Callable[[], Any]:
        return self.launch(pictures)

    def launch(self, items: Sequence[Any]) -> Callable[[], Any]:
        self.log.append(("launched", len(items)))
        return lambda: self.log.append(("waited", len(items)))


def clip_of(frames: int) -> Clip:
    pictures, sound = np.zeros((frames, 2, 2, 3), np.uint8), np.zeros(9, np.float32)
    return Clip(pictures, np.arange(frames) / 1.0, [b""] * frames, 1.0, "ok", "", sound, "ok", "", 0.1)


def test_a_unit_is_launched_whole_before_the_one_before_is_waited_for() -> None:
    log: list[tuple[str, int]] = []
    units = [[clip_of(frames) for frames in (3, 2)], [clip_of(frames) for frames in (4, 3, 5)]]
    wall, cpu = benchmark.encode_only(Network(log), Network(log), units)
    small, large = [("launched", 5), ("launched", 2)], [("launched", 12), ("launched", 3)]
    assert log == [*small, *small, ("waited", 5), ("waited", 2), *large, ("waited", 5), ("waited", 2)]
    assert wall > 0
    assert cpu >= 0
