"""MGFI's branches against their equations in loops, and what its keywords change."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from feature_pairs import (
    WORDS,
    D,
    T,
    V,
    W,
    agree_in_value_and_gradient,
    cosine,
    dot,
    head_of,
    linear,
    norm,
    pairs,
    softmax,
)
from torch import Tensor, nn

from lab.embeddings import RaggedWords, Texts, Videos
from lab.errors import LabError
from lab.heads import build_head
from lab.heads.mgfi import MGFI, PAIRS


def activated(x: Tensor, name: str) -> Tensor:
    if name == "relu":
        return x * (x > 0)
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2))) if name == "gelu" else x / (1 + torch.exp(-1.702 * x))


def fed(z: Tensor, tail: Any, activation: str) -> Tensor:
    """Equations 3 and 8: z + FF(LN(z))."""
    return z + linear(activated(linear(norm(z, tail.norm), tail.first), activation), tail.second)


def equations(activation: str = "relu", word_scale: float = 1.0) -> Any:
    """Equations 1 to 10 for one text and the real frames of one video."""

    def reference(head: MGFI, text: Tensor, words: list[Tensor], frames: list[Tensor], sound: list[Tensor]) -> Tensor:
        norm_text = head.norm_text or head.norm_frames
        keys = [linear(norm(frame, head.norm_frames), head.key) for frame in frames]
        values = [linear(norm(frame, head.norm_frames), head.value) for frame in frames]

        def attend(logits: list[Tensor]) -> Tensor:
            shares = softmax([logit / D**0.5 for logit in logits])
            return linear(sum(share * value for share, value in zip(shares, values, strict=True)), head.out)

        seen = []
        if "sentence" in head.branches:
            query = linear(norm(text, norm_text), head.queries["sentence"])
            z = attend([dot(query, key) for key in keys])
            seen.append(fed(z, head.tails[0], activation))
        if "word" in head.branches:
            queries = [linear(norm(word, norm_text), head.queries["word"]) for word in words]
            a = [[dot(query, key) for key in keys] for query in queries]
            shares = softmax([word_scale * max(row) for row in a])
            pooled = sum(share * attend(row) for share, row in zip(shares, a, strict=True))
            seen.append(fed(pooled, head.tails[-1], activation))
        return cosine(text, sum(seen) / len(seen))

    return reference


@pytest.mark.parametrize(
    ("variant", "reference"),
    [
        ("sf", equations()),
        ("wf", equations()),
        ("mgfi", equations()),
        ("sf, wide", equations("gelu")),
        ("wf, scaled", equations("quickgelu", D**-0.5)),
        ("mgfi, nothing shared", equations()),
    ],
)
def test_it_is_its_equations_in_value_and_gradient(variant: str, reference: Any) -> None:
    agree_in_value_and_gradient(head_of(variant), reference)


@pytest.mark.parametrize("variant", ["mgfi", "mgfi, nothing shared"])
def test_what_is_faint_is_normalised_by_epsilon_too(variant: str) -> None:
    """Variances as small as the layer norms' 1e-5: elsewhere they are so large that a wrong one would not be seen."""
    head, (texts, videos) = head_of(variant), pairs()
    assert isinstance(head, MGFI)
    assert isinstance(texts.words, Tensor)
    whole = Videos(torch.stack([videos.frames[0], videos.frames[4]]))
    with torch.no_grad():
        for parameter in (*head.value.parameters(), *head.out.parameters()):
            parameter.mul_(0.01)
        wanted = [
            [equations()(head, text, [*words[:1]], [*frames], []) for frames in whole.frames]
            for text, words in zip(texts.sentences, texts.words, strict=True)
        ]
        asked = Texts(texts.sentences, texts.words[:, :1])
        for found in (head(asked, whole), head.score(asked, head.index(whole))):
            assert torch.allclose(found, torch.tensor(wanted), atol=1e-5, rtol=0)


def test_keywords_share_or_part_the_layers() -> None:
    one, apart = MGFI(D), MGFI(D, shared_norm=False, shared_tail=False)
    assert one.norm_text is None
    assert apart.norm_text is not None
    assert (len(one.tails), len(apart.tails)) == (1, 2)
    assert not any("bias" in name for name, _ in MGFI(D, bias=False).key.named_parameters())


def test_sizes() -> None:
    """Five projections (two queries), FF and two norms; what is documented as the default."""
    square = 512 * 512 + 512
    assert sum(p.numel() for p in build_head("mgfi").parameters()) == 5 * square + 2 * square + 2 * 1024
    assert sum(p.numel() for p in build_head("sf").parameters()) == 4 * square + 2 * square + 2 * 1024
    assert sum(p.numel() for p in build_head("wf", width=2048).parameters()) == 4 * square + 2 * 1024 + (
        512 * 2048 + 2048 + 2048 * 512 + 512
    )


def test_the_identity_start_is_attention_pooling_of_normed_frames() -> None:
    texts, videos = pairs()
    whole = Videos(videos.frames[:1])
    text, frames = (nn.functional.layer_norm(x, (D,)) for x in (texts.sentences, whole.frames[0]))
    weights = (text @ frames.T / D**0.5).softmax(-1)
    head = build_head("sf", D).eval()
    assert torch.allclose(head.frame_weights(texts, whole)[:, 0], weights, atol=1e-6)
    wanted = nn.functional.cosine_similarity(weights @ frames, texts.sentences, dim=-1)
    assert torch.allclose(head(texts, whole)[:, 0], wanted, atol=1e-5)


