"""Words × frames by hand: pieces of one word are put together by what they count."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lab.by_word import attention, cosines, looks_at_words, names_of, stored_words
from lab.embeddings import Texts, Videos
from lab.store import open_store

#: Three words, of which the second has two pieces; the last frame is padding.
OF_TOKEN = np.array([2, 5, 5, 7])
TEXT = Texts(
    torch.zeros(1, 2),
    words=torch.tensor([[[3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, -1.0]]]),
    word_mask=torch.ones(1, 4, dtype=torch.bool),
)
CLIP = Videos(torch.tensor([[[2.0, 0.0], [0.0, 1.0], [9.0, 9.0]]]), torch.tensor([[True, True, False]]))


class Looking(nn.Module):
    needs_words = True

    def __init__(self, share: list[float]) -> None:
        super().__init__()
        self.share = torch.tensor(share)

    def word_weights(self, texts: Texts, videos: Videos) -> tuple[Tensor, Tensor]:
        values = torch.tensor([[1.0, 0.0, 0.0], [0.2, 0.8, 0.0], [0.6, 0.4, 0.0], [0.0, 1.0, 0.0]])
        return values[None, None], self.share[None, None]


class Fused(nn.Module):
    def __init__(self, video: nn.Module) -> None:
        super().__init__()
        self.video = video


@pytest.mark.parametrize("wrapped", [False, True])
@pytest.mark.parametrize(
    ("share", "second", "by_word"),
    [
        ([0.1, 0.6, 0.2, 0.1], [0.3, 0.7], [0.1, 0.8, 0.1]),
        ([1.0, 0.0, 0.0, 0.0], [0.4, 0.6], [1.0, 0.0, 0.0]),  # alike, where none of its pieces counts
    ],
)
def test_pieces_count_by_their_share(
    share: list[float], second: list[float], by_word: list[float], wrapped: bool
) -> None:
    head: nn.Module = Fused(Looking(share)) if wrapped else Looking(share)
    assert looks_at_words(head)
    values, counts = attention(head, TEXT, CLIP, 2, OF_TOKEN)
    assert np.allclose(values, [[1, 0], second, [0, 1]])
    assert np.allclose(counts, by_word)


def test_without_a_head_there_are_cosines() -> None:
    assert not looks_at_words(nn.Linear(2, 2))
    assert np.allclose(cosines(TEXT, CLIP, 2, OF_TOKEN), [[1, 0], [0.5, 0.5], [0, -1]])


def test_rows_are_named_as_the_tokenizer_cuts_a_caption() -> None:
    """Character references are read before a caption is cut; no expression over its letters would find these words."""
    from lab.backbones.words import bpe, tokenize, tokens_to_words

    tokens = tokenize(["rock &amp; roll band"], bpe(), 77)
    words = tokens_to_words(tokens.ids.tolist())
    assert names_of(words, tokens.word_index.astype(np.int64)) == ["rock", "&", "roll", "band"]
    assert names_of(["a", "\x11"], np.array([0, 1, 1, 4])) == ["a", "word 2", "word 5"]


def test_without_open_clip_words_have_numbers(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lab.backbones import words

    words.bpe.cache_clear()
    monkeypatch.setitem(sys.modules, "lab.backbones.clip_package", None)
    store = open_store(full)
    names, numbers = stored_words(store, 0)
    assert names == []
    assert len(numbers) == store.read("word_count")[0]
