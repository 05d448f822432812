"""MGFI: sentences and words attend to frames (Li et al., arXiv 2407.12798, equations 1 to 10).

``sf`` is its sentence-frame branch alone (equations 1 to 3), ``wf`` its word-frame branch (4 to 8), ``mgfi`` their mean
(9 and 10). The authors published no code; what their text leaves open is a keyword here.

Both branches weigh the same values: each word's attention is convex in the frames, and so is their mean over words. So
W_o with its bias and the first map of FF fold into a vector a frame, LN into a quadratic form, as in X-Pool. The
activation ends the folding: FF's second map is computed for each pair, some pairs at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from lab.embeddings import Texts, Videos
from lab.errors import LabError, unknown
from lab.pairs import TINY, by_parts, exactly, hide_padding, products, quadratic
from lab.similarity import clean_frames, clean_words, sentences_of

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "quickgelu": lambda x: x * torch.sigmoid(1.702 * x),  # CLIP's own
}
INITS = ("identity", "random")
#: Pairs whose vectors are held at once while scoring: some MB, so that they stay in the processor's cache.
PAIRS = 2048


@dataclass(frozen=True)
class MGFIIndex:
    """What scoring keeps of V videos; H is the width of FF, one entry a tail (one a branch, or one that they share)."""

    keys: Tensor  # (V, F, D) LN(x_v) W_k
    values: Tensor  # (V, F, D) LN(x_v) W_v W_o with both biases: z = Σ a_f values_f
    gram: Tensor  # (V, F, F) of the centred values, over D: the variance of z
    hidden: Tensor  # (V, tails, F, H) γ ⊙ (values − mean) W_1: what each frame brings to FF's inside, over σ
    mask: Tensor  # (V, F)


@dataclass(frozen=True)
class Queries:
    """What both branches ask for T texts."""

    unit: Tensor  # (T, D) sentences of length one
    sentence: Tensor | None  # (T, D)
    word: Tensor | None  # (T, W, D)
    mask: Tensor | None  # (T, W)


class FeedForward(nn.Module):
    """FF(LN(z)), two linear layers with an activation between them, for a z that is a weighted sum over frames."""

    def __init__(self, dim: int, width: int, activation: str) -> None:
        super().__init__()
        self.norm, self.first, self.second = nn.LayerNorm(dim), nn.Linear(dim, width), nn.Linear(width, dim)
        self.activation = ACTIVATIONS[activation]

    def fold(self, centred: Tensor) -> Tensor:
        """What each frame brings to the inside (V, F, H), but for LN's deviation; its centred values are (V, F, D)."""
        return F.linear(centred * self.norm.weight, self.first.weight)

    def inside(self, weights: Tensor, gram: Tensor, folded: Tensor) -> Tensor:
        """The activated inside (V, T, H) of every pair, from weights (V, F, T) and the variance's form (V, F, F)."""
        deviation = (quadratic(gram, weights).clamp_min(0) + self.norm.eps).sqrt()
        constant = F.linear(self.norm.bias, self.first.weight, self.first.bias)
        return self.activation(torch.bmm((weights / deviation[:, None]).mT, folded) + constant)


