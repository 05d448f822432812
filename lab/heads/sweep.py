"""Pooling under many settings, from products that are made once: every k, every temperature, the weight of the sound.

The products of texts with frames are most of an evaluation, and no setting changes them. Nor does one change the order
of a pair's cosines: their k-th largest come from a sorting network, some forty elementwise minima and maxima, which run
along contiguous texts, where a sort along frames would not. A setting then costs its weights and the length of one
vector, |Σ a_f x_f|, from the frames' Gram matrix.

That is ``Pairs``, and it has two users. ``sweep`` is for settings that are known beforehand: a tile of texts under all
of them, then the next, and nothing is kept. ``Kept`` is for settings that are asked for one after another, as a search
does: what all pairs have in common stays.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lab.device import full_float32
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads.cmfi import CMFI
from lab.heads.pooling import Frames, MeanPooling, SoftmaxPooling, TopKPooling, closest, within
from lab.needs import check_inputs
from lab.pairs import TINY, parts, products
from lab.similarity import evaluating, similarity_matrix

#: Pairs of a sweep worked on at once. Torch's threads share each operation: with a tile for each thread
#: (``lab.tiles``), thousands of operations a tile wait for Python's lock, and twice the memory is worked on.
PAIRS = 32768
#: Products that ``Kept`` keeps, each with two or three float32 numbers beside it. With more a setting is scored anew.
KEPT = 1 << 27
#: Padding counts as a frame with a cosine of this or less, each with another, so that it neither is chosen first nor
#: ties. What it weighs does not matter: its products are zero.
PADDING = -2.0
#: Weights below e to this share of the largest are nothing beside it, and their squares would be denormal numbers, with
#: which a processor is a hundred times as slow.
FAINT = -40.0


#: Frames are weighted by softmax(cosine / temperature) among the k closest, or among all; at infinity all the same.
Setting = tuple[int | None, float]


@dataclass(frozen=True)
class Rooted(Frames):
    """Frames with R, for which RᵀR is their Gram matrix: |R a| reads an array less of every pair than aᵀ G a does."""

    root: Tensor  # (V, F, F); its columns of padding are zero
    whole: Tensor  # (V,) bool, on the host: whether there is no padding

    @classmethod
    def of(cls, frames: Frames) -> Rooted:
        """In float64, since the matrix is singular where two frames are the same."""
        values, vectors = torch.linalg.eigh(frames.gram.double())
        root = (values.clamp_min(0).sqrt()[..., None] * vectors.mT).to(frames.gram).contiguous()
        return cls(frames.values, frames.lengths, frames.gram, frames.mask, root, frames.mask.all(1).cpu())


class Pairs:
    """V videos with texts (T, D) of length one: all that no setting changes."""

    def __init__(self, frames: Rooted, unit: Tensor, normalized: bool) -> None:
        self.frames, self.normalized, self.padded = frames, normalized, not bool(frames.whole.all())
        self.product = products(frames.values, unit)  # (V, F, T)
        self.cosine = self.product if normalized else self.product / frames.lengths[..., None]
        if self.padded:
            apart = PADDING - torch.arange(self.cosine.shape[1], device=unit.device)
            self.cosine = torch.where(frames.mask[..., None], self.cosine, apart[:, None].to(unit))

    @cached_property
    def order(self) -> list[Tensor]:
        """The largest cosine, the second largest, ...: F times (V, T)."""
        return descending(self.cosine)

    @cached_property
    def apart(self) -> list[float]:
        """By how much the largest cosine is above the second, the second above the third, ..., in the closest pair.

        At the end ``spread``. All in one look, since a GPU has to be waited for.
        """
        least = [(high - low).amin() for high, low in pairwise(self.order)]
        found: list[float] = torch.stack([*least, (self.order[0] - self.order[-1]).amax()]).tolist()
        return found

    @cached_property
    def spread(self) -> float:
        """By how much the largest cosine of a pair is above its least, at the most."""
        return self.apart[-1] if "order" in vars(self) else float(self.below.amin().neg())

    @cached_property
    def sums(self) -> list[Tensor]:
        """The sums of the one, two, ... largest cosines (V, T), which are products where frames have length one."""
        return list(accumulate(each.where(each > PADDING, 0.0) if self.padded else each for each in self.order))

    @cached_property
    def below(self) -> Tensor:
        """Cosines less the largest of their pair (V, F, T)."""
        return self.cosine - self.cosine.amax(1, keepdim=True)

    def score(self, settings: Sequence[Setting], found: Tensor) -> None:
        """Writes the cosines under each setting to ``found`` (settings, V, T)."""
        # One piece of memory for all of them: new memory is not in a cache yet.
        scratch = [torch.empty_like(like) for like in (self.cosine, self.cosine, self.cosine[:, 0], self.cosine[:, 0])]
        for setting, into in zip(settings, found, strict=True):
            self._score(*setting, into, *scratch)

    def _score(
        self, top_k: int | None, temperature: float, found: Tensor, weights: Tensor, vector: Tensor, *sums: Tensor
    ) -> None:
        """Weights are not divided by their sum, as a cosine divides it out again."""
        squared, dot = sums
        F = self.cosine.shape[1]
        k, even = F if top_k is None else top_k, temperature == math.inf
        if even and k == F:
            length = self.frames.root.sum(2).norm(dim=1, keepdim=True).clamp_min(TINY)
            found.copy_(self.product.sum(1) / length)
            return
        if even and k == 1:
            found.copy_(self.order[0])
            return
        if k < F:
            chosen = torch.ge(self.cosine, self.order[k - 1][:, None], out=weights if even else vector)
            if self.apart[k - 1] <= 0:
                self._choose(k, chosen)
        if not even:
            torch.mul(self.below, torch.tensor(1 / temperature), out=weights)  # a number would be converted each time
            if -self.spread / temperature < FAINT:
                weights.clamp_(min=FAINT)
            weights.exp_()
            if k < F:
                weights.mul_(chosen)
        torch.bmm(self.frames.root, weights, out=vector)
        torch.sum(vector.mul_(vector), 1, out=squared)
        if even and self.normalized:
            dot = self.sums[k - 1]
        else:
            torch.sum(weights.mul_(self.product), 1, out=dot)
        torch.mul(dot, squared.clamp_min_(TINY**2).rsqrt_(), out=found)

    def _choose(self, k: int, chosen: Tensor) -> None:
        """Where more than k frames are as close as the k-th, chooses those (V, F, T) that the head itself does."""
        video, text = (self.order[k - 1] <= self.order[k]).nonzero(as_tuple=True)
        product, lengths, mask = self.product[video, :, text], self.frames.lengths[video], self.frames.mask[video]
        chosen[video, :, text] = closest(product[..., None], lengths, mask, k)[..., 0]


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
    settings: list[Setting] = [*((k, math.inf) for k in top_k), *((None, value) for value in temperature)]
    for setting in settings:
        within(videos, *setting)
    if tile < 1:
        raise LabError(f"tile >= 1 must hold, got tile={tile}")
    check_inputs(head, texts, videos)
    # Neither is around the yield: what is done with a tile keeps its own mode and precision.
    with evaluating(head):
        index, units = Rooted.of(head.space.frames(videos)), head.space.texts(texts)
    for rows, unit in zip(torch.arange(len(texts)).split(tile), units.split(tile), strict=True):
        found = unit.new_empty(len(settings), len(videos), len(rows))
        with full_float32(), torch.no_grad():
            for some, part in parts(index, len(rows), PAIRS):
                Pairs(part, unit, head.space.normalize).score(settings, found[:, some])
        yield rows, found.mT


class Kept:
    """A head over all pairs; its similarity is remembered as long as its settings are the same.

    Pooling by the top k or a softmax is scored from products that are kept, any other head anew. The head itself stays
    as it is. Raises ``LabError`` for features that do not fit.
    """

    def __init__(self, head: nn.Module, texts: Texts, videos: Videos) -> None:
        self.head, self.texts, self.videos = head, texts, videos
        self.pairs: list[tuple[slice, Pairs]] = []
        if isinstance(head, TopKPooling | SoftmaxPooling) and len(texts) * videos.frame_mask.numel() <= KEPT:
            check_inputs(head, texts, videos)
            with evaluating(head):
                unit = head.space.texts(texts)
                kept = parts(Rooted.of(head.space.frames(videos)), len(texts))
                self.pairs = [(some, Pairs(part, unit, head.space.normalize)) for some, part in kept]
        self.last: tuple[dict[str, Any], Tensor] | None = None

    def similarity(self, keywords: Mapping[str, Any]) -> Tensor:
        """Similarity (T, V) with keywords set. Raises ``LabError`` for one out of range."""
        if self.last is None or self.last[0] != keywords:
            head = changed(self.head, keywords)
            self.last = dict(keywords), self._pooled(head) if self.pairs else \
                similarity_matrix(head, self.texts, self.videos)  # fmt: skip
        return self.last[1]

    def _pooled(self, head: Any) -> Tensor:
        setting = head.top_k, head.temperature
        within(self.videos, *setting)
        found = self.videos.frames.new_empty(len(self.videos), len(self.texts), dtype=torch.float32)
        with evaluating(head):
            for some, pairs in self.pairs:
                pairs.score([setting], found[None, some])
        return found.T


class KeptFusion:
    """CMFI's two sides, each ``Kept``, and their fusion."""

    def __init__(self, head: CMFI, texts: Texts, videos: Videos) -> None:
        check_inputs(head, texts, videos)
        with evaluating(head):
            heard, self.present = head.hear(videos)
        self.head, self.seen, self.heard = head, Kept(head.video, texts, videos), Kept(head.audio, texts, heard)

    def similarity(self, keywords: Mapping[str, Any]) -> Tensor:
        """Similarity (T, V) with keywords set; those of the sides in ``video_keywords`` and ``audio_keywords``."""
        inside = [keywords.get(f"{side}_keywords", {}) for side in ("video", "audio")]
        seen, heard = self.seen.similarity(inside[0]), self.heard.similarity(inside[1])
        head: Any = changed(self.head, {key: value for key, value in keywords.items() if not isinstance(value, dict)})
        fused: Tensor = head.fuse(seen.to(self.present.device), heard.to(self.present.device), self.present)
        return fused


def keep(head: nn.Module, texts: Texts, videos: Videos) -> Kept | KeptFusion:
    """A head over all pairs, to be asked for its similarity under one setting after another."""
    return KeptFusion(head, texts, videos) if isinstance(head, CMFI) else Kept(head, texts, videos)


def changed(head: nn.Module, keywords: Mapping[str, Any]) -> nn.Module:
    """A head with other settings that shares what this one has learned; this one stays as it is."""
    other = copy(head)
    for key, value in keywords.items():
        setattr(other, key, value)
    return other


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
