"""What each word of a text looks at: words × frames, the pieces of a word put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from lab.embeddings import Texts, Videos
from lab.errors import LabError
from lab.needs import Needs
from lab.similarity import evaluating
from lab.store import Store


def stored_words(store: Store, caption: int) -> tuple[list[str], NDArray[np.int64]]:
    """A caption's words as the tokenizer cuts them, and which of them each token belongs to (tokens,).

    No words where open_clip, whose tokenizer it is, is not installed; nothing where the store does not tell.
    """
    try:
        one = slice(caption, caption + 1)
        start, count = (int(store.read(name, one)[0]) for name in ("word_start", "word_count"))
        tokens = slice(start, start + count)
        ids, numbers = store.read("token_ids", tokens), store.read("token_word", tokens).astype(np.int64)
    except LabError:
        return [], np.zeros(0, np.int64)
    try:
        from lab.backbones.words import tokens_to_words

        return tokens_to_words(ids.tolist()), numbers
    except ModuleNotFoundError:
        return [], numbers


def names_of(words: Sequence[str], word_of_token: NDArray[np.int64]) -> list[str]:
    """A name for each row of words × frames: the word, or its number where it is not known or cannot be shown."""
    shown = {n: word for n, word in enumerate(words) if word.isprintable()}
    return [shown.get(n, f"word {n + 1}") for n in np.unique(word_of_token).tolist()]


def looks_at_words(head: nn.Module) -> bool:
    """Whether a head, or its video side, weighs frames by each word."""
    inner = _word_head(head)
    return hasattr(inner, "word_weights") and Needs.of(inner).words


def attention(
    head: nn.Module, text: Texts, clip: Videos, frames: int, word_of_token: NDArray[np.int64]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Of a head that ``looks_at_words``, for one text and one video: values (W, F) by word, what each counts (W,).

    ``word_of_token`` (tokens,): W different numbers, whose order is that of the rows. ``frames``: F, those that are
    real. A word's pieces are put together by what they count.
    """
    inner: Any = _word_head(head)
    with evaluating(inner):
        values, share = (found[0, 0].float().cpu().numpy() for found in inner.word_weights(text, clip))
    pieces = _pieces(word_of_token)
    by_word = pieces @ share
    # Alike where the softmax over words left nothing of all of them.
    counted = pieces * np.where(by_word[:, None] > 0, share, 1.0)
    return counted @ values[:, :frames] / counted.sum(1, keepdims=True), by_word


def cosines(text: Texts, clip: Videos, frames: int, word_of_token: NDArray[np.int64]) -> NDArray[Any]:
    """For one text and one video without a head: the mean cosine (W, F) of a word's pieces with each frame."""
    tokens = functional.normalize(text.padded_words()[0][0].float(), dim=-1)
    seen = functional.normalize(clip.frames[0, :frames].float(), dim=-1)
    pieces = _pieces(word_of_token)
    found: NDArray[Any] = pieces @ (tokens @ seen.T).cpu().numpy() / pieces.sum(1, keepdims=True)
    return found


def _pieces(word_of_token: NDArray[np.int64]) -> NDArray[np.float64]:
    """Which tokens are of which word, (W, tokens) of zeros and ones."""
    of_word: NDArray[np.bool_] = word_of_token == np.unique(word_of_token)[:, None]
    return of_word.astype(np.float64)


def _word_head(head: nn.Module) -> nn.Module:
    inner = getattr(head, "video", None)
    return inner if isinstance(inner, nn.Module) else head
