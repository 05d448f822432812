"""X-Pool against its equations in loops, and the facts of its authors' code."""

from __future__ import annotations

import pytest
import torch
from feature_pairs import D, agree_in_value_and_gradient, cosine, dot, head_of, linear, norm, pairs, softmax
from torch import Tensor, nn

from lab.embeddings import Texts, Videos
from lab.heads.xpool import XPool


def equations(head: XPool, text: Tensor, words: list[Tensor], frames: list[Tensor], sound: list[Tensor]) -> Tensor:
    """Equations 9 to 14 of the paper for one text and the real frames of one video; the code's choices where silent."""
    query = linear(norm(text, head.norm_in), head.query)  # Q_t = LN(c_t) W_Q
    keys = [linear(norm(frame, head.norm_in), head.key) for frame in frames]  # K_v = LN(C_v) W_K
    values = [linear(norm(frame, head.norm_in), head.value) for frame in frames]  # V_v = LN(C_v) W_V
    shares = softmax([dot(query, key) / D**0.5 for key in keys])
    attended = sum(share * value for share, value in zip(shares, values, strict=True))
    pooled = norm(linear(attended, head.out), head.norm_pooled)  # r = LN(Attention W_O)
    seen = norm(linear(pooled, head.residual) + pooled, head.norm_out)  # z = LN(FC(r) + r)
    return cosine(text, seen)


def test_xpool_is_its_equations_in_value_and_gradient() -> None:
    agree_in_value_and_gradient(head_of("xpool"), equations)


def test_every_parameter_has_a_gradient_that_agrees() -> None:
    """The agreement above would hold for parameters that neither side uses."""
    head = head_of("xpool")
    (head(*pairs()) ** 2).sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


def test_it_has_the_published_number_of_parameters() -> None:
    assert sum(parameter.numel() for parameter in XPool().parameters()) == 1_316_352


def test_it_starts_as_the_identity_with_biases_of_zero() -> None:
    head = XPool(D)
    linears = [module for module in head.modules() if isinstance(module, nn.Linear)]
    assert len(linears) == 5
    for layer in linears:
        assert torch.equal(layer.weight, torch.eye(D))
        assert not layer.bias.any()
    assert head.dropout.p == 0.3


def test_at_its_start_on_one_frame() -> None:
    """One frame needs no attention: cos(text, LN(2 LN(LN(frame)))) is left, and that is cos(text, LN(frame))."""
    texts, videos = pairs()
    one = Videos(videos.frames[:, :1])
    wanted = nn.functional.cosine_similarity(
        texts.sentences[:, None], nn.functional.layer_norm(one.frames[:, 0], (D,))[None], dim=-1
    )
    assert torch.allclose(XPool(D).eval()(texts, one), wanted, atol=1e-4)


def test_it_attends_by_the_scaled_product() -> None:
    """At its start the weights are a softmax of LN(text) · LN(frame) / sqrt(D)."""
    texts, videos = pairs()
    whole = Videos(videos.frames[:1])
    text, frames = (nn.functional.layer_norm(x, (D,)) for x in (texts.sentences[0], whole.frames[0]))
    wanted = (frames @ text / D**0.5).softmax(0)
    assert torch.allclose(XPool(D).eval().frame_weights(texts, whole)[0, 0], wanted, atol=1e-6)


def test_dropout_acts_in_training_only_and_on_the_layer_after_attention() -> None:
    head, (texts, videos) = head_of("xpool"), pairs()
    assert isinstance(head, XPool)
    assert torch.equal(head(texts, videos), head(texts, videos))
    head.train()
    assert not torch.equal(head(texts, videos), head(texts, videos))
    head.dropout.p = 1.0  # FC's output is then gone
    without = head(texts, videos)
    head.eval()
    nn.init.zeros_(head.residual.weight)
    nn.init.zeros_(head.residual.bias)
    assert torch.allclose(head(texts, videos), without, atol=1e-6)


@pytest.mark.parametrize("size", [64, 512])
def test_reduced_forms_hold_at_full_width(size: int) -> None:
    """Sums over 512 dimensions and frames that are nearly alike: the variances are small differences of large sums."""
    torch.manual_seed(0)
    head = XPool(size).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    frames = 10 * torch.randn(11, 1, size) + 0.1 * torch.randn(11, 12, size)
    texts, videos = Texts(10 * torch.randn(13, size)), Videos(frames)
    with torch.no_grad():
        assert torch.allclose(head.score(texts, head.index(videos)), head(texts, videos), atol=1e-5, rtol=0)
        double = head.double()
        text, many = double.norm_in(texts.sentences.double()), double.norm_in(frames.double())
        shares = torch.einsum("td,vfd->tvf", double.query(text), double.key(many)).div(size**0.5).softmax(-1)
        pooled = double.norm_pooled(double.out(torch.einsum("tvf,vfd->tvd", shares, double.value(many))))
        seen = double.norm_out(double.residual(pooled) + pooled)
        wanted = nn.functional.cosine_similarity(texts.sentences.double()[:, None], seen, dim=-1)
        head.float()
        assert torch.allclose(head.score(texts, head.index(videos)).double(), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("faint", [["value", "out"], ["norm_pooled", "residual"]])
def test_what_is_faint_is_normalised_by_epsilon_too(faint: list[str]) -> None:
    """Variances as small as the layer norms' 1e-5: what is left of it elsewhere would hide a wrong one."""
    head, (texts, videos) = head_of("xpool"), pairs()
    assert isinstance(head, XPool)
    whole = Videos(torch.stack([videos.frames[0], videos.frames[4]]))
    with torch.no_grad():
        for name in faint:
            for parameter in head.get_submodule(name).parameters():
                parameter.mul_(0.01)
        wanted = [[equations(head, text, [], [*frames], []) for frames in whole.frames] for text in texts.sentences]
        for found in (head(texts, whole), head.score(texts, head.index(whole))):
            assert torch.allclose(found, torch.tensor(wanted), atol=1e-5, rtol=0)
