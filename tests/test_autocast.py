"""Training in bf16: what goes into a softmax and what the loss multiplies stays in float32, alone and in a stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lab.embeddings import Texts, Videos, unseen
from lab.heads import build_head
from lab.heads.mgfi import MGFI
from lab.pairs import by_parts

T, V, F, W, D = 17, 19, 5, 7, 512
LINEAR = {"projection": "linear"}
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "xpool": ("xpool", {}),
    "sf": ("sf", {}),
    "wf": ("wf", {}),
    "mgfi": ("mgfi", {}),
    "mgfi, two tails": ("mgfi", {"shared_tail": False}),
    "mean": ("mean", LINEAR),
    "mean, raw": ("mean", LINEAR | {"normalize": False}),
    "topk of all": ("topk", LINEAR | {"top_k": F}),  # with fewer, a rounded frame may be chosen for another
    "softmax": ("softmax", LINEAR),
    "softmax, raw": ("softmax", LINEAR | {"normalize": False}),
    "seqlstm": ("seqlstm", {}),
    "seqtransf": ("seqtransf", {"layers": 1}),
}


def close(seed: int = 0) -> tuple[Texts, Videos]:
    """Pairs with cosines around 0.3 to 0.9, as CLIP's are among captions and among frames: all share a direction."""
    torch.manual_seed(seed)
    shared, subject = torch.randn(D), torch.randn(V, 1, D)
    frames = shared + 0.9 * subject + 0.5 * torch.randn(V, F, D)
    words = 0.5 * shared + 0.35 * subject[:T] + torch.randn(T, W, D)
    return Texts(words.mean(1), words), Videos(frames)


def in_bf16(action: Callable[[], Any]) -> Any:
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return action()


def stacked(head: nn.Module, action: Callable[[], Any]) -> Any:
    """What an action that calls the head gives where its weights are those of a member of a stack."""

    class Acting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = head

        def forward(self) -> Any:
            return action()

    values = {f"head.{name}": torch.stack([value.detach()] * 2) for name, value in head.named_parameters()}
    with unseen():
        return torch.vmap(lambda own: functional_call(Acting(), own, ()))(values)[0]


@pytest.mark.parametrize("which", HEADS)
def test_cosines_in_bf16_are_those_in_float32_to_a_twentieth_of_a_logit(which: str) -> None:
    """At the largest scale, 100: a cosine that was rounded itself would be off by up to 0.2, or by 0.4 below one."""
    torch.manual_seed(1)
    name, keywords = HEADS[which]
    head, (texts, videos) = build_head(name, D, **keywords).eval(), close()
    found = in_bf16(lambda: head(texts, videos))
    assert found.dtype == torch.float32
    assert 100 * (found - head(texts, videos)).abs().max() < 0.05
    if name not in {"seqlstm", "seqtransf"}:  # recurrent layers and attention of torch's own have no batching on a CPU
        torch.testing.assert_close(
            in_bf16(lambda: stacked(head, lambda: head(texts, videos))), found, atol=4e-4, rtol=0
        )


@pytest.mark.parametrize("name", ["wf", "mgfi"])
def test_words_keep_their_shares(name: str) -> None:
    """Their scores are some hundred, where bf16 knows every whole number alone."""
    head, (texts, videos) = build_head(name, D).eval(), close()
    assert isinstance(head, MGFI)
    exact, rounded = head.word_weights(texts, videos)[1], in_bf16(lambda: head.word_weights(texts, videos)[1])
    assert exact.detach().amax(-1).mean() > 0.5  # one word nearly alone, as in the paper's formula at D = 512
    assert (exact - rounded).abs().max() < 0.1
    assert (exact.argmax(-1) != rounded.argmax(-1)).float().mean() < 0.01


@pytest.mark.parametrize("name", ["xpool", "sf", "wf", "mgfi", "softmax"])
def test_attention_is_in_float32_alone_and_in_a_stack(name: str) -> None:
    head, (texts, videos) = build_head(name, D, **(LINEAR if name == "softmax" else {})).eval(), close()
    alone = in_bf16(lambda: head.frame_weights(texts, videos))  # type: ignore[operator]
    among = in_bf16(lambda: stacked(head, lambda: head.frame_weights(texts, videos)))  # type: ignore[operator]
    assert alone.dtype == among.dtype == torch.float32
    torch.testing.assert_close(among, alone, atol=3e-3, rtol=0)  # eight bits of a share would be 0.004


def test_parts_of_half_precision_make_float32() -> None:
    from lab.heads.pooling import Frames

    half = torch.ones(3, 2, dtype=torch.bfloat16)
    found: Tensor = by_parts(lambda part: part.lengths.float() / 3, Frames(half, half, half, half > 0), 2, 4)
    torch.testing.assert_close(found, torch.full((3, 2), 1 / 3))
