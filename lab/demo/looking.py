"""What one head makes of one text and one video: words × frames, sound, and the rank without each modality."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lab.by_word import attention, cosines, looks_at_words, names_of
from lab.embeddings import Texts, Videos
from lab.heads.cmfi import CMFI
from lab.heads.mgfi import MGFI, MGFIIndex
from lab.similarity import evaluating, score_texts

# -- without each modality -------------------------------------------------------------------------------------------


def without(head: nn.Module, index: Any) -> Iterator[tuple[str, NDArray[np.bool_] | None, Any]]:
    """Each modality that a head could do without, as ``(name, videos that have the rest, score)``.

    ``score(texts)`` gives (T, V) from the same weights and the same index. CMFI: the sound, or the pictures; MGFI, also
    within CMFI: single words, or the sentence. Heads of one kind of text and one of video have nothing to spare.
    """
    if isinstance(head, CMFI):
        yield "sound", None, lambda texts: score_texts(head.video, texts, index.video)
        present = index.present.numpy()
        yield "pictures", present, lambda texts: score_texts(head.audio, texts, index.audio)
        for name, kept, score in without(head.video, index.video):
            yield (
                name,
                kept,
                lambda texts, score=score: head.fuse(
                    score(texts), score_texts(head.audio, texts, index.audio), index.present
                ),
            )
    elif isinstance(head, MGFI) and len(head.branches) == 2:
        for place, (branch, spared) in enumerate((("sentence", "single words"), ("word", "the sentence"))):
            twin, part = one_branch(head, branch, place, index)
            yield spared, None, lambda texts, twin=twin, part=part: score_texts(twin, texts, part)


def one_branch(head: MGFI, branch: str, place: int, index: MGFIIndex) -> tuple[MGFI, MGFIIndex]:
    """MGFI with one of its branches alone, on the same weights, and the index that goes with it."""
    twin = copy.copy(head)
    twin._modules = dict(head._modules)
    twin.branches = (branch,)  # type: ignore[misc]  # of this object alone
    if len(head.tails) > 1:
        twin.tails = nn.ModuleList([head.tails[place]])
        index = replace(index, hidden=index.hidden[:, place : place + 1])
    return twin, index


# -- sound -----------------------------------------------------------------------------------------------------------


def segments(head: nn.Module, texts: Texts, sound: Tensor) -> list[float]:
    """Similarity of a text with each stretch of a video's sound (S, A), by CMFI's map of sound; else nothing."""
    if not isinstance(head, CMFI) or not len(sound):
        return []
    with evaluating(head):
        each = Videos(torch.zeros(len(sound), 1, head.dim), audio=sound.float()[:, None])
        heard, _ = head.hear(each)
        scores: Tensor = head.audio(texts, heard)
    return [float(score) for score in scores[0]]


# -- words -----------------------------------------------------------------------------------------------------------


def words_by_frames(
    head: nn.Module, texts: Texts, clip: Videos, frames: int, word_of_token: NDArray[np.int64], words: list[str]
) -> dict[str, Any] | None:
    """Rows of words and columns of frames for one text and one video: ``values`` (W, F), ``share`` (W,) or none.

    The attention of a head that looks at words, else cosines. None where there are no words.
    """
    if texts.words is None or not len(word_of_token):
        return None
    if looks_at_words(head):
        values, share = attention(head, texts, clip, frames, word_of_token)
        told: dict[str, Any] = {"share": share.tolist(), "meaning": "attention of the word"}
    else:
        values = cosines(texts, clip, frames, word_of_token)
        told = {"share": None, "meaning": "cosine of word and frame"}
    return {"words": names_of(words, word_of_token), "values": values.tolist(), **told}
