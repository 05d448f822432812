"""Captions as BPE tokens, and the words that the tokens make up: CLIP's own tokenizer, kept ragged.

A caption is only its word tokens here: start, end and padding are left out, since no head may attend to them. The
padding id 0 is also a real piece (a "!" that more follows), so nothing in this file ever asks whether an id is 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer


@dataclass(frozen=True)
class Tokens:
    """The word tokens of T captions, one after the other.

    ``counts`` int64 (T,): tokens of each caption; ``ids`` int32 (ΣW,): BPE ids; ``word_index`` int32 (ΣW,): which
    word of its caption a token belongs to, from 0; ``truncated`` bool (T,): the caption was longer than the context.
    """

    counts: NDArray[np.int64]
    ids: NDArray[np.int32]
    word_index: NDArray[np.int32]
    truncated: NDArray[np.bool_]

    @property
    def offsets(self) -> NDArray[np.int64]:
        """int64 (T + 1,): caption t owns the rows ``offsets[t]:offsets[t + 1]``."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(self.counts)])

    def words(self) -> list[list[str]]:
        """The words of every caption: entry ``word_index[i]`` of a caption's list is the word of its token ``i``."""
        return [tokens_to_words(caption) for caption in np.split(self.ids, self.offsets[1:-1])][: len(self.counts)]


def tokenize(texts: Iterable[str], tokenizer: SimpleTokenizer, context_length: int) -> Tokens:
    """``texts`` as CLIP reads them, cut to ``context_length`` with room for the start and end tokens."""
    end, room = tokenizer.eot_token_id, context_length - 2
    ids: list[int] = []
    word_index: list[int] = []
    counts: list[int] = []
    truncated: list[bool] = []
    for text in texts:
        caption = tokenizer.encode(text)
        truncated.append(len(caption) > room)
        caption = caption[:room]
        # A caption may spell "<end_of_text>": CLIP pools at the first end token, so whatever follows is not read.
        if end in caption:
            caption = caption[: caption.index(end)]
        counts.append(len(caption))
        ids.extend(caption)
        word_index.extend(words_of(caption))
    return Tokens(
        counts=np.asarray(counts, np.int64),
        ids=np.asarray(ids, np.int32),
        word_index=np.asarray(word_index, np.int32),
        truncated=np.asarray(truncated, np.bool_),
    )


def words_of(ids: Sequence[int]) -> list[int]:
    """The word number of each token of one caption: a piece that ends a word is followed by the next word."""
    closes = _closes_word()
    return list(accumulate((closes[token] for token in ids[:-1]), initial=0)) if len(ids) else []


def tokens_to_words(ids: Iterable[int]) -> list[str]:
    """The words of one caption, for axes and tooltips: entry ``word_index[i]`` is the word of token ``i``."""
    caption = [int(token) for token in ids]
    words: list[bytearray] = []
    pieces = _pieces()
    for number, token in zip(words_of(caption), caption, strict=True):
        if number == len(words):
            words.append(bytearray())
        words[number] += pieces[token]
    # A caption that was cut inside a character leaves half of its bytes.
    return [word.decode("utf-8", errors="replace") for word in words]


@cache
def bpe() -> SimpleTokenizer:
    """open_clip's tokenizer (and its cache of words), made once: building it costs 0.3 s."""
    from lab.backbones.clip_package import open_clip

    return cast("SimpleTokenizer", open_clip.SimpleTokenizer())


@cache
def _closes_word() -> list[int]:
    vocabulary = bpe().decoder
    special = set(bpe().all_special_ids)
    return [int(vocabulary[i].endswith("</w>") or i in special) for i in range(len(vocabulary))]


@cache
def _pieces() -> list[bytes]:
    tokenizer = bpe()
    special = set(tokenizer.all_special_ids)
    return [
        piece.encode()
        if i in special
        else bytes(tokenizer.byte_decoder[character] for character in piece.removesuffix("</w>"))
        for i, piece in (((i, tokenizer.decoder[i])) for i in range(len(tokenizer.decoder)))
    ]