class MGFI(nn.Module):
    """Sentence-frame and word-frame attention, averaged; the score is a cosine with the raw sentence.

    Where the paper is silent:

    ``shared_norm``  one LayerNorm for sentences, words and frames, as in X-Pool's code; ``False``: one for the text
                     side and one for frames. The LN before FF is always another.
    ``shared_tail``  both branches go through the same LN and FF: the paper marks with a tilde what differs between
                     them, and these bear none. ``False``: each has its own. W_k, W_v and W_o are shared either way.
    ``width``        of FF's inside; ``None`` is D, as every matrix whose size the paper tells is C × C.
    ``activation``   of FF: ``relu``, the first Transformer's; ``gelu``; ``quickgelu``, CLIP's.
    ``word_scale``   of the maxima in equation 7, before the softmax over words. 1 is the paper to the letter, which at
                     D = 512 nearly picks one word; ``"sqrt"`` is 1 / sqrt(D), as in the other softmax.
    ``bias``         of the five projections; the equations write none, X-Pool's code has them.
    ``init``         ``identity``: projections start as the identity and FF adds nothing, so that training begins at a
                     sensible pooling, as X-Pool's does; ``random``: torch's own.
    ``dropout``      on FF's output (the branches' mean) while training, at X-Pool's rate.
    """

    branches: ClassVar[tuple[str, ...]] = ("sentence", "word")

    def __init__(
        self,
        dim: int = 512,
        *,
        dropout: float = 0.3,
        shared_norm: bool = True,
        shared_tail: bool = True,
        width: int | None = None,
        activation: str = "relu",
        word_scale: float | str = 1.0,
        bias: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, ACTIVATIONS)
        if init not in INITS:
            raise unknown("init", init, INITS)
        if width is not None and width < 1:
            raise LabError(f"width >= 1 must hold, got width={width}")
        if word_scale != "sqrt" and not (isinstance(word_scale, int | float) and word_scale >= 0):
            raise LabError(f"word_scale must be a number >= 0 or 'sqrt', got word_scale={word_scale!r}")
        self.dim = dim
        self.word_scale = 1 / math.sqrt(dim) if isinstance(word_scale, str) else float(word_scale)
        self.norm_frames = nn.LayerNorm(dim)
        self.norm_text = None if shared_norm else nn.LayerNorm(dim)  # one tensor under two names would not be saved
        self.queries = nn.ModuleDict({branch: nn.Linear(dim, dim, bias=bias) for branch in self.branches})
        self.key, self.value, self.out = (nn.Linear(dim, dim, bias=bias) for _ in range(3))
        tails = 1 if shared_tail else len(self.branches)
        self.tails = nn.ModuleList(FeedForward(dim, width or dim, activation) for _ in range(tails))
        self.dropout = nn.Dropout(dropout)
        if init == "identity":
            for layer in (*self.queries.values(), self.key, self.value, self.out):
                _start(layer, nn.init.eye_)
            for tail in self._tails():
                _start(tail.second, nn.init.zeros_)

    @property
    def needs_words(self) -> bool:
        """Whether texts must carry words."""
        return "word" in self.branches

    def forward(self, texts: Texts, videos: Videos) -> Tensor:
        """Cosine similarity (T, V), every text with every video."""
        asked, index = self._ask(texts), self.index(videos)
        return self._cosine(self._weights(asked, index), asked, index).T

    def frame_weights(self, texts: Texts, videos: Videos) -> Tensor:
        """The attention (T, V, F), the mean of the branches'; rows sum to one, padding has zero."""
        return _mean(self._weights(self._ask(texts), self.index(videos))).permute(2, 0, 1)

    def word_weights(self, texts: Texts, videos: Videos) -> tuple[Tensor, Tensor]:
        """The word branch's attention (T, V, W, F), rows of each word, and the share (T, V, W) that each word has.

        Raises ``LabError`` for a head without that branch.
        """
        asked = self._ask(texts)
        if asked.word is None or asked.mask is None:
            raise LabError("this head does not look at words: take wf or mgfi")
        attention, share = self._by_word(asked.word, asked.mask, self.index(videos))
        return attention.permute(2, 0, 3, 1), share.permute(1, 0, 2)

    def index(self, videos: Videos) -> MGFIIndex:
        """Keys, values, and all of LN and FF that comes before the activation."""
        frames = self.norm_frames(clean_frames(videos, self.dim))
        values = self.out(self.value(frames))
        centred = values - values.mean(-1, keepdim=True)
        return MGFIIndex(
            self.key(frames),
            values,
            centred @ centred.mT / self.dim,
            torch.stack([tail.fold(centred) for tail in self._tails()], 1),
            videos.frame_mask,
        )

    def score(self, texts: Texts, index: MGFIIndex) -> Tensor:
        """Cosine similarity (T, V), some videos at a time."""
        asked = self._ask(texts)
        return by_parts(lambda part: self._cosine(self._weights(asked, part), asked, part), index, len(texts), PAIRS).T

    def floats(self, frames: int, words: int, segments: int) -> tuple[int, int]:
        """See ``Head``."""
        return frames * (9 * self.dim + 2 * sum(tail.first.out_features for tail in self._tails())), 3

    def _ask(self, texts: Texts) -> Queries:
        """All that is computed once per text."""
        norm, sentences = self.norm_text or self.norm_frames, sentences_of(texts, self.dim)
        sentence = word = mask = None
        if "sentence" in self.branches:
            sentence = self.queries["sentence"](norm(sentences))
        if "word" in self.branches:
            words, mask = clean_words(texts, self.dim)
            word = self.queries["word"](norm(words))
        return Queries(F.normalize(sentences, dim=-1), sentence, word, mask)

    def _weights(self, asked: Queries, index: MGFIIndex) -> list[Tensor]:
        """The weights (V, F, T) of each branch."""
        found = []
        if asked.sentence is not None:
            logits = products(index.keys, asked.sentence) / math.sqrt(self.dim)
            found.append(hide_padding(logits, index.mask).softmax(1))
        if asked.word is not None and asked.mask is not None:
            with exactly(index.keys):  # as the sentence's weights; and bf16 would copy the largest array of all
                found.append(torch.einsum("vftw,vtw->vft", *self._by_word(asked.word, asked.mask, index)))
        return found

    def _by_word(self, query: Tensor, mask: Tensor, index: MGFIIndex) -> tuple[Tensor, Tensor]:
        """Equations 5 to 7: each word's attention (V, F, T, W) and its share (V, T, W), by its best frame."""
        (T, W, D), (V, F_) = query.shape, index.mask.shape
        product = hide_padding(products(index.keys, query.reshape(T * W, D)), index.mask)  # a
        best = product.amax(1).view(V, T, W) * self.word_scale
        share = best.masked_fill(~mask, float("-inf")).softmax(-1)
        return (product / math.sqrt(self.dim)).softmax(1).view(V, F_, T, W), share

    def _cosine(self, weights: list[Tensor], asked: Queries, index: MGFIIndex) -> Tensor:
        """Equations 3, 8, 9 and 10 from the weights (V, F, T) of each branch: cosines (V, T)."""
        tails = self._tails()
        if len(tails) == 1:  # FF's second map is linear: one product for both branches
            fed = tails[0].second(_mean([tails[0].inside(a, index.gram, index.hidden[:, 0]) for a in weights]))
        else:
            inside = [
                tail.inside(a, index.gram, index.hidden[:, i])
                for i, (tail, a) in enumerate(zip(tails, weights, strict=True))
            ]
            fed = _mean([tail.second(x) for tail, x in zip(tails, inside, strict=True)])
        seen = torch.bmm(_mean(weights).mT, index.values) + self.dropout(fed)  # o (V, T, D)
        seen = seen.float()  # torch.vmap hides the sums below from autocast, which would have them in float32
        product = (seen * asked.unit).sum(-1)
        similarity: Tensor = product / seen.norm(dim=-1).clamp_min(TINY)
        return similarity

    def _tails(self) -> list[FeedForward]:
        return [tail for tail in self.tails if isinstance(tail, FeedForward)]


def _start(layer: nn.Module, weights: Callable[[Tensor], Tensor]) -> None:
    for parameter in layer.parameters():
        (weights if parameter.ndim == 2 else nn.init.zeros_)(parameter)


def _mean(branches: list[Tensor]) -> Tensor:
    return branches[0] if len(branches) == 1 else (branches[0] + branches[1]) / 2


class SentenceFrame(MGFI):
    """MGFI's sentence-frame branch alone (equations 1 to 3 and 10); keywords as for ``MGFI``."""

    branches = ("sentence",)


class WordFrame(MGFI):
    """MGFI's word-frame branch alone (equations 1, 4 to 8 and 10); keywords as for ``MGFI``."""

    branches = ("word",)
