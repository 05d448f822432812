"""CMFI against equations 11 to 13, videos without sound, and what its keywords change."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from feature_pairs import SOUND, A, D, T, V, agree_in_value_and_gradient, cosine, head_of, linear, norm, pairs, softmax
from torch import Tensor, nn

from lab import similarity_matrix
from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.heads import build_head
from lab.heads.cmfi import CMFI


def equations(pool: str, first: bool = False) -> Any:
    """Equation 11 on the real segments of one video, added to the video head's cosine; that alone without sound."""

    def reference(head: CMFI, text: Tensor, words: list[Tensor], frames: list[Tensor], sound: list[Tensor]) -> Tensor:
        pair = Texts(text[None], torch.stack(words)[None]), Videos(torch.stack(frames)[None])
        seen = head.video(*pair)[0, 0]  # held against its own equations elsewhere
        if not sound:
            return seen
        down = [linear(x, head.reduce) for x in sound] if first else sound
        heard = [linear(norm(x, head.norm), head.linear) for x in down]
        near = [cosine(text, x) for x in heard]
        units = [x / (x * x).sum() ** 0.5 for x in heard]
        best = max(range(len(near)), key=lambda s: near[s].item())
        shares = {
            "mean": [torch.tensor(1 / len(heard))] * len(heard),
            "softmax": softmax([value / 0.01 for value in near]),
            "topk": [torch.tensor(float(s == best)) for s in range(len(heard))],
        }[pool]
        heard_by_text = cosine(text, sum(share * unit for share, unit in zip(shares, units, strict=True)))
        return (seen + head.fusion_weight * heard_by_text) / (1 + head.fusion_weight)

    return reference


@pytest.mark.parametrize(
    ("variant", "reference"),
    [("cmfi", equations("mean")), ("cmfi over xpool", equations("softmax")), ("cmfi, first", equations("topk", True))],
)
def test_it_is_its_equations_in_value_and_gradient(variant: str, reference: Any) -> None:
    agree_in_value_and_gradient(head_of(variant), reference)


def test_a_video_without_sound_is_ranked_by_its_picture_on_the_same_scale() -> None:
    head, (texts, videos) = head_of("cmfi"), pairs()
    assert isinstance(head, CMFI)
    seen, both = head.video(texts, videos), head(texts, videos)
    silent = ~SOUND.any(1)
    assert silent.any()
    assert torch.equal(both[:, silent], seen[:, silent])
    assert not torch.isclose(both[:, ~silent], seen[:, ~silent]).any()
    # a sound that agrees with the text exactly as the picture does leaves the similarity where it was
    same = (seen + head.fusion_weight * seen) / (1 + head.fusion_weight)
    assert torch.allclose(same, seen)


def test_the_order_is_that_of_the_papers_sum() -> None:
    head, (texts, videos) = head_of("cmfi"), pairs()
    assert isinstance(head, CMFI)
    heard = videos.select(SOUND.any(1).nonzero()[:, 0])
    sound = 2 * head(texts, heard) - head.video(texts, heard)
    assert head.fusion_weight == 1
    assert torch.equal((head.video(texts, heard) + sound).argsort(1), head(texts, heard).argsort(1))


def test_the_weight_may_be_set_at_any_time() -> None:
    head, (texts, videos) = head_of("cmfi"), pairs()
    assert isinstance(head, CMFI)
    one = head(texts, videos)
    head.fusion_weight = 0.0
    seen = head(texts, videos)
    assert torch.allclose(seen, head.video(texts, videos))
    head.fusion_weight = 1e6
    heard = head(texts, videos)
    loud = SOUND.any(1)
    assert torch.allclose(one[:, loud], (seen + heard)[:, loud] / 2, atol=1e-5)


