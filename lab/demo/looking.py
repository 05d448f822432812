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
from lab.metrics import rank_of
from lab.search import Searcher
from lab.similarity import evaluating, score_texts

PRESENCE = {1: "no sound track", 2: "silent", 3: "sound"}

# -- without each modality -------------------------------------------------------------------------------------------


def without(head: nn.Module, texts: Texts, index: Any) -> Iterator[tuple[str, NDArray[np.bool_] | None, Tensor]]:
    """Each modality that a head could do without, the videos that have the rest (None: all), and similarities (T, V).

    They come from the same weights and the same index. CMFI: the sound, or the pictures; MGFI, also within CMFI: single
    words, or the sentence. Heads of one kind of text and one of video have nothing to spare.
    """
    if isinstance(head, CMFI):
        heard = score_texts(head.audio, texts, index.audio)
        yield "sound", None, score_texts(head.video, texts, index.video)
        yield "pictures", index.present.numpy(), heard
        for name, kept, scores in without(head.video, texts, index.video):
            yield name, kept, head.fuse(scores, heard, index.present)
    elif isinstance(head, MGFI) and len(head.branches) == 2:
        for place, (branch, spared) in enumerate((("sentence", "single words"), ("word", "the sentence"))):
            twin, part = one_branch(head, branch, place, index)
            yield spared, None, score_texts(twin, texts, part)


def ranks_without(searcher: Searcher, texts: Texts, own: int) -> list[dict[str, Any]]:
    """The rank of a video (its column) without each modality that the head could do without."""
    found: list[dict[str, Any]] = []
    if searcher.index is None:  # too large to be kept, and so to be made for each question
        return found
    with evaluating(searcher.one.head):
        for name, kept, similarity in without(searcher.one.head, texts, searcher.index):
            scores = similarity[0].float().numpy()
            kept = np.ones(len(scores), bool) if kept is None else kept
            rank = rank_of(np.where(kept, scores, -np.inf), own) if kept[own] else None
            found.append({"what": name, "rank": rank, "of": int(kept.sum())})
    return found


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


def sound(searcher: Searcher, texts: Texts, row: int) -> dict[str, Any]:
    """Whether a video (its row) has sound, and what a head that hears makes of it, stretch by stretch."""
    store, one = searcher.store, slice(row, row + 1)
    if "audio" not in store.passport:
        return {"told": "the store holds no sound", "segments": []}
    told = PRESENCE.get(int(store.read("audio_presence", one)[0]), "unknown")
    if searcher.one.needs.audio is None:
        return {"told": told, "segments": []}
    count = int(store.read("audio_segment_count", one)[0])
    heard = torch.from_numpy(store.read("audio_segments", one)[0, :count])
    return {"told": told, "segments": segments(searcher.one.head, texts, heard)}


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
