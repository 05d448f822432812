"""Pooling against its equations in plain steps, its limits, and every k and temperature in one pass."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from feature_pairs import (
    VARIANTS,
    A,
    D,
    F,
    T,
    agree_in_value_and_gradient,
    cosine,
    head_of,
    linear,
    pairs,
    softmax,
)
from torch import Tensor, nn

from lab import similarity_matrix
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import build_head
from lab.heads.pooling import Space
from lab.heads.sweep import Pairs, descending, keep, sweep


def equations(variant: str) -> Any:
    """Equations 7 and 8 of X-Pool, and the softmax of its code, for one text and the real frames of one video."""
    name, keywords = VARIANTS[variant]

    def reference(head: nn.Module, text: Tensor, words: list[Tensor], frames: list[Tensor], sound: list[Tensor]) -> Any:
        if keywords.get("projection") == "linear":
            text, frames = linear(text, head.space.text), [linear(frame, head.space.frame) for frame in frames]
        near = [cosine(text, frame) for frame in frames]
        if keywords.get("normalize", True):
            frames = [frame / (frame * frame).sum() ** 0.5 for frame in frames]
        if name == "softmax":
            shares = softmax([value / keywords.get("temperature", 0.01) for value in near])
        else:
            k = min(keywords.get("top_k", 3), len(frames)) if name == "topk" else len(frames)
            best = sorted(range(len(frames)), key=lambda f: -near[f].item())[:k]
            shares = [torch.tensor(float(f in best) / k) for f in range(len(frames))]
        return cosine(text, sum(share * frame for share, frame in zip(shares, frames, strict=True)))

    return reference


@pytest.mark.parametrize("variant", ["mean", "topk", "softmax", "mean, linear", "topk, raw", "softmax, linear, raw"])
def test_it_is_its_equations_in_value_and_gradient(variant: str) -> None:
    agree_in_value_and_gradient(head_of(variant), equations(variant))


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("topk", {"top_k": F}),
        ("softmax", {"temperature": 1e6}),
        ("softmax", {"temperature": math.inf}),
    ],
)
def test_limits_that_equal_the_mean(name: str, keywords: dict[str, Any], normalize: bool) -> None:
    pair = pairs()
    mean = build_head("mean", D, normalize=normalize)
    other = build_head(name, D, normalize=normalize, **keywords)
    assert torch.allclose(other(*pair), mean(*pair), atol=1e-6)
    assert torch.allclose(other.frame_weights(*pair), mean.frame_weights(*pair), atol=1e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_temperature_near_zero_is_the_closest_frame_alone(normalize: bool) -> None:
    pair = pairs()
    one = build_head("topk", D, top_k=1, normalize=normalize)
    for temperature in (1e-6, 1e-30):
        cold = build_head("softmax", D, temperature=temperature, normalize=normalize)
        assert torch.allclose(cold(*pair), one(*pair), atol=1e-6)
        assert torch.equal(cold.frame_weights(*pair).round(), one.frame_weights(*pair))


def test_by_hand() -> None:
    """Text east; frames east, north, west: the closest is east (1), the best two are at 45° (0.707), all at 90° (0)."""
    east, north = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    texts, videos = Texts(5 * east[None]), Videos(torch.stack([2 * east, 3 * north, -4 * east])[None])
    found = [build_head("topk", 2, top_k=k)(texts, videos).item() for k in (1, 2, 3)]
    assert found == pytest.approx([1, 0.5**0.5, 0], abs=1e-6)
    raw = build_head("topk", 2, top_k=2, normalize=False)(texts, videos).item()
    assert raw == pytest.approx(2 / 13**0.5)
    soft = build_head("softmax", 2, temperature=1 / math.log(2)).frame_weights(texts, videos)[0, 0]
    assert soft.tolist() == pytest.approx([4 / 7, 2 / 7, 1 / 7])  # 2 to the power of 1, 0, -1


def test_frames_that_are_alike_tie_and_k_of_them_count() -> None:
    """A still video's frames are the same to the bit; top-k must average k of them, not all that reach the k-th."""
    texts, videos = pairs()
    still = Videos(videos.frames[:1, :1].expand(1, F, D))
    for k in (1, 2, F):
        weights = build_head("topk", D, top_k=k).frame_weights(texts, still)
        assert torch.allclose(weights.sort(-1, descending=True).values, (torch.arange(F) < k) / k)
        soft = build_head("softmax", D, top_k=k).frame_weights(texts, still)
        assert torch.allclose(soft.sort(-1, descending=True).values, (torch.arange(F) < k) / k)


