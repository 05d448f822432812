"""What a head reads of texts and videos besides sentences and frames, and whether they have it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lab.embeddings import RaggedWords, Texts, Videos
from lab.errors import LabError


@dataclass(frozen=True)
class Needs:
    """What is read of a split besides sentences and frames. ``audio``: one vector a ``clip``, or its ``segments``."""

    words: bool = False
    audio: Literal["clip", "segments"] | None = None

    @classmethod
    def of(cls, *heads: nn.Module, audio_level: str = "clip") -> Needs:
        """What any of some heads reads (``lab.similarity.Head``); those that hear do so at a level."""
        words, hears = (any(getattr(head, f"needs_{what}", False) for head in heads) for what in ("words", "audio"))
        return cls(words, "clip" if hears else None).at(audio_level)

    def at(self, audio_level: str) -> Needs:
        """The same with the sound at another level, if there is any."""
        level: Any = audio_level if self.audio is not None else None
        return replace(self, audio=level)


def needed(head: nn.Module, texts: Texts, videos: Videos) -> tuple[Texts, Videos]:
    """Without the words and the sound that the head does not read: they would be carried along for nothing."""
    needs = Needs.of(head)
    texts = texts if needs.words else replace(texts, words=None, word_mask=None)
    return texts, videos if needs.audio is not None else replace(videos, audio=None, audio_mask=None)


def check_inputs(head: nn.Module, texts: Texts, videos: Videos) -> None:
    """Raises ``LabError`` where dimensions do not fit, a modality that the head needs is absent, or NaN is not masked.

    Reads every feature once, so it is for entry points; ``forward`` itself checks dimensions only.
    """
    if not (isinstance(texts, Texts) and isinstance(videos, Videos)):
        raise LabError(f"texts come first, then videos, got {type(texts).__name__} and {type(videos).__name__}")
    fit(getattr(head, "dim", texts.dim), texts.dim, "texts")
    fit(getattr(head, "dim", videos.dim), videos.dim, "videos")
    videos.check_frames()
    needs = Needs.of(head)
    words = need_words(texts) if needs.words else None
    sound = need_audio(videos) if needs.audio is not None else None
    _require_finite("texts", "sentence features", _finite(texts.sentences))
    _require_finite("videos", "frame features", _rows_finite(videos.frames, videos.frame_mask))
    if sound is not None:
        _require_finite("videos", "audio features", _rows_finite(*sound))
    if words is not None:
        fine = _words_finite(words) if isinstance(words, RaggedWords) else _rows_finite(words, texts.word_mask)  # type: ignore[arg-type]
        _require_finite("texts", "word features", fine)


def fit(dim: int, found: int, what: str) -> None:
    """Raises ``LabError`` where features are not as wide as the head."""
    if dim != found:
        raise LabError(f"the head has D={dim} but {what} have D={found}: build it with dim={found}")


def need_words(texts: Texts) -> Tensor | RaggedWords:
    """The words of texts. Raises ``LabError`` where they carry none, or one of them has none."""
    if texts.words is None:
        raise LabError("this head reads words, these texts carry none: load them with store.load(..., words=True)")
    counts = texts.words.counts if isinstance(texts.words, RaggedWords) else texts.word_mask.sum(1)  # type: ignore[union-attr]
    empty = (counts == 0).nonzero().flatten().tolist()
    if empty:
        raise LabError(f"every text needs at least one real word, texts {empty[:5]} have none: leave them out")
    return texts.words


def need_audio(videos: Videos) -> tuple[Tensor, Tensor]:
    """The sound of videos (V, S, A) and its mask (V, S); single videos without any are fine.

    Raises ``LabError`` where videos carry no sound at all.
    """
    if videos.audio is None or videos.audio_mask is None:
        raise LabError(
            "this head reads audio, these videos carry none: load it with store.load(..., audio='clip') or 'segments'"
        )
    return videos.audio, videos.audio_mask


def _finite(values: Tensor) -> Tensor:
    """Whether each vector (..., D) is: whether its sum is, some rows at a time, since isfinite would copy them all."""
    return torch.cat([rows.sum(-1, dtype=torch.float32).isfinite() for rows in values.split(1024)])


def _rows_finite(values: Tensor, mask: Tensor) -> Tensor:
    return (_finite(values) | ~mask).all(-1)


def _words_finite(words: RaggedWords) -> Tensor:
    """Whether all words of a text (T,) are; a store has gaps of NaN between the words of some texts and the next."""
    broken = nn.functional.pad((~_finite(words.values)).cumsum(0), (1, 0))
    return broken[words.starts + words.counts] == broken[words.starts]


def _require_finite(what: str, kind: str, fine: Tensor) -> None:
    if not bool(fine.all()):
        rows = (~fine).nonzero().flatten().tolist()
        raise LabError(
            f"features must be finite where they are not masked: {len(rows)} {what} have {kind} that are not, first "
            f"rows {rows[:5]}: mask them, or run the pass on them again"
        )
