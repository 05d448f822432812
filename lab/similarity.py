"""Every text with every video: what a head is, what heads share, and scoring by tiles under a memory cap.

A head is a rule for weighting a video's frames by a text, and a tail that turns the weighted sum into a similarity.
The weights of a pair sum to one, so what comes after them folds into vectors and F × F forms that each video has once:
heads hand those out as ``index(videos)`` and use them in ``score(texts, index)``. Inside, arrays are videos × frames ×
texts: a softmax or a sum over frames then runs along contiguous texts, which is what a CPU does well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from lab.device import Room, free_bytes, full_float32, memory_told
from lab.embeddings import RaggedWords, Texts, Videos, may_look
from lab.errors import LabError
from lab.tiles import GPU_TILE, MOST, TILE, by_length, plan, side_by_side

#: Pairs that a head works on at once: some ten numbers a frame for each, which a processor's cache can hold.
PAIRS = 16384
#: A norm is not taken to be smaller: a video whose features are all zero is at similarity 0, and has a gradient.
TINY = 1e-12

Index = TypeVar("Index")


class Head(Protocol):
    """What every head of ``lab.heads.HEADS`` offers; ``forward`` alone is enough for a head of your own.

    ``needs_words`` and ``needs_audio``, where a head has them and they are true, say what else ``store.load`` must
    give. ``floats`` says what scoring takes: float32 numbers in the index a video, and in ``score`` a pair.
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
    said. A head that has no ``index`` and ``score`` is called directly, tile by tile.

    Raises ``LabError`` where head and features do not fit each other, features are not finite, or a GPU does not hold
    even one pair.
    """
    check_inputs(head, texts, videos)
    weight = next(iter(head.parameters()), None)
    device = videos.frames.device if weight is None else weight.device
    free = free_bytes(device)
    if memory_mb is None:
        memory_mb = 1024 if free is None else max(1, free / 2 / 2**20)
    if not memory_mb > 0 or (tile is not None and tile < 1):
        raise LabError(f"memory_mb > 0 and tile >= 1 must hold, got memory_mb={memory_mb}, tile={tile}")
    workers = min(MOST, torch.get_num_threads()) if device.type == "cpu" and hasattr(head, "score") else 1
    most = TILE if free is None else GPU_TILE
    block, step = plan(head, texts, videos, memory_mb * 2**20 / 4, workers, tile, most)
    words = texts.words if getattr(head, "needs_words", False) else None
    order = torch.arange(len(texts)) if words is None else by_length(texts)
    widths: list[int | None] = [None for _ in order.split(step)]
    if isinstance(words, RaggedWords):  # asked once: a head would ask a GPU for each tile
        counts = words.counts.cpu()
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


def index_videos(head: nn.Module, videos: Videos) -> Any:
    """What ``score_texts`` takes: ``head.index(videos)``, or the videos themselves for a head that has only forward."""
    return head.index(videos) if hasattr(head, "index") else videos  # type: ignore[operator]


def score_texts(head: nn.Module, texts: Texts, index: Any) -> Tensor:
    """Similarity (T, V) of texts, one or many, against what ``index_videos`` gave."""
    scored: Tensor = head.score(texts, index) if hasattr(head, "score") else head(texts, index)  # type: ignore[operator]
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


# -- checks ----------------------------------------------------------------------------------------------------------


def check_inputs(head: nn.Module, texts: Texts, videos: Videos) -> None:
    """Raises ``LabError`` where dimensions do not fit, a modality that the head needs is absent, or NaN is not masked.

    Reads every feature once, so it is for entry points; ``forward`` itself checks dimensions only.
    """
    if not (isinstance(texts, Texts) and isinstance(videos, Videos)):
        raise LabError(f"texts come first, then videos, got {type(texts).__name__} and {type(videos).__name__}")
    fit(getattr(head, "dim", texts.dim), texts.dim, "texts")
    fit(getattr(head, "dim", videos.dim), videos.dim, "videos")
    videos.check_frames()
    if getattr(head, "needs_words", False):
        need_words(texts)
    if getattr(head, "needs_audio", False):
        need_audio(videos)
    _finite("texts", "sentence features", _vectors_finite(texts.sentences))
    _finite("videos", "frame features", _rows_finite(videos.frames, videos.frame_mask))
    if getattr(head, "needs_audio", False):
        _finite("videos", "audio features", _rows_finite(videos.audio, videos.audio_mask))
    if getattr(head, "needs_words", False):
        if isinstance(texts.words, RaggedWords):
            _finite("texts", "word features", _words_finite(texts.words))
        else:
            _finite("texts", "word features", _rows_finite(texts.words, texts.word_mask))


def fit(dim: int, found: int, what: str) -> None:
    """Raises ``LabError`` where features are not as wide as the head."""
    if dim != found:
        raise LabError(f"the head has D={dim} but {what} have D={found}: build it with dim={found}")


def need_words(texts: Texts) -> None:
    """Raises ``LabError`` where texts carry no words, or one of them has none."""
    if texts.words is None:
        raise LabError("this head reads words, these texts carry none: load them with store.load(..., words=True)")
    counts = texts.words.counts if isinstance(texts.words, RaggedWords) else texts.word_mask
    empty = [] if counts is None else (~counts.bool().reshape(len(texts), -1).any(1)).nonzero().flatten().tolist()
    if empty:
        raise LabError(f"every text needs at least one real word, texts {empty[:5]} have none: leave them out")


def need_audio(videos: Videos) -> None:
    """Raises ``LabError`` where videos carry no audio at all; single videos without sound are fine."""
    if videos.audio is None:
        raise LabError(
            "this head reads audio, these videos carry none: load it with store.load(..., audio='clip') or 'segments'"
        )


def _rows_finite(values: Tensor | None, mask: Tensor | None) -> Tensor:
    if values is None or mask is None:
        raise ValueError("features and their mask must be there")
    return (_vectors_finite(values) | ~mask).all(-1)


def _vectors_finite(values: Tensor) -> Tensor:
    """Whether each vector (..., D) is: whether its sum is, some rows at a time, since isfinite would copy them all."""
    return torch.cat([rows.sum(-1, dtype=torch.float32).isfinite() for rows in values.split(1024)])


def _words_finite(words: RaggedWords) -> Tensor:
    """Whether all words of a text (T,) are; a store has gaps of NaN between the words of some texts and the next."""
    broken = nn.functional.pad((~_vectors_finite(words.values)).cumsum(0), (1, 0))
    return broken[words.starts + words.counts] == broken[words.starts]


def _finite(what: str, kind: str, fine: Tensor) -> None:
    if not bool(fine.all()):
        rows = (~fine).nonzero().flatten().tolist()
        raise LabError(
            f"features must be finite where they are not masked: {len(rows)} {what} have {kind} that are not, first "
            f"rows {rows[:5]}: mask them, or run the pass on them again"
        )


# -- what heads share ------------------------------------------------------------------------------------------------


def sentences_of(texts: Texts, dim: int) -> Tensor:
    """Sentences (T, D) in float32. Raises ``LabError`` where D is not the head's."""
    fit(dim, texts.dim, "texts")
    return texts.sentences.float()


