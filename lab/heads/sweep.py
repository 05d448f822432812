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
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from lab.device import full_float32
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads.pooling import Frames, MeanPooling, SoftmaxPooling, TopKPooling
from lab.similarity import TINY, check_inputs, evaluating, parts, products, slices

#: Pairs worked on at once. Torch's threads share each operation: with a tile for each thread (``lab.tiles``), thousands
#: of operations a tile wait for Python's lock, and twice the memory is worked on.
PAIRS = 32768
#: Padding counts as a frame with a cosine below this, each with another, so that it neither is chosen first nor ties.
PADDING = -2.0
#: Weights below e to this share of the largest are nothing beside it, and their squares would be denormal numbers, with
#: which a processor is a hundred times as slow.
FAINT = -40.0


@dataclass(frozen=True)
class _Frames:
    """What a sweep keeps of V videos; see ``lab.heads.pooling.Frames``."""

    values: Tensor  # (V, F, D)
    lengths: Tensor  # (V, F)
    root: Tensor  # (V, F, F) R with RᵀR the Gram matrix; its columns of padding are zero: what that weighs is the same
    length: Tensor  # (V, 1) |Σ x_f|
    mask: Tensor  # (V, F)

    @classmethod
    def of(cls, frames: Frames) -> _Frames:
        """In float64, since the matrix is singular where two frames are the same."""
        values, vectors = torch.linalg.eigh(frames.gram.double())
        root = (values.clamp_min(0).sqrt()[..., None] * vectors.mT).to(frames.gram).contiguous()
        length = root.sum(2).norm(dim=1, keepdim=True).clamp_min(TINY)
        return cls(frames.values, frames.lengths, root, length, frames.mask)


def sweep(
    head: MeanPooling | TopKPooling | SoftmaxPooling,
    texts: Texts,
    videos: Videos,
    *,
    top_k: Sequence[int] = (),
    temperature: Sequence[float] = (),
    tile: int = 256,
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
    # Neither is around the yield: what is done with a tile keeps its own mode and precision.
    with evaluating(head):
        index, units = _Frames.of(head.space.frames(videos)), head.space.texts(texts)
    for rows in torch.arange(len(texts)).split(tile):
        unit = units[rows]
        found = unit.new_empty(len(top_k) + len(temperature), len(index.values), len(rows))
        with full_float32(), torch.no_grad():
            for some, part in zip(slices(found[0], len(rows), PAIRS), parts(index, len(rows), PAIRS), strict=True):
                # Written where it belongs: what is made for all settings is too large to be copied about.
                _settings(unit, part, top_k, temperature, head.space.normalize, found[:, some])
        yield rows, found.mT


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
    cosine = product if normalized else product / frames.lengths[..., None]
    padded = not bool(frames.mask.all())
    if padded:
        apart = PADDING - torch.arange(cosine.shape[1], device=unit.device)
        cosine = torch.where(frames.mask[..., None], cosine, apart[:, None].to(unit))
    weights, vector = torch.empty_like(cosine), torch.empty_like(cosine)
    squared, dot = (unit.new_empty(len(cosine), len(unit)) for _ in range(2))
    mean = product.sum(1) / frames.length

    def over_length(sums: Tensor | None, found: Tensor) -> None:
        """Writes the cosines of texts with pooled frames to ``found`` (V, T); ``sums``: their numerators, if known."""
        torch.bmm(frames.root, weights, out=vector)
        torch.sum(vector.mul_(vector), 1, out=squared)
        if sums is None:
            sums = torch.sum(weights.mul_(product), 1, out=dot)  # not into what is not in a cache yet
        torch.mul(sums, squared.clamp_min_(TINY**2).rsqrt_(), out=found)

    if top_k:
        lanes = descending(cosine)
        largest = lanes[0]
        tied = bool(torch.stack([(high - low).amin() for high, low in pairwise([*lanes, lanes[-1] - 1])]).amin() <= 0)
        # A product is a cosine if frames have length one: the sum of the k largest, whichever of those that tie.
        real = [lane.where(lane > PADDING, 0.0) for lane in lanes] if padded else lanes
        sums = list(accumulate(real, torch.add)) if normalized else [None] * len(lanes)
        for k, found in zip(top_k, along, strict=False):
            if k == len(lanes) or (k == 1 and normalized and not tied):  # whose lengths are known
                found.copy_(mean if k > 1 else largest)
                continue
            least = lanes[k - 1][:, None]
            torch.ge(cosine, least, out=weights)
            if tied:
                share_ties(weights, cosine > least, k)
            over_length(sums[k - 1], found)
    else:
        largest = cosine.amax(1)
    below = cosine - largest[:, None]
    faintest = float(below.amin()) if temperature else 0.0
    for value, found in zip(temperature, along[len(top_k) :], strict=True):
        if value == math.inf:
            found.copy_(mean)
            continue
        torch.mul(below, torch.tensor(1 / value), out=weights)  # a Python number would be converted at each call
        if faintest / value < FAINT:
            weights.clamp_(min=FAINT)
        weights.exp_()
        over_length(None, found)


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
