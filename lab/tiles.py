"""How ``similarity_matrix`` cuts its work: videos a block, texts a tile, and tiles that run side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lab.embeddings import RaggedWords, Texts, Videos

#: Texts a tile: more would not make the matrix products faster, and leaves less of them in the processor's cache.
TILE = 256
#: The same on a GPU, which would wait for the host between smaller ones. Not measured: no GPU was at hand.
GPU_TILE = 4096
#: Tiles at once: beyond that Python's lock, which every small operation takes, is what they would wait for.
MOST = 16


def plan(
    head: nn.Module, texts: Texts, videos: Videos, floats: float, workers: int, tile: int | None, most: int = TILE
) -> tuple[int, int]:
    """Videos a block and texts a tile, so that an index and the scratch of all workers stay below so many floats.

    Tiles have ``tile`` texts, or else at most ``most``.
    """
    frames, segments = videos.frames.shape[1], 0 if videos.audio is None else videos.audio.shape[1]
    if isinstance(texts.words, RaggedWords):
        words = int(texts.words.counts.max()) if len(texts) else 0
    else:
        words = 0 if texts.words is None else texts.words.shape[1]
    per_video, per_pair = floats_of(head, videos.dim, frames, words, segments)
    per_pair *= workers
    block = max(1, min(len(videos), int(floats / 2 / max(1, per_video))))
    room = floats - block * per_video
    step = tile or min(most, -(-len(texts) // workers))  # few texts are shared out
    step = max(1, min(step, int(room / max(1, per_pair * block))))
    if step * per_pair * block > room:  # even one text is too much for all of the block
        block = max(1, int(floats / (per_pair + per_video)))
    return block, step


def floats_of(head: nn.Module, dim: int, frames: int, words: int, segments: int) -> tuple[int, int]:
    """What ``head.floats`` says; a head of one's own that does not say so likely makes some vectors for each pair."""
    if hasattr(head, "floats"):
        told: tuple[int, int] = head.floats(frames, words, segments)  # type: ignore[operator]
        return told
    return 4 * frames * dim, 8 * dim + (4 + 2 * words) * frames


def by_length(texts: Texts) -> Tensor:
    """Rows of the texts, those of few words first: a tile of like lengths has little padding."""
    if isinstance(texts.words, RaggedWords):
        return texts.words.counts.cpu().argsort(stable=True)
    return torch.arange(len(texts))


@contextmanager
def side_by_side(workers: int) -> Iterator[Callable[[Callable[[Any], Any], Any], list[Any]]]:
    """A ``map`` whose calls run in so many threads without gradients, and share torch's own threads; one: plain.

    Scoring is some large products and many small operations. Sharing out each operation makes every thread wait for the
    other thirty times a tile, which beside another busy process costs more than the work; whole tiles wait once.
    """
    if workers <= 1:
        yield lambda work, items: [work(item) for item in items]
        return
    before = torch.get_num_threads()

    def alone(work: Callable[[Any], Any], item: Any) -> Any:
        with torch.no_grad():  # which holds for one thread only
            return work(item)

    try:
        share = max(1, before // workers)
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
            yield lambda work, items: list(pool.map(lambda item: alone(work, item), items))
    finally:
        torch.set_num_threads(before)  # other new threads would otherwise begin with that share, too