def test_an_infinite_temperature_among_the_top_k_is_their_mean() -> None:
    pair = pairs()
    for k in (1, 2, F):
        hot = build_head("softmax", D, top_k=k, temperature=math.inf)
        assert torch.allclose(hot.frame_weights(*pair), build_head("topk", D, top_k=k).frame_weights(*pair))


def test_the_top_k_of_a_softmax_are_chosen_for_each_text_however_many_are_asked() -> None:
    head, (texts, videos) = build_head("softmax", D, top_k=2, temperature=1.0), pairs()
    weights = head.frame_weights(texts, videos)
    assert ((weights > 0).sum(-1) <= 2).all()
    for t in range(T):
        alone = head.frame_weights(texts.select(torch.tensor([t])), videos)
        assert torch.allclose(alone[0], weights[t], atol=1e-6)


def test_linear_projections_start_as_the_identity_without_bias() -> None:
    head = build_head("mean", D, projection="linear")
    assert [tuple(parameter.shape) for parameter in head.parameters()] == [(D, D), (D, D)]
    assert torch.allclose(head(*pairs()), build_head("mean", D)(*pairs()), atol=1e-6)
    assert not list(build_head("mean", D).parameters())


@pytest.mark.parametrize(
    ("name", "keywords", "said"),
    [
        ("topk", {"top_k": 0}, "1 <= top_k <= frames must hold, a whole number, got top_k=0"),
        ("topk", {"top_k": 2.0}, r"got top_k=2\.0"),
        ("topk", {"top_k": True}, "got top_k=True"),
        ("softmax", {"temperature": 0}, "temperature > 0 must hold .*got temperature=0"),
        ("softmax", {"temperature": -0.1}, r"got temperature=-0\.1"),
        ("softmax", {"temperature": math.nan}, "got temperature=nan"),
        ("mean", {"projection": "liner"}, "unknown projection 'liner': did you mean 'linear'"),
    ],
)
def test_bad_keywords(name: str, keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        build_head(name, D, **keywords)


def test_more_frames_than_there_are() -> None:
    head = build_head("topk", D, top_k=F + 1)
    for call in (head, head.frame_weights, lambda *pair: similarity_matrix(head, *pair)):
        with pytest.raises(LabError, match=f"1 <= top_k <= {F} frames must hold, got top_k={F + 1}"):
            call(*pairs())


# -- every setting in one pass ---------------------------------------------------------------------------------------

TEMPERATURES = (1e-6, 0.01, 0.3, 2.0, math.inf)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("projection", ["none", "linear"])
@pytest.mark.parametrize("tile", [1, 2, 50])
def test_a_sweep_is_each_head_on_its_own(projection: str, normalize: bool, tile: int) -> None:
    pair, keywords = pairs(), {"projection": projection, "normalize": normalize}
    head = build_head("mean", D, **keywords)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    alone = [build_head("topk", D, top_k=k, **keywords) for k in range(1, F + 1)]
    alone += [build_head("softmax", D, temperature=value, **keywords) for value in TEMPERATURES]
    for other in alone:
        other.load_state_dict(head.state_dict())
    wanted = torch.stack([other(*pair) for other in alone])
    seen = []
    for rows, found in sweep(head, *pair, top_k=range(1, F + 1), temperature=TEMPERATURES, tile=tile):
        assert torch.allclose(found, wanted[:, rows], atol=1e-5, rtol=0)
        assert not found.requires_grad
        assert torch.is_grad_enabled()  # here, between tiles
        seen += rows.tolist()
    assert seen == list(range(T))


def doubled() -> tuple[Texts, Videos]:
    """Texts and videos of 1 to 5 frames, of which two are there twice: they tie wherever they stand."""
    torch.manual_seed(0)
    frames = torch.randn(211, 3, D)
    frames = torch.cat([frames, frames[:, :2]], 1)
    mask = torch.arange(5) < torch.randint(1, 6, (211,))[:, None]
    return Texts(torch.randn(97, D)), Videos(frames.masked_fill(~mask[..., None], math.nan), mask)


def mirrored() -> tuple[Texts, Videos]:
    """Frames that are as close to the text and yet differ, so that it matters which of them are taken; whole numbers
    and powers of two, so that they tie to the bit."""
    rng = torch.Generator().manual_seed(3)
    frames = torch.tensor([1.0, 2.0])[torch.randint(0, 2, (61, 12), generator=rng)][..., None]
    sides = torch.randint(0, 3, (61, 12), generator=rng)
    frames = torch.cat([frames, 2.0 * nn.functional.one_hot(sides, 3) * torch.tensor([1.0, -1.0, 1.0])], -1)
    mask = torch.arange(12) < torch.randint(1, 13, (61, 1), generator=rng)
    return Texts(torch.tensor([[2.0, 0, 0, 0], [1.0, 0, 0, 0]])), Videos(frames, mask)


def fading() -> tuple[Texts, Videos]:
    """Frames of one direction and of other lengths, as in a fade: cosines that differ in their last bit, if at all."""
    rng = torch.Generator().manual_seed(4)
    frames = torch.randn(40, 1, D, generator=rng) * (torch.rand(40, 12, 1, generator=rng) + 0.5)
    return Texts(torch.randn(200, D, generator=rng)), Videos(frames)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("given", [doubled, mirrored, fading])
def test_frames_that_tie_are_chosen_as_the_head_chooses_them(
    given: Any, normalize: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In parts, too: each video of ``doubled`` alone, 32 of ``mirrored`` at a time."""
    monkeypatch.setattr("lab.heads.sweep.PAIRS", 64)
    texts, videos = given()
    most, dim = videos.frames.shape[1:]
    found = torch.cat(
        [x for _, x in sweep(build_head("mean", dim, normalize=normalize), texts, videos,
                             top_k=range(1, most + 1), tile=64)], 1
    )  # fmt: skip
    hard, soft = (keep(build_head(name, dim, normalize=normalize), texts, videos) for name in ("topk", "softmax"))
    for k in range(1, most + 1):
        wanted = build_head("topk", dim, top_k=k, normalize=normalize)(texts, videos)
        assert torch.allclose(found[k - 1], wanted, atol=1e-5, rtol=0)
        assert torch.allclose(hard.similarity({"top_k": k}), wanted, atol=1e-5, rtol=0)
        wanted = build_head("softmax", dim, top_k=k, temperature=0.3, normalize=normalize)(texts, videos)
        assert torch.allclose(soft.similarity({"top_k": k, "temperature": 0.3}), wanted, atol=1e-5, rtol=0)


@pytest.mark.usefixtures("tf32")
def test_a_sweeps_products_are_of_float32_whatever_a_program_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    def watched(owner: Any, name: str) -> None:
        call = getattr(owner, name)

        def look(*given: Any) -> Any:
            seen.append((name, torch.get_float32_matmul_precision()))
            return call(*given)

        monkeypatch.setattr(owner, name, look)

    watched(Space, "frames")
    watched(Space, "texts")
    watched(Pairs, "score")
    for _ in sweep(build_head("mean", D), *pairs(), top_k=[1], temperature=[0.1], tile=T - 1):
        assert torch.get_float32_matmul_precision() == "high"  # what is done with a tile is not ours
    assert seen == [(name, "highest") for name in ("frames", "texts", "score", "score")]
    assert torch.get_float32_matmul_precision() == "high"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 11, 12, 30])
def test_the_network_sorts(size: int) -> None:
    values = torch.randn(5, size, 40).round(decimals=1)  # with ties
    assert torch.equal(torch.stack(descending(values), 1), values.sort(1, descending=True).values)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"top_k": [1, F + 1]}, f"1 <= top_k <= {F} frames must hold, got top_k={F + 1}"),
        ({"top_k": [0]}, "got top_k=0"),
        ({"temperature": [0.1, 0.0]}, r"temperature > 0 must hold .*got temperature=0\.0"),
        ({"top_k": [1], "tile": 0}, "tile >= 1 must hold, got tile=0"),
    ],
)
def test_a_sweep_out_of_range(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        next(sweep(build_head("mean", D), *pairs(), **keywords))


def test_an_infinite_temperature_has_gradients() -> None:
    texts, videos = pairs()
    head = build_head("softmax", D, temperature=math.inf, projection="linear")
    head(texts, videos).sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in head.parameters() if parameter.grad is not None)
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in head.parameters())


def test_cold_temperatures_are_weighed_without_denormal_numbers() -> None:
    texts, videos = pairs()
    for _, found in sweep(build_head("mean", D), texts, videos, temperature=[1e-4]):
        direct = build_head("softmax", D, temperature=1e-4).score(texts, build_head("softmax", D).index(videos))
        torch.testing.assert_close(found[0], direct[: len(found[0])], atol=1e-5, rtol=0)


# -- one setting after another ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("projection", ["none", "linear"])
@pytest.mark.parametrize("kept", [1 << 27, 0])
def test_settings_asked_one_after_another_are_each_head_and_leave_it_as_it_is(
    projection: str, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.heads.sweep.KEPT", kept)
    (texts, videos), head = pairs(), build_head("softmax", D, projection=projection)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    asked = keep(head, texts, videos)
    for settings in ({}, {"temperature": 0.5}, {"top_k": 2}, {"top_k": F, "temperature": math.inf}, {"top_k": None}):
        alone = build_head("softmax", D, projection=projection, **settings)
        alone.load_state_dict(head.state_dict())
        torch.testing.assert_close(asked.similarity(settings), alone(texts, videos).detach(), atol=1e-5, rtol=0)
    assert (head.top_k, head.temperature) == (None, 0.01)
    for settings, said in (({"top_k": F + 1}, f"got top_k={F + 1}"), ({"temperature": 0.0}, r"got temperature=0\.0")):
        with pytest.raises(LabError, match=said):
            asked.similarity(settings)
    assert asked.similarity({"top_k": 1}) is asked.similarity({"top_k": 1})


@pytest.mark.parametrize("video", ["topk", "xpool"])
def test_sound_that_is_missing_counts_for_nothing_under_any_weight(video: str) -> None:
    """The middle video of five has no sound; with a word of NaN wherever features are masked."""
    (texts, videos), keywords = pairs(), {"video": video, "audio": "softmax", "audio_dim": A}
    head = build_head("cmfi", D, **keywords).eval()
    asked = keep(head, texts, videos)
    for weight, temperature in ((0.0, 0.01), (0.3, 0.01), (0.3, math.inf), (4.0, 0.2)):
        alone = build_head("cmfi", D, fusion_weight=weight, audio_keywords={"temperature": temperature}, **keywords)
        alone.load_state_dict(head.state_dict())
        found = asked.similarity({"fusion_weight": weight, "audio_keywords": {"temperature": temperature}})
        torch.testing.assert_close(found, alone.eval()(texts, videos).detach(), atol=1e-5, rtol=0)
    assert head.fusion_weight == 1.0


def test_features_that_are_not_numbers_are_refused() -> None:
    texts, videos = pairs()
    assert videos.frame_mask is not None
    broken = Videos(videos.frames, torch.ones_like(videos.frame_mask))
    with pytest.raises(LabError, match="features must be finite where they are not masked"):
        keep(build_head("topk", D), texts, broken)


@pytest.mark.parametrize("frames", [1, 2])
def test_few_frames(frames: int) -> None:
    texts, videos = pairs()
    few = Videos(videos.frames[:, :frames], videos.frame_mask[:, :frames])  # type: ignore[index]
    asked = keep(build_head("topk", D, top_k=1), texts, few)
    for k in range(1, frames + 1):
        wanted = build_head("topk", D, top_k=k)(texts, few)
        assert torch.allclose(asked.similarity({"top_k": k}), wanted, atol=1e-5, rtol=0)
        ((_, found),) = sweep(build_head("mean", D), texts, few, top_k=[k])
        assert torch.allclose(found[0], wanted, atol=1e-5, rtol=0)
