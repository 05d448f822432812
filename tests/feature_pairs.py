"""Small texts and videos with every modality and ragged masks, and heads whose weights are not those of their start."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lab.embeddings import RaggedWords, Texts, Videos
from lab.heads import HEADS, build_head

T, V, F, W, S, D, A = 3, 5, 4, 6, 2, 7, 11

FRAMES = torch.arange(F) < torch.tensor([4, 1, 2, 3, 4])[:, None]
WORDS = torch.arange(W) < torch.tensor([6, 1, 4])[:, None]
#: Whole, first only, none, last only, whole.
SOUND = torch.tensor([[True, True], [True, False], [False, False], [False, True], [True, True]])


def pairs(seed: int = 0, junk: float = float("nan")) -> tuple[Texts, Videos]:
    """Texts of 1 to 6 words, videos of 1 to 4 frames, one without sound; raw (not normalised), junk in the padding."""
    torch.manual_seed(seed)
    frames, words, sound = 3 * torch.randn(V, F, D) + 1, torch.randn(T, W, D) - 1, 2 * torch.randn(V, S, A) + 1
    texts = Texts(2 * torch.randn(T, D) - 1, words.masked_fill(~WORDS[..., None], junk), WORDS)
    return texts, Videos(
        frames.masked_fill(~FRAMES[..., None], junk), FRAMES, sound.masked_fill(~SOUND[..., None], junk), SOUND
    )


def ragged(texts: Texts) -> Texts:
    """The same texts with words as a store hands them out."""
    assert isinstance(texts.words, Tensor)
    assert texts.word_mask is not None
    counts = texts.word_mask.sum(1)
    return Texts(texts.sentences, RaggedWords(texts.words[texts.word_mask], counts.cumsum(0) - counts, counts))


#: Every head as it comes, and what its keywords change most.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {"audio_dim": A} if name == "cmfi" else {}) for name in HEADS},
    "mean, linear": ("mean", {"projection": "linear"}),
    "topk, raw": ("topk", {"top_k": 2, "normalize": False}),
    "softmax, linear, raw": ("softmax", {"temperature": 0.3, "projection": "linear", "normalize": False}),
    "sf, wide": ("sf", {"width": 13, "activation": "gelu", "bias": False, "init": "random"}),
    "wf, scaled": ("wf", {"word_scale": "sqrt", "activation": "quickgelu"}),
    "mgfi, nothing shared": ("mgfi", {"shared_norm": False, "shared_tail": False}),
    "cmfi over xpool": ("cmfi", {"audio_dim": A, "video": "xpool", "audio": "softmax", "fusion_weight": 0.4}),
    "cmfi, first": ("cmfi", {"audio_dim": A, "video": "mean", "reduction": "first", "audio": "topk",
                             "audio_keywords": {"top_k": 1}}),
}  # fmt: skip


def head_of(variant: str) -> nn.Module:
    """A head in eval mode; the identity, with which many start, would hide a swapped matrix."""
    torch.manual_seed(1)
    name, keywords = VARIANTS[variant]
    head = build_head(name, D, **keywords).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return head


def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    """LayerNorm of one vector, spelled out."""
    centred = x - x.sum() / len(x)
    return centred / (centred.square().sum() / len(x) + 1e-5) ** 0.5 * layer.weight + layer.bias


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    """A linear map of one vector: a row of the matrix for each number that comes out."""
    out = torch.stack([dot(row, x) for row in layer.weight])
    return out if layer.bias is None else out + layer.bias


def dot(x: Tensor, y: Tensor) -> Tensor:
    """An inner product of two vectors."""
    return (x * y).sum()


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """A cosine of two vectors."""
    return dot(x, y) / (dot(x, x) ** 0.5 * dot(y, y) ** 0.5)


def softmax(logits: list[Tensor]) -> list[Tensor]:
    """A softmax over a list of numbers."""
    most = max(logits)
    total = sum(torch.exp(logit - most) for logit in logits)
    return [torch.exp(logit - most) / total for logit in logits]


def agree_in_value_and_gradient(head: nn.Module, reference: Any) -> None:
    """``reference(head, sentence, words, frames, sound)`` of every pair equals the head's matrix, and its gradients."""
    texts, videos = pairs()
    assert isinstance(texts.words, Tensor)
    assert videos.audio is not None
    leaves = [texts.sentences, texts.words, videos.frames, videos.audio]
    for leaf in leaves:
        leaf.requires_grad_()
    sentences, words, frames, sound = leaves
    wanted = torch.stack(
        [
            torch.stack(
                [
                    reference(head, sentences[t], [*words[t][WORDS[t]]], [*frames[v][FRAMES[v]]], [*sound[v][SOUND[v]]])
                    for v in range(V)
                ]
            )
            for t in range(T)
        ]
    )
    found = head(texts, videos)
    assert torch.allclose(found, wanted, atol=1e-5, rtol=0)
    weight = torch.randn(T, V)  # some scalar of the matrix, so that no two pairs' gradients cancel
    learned = [*leaves, *head.parameters()]
    plain = torch.autograd.grad((wanted * weight).sum(), learned, allow_unused=True)
    fast = torch.autograd.grad((found * weight).sum(), learned, allow_unused=True)
    met = 0
    for mine, theirs in zip(fast, plain, strict=True):
        assert (mine is None) <= (theirs is None or not theirs.any())
        if mine is not None and theirs is not None:
            assert torch.allclose(mine, theirs, atol=1e-5, rtol=1e-4)
            met += bool(mine.any())
    assert met >= 2
