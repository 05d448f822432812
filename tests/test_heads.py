"""X-Pool against its equations in loops, and what every head must hold."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import HEADS, build_head
from lab.heads.xpool import XPool

T, V, F, D = 3, 5, 4, 7


def pairs(seed: int = 0, nan: bool = True) -> tuple[Texts, Videos]:
    """Texts and videos of 1 to 4 real frames, raw (not normalised); NaN in the padding."""
    torch.manual_seed(seed)
    frames, counts = 3 * torch.randn(V, F, D) + 1, torch.tensor([4, 1, 2, 3, 4])
    mask = torch.arange(F) < counts[:, None]
    frames = frames.masked_fill(~mask[..., None], float("nan") if nan else 0.0)
    return Texts(2 * torch.randn(T, D) - 1), Videos(frames, mask)


def head_of(name: str) -> nn.Module:
    """A head whose weights are not those of its start: the identity would hide a swapped matrix."""
    torch.manual_seed(1)
    head = build_head(name, D).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return head


# -- X-Pool ----------------------------------------------------------------------------------------------------------


def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    mean = sum(x) / D
    variance = sum((value - mean) ** 2 for value in x) / D
    return torch.stack([(x[d] - mean) / (variance + 1e-5) ** 0.5 * layer.weight[d] + layer.bias[d] for d in range(D)])


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    return torch.stack([sum(layer.weight[i, j] * x[j] for j in range(D)) + layer.bias[i] for i in range(D)])


def equations(head: XPool, text: Tensor, frames: list[Tensor]) -> Tensor:
    """Equations 9 to 14 of the paper for one text and the real frames of one video; the code's choices where silent."""
    query = linear(norm(text, head.norm_in), head.query)  # Q_t = LN(c_t) W_Q
    keys = [linear(norm(frame, head.norm_in), head.key) for frame in frames]  # K_v = LN(C_v) W_K
    values = [linear(norm(frame, head.norm_in), head.value) for frame in frames]  # V_v = LN(C_v) W_V
    logits = [sum(query[d] * key[d] for d in range(D)) / D**0.5 for key in keys]
    total = sum(torch.exp(logit) for logit in logits)
    attended = sum(torch.exp(logit) / total * value for logit, value in zip(logits, values, strict=True))
    pooled = norm(linear(attended, head.out), head.norm_pooled)  # r = LN(Attention W_O)
    seen = norm(linear(pooled, head.residual) + pooled, head.norm_out)  # z = LN(FC(r) + r)
    lengths = [sum(x[d] ** 2 for d in range(D)) ** 0.5 for x in (text, seen)]
    return sum(text[d] * seen[d] for d in range(D)) / (lengths[0] * lengths[1])


def test_xpool_is_its_equations_in_value_and_gradient() -> None:
    head = head_of("xpool")
    assert isinstance(head, XPool)
    texts, videos = pairs()
    assert videos.frame_mask is not None
    sentences, frames = texts.sentences.requires_grad_(), videos.frames.requires_grad_()
    weight = torch.randn(T, V)  # some scalar of the matrix, so that no two pairs' gradients cancel
    wanted = torch.stack(
        [
            torch.stack([equations(head, sentences[t], [*frames[v][videos.frame_mask[v]]]) for v in range(V)])
            for t in range(T)
        ]
    )
    found = head(texts, videos)
    assert torch.allclose(found, wanted, atol=1e-5, rtol=0)
    leaves = [sentences, frames, *head.parameters()]
    plain = torch.autograd.grad((wanted * weight).sum(), leaves)
    fast = torch.autograd.grad((found * weight).sum(), leaves)
    for mine, theirs in zip(fast, plain, strict=True):
        assert mine.abs().max() > 0
        assert torch.allclose(mine, theirs, atol=1e-5, rtol=1e-4)


def test_xpool_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in XPool().parameters()) == 1_316_352