def clean_frames(videos: Videos, dim: int | None = None) -> Tensor:
    """Frames (V, F, D) in float32 with zeros in the padding: NaN × 0 is NaN, so a zero weight would not keep it out.

    Raises ``LabError`` where D is not ``dim``, if that is given.
    """
    fit(videos.dim if dim is None else dim, videos.dim, "videos")
    return videos.frames.float().masked_fill(~frame_mask(videos)[..., None], 0.0)


def frame_mask(videos: Videos) -> Tensor:
    """The mask (V, F) of real frames."""
    if videos.frame_mask is None:
        raise ValueError("Videos make a mask where none is given")
    return videos.frame_mask


def clean_words(texts: Texts, dim: int) -> tuple[Tensor, Tensor]:
    """Words (T, W, D) in float32 with zeros in the padding, and their mask (T, W).

    Raises ``LabError`` for a wordless text, and where D is not ``dim``.
    """
    fit(dim, texts.dim, "texts")
    if texts.words is None or may_look(texts.sentences):
        need_words(texts)
    words, mask = texts.padded_words()
    return words.masked_fill(~mask[..., None], 0.0), mask


def exactly(values: Tensor) -> torch.autocast:
    """A context without autocast on the device of these values.

    For cosines, which the loss multiplies by up to 100, and for logits that go into a softmax: eight bits would leave a
    cosine an error of 0.002, and a logit of 158 one of 0.5. Operands must be float32 by themselves.
    """
    return torch.autocast(values.device.type, enabled=False)


def inner(texts: Tensor, vectors: Tensor) -> Tensor:
    """Inner products (T, N) of texts (T, D) with vectors (N, D), in float32 also under autocast."""
    with exactly(texts):
        return texts.float() @ vectors.float().T


def products(vectors: Tensor, texts: Tensor) -> Tensor:
    """Inner products (V, F, T) of vectors (V, F, D) with texts (T, D), in float32 also under autocast."""
    return inner(vectors.flatten(0, 1), texts).view(*vectors.shape[:2], -1)


def hide_padding(logits: Tensor, mask: Tensor) -> Tensor:
    """Logits (V, F, T) with −inf in the padding, for a mask (V, F); they are written to."""
    if may_look(mask) and bool(mask.all()):
        return logits
    return logits.masked_fill_(~mask[..., None], float("-inf"))


def parts(index: Index, texts: int, pairs: int = PAIRS) -> Iterator[Index]:
    """An index, a dataclass of tensors with videos in front, by some videos at a time: ``pairs`` pairs with the texts.

    What is made for each pair then stays in a processor's cache. A GPU would only wait between parts: it gets larger
    ones.
    """
    columns: list[Tensor] = [getattr(index, field.name) for field in fields(index)]  # type: ignore[arg-type]
    for rows in slices(columns[0], texts, pairs):
        yield type(index)(*(column[rows] for column in columns))


def by_parts(work: Callable[[Index], Tensor], index: Index, texts: int, pairs: int = PAIRS) -> Tensor:
    """(V, T) of all of an index, from ``work`` that makes (v, T) of a part.

    Written into one array: small results kept from between large temporary ones would leave the heap full of holes, and
    with MGFI some hundred MB of them.
    """
    first: Tensor = getattr(index, fields(index)[0].name)  # type: ignore[arg-type]
    found = first.new_empty(len(first), texts, dtype=torch.float32)
    for rows, part in zip(slices(first, texts, pairs), parts(index, texts, pairs), strict=True):
        found[rows] = work(part)
    return found


def slices(videos: Tensor, texts: int, pairs: int = PAIRS) -> Iterator[slice]:
    """What ``parts`` cuts by, from any tensor with videos in front."""
    step = max(1, pairs * (16 if videos.is_cuda else 1) // max(1, texts))
    for start in range(0, len(videos), step):
        yield slice(start, start + step)


def quadratic(form: Tensor, weights: Tensor) -> Tensor:
    """aᵀ G a of every pair (V, T), for forms (V, F, F) and weights (V, F, T)."""
    return (torch.bmm(form, weights) * weights).sum(1)
