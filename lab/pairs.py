"""Arrays of every video with every text, some videos at a time: products, forms and sums that heads share.

They are videos × frames × texts: a softmax or a sum over frames then runs along contiguous texts, which is what a CPU
does well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import TypeVar

import torch
from torch import Tensor

from lab.embeddings import may_look

#: Pairs that a head works on at once: some ten numbers a frame for each, which a processor's cache can hold.
PAIRS = 16384
#: A norm is not taken to be smaller: a video whose features are all zero is at similarity 0, and has a gradient.
TINY = 1e-12

Index = TypeVar("Index")


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


def parts(index: Index, texts: int, pairs: int = PAIRS) -> Iterator[tuple[slice, Index]]:
    """An index, a dataclass of tensors with videos in front, by some videos at a time: which, and what it has of them.

    They make ``pairs`` pairs with the texts. What is made for each pair then stays in a processor's cache. A GPU would
    only wait between parts: it gets larger ones.
    """
    columns: list[Tensor] = [getattr(index, field.name) for field in fields(index)]  # type: ignore[arg-type]
    for rows in slices(columns[0], texts, pairs):
        yield rows, type(index)(*(column[rows] for column in columns))


def by_parts(work: Callable[[Index], Tensor], index: Index, texts: int, pairs: int = PAIRS) -> Tensor:
    """(V, T) of all of an index, from ``work`` that makes (v, T) of a part.

    Written into one array: small results kept from between large temporary ones would leave the heap full of holes, and
    with MGFI some hundred MB of them.
    """
    first: Tensor = getattr(index, fields(index)[0].name)  # type: ignore[arg-type]
    found = first.new_empty(len(first), texts, dtype=torch.float32)
    for rows, part in parts(index, texts, pairs):
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
