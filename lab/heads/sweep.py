"""Every k of top-k and every temperature of softmax pooling in one pass over the cosines of texts and frames.

The products with the frames are most of an evaluation and all settings share them. The k-th largest cosines of a pair
come from a sorting network: some forty elementwise minima and maxima, which run along contiguous texts, where a sort
along frames would not. A setting then costs its weights and one quadratic form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads.pooling import Frames, MeanPooling, SoftmaxPooling, TopKPooling
from lab.similarity import TINY, check_inputs, evaluating, hide_padding, parts, products, quadratic

#: Pairs worked on at once; fewer than for one evaluation, since every setting reads the same cosines again.
PAIRS = 8192
#: What a cosine is never below.
LEAST = -2.0


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
    with evaluating(head):
        index = head.space.frames(videos)
        for rows in torch.arange(len(texts)).split(tile):
            unit = head.space.texts(texts.select(rows))
            found = [_settings(unit, part, top_k, temperature) for part in parts(index, len(rows), PAIRS)]
            yield rows, torch.cat(found, 1).mT


def _settings(unit: Tensor, frames: Frames, top_k: Sequence[int], temperature: Sequence[float]) -> Tensor:
    """(settings, V, T) for texts (T, D) of length one."""
    product = products(frames.values, unit)
    cosine = hide_padding(product / frames.lengths[..., None], frames.mask)
    found, weights = [], torch.empty_like(cosine)
    largest = descending(cosine) if top_k else []
    for k in top_k:
        # Where several frames tie at the k-th place, all that reach it would be taken: they share what is left of k.
        threshold = largest[k - 1].clamp_min(LEAST)[:, None]
        torch.ge(cosine, threshold, out=weights)
        if k < len(largest) and bool((largest[k] >= threshold[:, 0]).any()):
            above = (cosine > threshold).float()
            tied = weights - above
            weights = above + tied * ((k - above.sum(1, keepdim=True)) / tied.sum(1, keepdim=True).clamp_min(1))
        found.append(_cosine(weights, product, frames.gram))
    if len(temperature):
        below = cosine.sub_(cosine.amax(1, keepdim=True))
        for value in temperature:
            weights = (
                torch.mul(below, 1 / value, out=weights).exp_() if value < math.inf else (below > -math.inf).float()
            )
            found.append(_cosine(weights, product, frames.gram))
    return torch.stack(found)


def _cosine(weights: Tensor, product: Tensor, gram: Tensor) -> Tensor:
    """Cosines (V, T); the weights (V, F, T) need not sum to one, a cosine has no length."""
    length = quadratic(gram, weights).clamp_min(TINY**2)
    return (weights * product).sum(1) * length.rsqrt()


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