def test_xpool_starts_as_the_identity_with_biases_of_zero() -> None:
    head = XPool(D)
    linears = [module for module in head.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 5
    for layer in linears:
        assert torch.equal(layer.weight, torch.eye(D))
        assert not layer.bias.any()
    assert head.dropout.p == 0.3


def test_xpool_at_its_start_on_one_frame() -> None:
    """One frame needs no attention: cos(text, LN(2 LN(LN(frame)))) is left, and that is cos(text, LN(frame))."""
    texts, videos = pairs()
    one = Videos(videos.frames[:, :1])
    wanted = nn.functional.cosine_similarity(
        texts.sentences[:, None], nn.functional.layer_norm(one.frames[:, 0], (D,))[None], dim=-1
    )
    assert torch.allclose(XPool(D).eval()(texts, one), wanted, atol=1e-4)


def test_xpool_attends_by_the_scaled_product() -> None:
    """At its start the weights are a softmax of LN(text) · LN(frame) / sqrt(D)."""
    texts, videos = pairs(nan=False)
    whole = Videos(videos.frames[:1])
    text, frames = (nn.functional.layer_norm(x, (D,)) for x in (texts.sentences[0], whole.frames[0]))
    wanted = (frames @ text / D**0.5).softmax(0)
    assert torch.allclose(XPool(D).eval().frame_weights(texts, whole)[0, 0], wanted, atol=1e-6)


def test_dropout_acts_in_training_only() -> None:
    head, (texts, videos) = head_of("xpool"), pairs()
    assert torch.equal(head(texts, videos), head(texts, videos))
    head.train()
    assert not torch.equal(head(texts, videos), head(texts, videos))


# -- every head ------------------------------------------------------------------------------------------------------

every_head = pytest.mark.parametrize("name", HEADS)


@every_head
def test_shape_and_range(name: str) -> None:
    similarity = head_of(name)(*pairs())
    assert tuple(similarity.shape) == (T, V)
    assert similarity.isfinite().all()
    assert similarity.abs().max() <= 1 + 1e-6


@every_head
def test_weights_sum_to_one_over_the_real_frames(name: str) -> None:
    texts, videos = pairs()
    assert videos.frame_mask is not None
    weights = head_of(name).frame_weights(texts, videos)  # type: ignore[operator]
    assert tuple(weights.shape) == (T, V, F)
    assert torch.allclose(weights.sum(-1), torch.ones(T, V), atol=1e-6)
    assert (weights >= 0).all()
    assert not weights[:, ~videos.frame_mask].any()


@every_head
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1e30, 7.0])
def test_what_lies_under_the_mask_changes_nothing(name: str, junk: float) -> None:
    head, (texts, videos) = head_of(name), pairs(nan=False)
    assert videos.frame_mask is not None
    other = Videos(videos.frames.masked_fill(~videos.frame_mask[..., None], junk), videos.frame_mask)
    assert torch.equal(head(texts, other), head(texts, videos))
    assert torch.equal(head.frame_weights(texts, other), head.frame_weights(texts, videos))  # type: ignore[operator]
    loss = head(texts, other).sum()
    assert all(
        g.isfinite().all() for g in torch.autograd.grad(loss, [*head.parameters()], allow_unused=True) if g is not None
    )


@every_head
def test_padding_equals_no_padding(name: str) -> None:
    head, (texts, videos) = head_of(name), pairs()
    assert videos.frame_mask is not None
    similarity = head(texts, videos)
    for v in range(V):
        alone = Videos(videos.frames[v : v + 1, videos.frame_mask[v]])
        assert torch.allclose(head(texts, alone)[:, 0], similarity[:, v], atol=1e-6)


@every_head
def test_the_order_of_frames_is_ignored(name: str) -> None:
    head, (texts, videos) = head_of(name), pairs()
    assert videos.frame_mask is not None
    order = torch.tensor([2, 0, 3, 1])
    turned = Videos(videos.frames[:, order], videos.frame_mask[:, order])
    assert torch.allclose(head(texts, turned), head(texts, videos), atol=1e-6)


@every_head
def test_a_slice_equals_the_slice_of_the_whole(name: str) -> None:
    head, (texts, videos) = head_of(name), pairs()
    some, few = torch.tensor([2, 0]), torch.tensor([4, 1, 1])
    whole = head(texts, videos)
    assert torch.allclose(head(texts.select(some), videos.select(few)), whole[some][:, few], atol=1e-6)


@every_head
def test_inputs_are_not_written_to(name: str) -> None:
    head, (texts, videos) = head_of(name), pairs()
    sentences, frames = texts.sentences.clone(), videos.frames.clone()
    head(texts, videos)
    head.frame_weights(texts, videos)  # type: ignore[operator]
    assert torch.equal(texts.sentences, sentences)
    assert torch.equal(videos.frames.nan_to_num(), frames.nan_to_num())


@every_head
def test_gradients_reach_every_parameter(name: str) -> None:
    head, (texts, videos) = head_of(name), pairs()
    (head(texts, videos) * torch.randn(T, V)).sum().backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@every_head
def test_half_precision_features_are_taken(name: str) -> None:
    head, (texts, videos) = head_of(name), pairs()
    half = head(Texts(texts.sentences.half()), Videos(videos.frames.half(), videos.frame_mask))
    assert half.dtype == torch.float32
    assert torch.allclose(half, head(texts, videos), atol=0.02)


def test_an_unknown_head_suggests_the_nearest() -> None:
    with pytest.raises(LabError, match="unknown head 'x-pool': did you mean 'xpool'"):
        build_head("x-pool")