def test_one_vector_a_clip_is_equation_11() -> None:
    head, (texts, videos) = head_of("cmfi"), pairs()
    assert isinstance(head, CMFI)
    assert videos.audio is not None
    clip = dataclasses.replace(videos, audio=videos.audio[:, :1], audio_mask=SOUND[:, :1])
    for pool in ("mean", "topk", "softmax"):
        keywords = {"top_k": 1} if pool == "topk" else {}
        other = build_head("cmfi", D, audio_dim=A, audio=pool, audio_keywords=keywords).eval()
        other.load_state_dict(head.state_dict())
        assert torch.allclose(other(texts, clip), head(texts, clip), atol=1e-6)


@pytest.mark.parametrize("video", ["mean", "topk", "softmax", "seqlstm", "seqtransf", "xpool", "sf", "wf", "mgfi"])
def test_every_row_of_the_papers_table_and_more_can_be_had(video: str) -> None:
    head = build_head("cmfi", D, video=video, audio_dim=A).eval()
    assert head.needs_audio
    assert head.needs_words == (video in ("wf", "mgfi"))
    texts, videos = pairs()
    assert torch.allclose(similarity_matrix(head, texts, videos), head(texts, videos), atol=1e-5)
    assert torch.equal(head.frame_weights(texts, videos), head.video.frame_weights(texts, videos))


def test_the_second_stage_trains_the_audio_side_only() -> None:
    head = build_head("cmfi", D, audio_dim=A, reduction="first")
    assert isinstance(head, CMFI)
    audio = {id(parameter) for parameter in head.audio_parameters()}
    named = {name for name, parameter in head.named_parameters() if id(parameter) in audio}
    assert named == {f"{layer}.{part}" for layer in ("reduce", "norm", "linear") for part in ("weight", "bias")}
    assert len(audio) + len(list(head.video.parameters())) == len(list(head.parameters()))


def test_widths_of_both_ways_down() -> None:
    last, first = (build_head("cmfi", D, audio_dim=A, reduction=way) for way in ("last", "first"))
    assert (last.norm.normalized_shape, last.linear.in_features) == ((A,), A)
    assert isinstance(last.reduce, nn.Identity)
    assert (first.norm.normalized_shape, first.linear.in_features) == ((D,), D)


def test_keywords_reach_the_video_head() -> None:
    head = build_head("cmfi", D, video="topk", video_keywords={"top_k": 1}, audio_dim=A)
    assert head.video.top_k == 1
    with pytest.raises(LabError, match=r"unknown keyword of head 'topk' 'k'"):
        build_head("cmfi", D, video="topk", video_keywords={"k": 1})


def test_videos_without_audio() -> None:
    head, (texts, videos) = head_of("cmfi"), pairs()
    mute = Videos(videos.frames, videos.frame_mask)
    for call in (head, lambda *pair: similarity_matrix(head, *pair)):
        with pytest.raises(LabError, match=r"reads audio, these videos carry none: load it with .*audio='clip'"):
            call(texts, mute)


def test_a_collection_in_which_nothing_sounds_is_ranked_by_its_pictures() -> None:
    head, (texts, videos) = head_of("cmfi"), pairs()
    assert isinstance(head, CMFI)
    quiet = dataclasses.replace(videos, audio_mask=torch.zeros_like(SOUND))
    assert torch.equal(head(texts, quiet), head.video(texts, quiet))
    assert tuple(head(texts, quiet).shape) == (T, V)


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"reduction": "lst"}, "unknown reduction 'lst': did you mean 'last'"),
        ({"fusion_weight": -1}, "fusion_weight >= 0 must hold, got fusion_weight=-1"),
        ({"fusion_weight": float("inf")}, "got fusion_weight=inf"),
        ({"audio": "mgfi"}, "pooled by a head of sentences and frames, got audio='mgfi'"),
        ({"video": "xpol"}, "unknown head 'xpol': did you mean 'xpool'"),
    ],
)
def test_bad_keywords(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        build_head("cmfi", D, **keywords)


def test_audio_of_another_width() -> None:
    texts, videos = pairs()
    with pytest.raises(LabError, match=f"audio_dim=2048 but the audio has A={A}: build it with audio_dim={A}"):
        build_head("cmfi", D)(texts, videos)
