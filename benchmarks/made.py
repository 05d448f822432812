"""What several benchmarks share: synthetic captions and videos, and wall times that are taken in turns."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from lab import Texts, Videos


def features(
    videos: int, texts: int, frames: int = 12, dim: int = 512, device: torch.device | str = "cpu"
) -> tuple[Texts, Videos]:
    """Captions with a little of their video's frames in them, each of a video at random; a third or more are real."""
    made = torch.Generator().manual_seed(0)
    subject = torch.randn(videos, 1, dim, generator=made)
    values = subject + torch.randn(videos, frames, dim, generator=made)
    count = torch.randint(frames // 3, frames + 1, (videos, 1), generator=made)
    video = torch.randint(videos, (texts,), generator=made)
    sentences = 0.08 * subject[video, 0] + torch.randn(texts, dim, generator=made)
    return Texts(sentences, video=video).to(device), Videos(values, torch.arange(frames) < count).to(device)


def in_turns(
    actions: dict[str, Callable[[], object]], rounds: int, device: torch.device | str = "cpu", *, before: int = 0
) -> dict[str, list[float]]:
    """Wall times of each action, a GPU's work included, after rounds that do not count.

    In turns, so that a machine that slows down slows all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(before + rounds):
        for name, action in actions.items():
            wait(device)
            start = time.perf_counter()
            action()
            wait(device)
            times[name].append(time.perf_counter() - start)
    return {name: taken[before:] for name, taken in times.items()}


def wait(device: torch.device | str) -> None:
    """Until a GPU has done what was asked of it."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