def test_weights_of_both_branches_are_averaged() -> None:
    texts, videos = pairs()
    both, sentence, word = (build_head(name, D).eval() for name in ("mgfi", "sf", "wf"))
    mean = (sentence.frame_weights(texts, videos) + word.frame_weights(texts, videos)) / 2
    assert torch.allclose(both.frame_weights(texts, videos), mean, atol=1e-6)


def test_the_attention_of_words_adds_up_to_that_of_the_text() -> None:
    head, (texts, videos) = head_of("wf"), pairs()
    attention, share = head.word_weights(texts, videos)
    assert torch.allclose(attention.sum(-1), torch.ones(T, V, W), atol=1e-6)
    assert torch.allclose(share.sum(-1), torch.ones(T, V), atol=1e-6)
    assert not share.masked_select(~WORDS[:, None].expand(T, V, W)).any()
    whole = (attention * share[..., None]).sum(2)
    assert torch.allclose(whole, head.frame_weights(texts, videos), atol=1e-6)
    with pytest.raises(LabError, match="does not look at words: take wf or mgfi"):
        head_of("sf").word_weights(texts, videos)


def test_one_word_attends_as_a_sentence_does() -> None:
    texts, videos = pairs()
    one = Texts(texts.sentences, texts.sentences[:, None])
    heads = [build_head(name, D).eval() for name in ("sf", "wf", "mgfi")]
    sentence, word, both = (head(one, videos) for head in heads)
    assert torch.allclose(sentence, word, atol=1e-6)
    assert torch.allclose(sentence, both, atol=1e-6)


def test_the_literal_softmax_over_words_nearly_picks_one_and_the_scaled_one_does_not() -> None:
    torch.manual_seed(0)
    videos, words = Videos(torch.randn(3, 4, 512)), torch.randn(2, 6, 512)
    texts = Texts(words.mean(1), words)
    literal, scaled = (build_head("wf", word_scale=scale).eval() for scale in (1.0, "sqrt"))
    picked = build_head("wf", word_scale=1e4).eval().frame_weights(texts, videos)
    from_literal, from_scaled = (
        (head.frame_weights(texts, videos) - picked).abs().mean().item() for head in (literal, scaled)
    )
    assert from_literal < 0.01 < 0.05 < from_scaled
    even = build_head("wf", word_scale=0).eval().frame_weights(texts, videos)
    each = [
        build_head("wf").eval().frame_weights(Texts(texts.sentences, words[:, w : w + 1]), videos) for w in range(6)
    ]
    assert torch.allclose(even, torch.stack(each).mean(0), atol=1e-6)


def test_dropout_acts_on_the_feed_forward_only() -> None:
    head, (texts, videos) = head_of("mgfi"), pairs()
    assert isinstance(head, MGFI)
    head.train()
    assert not torch.equal(head(texts, videos), head(texts, videos))
    head.dropout.p = 1.0
    without = head(texts, videos)
    head.eval()
    for parameter in head.tails[0].second.parameters():
        nn.init.zeros_(parameter)
    assert torch.allclose(head(texts, videos), without, atol=1e-6)


def test_many_pairs_are_scored_in_parts() -> None:
    torch.manual_seed(0)
    texts, videos = Texts(torch.randn(PAIRS // 20, D), torch.randn(PAIRS // 20, 3, D)), Videos(torch.randn(67, 2, D))
    head = head_of("mgfi")
    with torch.no_grad():
        assert torch.allclose(head.score(texts, head.index(videos)), head(texts, videos), atol=1e-5)


@pytest.mark.parametrize("name", ["wf", "mgfi"])
def test_texts_without_words(name: str) -> None:
    head, (texts, videos) = build_head(name, D), pairs()
    assert head.needs_words
    with pytest.raises(LabError, match=r"reads words, these texts carry none: load them with store.load\(.*words=True"):
        head(Texts(texts.sentences), videos)


@pytest.mark.parametrize("kind", ["padded", "ragged"])
def test_a_text_whose_every_word_is_masked(kind: str) -> None:
    head, (texts, videos) = build_head("wf", D), pairs()
    mask = torch.tensor([[True, True], [False, False], [True, False]])
    words: Tensor | RaggedWords = torch.randn(3, 2, D)
    if kind == "ragged":
        words = RaggedWords(torch.randn(3, D), torch.tensor([0, 2, 2]), torch.tensor([2, 0, 1]))
    empty = Texts(texts.sentences, words, mask if kind == "padded" else None)
    with pytest.raises(LabError, match=r"every text needs at least one real word, texts \[1\] have none"):
        head(empty, videos)


def test_sentences_are_enough_for_the_sentence_branch() -> None:
    head, (texts, videos) = head_of("sf"), pairs()
    assert not head.needs_words
    assert torch.equal(head(Texts(texts.sentences), videos), head(texts, videos))


@pytest.mark.parametrize(
    ("keywords", "said"),
    [
        ({"activation": "relo"}, "unknown activation 'relo': did you mean 'relu'"),
        ({"init": "identiti"}, "unknown init 'identiti': did you mean 'identity'"),
        ({"width": 0}, "width >= 1 must hold, got width=0"),
        ({"word_scale": "C"}, "word_scale must be a number >= 0 or 'sqrt', got word_scale='C'"),
        ({"word_scale": -1.0}, "word_scale must be a number >= 0 or 'sqrt', got word_scale=-1.0"),
    ],
)
def test_bad_keywords(keywords: dict[str, Any], said: str) -> None:
    with pytest.raises(LabError, match=said):
        build_head("mgfi", D, **keywords)
