"""Every text with every video: what a head is, what it takes, and scoring by tiles under a memory cap.

A head is a rule for weighting a video's frames by a text, and a tail that turns the weighted sum into a similarity.
The weights of a pair sum to one, so what comes after them folds into vectors and F × F forms that each video has once:
heads hand those out as ``index(videos)`` and use them in ``score(texts, index)``, with the arrays of ``lab.pairs``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lab.device import Room, free_bytes, full_float32, memory_told
from lab.embeddings import RaggedWords, Texts, Videos, may_look
from lab.errors import LabError
from lab.needs import check_inputs, fit, need_words, needed
from lab.tiles import GPU_TILE, MOST, TILE, by_length, plan, side_by_side


class Head(Protocol):
    """What every head of ``lab.heads.HEADS`` offers; ``forward`` alone is enough for a head of your own.

    ``needs_words`` and ``needs_audio``, where a head has them and they are true, say what else it reads: in training
    and scoring it is handed no other words and no other sound (``lab.needs``). ``floats`` says what scoring takes.
    """

    dim: int

    def __call__(self, texts: Texts, videos: Videos) -> Tensor:
        """Similarity (T, V) in [-1, 1] of every text with every video, differentiable."""
        ...

    def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
        """(T, V, F): what each frame counts for a pair; rows sum to one over real frames, padding has zero."""
        ...

    def index(self, videos: Videos) -> Any:
        """All that can be computed once per video, in eval mode."""
        ...

    def score(self, texts: Texts, index: Any) -> Tensor:
        """Similarity (T, V), equal to ``forward`` in eval mode to 1e-5."""
        ...

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        """Float32 numbers held for each video to make its index, and for each pair in ``score``."""
        ...


def similarity_matrix(
    head: nn.Module,
    texts: Texts,
    videos: Videos,
    *,
    memory_mb: float | None = None,
    tile: int | None = None,
    to: torch.device | str = "cpu",
) -> Tensor:
    """Similarity (T, V), float32 on the device ``to``, of every text with every video, with the head in eval mode.

    Computed on the head's device, ``tile`` texts at a time; on a CPU as many tiles at once as torch has threads. What
    is held beyond the inputs and the result stays below ``memory_mb`` (1 MB = 2**20 bytes; if it is not given 1024, on
    a GPU half of what is free), as far as the head knows its own needs; if all videos' indexes do not fit, they are
    taken in blocks. A GPU that runs out of memory all the same gets smaller tiles, then smaller blocks, and that is
    said. A head that has not both ``index`` and ``score`` is called directly, tile by tile.

    Raises ``LabError`` where head and features do not fit each other, features are not finite, or a GPU does not hold
    even one pair.
    """
    check_inputs(head, texts, videos)
    texts, videos = needed(head, texts, videos)
    weight = next(iter(head.parameters()), None)
    device = videos.frames.device if weight is None else weight.device
    free = free_bytes(device)
    if memory_mb is None:
        memory_mb = 1024 if free is None else max(1, free / 2 / 2**20)
    if not memory_mb > 0 or (tile is not None and tile < 1):
        raise LabError(f"memory_mb > 0 and tile >= 1 must hold, got memory_mb={memory_mb}, tile={tile}")
    workers = min(MOST, torch.get_num_threads()) if device.type == "cpu" and has_index(head) else 1
    most = TILE if free is None else GPU_TILE
    block, step = plan(head, texts, videos, memory_mb * 2**20 / 4, workers, tile, most)
    order = by_length(texts)
    widths: list[int | None] = [None for _ in order.split(step)]
    if isinstance(texts.words, RaggedWords):  # asked once: a head would ask a GPU for each tile
        counts = texts.words.counts.cpu()
        widths = [int(counts[rows].max()) for rows in order.split(step)]
    # Kept on a GPU until it is whole, if it is not too large: a copy of each tile would be waited for.
    near = free is not None and 4 * len(texts) * len(videos) < free / 4
    result = torch.empty(len(texts), len(videos), device=device if near else "cpu")
    order = order.to(result.device)
    blocks, tiles = Room(block, "videos"), Room(step, "texts")

    def fill(first: int, last: int) -> None:  # a function, so that one block's index is gone before the next
        some = videos if last - first == len(videos) else videos.select(torch.arange(first, last))
        index, into = index_videos(head, some.to(device)), result[:, first:last]

        def score(rows: Tensor, width: int | None) -> None:
            part = texts.select(rows).to(device)
            part = part if width is None else part.padded(width)
            into[rows] = score_texts(head, part, index).float().to(result.device)

        def score_tile(tile: tuple[Tensor, int | None]) -> None:
            rows, width = tile
            tiles.share_out(lambda a, b: score(rows[a:b], width), len(rows))

        share_out(score_tile, zip(order.split(step), widths, strict=True))

    told = memory_told("one text and one video at a time", "--device cpu")
    with told, evaluating(head), side_by_side(workers if step < len(texts) else 1) as share_out:
        blocks.share_out(fill, len(videos))
    return result.to(to)


def has_index(head: nn.Module) -> bool:
    """Whether a head has both ``index`` and ``score``; else it is called directly."""
    return hasattr(head, "index") and hasattr(head, "score")


def index_videos(head: nn.Module, videos: Videos) -> Any:
    """What ``score_texts`` takes: ``head.index(videos)``, or the videos themselves for a head that is called."""
    return head.index(videos) if has_index(head) else videos  # type: ignore[operator]


def score_texts(head: nn.Module, texts: Texts, index: Any) -> Tensor:
    """Similarity (T, V) of texts, one or many, against what ``index_videos`` gave."""
    scored: Tensor = head.score(texts, index) if has_index(head) else head(texts, index)  # type: ignore[operator]
    return scored


@contextmanager
def evaluating(head: nn.Module) -> Iterator[None]:
    """How a head is asked: eval mode, no gradients, products of full float32.

    Afterwards every module is in the mode it was in, also where modes are mixed.
    """
    modes = {module: module.training for module in head.modules()}
    head.eval()
    try:
        with torch.no_grad(), full_float32():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


# -- what a head takes -----------------------------------------------------------------------------------------------


def sentences_of(texts: Texts, dim: int) -> Tensor:
    """Sentences (T, D) in float32. Raises ``LabError`` where D is not the head's."""
    fit(dim, texts.dim, "texts")
    return texts.sentences.float()


def clean_frames(videos: Videos, dim: int) -> Tensor:
    """Frames (V, F, D) in float32 with zeros in the padding: NaN × 0 is NaN, so a zero weight would not keep it out.

    Raises ``LabError`` where D is not ``dim``.
    """
    fit(dim, videos.dim, "videos")
    return videos.frames.float().masked_fill(~videos.frame_mask[..., None], 0.0)


def clean_words(texts: Texts, dim: int) -> tuple[Tensor, Tensor]:
    """Words (T, W, D) in float32 with zeros in the padding, and their mask (T, W).

    Raises ``LabError`` for a wordless text, and where D is not ``dim``.
    """
    fit(dim, texts.dim, "texts")
    if texts.words is None or may_look(texts.sentences):
        need_words(texts)
    words, mask = texts.padded_words()
    return words.masked_fill(~mask[..., None], 0.0), mask
