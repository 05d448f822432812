"""What every head must hold, as it comes and with its keywords turned; and naming a head."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import safetensors.torch
import torch
from feature_pairs import FRAMES, SOUND, VARIANTS, WORDS, A, D, F, T, V, head_of, pairs, ragged
from torch import Tensor, nn

from lab import similarity_matrix
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import HEADS, build_head, head_keywords

every_head = pytest.mark.parametrize("variant", VARIANTS)
#: Heads that know about time.
TEMPORAL = ("seqlstm", "seqtransf")


def weights_of(head: nn.Module, texts: Texts, videos: Videos) -> Tensor:
    weights: Tensor = head.frame_weights(texts, videos)  # type: ignore[operator]
    return weights


def scored(head: nn.Module, texts: Texts, videos: Videos) -> Tensor:
    with torch.no_grad():
        similarity: Tensor = head.score(texts, head.index(videos))  # type: ignore[operator]
    return similarity


def test_the_table_has_every_system_of_both_papers() -> None:
    assert list(HEADS) == [
        "mean", "topk", "softmax", "seqlstm", "seqtransf", "xpool", "sf", "wf", "mgfi", "cmfi"
    ]  # fmt: skip
    assert {name for name, _ in VARIANTS.values()} == set(HEADS)


@every_head
def test_shape_and_range(variant: str) -> None:
    similarity = head_of(variant)(*pairs())
    assert tuple(similarity.shape) == (T, V)
    assert similarity.dtype == torch.float32
    assert similarity.isfinite().all()
    assert similarity.abs().max() <= 1 + 1e-6
    assert similarity.std() > 0.01


@every_head
def test_weights_sum_to_one_over_the_real_frames(variant: str) -> None:
    weights = weights_of(head_of(variant), *pairs())
    assert tuple(weights.shape) == (T, V, F)
    assert torch.allclose(weights.sum(-1), torch.ones(T, V), atol=1e-6)
    assert (weights >= 0).all()
    assert not weights[:, ~FRAMES].any()


@every_head
@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1e30, 7.0])
def test_what_lies_under_a_mask_changes_nothing(variant: str, junk: float) -> None:
    head = head_of(variant)
    assert torch.equal(head(*pairs(junk=junk)), head(*pairs(junk=0.0)))
    assert torch.equal(weights_of(head, *pairs(junk=junk)), weights_of(head, *pairs(junk=0.0)))
    assert torch.equal(scored(head, *pairs(junk=junk)), scored(head, *pairs(junk=0.0)))
    if parameters := list(head.parameters()):
        gradients = torch.autograd.grad(head(*pairs(junk=junk)).sum(), parameters, allow_unused=True)
        assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)


@every_head
def test_more_padding_changes_nothing(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    assert isinstance(texts.words, Tensor)
    assert videos.audio is not None

    def wider(values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        extra = torch.full((len(values), 3, values.shape[2]), float("nan"))
        return torch.cat([values, extra], 1), torch.cat([mask, torch.zeros(len(mask), 3, dtype=torch.bool)], 1)

    padded = (
        Texts(texts.sentences, *wider(texts.words, WORDS)),
        Videos(*wider(videos.frames, FRAMES), *wider(videos.audio, SOUND)),
    )
    assert torch.allclose(head(*padded), head(texts, videos), atol=1e-6)
    assert torch.allclose(scored(head, *padded), head(texts, videos), atol=1e-5)


@every_head
def test_the_order_of_frames_is_ignored_but_by_heads_that_know_of_time(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    order = torch.tensor([2, 0, 3, 1])
    turned = dataclasses.replace(videos, frames=videos.frames[:, order], frame_mask=FRAMES[:, order])
    alike = torch.isclose(head(texts, turned), head(texts, videos), atol=1e-6)
    if variant in TEMPORAL:
        assert alike[:, FRAMES.sum(1) == 1].all()
        assert not alike.all()
    else:
        assert alike.all()


@every_head
def test_a_slice_equals_the_slice_of_the_whole(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    some, few = torch.tensor([2, 0]), torch.tensor([4, 1, 1])
    whole = head(texts, videos)
    assert torch.allclose(head(texts.select(some), videos.select(few)), whole[some][:, few], atol=1e-6)


@every_head
def test_scoring_an_index_equals_the_direct_forward(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    wanted = head(texts, videos)
    assert torch.allclose(scored(head, texts, videos), wanted, atol=1e-5, rtol=0)
    one = texts.select(torch.tensor([1]))  # a query against an index, as search asks
    assert torch.allclose(scored(head, one, videos), wanted[1:2], atol=1e-5, rtol=0)


@every_head
@pytest.mark.parametrize("tile", [1, 2, 3, 50, None])
def test_any_tile_gives_the_same_matrix(variant: str, tile: int | None) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    wanted = head(texts, videos)
    for memory_mb in (1024, 1e-3):  # the second leaves room for less than one video: blocks of one
        found = similarity_matrix(head, texts, videos, tile=tile, memory_mb=memory_mb)
        assert torch.allclose(found, wanted, atol=1e-5, rtol=0)


@every_head
def test_ragged_words_score_as_padded_ones(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    wanted = head(texts, videos)
    assert torch.allclose(head(ragged(texts), videos), wanted, atol=1e-6)
    for tile in (1, 2, None):
        assert torch.allclose(similarity_matrix(head, ragged(texts), videos, tile=tile), wanted, atol=1e-5)


@every_head
def test_larger_sizes_go_through_several_parts(variant: str) -> None:
    """More pairs than a head takes at once, with features as large and as alike as real ones."""
    torch.manual_seed(3)
    head, texts, videos = head_of(variant), 131, 257
    frames = 5 * torch.randn(videos, 1, D) + torch.randn(videos, F, D)
    mask = torch.arange(F) < torch.randint(1, F + 1, (videos,))[:, None]
    words = torch.randn(texts, 5, D)
    many = Texts(4 * torch.randn(texts, D), words, torch.arange(5) < torch.randint(1, 6, (texts,))[:, None])
    gallery = Videos(frames.masked_fill(~mask[..., None], float("nan")), mask, torch.randn(videos, 2, A))
    wanted = head(many, gallery)
    for tile in (17, None):
        assert torch.allclose(similarity_matrix(head, many, gallery, tile=tile), wanted, atol=1e-5, rtol=0)


@every_head
def test_inputs_are_not_written_to(variant: str) -> None:
    head, (texts, videos), (same_texts, same_videos) = head_of(variant), pairs(), pairs()
    index = head.index(videos)  # type: ignore[operator]
    before = [x.detach().clone() for x in ([index] if isinstance(index, Tensor) else _tensors(index))]
    with torch.no_grad():
        head(texts, videos), weights_of(head, texts, videos), head.score(texts, index)  # type: ignore[operator]
    for name in ("sentences", "words", "word_mask"):
        assert torch.equal(getattr(texts, name).nan_to_num(), getattr(same_texts, name).nan_to_num())
    for name in ("frames", "frame_mask", "audio", "audio_mask"):
        assert torch.equal(getattr(videos, name).nan_to_num(), getattr(same_videos, name).nan_to_num())
    after = [index] if isinstance(index, Tensor) else _tensors(index)
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


def _tensors(index: object) -> list[Tensor]:
    found: list[Tensor] = []
    for field in dataclasses.fields(index):  # type: ignore[arg-type]
        value = getattr(index, field.name)
        found += [value] if isinstance(value, Tensor) else _tensors(value)
    return found


@every_head
def test_gradients_reach_every_parameter(variant: str) -> None:
    head = head_of(variant)
    if not list(head.parameters()):
        pytest.skip("nothing to learn")
    (head(*pairs()) * torch.randn(T, V)).sum().backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@every_head
def test_half_precision_features_are_taken(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    assert isinstance(texts.words, Tensor)
    assert videos.audio is not None
    half = (
        Texts(texts.sentences.half(), texts.words.half(), WORDS),
        Videos(videos.frames.half(), FRAMES, videos.audio.half(), SOUND),
    )
    assert head(*half).dtype == torch.float32
    assert torch.allclose(head(*half), head(texts, videos), atol=0.02)
    assert torch.allclose(similarity_matrix(head, *half), head(*half), atol=1e-5)


@every_head
def test_a_video_of_zeros_is_no_nan(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    black = dataclasses.replace(videos, frames=torch.zeros(V, F, D))
    assert head(texts, black).isfinite().all()
    assert scored(head, texts, black).isfinite().all()


@every_head
def test_a_dimension_that_does_not_fit_is_an_error(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    narrow = Texts(torch.randn(T, D - 1), torch.randn(T, 2, D - 1))
    for call in (head, lambda *pair: similarity_matrix(head, *pair)):
        with pytest.raises(LabError, match=r"the head has D=7 but texts have D=6: build it with dim=6"):
            call(narrow, videos)
        with pytest.raises(LabError, match=r"the head has D=7 but videos have D=8: build it with dim=8"):
            call(texts, dataclasses.replace(videos, frames=torch.randn(V, F, D + 1)))


@every_head
def test_it_is_saved_and_loaded_by_its_state(variant: str) -> None:
    """Through safetensors, which refuses a tensor that is there under two names."""
    head, fresh = head_of(variant), build_head(VARIANTS[variant][0], D, **VARIANTS[variant][1]).eval()
    fresh.load_state_dict(safetensors.torch.load(safetensors.torch.save(head.state_dict())))
    assert torch.equal(fresh(*pairs()), head(*pairs()))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@every_head
def test_a_gpu_gives_what_the_cpu_gives(variant: str) -> None:
    head, (texts, videos) = head_of(variant), pairs()
    wanted = head(texts, videos)
    found = similarity_matrix(head.cuda(), texts, videos)  # the features stay where they are
    assert found.device.type == "cpu"
    assert torch.allclose(found, wanted, atol=1e-4)
    assert torch.allclose(head(texts.to("cuda"), videos.to("cuda")).cpu(), wanted, atol=1e-4)


# -- names -----------------------------------------------------------------------------------------------------------


def test_an_unknown_head_suggests_the_nearest() -> None:
    with pytest.raises(LabError, match="unknown head 'x-pool': did you mean 'xpool'"):
        build_head("x-pool")


def test_an_unknown_keyword_suggests_the_nearest() -> None:
    with pytest.raises(
        LabError, match=r"unknown keyword of head 'topk' 'top': did you mean 'top_k'\? known: top_k, pro"
    ):
        build_head("topk", D, top=3)


@pytest.mark.parametrize("dim", [0, -3, 2.5, True])
def test_a_dimension_is_a_whole_number(dim: int) -> None:
    with pytest.raises(LabError, match="dim >= 1 must hold"):
        build_head("mean", dim)


def test_keywords_of_a_head() -> None:
    assert head_keywords(HEADS["xpool"]) == ["dropout"]
    assert head_keywords(HEADS["sf"]) == head_keywords(HEADS["mgfi"])


OWN = '''
import torch
from torch import nn
from torch.nn import functional as F

class Brightest(nn.Module):
    """The frame that is longest, whatever the text."""

    def __init__(self, dim=512, *, power=1.0):
        super().__init__()
        self.dim, self.power = dim, power
        self.text = nn.Linear(dim, dim)

    def frame_weights(self, texts, videos):
        length = videos.frames.norm(dim=-1).masked_fill(~videos.frame_mask, 0) ** self.power
        return (length / length.sum(1, keepdim=True)).expand(len(texts), -1, -1)

    def forward(self, texts, videos):
        frames = videos.frames.masked_fill(~videos.frame_mask[..., None], 0)
        pooled = torch.einsum("tvf,vfd->tvd", self.frame_weights(texts, videos), frames)
        return F.cosine_similarity(self.text(texts.sentences)[:, None], pooled, dim=-1)

not_a_head = 3
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "own_heads.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "own_heads"


def test_a_head_of_ones_own_is_built_and_scored(own: str) -> None:
    torch.manual_seed(0)
    head, (texts, videos) = build_head(f"{own}:Brightest", D, power=2.0).eval(), pairs()
    assert head.power == 2.0
    wanted = head(texts, videos)
    for tile in (1, 2, None):
        assert torch.allclose(similarity_matrix(head, texts, videos, tile=tile), wanted, atol=1e-6)
    assert torch.allclose(similarity_matrix(head, texts, videos, memory_mb=1e-3), wanted, atol=1e-6)


def test_a_head_of_ones_own_carries_sound(own: str) -> None:
    head, (texts, videos) = build_head("cmfi", D, audio_dim=A, video=f"{own}:Brightest").eval(), pairs()
    assert torch.allclose(similarity_matrix(head, texts, videos), head(texts, videos), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("own_heads:Darkest", "no head 'own_heads:Darkest' .*no attribute 'Darkest'"),
        ("no_such_module:Head", "no head 'no_such_module:Head' .*No module named 'no_such_module'"),
        (":Head", "no head ':Head'"),
        ("own_heads:not_a_head", "must be a class derived from torch.nn.Module, it is 3"),
    ],
)
def test_a_head_that_is_none_is_one_line(own: str, name: str, said: str) -> None:
    with pytest.raises(LabError, match=said):
        build_head(name, D)


def test_a_wrong_keyword_of_ones_own_head(own: str) -> None:
    with pytest.raises(LabError, match=r"unknown keyword of head 'own_heads:Brightest' 'pover': did you mean 'power'"):
        build_head(f"{own}:Brightest", D, pover=1)
