"""Every k of top-k and every temperature of softmax pooling in one pass over the cosines of texts and frames.

The products with the frames are most of an evaluation and all settings share them. The k-th largest cosines of a pair
come from a sorting network: some forty elementwise minima and maxima, which run along contiguous texts, where a sort
along frames would not. A setting then costs its weights and the length of one vector, |Σ a_f x_f| = |R a| for the
video's R with RᵀR its frames' Gram matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads.pooling import Frames, MeanPooling, SoftmaxPooling, TopKPooling
from lab.similarity import TINY, check_inputs, evaluating, parts, products, slices
from lab.tiles import MOST, side_by_side

#: Pairs worked on at once; fewer than for one evaluation, since every setting reads the same cosines again.
PAIRS = 8192
#: What a cosine is never below.
LEAST = -2.0
#: Weights below e to this share of the largest are nothing beside it, and their squares would be denormal numbers, with
#: which a processor is a hundred times as slow.
FAINT = -40.0


@dataclass(frozen=True)
class _Frames:
    """What a sweep keeps of V videos; see ``lab.heads.pooling.Frames``."""

    values: Tensor  # (V, F, D)
    lengths: Tensor  # (V, F)
    root: Tensor  # (V, F, F) R with RᵀR the Gram matrix
    mask: Tensor  # (V, F)

    @classmethod
    def of(cls, frames: Frames) -> _Frames:
        """In float64, since the matrix is singular where two frames are the same."""
        values, vectors = torch.linalg.eigh(frames.gram.double())
        root = values.clamp_min(0).sqrt()[..., None] * vectors.mT
        return cls(frames.values, frames.lengths, root.to(frames.gram).contiguous(), frames.mask)


def sweep(
    head: MeanPooling | TopKPooling | SoftmaxPooling,
    texts: Texts,
    videos: Videos,
    *,
    top_k: Sequence[int] = (),
    temperature: Sequence[float] = (),
    tile: int = 512,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Similarities of ``tile`` texts after ``tile`` texts: their rows (t,), and (settings, t, V) for all videos.

    Settings are those of ``top_k`` in their order, then those of ``temperature``; each slice is what the head of that
    setting gives, with this head's projection and normalisation. A tile is 4 · settings · t · V bytes: take ranks of it
    and let it go. Raises ``LabError`` for a setting out of range and for features that do not fit.
    """
    F = videos.frames.shape[1]
    for k in top_k:
        if not 1 <= k <= F:
            raise LabError(f"1 <= top_k <= {F} frames must hold, got top_k={k}")
    for value in temperature:
        if not value > 0:
            raise LabError(f"temperature > 0 must hold (inf is the mean), got temperature={value!r}")
    if tile < 1:
        raise LabError(f"tile >= 1 must hold, got tile={tile}")
    check_inputs(head, texts, videos)
    with evaluating(head):  # not around the yield: what is done with a tile keeps its own mode
        index, units = _Frames.of(head.space.frames(videos)), head.space.texts(texts)
    with side_by_side(min(MOST, torch.get_num_threads()) if units.device.type == "cpu" else 1) as share_out:
        for rows in torch.arange(len(texts)).split(tile):
            unit = units[rows]

            @torch.no_grad()
            def settings(part: tuple[Tensor, _Frames], unit: Tensor = unit) -> None:
                _settings(unit, part[1], top_k, temperature, head.space.normalize, part[0])

            # Each part is written where it belongs: what is made for all settings is too large to be copied about.
            found = unit.new_empty(len(top_k) + len(temperature), len(index.values), len(rows))
            share_out(settings, zip(_columns(found, len(rows)), parts(index, len(rows), PAIRS), strict=True))
            yield rows, found.mT


def _columns(found: Tensor, texts: int) -> Iterator[Tensor]:
    """(settings, V, T) by the videos that ``parts`` takes at a time."""
    for rows in slices(found[0], texts, PAIRS):
        yield found[:, rows]


def _settings(
    unit: Tensor,
    frames: _Frames,
    top_k: Sequence[int],
    temperature: Sequence[float],
    normalized: bool,
    along: Tensor,
) -> None:
    """Fills ``along`` (settings, V, T) for texts (T, D) of length one.

    No weights are divided by their sum: a cosine has no length.
    """
    product = products(frames.values, unit)
    whole = bool(frames.mask.all())
    cosine = product if normalized else product / frames.lengths[..., None]
    if not whole:
        cosine = cosine.masked_fill(~frames.mask[..., None], float("-inf"))
    squared = unit.new_empty(len(cosine), len(unit))
    weights, vector = torch.empty_like(cosine), torch.empty_like(cosine)

    def take(setting: int) -> None:
        torch.bmm(frames.root, weights, out=vector)
        torch.sum(vector.mul_(vector), 1, out=squared)
        if setting >= len(top_k) or not normalized:
            torch.sum(weights.mul_(product), 1, out=along[setting])
        along[setting].mul_(squared.clamp_min_(TINY**2).rsqrt_())

    if top_k:
        # Padding is at −inf, below LEAST: a k beyond the real frames takes all of them.
        largest = torch.stack(descending(cosine), 1).clamp_min_(LEAST)
        if normalized:  # a product is then a cosine, so their sum is at hand, whoever of those that tie is taken
            sums = (largest if whole else largest.masked_fill(largest <= LEAST, 0.0)).cumsum(1).transpose(0, 1)
        tied = bool(((largest[:, 1:] == largest[:, :-1]) & (largest[:, 1:] > LEAST)).any())
        for setting, k in enumerate(top_k):
            if normalized:
                along[setting] = sums[k - 1]
            torch.ge(cosine, largest[:, k - 1 : k], out=weights)
            if tied:
                share_ties(weights, cosine > largest[:, k - 1 : k], k)
            take(setting)
    below = cosine - cosine.amax(1, keepdim=True)
    for setting, value in enumerate(temperature, len(top_k)):
        if value < math.inf:  # padding gets a faint weight, too: its frames are zeros
            torch.mul(below, 1 / value, out=weights).clamp_(min=FAINT).exp_()
        else:
            weights.copy_(frames.mask[..., None].expand_as(weights))
        take(setting)


def share_ties(weights: Tensor, above: Tensor, k: int) -> None:
    """Where more than k frames reach the k-th cosine, those that tie for it share what is left of k; in place.

    ``weights`` (V, F, T) are one for frames that reach it, ``above`` says which are beyond it.
    """
    tied = weights - above.float()
    left = (k - above.sum(1, keepdim=True)) / tied.sum(1, keepdim=True).clamp_min(1)
    weights.sub_(tied).addcmul_(tied, left.clamp_max(1))


def descending(values: Tensor) -> list[Tensor]:
    """The largest, the second largest, ... along frames of values (V, F, T), each (V, T).

    >>> [x.item() for x in descending(torch.tensor([[[2.0], [5.0], [3.0]]]))]
    [5.0, 3.0, 2.0]
    """
    lanes = list(values.unbind(1))
    for high, low in network(len(lanes)):
        lanes[high], lanes[low] = torch.maximum(lanes[high], lanes[low]), torch.minimum(lanes[high], lanes[low])
    return lanes


def network(size: int) -> Iterator[tuple[int, int]]:
    """Batcher's odd-even merge sort: the pairs to compare, in order, so that any ``size`` values end sorted."""
    block = 1
    while block < size:
        stride = block
        while stride >= 1:
            for start in range(stride % block, size - stride, 2 * stride):
                for i in range(start, min(start + stride, size - stride)):
                    if i // (2 * block) == (i + stride) // (2 * block):
                        yield i, i + stride
            stride //= 2
        block *= 2
